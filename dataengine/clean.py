"""Objects against their pictures, before anything is asked about them.

An object that cannot be used keeps its place as an ignored one without geometry: expressions that point to others stay
right, and its class is never named as absent.
"""

from __future__ import annotations

import math
from collections import Counter

import msgspec

from dataengine.annotation import Annotation, Instance, Keypoint
from dataengine.geometry import box_area, clip_box, rle_box, rle_from_polygons

MIN_VISIBLE = 0.25
TOLERANCE_PX = 1.0


class Cleaned(msgspec.Struct, frozen=True):
    """An annotation with usable objects, and how many were dropped or fixed, by reason."""

    annotation: Annotation
    dropped: dict[str, int]
    fixed: dict[str, int]


def clean(annotation: Annotation, sizes: list[tuple[int, int]]) -> Cleaned:
    """Check every object against its picture's (width, height); clip boxes, drop what is not usable."""
    dropped: Counter[str] = Counter()
    fixed: Counter[str] = Counter()
    instances = []
    for item in annotation.instances:
        width, height = sizes[item.image] if 0 <= item.image < len(sizes) else (0, 0)
        made = _clean(item, width, height, fixed)
        if isinstance(made, str):
            dropped[made] += 1
            made = msgspec.structs.replace(
                item, box=None, mask=None, polygons=(), keypoints=None, quad=None, prompts={}, ignore=True
            )
        instances.append(made)
    return Cleaned(
        msgspec.structs.replace(annotation, instances=tuple(instances)), dict(dropped), dict(fixed)
    )


def _clean(item: Instance, width: int, height: int, fixed: Counter[str]) -> Instance | str:
    """Return the object as it can be used, or the reason why it cannot."""
    changes: dict[str, object] = {}
    mask = item.mask
    if item.polygons:
        try:
            mask = mask or rle_from_polygons(item.polygons, width, height)
        except ValueError:
            return "polygon.invalid"
        changes |= {"mask": mask, "polygons": ()}
    if any(one.size != (height, width) for one in (mask, *item.prompts.values()) if one is not None):
        return "rle.size_mismatch"
    box = item.box
    if box is None and mask is not None:
        box = changes["box"] = rle_box(mask)
    if box is not None:
        if not all(map(math.isfinite, box)):
            return "box.nonfinite"
        if box[2] < box[0] or box[3] < box[1]:
            return "box.inverted"
        if box_area(box) <= 0:
            return "box.degenerate"
        clipped = clip_box(box, width, height)
        if clipped != box:
            if box_area(clipped) < MIN_VISIBLE * box_area(box):
                return "box.outside"
            if max(abs(a - b) for a, b in zip(box, clipped, strict=True)) > TOLERANCE_PX:
                fixed["box.outside"] += 1
            changes["box"] = clipped
    if item.keypoints is not None:
        points = tuple(_keypoint(point, width, height, fixed) for point in item.keypoints)
        if points != item.keypoints:
            changes["keypoints"] = points
    return msgspec.structs.replace(item, **changes) if changes else item


def _keypoint(point: Keypoint, width: int, height: int, fixed: Counter[str]) -> Keypoint:
    """A point that is not labelled has no place; one beyond the picture cannot be seen in it."""
    x, y, v = point
    if v == 0:
        return (0.0, 0.0, 0)
    if not (math.isfinite(x) and math.isfinite(y) and -TOLERANCE_PX <= x <= width + TOLERANCE_PX
            and -TOLERANCE_PX <= y <= height + TOLERANCE_PX):  # fmt: skip
        fixed["keypoint.outside"] += 1
        return (0.0, 0.0, 0)
    return (min(max(x, 0.0), width), min(max(y, 0.0), height), v)
