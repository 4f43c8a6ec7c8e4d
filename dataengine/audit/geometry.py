"""Boxes, masks and keypoints, each in itself and on its picture."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from dataengine.annotation import Box, Instance
from dataengine.audit.rule import Facts, Hit, SampleFacts
from dataengine.geometry import box_area, box_iou, clip_box

OUTSIDE_TOLERANCE_PX = 1.0
# Two boxes of one class that share so much are one object, drawn twice.
SAME_IOU = 0.98
# A box that covers so much of the sides of its picture covers 99 % of it, or nearly.
MARGIN = 0.005
# In so many pictures, and such a share of them, a box that covers all or is always the same says nothing.
MANY, WHOLE_SHARE, SAME_SHARE = 20, 0.2, 0.1
MOST_BOXES = 256
# Where a box begins farther from the border, the picture would have 20,000 pixels a side.
FAR_PX = 100


def degenerate(facts: Facts) -> Iterator[Hit]:
    """Yield boxes without area."""
    for item, box in facts.odd_boxes:
        if min(box[2] - box[0], box[3] - box[1]) == 0:
            yield Hit(_named(item), box, item.image)


def inverted(facts: Facts) -> Iterator[Hit]:
    """Yield boxes that end before they begin."""
    for item, box in facts.odd_boxes:
        if box[2] < box[0] or box[3] < box[1]:
            yield Hit(_named(item), box, item.image)


def nonfinite(facts: Facts) -> Iterator[Hit]:
    """Yield boxes with a number that is not finite."""
    return (Hit(_named(item)) for item in facts.endless)


def outside(facts: Facts) -> Iterator[Hit]:
    """Yield boxes that leave their picture by more than a pixel."""
    for item, (x0, y0, x1, y1) in facts.odd_boxes:
        size = facts.size_of(item)
        if size is None:
            continue
        beyond = max(-min(x0, x1), -min(y0, y1), max(x0, x1) - size[0], max(y0, y1) - size[1])
        if beyond > OUTSIDE_TOLERANCE_PX:
            yield Hit(f"{_named(item)} in {size[0]} x {size[1]}", item.box, item.image)


def duplicate(facts: Facts) -> Iterator[Hit]:
    """Yield boxes that are another object's of the same class and text.

    Referred objects have no class: each expression brings its own. Ignored regions and crowds may lie on objects.
    """
    # From left to right: whoever shares nearly all of a box begins within a fiftieth of its width.
    near = 1 - SAME_IOU
    boxes = sorted([box for _, box in facts.boxes])
    for box, other in pairwise(boxes):
        if other[0] - box[0] <= near * (box[2] - box[0]):
            break
    else:
        return
    rows = [
        (box, number)
        for number, (item, box) in enumerate(facts.boxes)
        if item.category is not None and not (item.crowd or item.ignore)
    ]
    rows.sort()
    for place, (box, number) in enumerate(rows):
        limit = box[0] + near * (box[2] - box[0])
        for next_place in range(place + 1, len(rows)):
            other, second = rows[next_place]
            if other[0] > limit:
                break
            one, two = facts.boxes[min(number, second)][0], facts.boxes[max(number, second)][0]
            if (
                box_iou(box, other) > SAME_IOU
                and (one.category, one.text, one.image) == (two.category, two.text, two.image)
            ):  # fmt: skip
                yield Hit(f"{_named(two)}, as instance {one.id}, both {one.category!r}", two.box, two.image)
                break


class WholeImage:
    """Counts pictures in which a box covers nearly everything."""

    def __init__(self) -> None:
        self._covered = self._all = 0

    def add(self, facts: Facts) -> None:
        """Look at the boxes of one annotation; an ignored region, or a crowd, may be everywhere."""
        if facts.boxes:
            self._all += 1
            for item, box in facts.boxes:
                if box[0] <= FAR_PX and box[1] <= FAR_PX and covers(facts, item, box):
                    self._covered += 1
                    break

    def hits(self) -> Iterator[Hit]:
        """Yield the count where it is large."""
        if self._covered >= max(MANY, WHOLE_SHARE * self._all):
            yield Hit(
                f"in {self._covered} of {self._all} pictures with boxes, a box covers the whole picture"
            )


def covers(facts: Facts, item: Instance, box: Box) -> bool:
    """Say whether a box covers its picture."""
    if (size := facts.size_of(item)) is None or item.crowd or item.ignore:
        return False
    width, height = size
    # Sides that no float holds can be compared, and not multiplied.
    return box[0] / MARGIN <= width <= box[2] / (1 - MARGIN) and box[1] / MARGIN <= height <= box[3] / (
        1 - MARGIN
    )


class Constant:
    """Finds a box that many pictures have, in the room of a few hundred boxes.

    Counters of the boxes seen, all lowered by one when there are too many (Misra and Gries, Finding repeated elements,
    1982): none is off by more than a 256th of all boxes.
    """

    def __init__(self) -> None:
        self._counts: dict[Box, int] = {}
        self._all = 0

    def add(self, facts: Facts) -> None:
        """Count the boxes of one annotation, each once."""
        if not facts.boxes:
            return
        self._all += 1
        counts = self._counts
        for box in {box for item, box in facts.boxes if not (item.crowd or item.ignore)}:
            if box in counts:
                counts[box] += 1
            elif len(counts) < MOST_BOXES:
                counts[box] = 1
            else:
                self._counts = counts = {one: count - 1 for one, count in counts.items() if count > 1}

    def hits(self) -> Iterator[Hit]:
        """Yield the boxes that many pictures have."""
        for box, count in sorted(self._counts.items(), key=lambda pair: (-pair[1], pair[0])):
            if count >= max(MANY, SAME_SHARE * self._all):
                numbers = ", ".join(f"{value:g}" for value in box)
                yield Hit(f"at least {count} of {self._all} pictures with boxes have the box ({numbers})")


def keypoint_visibility(facts: Facts) -> Iterator[Hit]:
    """Yield keypoints whose flag is none, or contradicts their place, and numbers of keypoints that are wrong."""
    for item in facts.posed:
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
    for item in facts.posed:
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
