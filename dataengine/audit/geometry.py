"""Boxes, masks and keypoints, each in itself and on its picture."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dataengine.annotation import Instance
from dataengine.audit.rule import Facts, Hit, SampleFacts
from dataengine.geometry import box_area, clip_box

OUTSIDE_TOLERANCE_PX = 1.0


def degenerate(facts: Facts) -> Iterator[Hit]:
    """Yield boxes without area."""
    for item, box in facts.boxes:
        if min(box[2] - box[0], box[3] - box[1]) == 0:
            yield Hit(_named(item), box, item.image)


def inverted(facts: Facts) -> Iterator[Hit]:
    """Yield boxes that end before they begin."""
    for item, box in facts.boxes:
        if box[2] < box[0] or box[3] < box[1]:
            yield Hit(_named(item), box, item.image)


def nonfinite(facts: Facts) -> Iterator[Hit]:
    """Yield boxes with a number that is not finite."""
    for item in facts.annotation.instances:
        if item.box is not None and not all(map(math.isfinite, item.box)):
            yield Hit(_named(item))


def outside(facts: Facts) -> Iterator[Hit]:
    """Yield boxes that leave their picture by more than a pixel."""
    for item, (x0, y0, x1, y1) in facts.boxes:
        size = facts.size_of(item)
        if size is None:
            continue
        beyond = max(-min(x0, x1), -min(y0, y1), max(x0, x1) - size[0], max(y0, y1) - size[1])
        if beyond > OUTSIDE_TOLERANCE_PX:
            yield Hit(f"{_named(item)} in {size[0]} x {size[1]}", item.box, item.image)


def mask_size(facts: Facts) -> Iterator[Hit]:
    """Yield masks of another size than their picture."""
    for item in facts.annotation.instances:
        size = facts.size_of(item)
        if item.mask is not None and size is not None and item.mask.size != (size[1], size[0]):
            text = f"instance {item.id}: mask of {item.mask.size}, picture of {(size[1], size[0])}"
            yield Hit(text, item.box, item.image)


def keypoint_visibility(facts: Facts) -> Iterator[Hit]:
    """Yield keypoints whose flag is none, or contradicts their place, and numbers of keypoints that are wrong."""
    for item in facts.annotation.instances:
        if item.keypoints is None:
            continue
        name = f"instance {item.id}"
        odd = [point for point in item.keypoints if point[2] not in (0, 1, 2)]
        placed = [point for point in item.keypoints if point[2] == 0 and (point[0] or point[1])]
        labelled = sum(point[2] > 0 for point in item.keypoints)
        if odd:
            yield Hit(f"{name}: v = {odd[0][2]}", item.box, item.image)
        if placed:
            yield Hit(f"{name}: {len(placed)} keypoints with v = 0 have a place", item.box, item.image)
        stated = item.attributes.get("num_keypoints")
        # As text: a file may state a number of more digits than Python reads.
        if stated is not None and stated.isdecimal() and (stated.lstrip("0") or "0") != str(labelled):
            yield Hit(f"{name}: num_keypoints is {stated}, {labelled} are labelled", item.box, item.image)


def keypoint_outside(facts: Facts) -> Iterator[Hit]:
    """Yield objects with a labelled keypoint outside their picture, by its first."""
    for item in facts.annotation.instances:
        size = facts.size_of(item)
        if item.keypoints is None or size is None:
            continue
        for x, y, v in item.keypoints:
            if v and not (-1 <= x <= size[0] + 1 and -1 <= y <= size[1] + 1):
                yield Hit(
                    f"instance {item.id}: ({x:g}, {y:g}) in {size[0]} x {size[1]}", item.box, item.image
                )
                break


def target_degenerate(facts: SampleFacts) -> Iterator[Hit]:
    """Yield targets without area."""
    for item in facts.targets:
        if box_area(item.box) <= 0:
            yield Hit(f"target {item.id}", item.box, facts.sample.object_image)


def target_outside(facts: SampleFacts) -> Iterator[Hit]:
    """Yield targets that leave their picture."""
    for item in facts.targets:
        image = facts.sample.images[facts.sample.object_image]
        if clip_box(item.box, image.width, image.height) != item.box:
            yield Hit(f"target {item.id}", item.box, facts.sample.object_image)


def _named(item: Instance) -> str:
    assert item.box is not None
    x0, y0, x1, y1 = item.box
    return f"instance {item.id}: box ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
