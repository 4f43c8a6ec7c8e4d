"""Two views of one picture: tiles for the image encoder, one scaled picture for a decoder, and what is drawn on them.

Whatever changes the geometry (so far: a horizontal flip) is applied to the sample as a whole before any view is made,
so that tiles, decoder picture, regions, targets and text cannot tell different stories.

Shape suffixes: T tiles, S tile side, H W pixels, R regions, n objects.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from dataengine.annotation import Box, Keypoint, Rle, Turn
from dataengine.geometry import mask_from_rle, rle_from_mask
from dataengine.sample import InstanceTargets, KeypointTargets, Mark, Region, Sample, TargetInstance
from trainer.tiling import choose_grid

Pixels = npt.NDArray[np.uint8]
Frame = Literal["pad", "crop"]

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_LETTER = "[A-Za-z]"
# "is right here" names no side.
_SIDE = re.compile(
    rf"(?<!{_LETTER})(?!(?<=\bis )right (?:here|there|now)\b)(left|right)"
    rf"(?=(?:most|ward|wards|hand|handed|side)?(?!{_LETTER}))",
    re.IGNORECASE,
)
_FIXED_DIRECTION = re.compile(r"\b(?:(?:counter|anti)?-?clockwise|o'?clock|east|west)\w*\b", re.IGNORECASE)


def tile_view(image: Pixels, side: int, max_tiles: int) -> torch.Tensor:
    """Return the tiles of an RGB picture, float [T, 3, S, S], CLIP-normalised, row by row, the thumbnail last.

    The aspect ratio is not kept: the picture is squashed to the chosen grid (section A.2's dynamic tiling).
    """
    height, width = image.shape[:2]
    columns, rows = choose_grid(width, height, side, max_tiles)
    picture = _planes(image)
    whole = _resize(picture, rows * side, columns * side, "bicubic")
    tiles = whole.view(3, rows, side, columns, side).permute(1, 3, 0, 2, 4).reshape(-1, 3, side, side)
    if len(tiles) > 1:
        tiles = torch.cat([tiles, _resize(picture, side, side, "bicubic")[None]])
    return _normalise(tiles, CLIP_MEAN, CLIP_STD)


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


def swap_sides(text: str) -> str:
    """Exchange the words left and right, and what is made of them (leftmost, right-hand), keeping their case.

    "bright", "upright" and "lefty" hold no such word.
    """

    def other(match: re.Match[str]) -> str:
        word = match.group()
        swapped = "right" if word.lower() == "left" else "left"
        return swapped.upper() if word.isupper() else swapped.title() if word[0].isupper() else swapped

    return _SIDE.sub(other, text)


def can_flip(sample: Sample, never: frozenset[str]) -> bool:
    """Say whether a sample stays true when it is mirrored and its text swaps left and right.

    Not where the answer is text or a picture (letters, clocks and driving sides do not mirror), nor for tasks in
    `never`, keypoints whose mirror partners are unknown, directions that swapping two words does not turn, or
    languages other than English.
    """
    if sample.task in never or sample.prompt.question[:2] not in ("", "en"):
        return False
    if any(_FIXED_DIRECTION.search(turn.text) for turn in sample.conversation):
        return False
    match sample.targets:
        case InstanceTargets():
            return True
        case KeypointTargets(names=names, flip_pairs=pairs):
            paired = {index for pair in pairs for index in pair}
            return all(index in paired or swap_sides(name) == name for index, name in enumerate(names))
        case _:
            return False


def flip(sample: Sample, images: Sequence[Pixels]) -> tuple[Sample, list[Pixels]]:
    """Mirror a sample: its pictures, regions, marks, targets and text.

    Keypoints exchange with their mirror partners, so their names stay; everywhere else left and right swap in the
    conversation, in the routes and in the labels alike.
    """
    mirrored = [mirror(image) for image in images]
    if sample.marks:
        turned = tuple(_flip_mark(mark, sample.images[mark.image].width) for mark in sample.marks)
        sample = msgspec.structs.replace(sample, marks=turned)
    regions = tuple(
        msgspec.structs.replace(
            region,
            box=_flip_box(region.box, sample.images[region.image].width),
            mask=None if region.mask is None else _flip_mask(region.mask),
        )
        for region in sample.regions
    )
    width = sample.images[sample.object_image].width
    match sample.targets:
        case KeypointTargets() as targets:
            order = list(range(len(targets.names)))
            for one, other in targets.flip_pairs:
                order[one], order[other] = other, one
            kept = tuple(_flip_instance(item, width, order) for item in targets.instances)
            moved = msgspec.structs.replace(targets, instances=kept)
            return msgspec.structs.replace(sample, regions=regions, targets=moved), mirrored
        case InstanceTargets() as targets:
            instances = tuple(
                msgspec.structs.replace(_flip_instance(item, width, []), label=swap_sides(item.label))
                for item in targets.instances
            )
            negatives = tuple(swap_sides(name) for name in targets.negatives)
            moved_objects = msgspec.structs.replace(
                targets,
                instances=instances,
                negatives=negatives,
                void=None if targets.void is None else _flip_mask(targets.void),
            )
            return (
                msgspec.structs.replace(
                    sample,
                    regions=regions,
                    targets=moved_objects,
                    conversation=tuple(
                        Turn(turn.role, swap_sides(turn.text)) for turn in sample.conversation
                    ),
                    routes=tuple(
                        msgspec.structs.replace(route, name=swap_sides(route.name)) for route in sample.routes
                    ),
                ),
                mirrored,
            )
        case other:
            raise TypeError(
                f"{sample.id}: {type(other).__name__} cannot be mirrored, expected objects or keypoints"
            )


def mirror(image: Pixels) -> Pixels:
    """Return a picture mirrored left to right."""
    return np.ascontiguousarray(image[:, ::-1])


def _flip_box(box: Box, width: int) -> Box:
    return (width - box[2], box[1], width - box[0], box[3])


def _flip_mask(mask: Rle) -> Rle:
    return rle_from_mask(mask_from_rle(mask)[:, ::-1])


def _flip_mark(mark: Mark, width: int) -> Mark:
    return msgspec.structs.replace(
        mark,
        box=_flip_box(mark.box, width),
        mask=None if mark.mask is None else _flip_mask(mark.mask),
        points=tuple((width - 1 - x, y) for x, y in mark.points),  # a pixel's place is its index
    )


def _flip_instance(item: TargetInstance, width: int, order: list[int]) -> TargetInstance:
    keypoints: tuple[Keypoint, ...] | None = None
    if item.keypoints is not None:
        points = [(width - x, y, v) if v else (x, y, v) for x, y, v in item.keypoints]
        keypoints = tuple(points[index] for index in order) if order else tuple(points)
    return msgspec.structs.replace(
        item,
        box=_flip_box(item.box, width),
        mask=None if item.mask is None else _flip_mask(item.mask),
        keypoints=keypoints,
    )
