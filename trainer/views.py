"""Two views of one picture: tiles for the image encoder, one scaled picture for a decoder, and what is drawn on them.

Whatever changes the geometry is applied to the sample as a whole before any view is made (see `trainer.augment`).

Shape suffixes: T tiles, S tile side, H W pixels, R regions, n objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from dataengine.annotation import Rle
from dataengine.geometry import mask_from_rle
from dataengine.sample import Region
from trainer.settings import CLIP_MEAN, CLIP_STD
from trainer.tiling import choose_grid

Pixels = npt.NDArray[np.uint8]
Frame = Literal["pad", "crop"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def tile_view(
    image: Pixels,
    side: int,
    max_tiles: int,
    mean: tuple[float, float, float] = CLIP_MEAN,
    std: tuple[float, float, float] = CLIP_STD,
) -> torch.Tensor:
    """Return the tiles of an RGB picture, float [T, 3, S, S], normalised, row by row, the thumbnail last.

    The aspect ratio is not kept: the picture is squashed to the chosen grid (section A.2's dynamic tiling).
    """
    height, width = image.shape[:2]
    columns, rows = choose_grid(width, height, side, max_tiles)
    picture = _planes(image)
    whole = _resize(picture, rows * side, columns * side, "bicubic")
    tiles = whole.view(3, rows, side, columns, side).permute(1, 3, 0, 2, 4).reshape(-1, 3, side, side)
    if len(tiles) > 1:
        tiles = torch.cat([tiles, _resize(picture, side, side, "bicubic")[None]])
    return _normalise(tiles, mean, std)


def squash(image: Pixels, side: int) -> torch.Tensor:
    """Return an RGB picture squashed to a square, uint8 [3, S, S]: bicubic with antialiasing, as Pillow resizes."""
    return _resize(_planes(image), side, side, "bicubic")


def decoder_size(width: int, height: int, short: int, longest: int) -> tuple[int, int]:
    """Return (width, height) with the short side `short`, or less where the long one would exceed `longest`."""
    scale = min(short / min(width, height), longest / max(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)


def decoder_view(image: Pixels, size: tuple[int, int]) -> torch.Tensor:
    """Return an RGB picture scaled to a `decoder_size` (width, height), float [3, H, W], ImageNet-normalised."""
    width, height = size
    return _normalise(_resize(_planes(image), height, width, "bilinear"), IMAGENET_MEAN, IMAGENET_STD)


def framed_size(width: int, height: int, side: int, frame: Frame) -> tuple[int, int]:
    """Return (width, height) of a picture scaled for a square: "pad" lets all of it in, "crop" fills the square."""
    scale = side / (max if frame == "pad" else min)(width, height)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def framed(image: Pixels, side: int, frame: Frame) -> torch.Tensor:
    """Return an RGB picture as a square, float [3, S, S] in [-1, 1]: padded with white on both sides, or its middle.

    Pictures of the same ratio, large or small, are cut alike.
    """
    width, height = framed_size(image.shape[1], image.shape[0], side, frame)
    picture = _resize(_planes(image), height, width, "bicubic")
    left, top = (side - width) // 2, (side - height) // 2
    picture = F.pad(picture, (left, side - width - left, top, side - height - top), value=255)
    return picture.to(torch.float32) / 127.5 - 1


def object_masks(masks: Sequence[Rle], width: int, height: int) -> torch.Tensor:
    """Return masks scaled to the decoder picture, uint8 [n, H, W]; a pixel belongs to it where half of it does."""
    scaled = torch.zeros((len(masks), height, width), dtype=torch.uint8)
    for row, mask in enumerate(masks):
        plane = torch.from_numpy(np.ascontiguousarray(mask_from_rle(mask)))[None] * 255
        scaled[row] = (_resize(plane, height, width, "bilinear")[0] >= 128).to(torch.uint8)
    return scaled


def region_mask(region: Region, width: int, height: int, side: int) -> torch.Tensor:
    """Return a visual prompt on the global view of its picture (squashed to S x S), bool [S, S]; never empty.

    Boxes are filled. A mask prompt keeps the pixels that it covers by half; points and strokes, which are thin, every
    pixel that they touch. What would vanish keeps the pixel of which it covers most, so that the k-th region stays
    the k-th (regions that vanish are how prompts come to be paired with other objects' targets).
    """
    result = torch.zeros((side, side), dtype=torch.bool)
    if region.mask is None:
        x0, x1 = _span(region.box[0], region.box[2], width, side)
        y0, y1 = _span(region.box[1], region.box[3], height, side)
        result[y0:y1, x0:x1] = True
        return result
    plane = np.ascontiguousarray(mask_from_rle(region.mask))
    cover = _cover(plane, side)
    if region.kind == "mask":
        result |= torch.from_numpy(cover >= 0.5)
    else:
        result |= torch.from_numpy(cover > 0)
    if not result.any():
        result.view(-1)[int(cover.argmax())] = True
    return result


def pad_to(tensor: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return [..., H, W] with zeros added below and to the right."""
    return F.pad(tensor, (0, width - tensor.shape[-1], 0, height - tensor.shape[-2]))


def _planes(image: Pixels) -> torch.Tensor:
    """Return [H, W, 3] as a tensor [3, H, W]; the copy is needed where a decoder hands out read-only pixels."""
    return torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)


def _resize(planes: torch.Tensor, height: int, width: int, mode: str) -> torch.Tensor:
    if planes.shape[-2:] == (height, width):
        return planes
    return F.interpolate(planes[None], size=(height, width), mode=mode, antialias=True, align_corners=False)[
        0
    ]


def _normalise(planes: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    shift, scale = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
    return (planes.to(torch.float32) / 255 - shift) / scale


def _span(low: float, high: float, size: int, side: int) -> tuple[int, int]:
    """Return the pixels [start, stop) of the scaled axis that an interval touches, at least one."""
    start = min(max(int(np.floor(low * side / size)), 0), side - 1)
    stop = min(max(int(np.ceil(high * side / size)), start + 1), side)
    return start, stop


def _cover(plane: Pixels, side: int) -> npt.NDArray[np.float64]:
    """Return the part of each cell of an S x S grid that the mask covers, exactly (area-weighted)."""
    return _overlap(plane.shape[0], side) @ plane.astype(np.float64) @ _overlap(plane.shape[1], side).T


def _overlap(size: int, side: int) -> npt.NDArray[np.float64]:
    """Return [S, size]: the part of each of S cells that each of `size` pixels fills."""
    cell, pixel = np.arange(side)[:, None] * (size / side), np.arange(size)[None]
    shared = np.minimum(cell + size / side, pixel + 1) - np.maximum(cell, pixel)
    return np.clip(shared, 0, None) * (side / size)
