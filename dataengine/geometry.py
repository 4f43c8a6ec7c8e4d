"""Boxes and masks as pure functions. Boxes are xyxy pixels, end exclusive; masks are COCO run-length codes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from dataengine.annotation import Box, Rle

# COCO's C code counts in 32 bits, and keeps some 80 bytes for each pixel that an outline passes.
MAX_MASK_PIXELS = 2**30
MAX_COORDINATE = 1e6
MAX_OUTLINE_PIXELS = 2_000_000


def from_xywh(box: Sequence[float]) -> Box:
    """Return (x, y, width, height) as xyxy."""
    x, y, width, height = box
    left, top = float(x), float(y)
    return (left, top, left + float(width), top + float(height))


def from_cxcywh(box: Sequence[float]) -> Box:
    """Return (center x, center y, width, height) as xyxy."""
    cx, cy, width, height = (float(value) for value in box)
    return (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)


def to_xywh(box: Box) -> Box:
    """Return xyxy as (x, y, width, height)."""
    return (box[0], box[1], box[2] - box[0], box[3] - box[1])


def clip_box(box: Box, width: int, height: int) -> Box:
    """Cut a box to the image."""
    return (
        min(max(box[0], 0.0), float(width)),
        min(max(box[1], 0.0), float(height)),
        min(max(box[2], 0.0), float(width)),
        min(max(box[3], 0.0), float(height)),
    )


def box_area(box: Box) -> float:
    """Return the area in square pixels; 0 for an empty or inverted box."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def box_iou(a: Box, b: Box) -> float:
    """Return intersection over union; 0 where the union is empty."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    union = box_area(a) + box_area(b) - both
    return both / union if union > 0 else 0.0


def quad_box(points: Sequence[float]) -> Box:
    """Return the tight xyxy box of a flat list of points x1, y1, x2, y2, …"""
    xs, ys = points[0::2], points[1::2]
    return (float(min(xs)), float(min(ys)), float(max(xs)), float(max(ys)))


def _wrap(code: dict[str, object]) -> Rle:
    size, counts = code["size"], code["counts"]
    assert isinstance(size, list | tuple)
    text = counts.decode("ascii") if isinstance(counts, bytes) else str(counts)
    return Rle((int(size[0]), int(size[1])), text)


def _unwrap(rle: Rle) -> dict[str, object]:
    return {"size": list(rle.size), "counts": rle.counts.encode("ascii")}


def rle_from_polygons(polygons: Sequence[Sequence[float]], width: int, height: int) -> Rle:
    """Rasterise polygons (flat x, y lists, at least 3 points each) as COCO does and return their union.

    Raises ValueError where there is no polygon, or one has fewer than three points, an odd count, a value that is not
    finite, or an outline that is longer than any object's.
    """
    _check_size(height, width)
    check_polygons(polygons)
    codes = coco_mask.frPyObjects(list(polygons), height, width)
    return _wrap(codes[0] if len(codes) == 1 else coco_mask.merge(codes))


def check_polygons(polygons: Sequence[Sequence[float]]) -> None:
    """Raise ValueError where `rle_from_polygons` would."""
    if not polygons:
        raise ValueError("there is no polygon, expected at least one")
    for polygon in polygons:
        count = len(polygon)
        if count < 6 or count % 2:
            raise ValueError(f"polygon has {count} numbers, expected an even count of at least 6")
        # pycocotools reads a 4-number polygon as a box and lets a NaN or a huge number run wild in C. A comparison with
        # NaN is false and min and max may pass over it, but no sum does.
        largest = max(max(polygon), -min(polygon))
        if not (largest <= MAX_COORDINATE and math.isfinite(sum(polygon))):
            raise ValueError("polygon has a coordinate that is not finite or beyond a million pixels")
        if count * largest > MAX_OUTLINE_PIXELS:
            points = np.asarray(polygon, np.float64).reshape(-1, 2)
            steps = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1)
            if steps.sum() > MAX_OUTLINE_PIXELS:
                raise ValueError(
                    f"polygon has an outline of {steps.sum():.0f} pixels, more than an object has"
                )


def rle_from_counts(counts: Sequence[int] | str, size: Sequence[int]) -> Rle:
    """Return a run-length code from COCO's `counts` (list of runs, or compressed string) and `size` (height, width).

    Raises ValueError where the runs do not add up to height x width.
    """
    height, width = int(size[0]), int(size[1])
    _check_size(height, width)
    if isinstance(counts, str):
        runs = _decode_runs(counts)
        if sum(runs) != height * width:
            raise ValueError(f"runs add up to {sum(runs)}, expected {height} x {width} = {height * width}")
        return Rle((height, width), counts)
    if any(run < 0 for run in counts) or sum(counts) != height * width:
        raise ValueError(f"runs add up to {sum(counts)}, expected {height} x {width} = {height * width}")
    return _wrap(coco_mask.frPyObjects({"size": [height, width], "counts": list(counts)}, height, width))


def _check_size(height: int, width: int) -> None:
    if height <= 0 or width <= 0 or height * width > MAX_MASK_PIXELS:
        raise ValueError(f"size is {height} x {width}, expected 1 to {MAX_MASK_PIXELS} pixels")


def _decode_runs(counts: str) -> list[int]:
    """Decode COCO's compressed string (6 bits a character from code 48, 5 of them payload, runs as differences)."""
    runs: list[int] = []
    value, shift = 0, 0
    for char in counts:
        bits = ord(char) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"counts hold {char!r}, which no run-length code has")
        if shift > 30:
            raise ValueError("counts hold a run of more than 32 bits")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if value < 0:
            raise ValueError("counts decode to a negative run")
        runs.append(value)
        value, shift = 0, 0
    if shift:
        raise ValueError("counts end in the middle of a run")
    return runs


def rle_from_mask(mask: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Rle:
    """Encode a binary mask of shape [height, width]."""
    return _wrap(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))))


def mask_from_rle(rle: Rle) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Decode to a binary mask uint8 [height, width]."""
    mask: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = coco_mask.decode(_unwrap(rle))
    return mask


def rle_union(masks: Sequence[Rle]) -> Rle:
    """Return the pixels that any of some masks of one size has, at least one mask."""
    return masks[0] if len(masks) == 1 else _wrap(coco_mask.merge([_unwrap(mask) for mask in masks]))


def rle_area(rle: Rle) -> float:
    """Return the number of foreground pixels."""
    return float(coco_mask.area(_unwrap(rle)))


def rle_box(rle: Rle) -> Box:
    """Return the tight xyxy box of the foreground (all zeros if there is none)."""
    x, y, width, height = (float(value) for value in coco_mask.toBbox(_unwrap(rle)))
    return (x, y, x + width, y + height)


def rle_of_box(box: Box, width: int, height: int) -> Rle:
    """Return the mask of a filled box."""
    x0, y0, x1, y1 = box
    return rle_from_polygons([[x0, y0, x1, y0, x1, y1, x0, y1]], width, height)
