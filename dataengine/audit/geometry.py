"""Boxes, masks and keypoints, each in itself and on its picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from dataengine.annotation import Box, Instance
from dataengine.audit.block import SAME_IOU, Block
from dataengine.audit.rule import Facts, Hit, SampleFacts
from dataengine.conventions import Numbers
from dataengine.geometry import box_area, box_iou, clip_box

OUTSIDE_TOLERANCE_PX = 1.0
# A box that covers so much of the sides of its picture covers 99 % of it, or nearly.
MARGIN = 0.005
# In so many pictures, and such a share of them, a box that covers all or is always the same says nothing.
MANY, WHOLE_SHARE, SAME_SHARE = 20, 0.2, 0.1
MOST_BOXES, HELD_BOXES = 256, 1 << 12
_ODD = np.uint64(0x9E3779B97F4A7C15)
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

    def add(self, block: Block) -> None:
        """Look at the boxes of some annotations; an ignored region, or a crowd, may be everywhere."""
        if not block.objects:
            return
        self._all += int(np.count_nonzero(block.num_boxes))
        x0, y0, x1, y1, width, height = block.boxes.rows.T
        with np.errstate(all="ignore"):
            covers = (x0 <= np.minimum(MARGIN * width, FAR_PX)) & (y0 <= np.minimum(MARGIN * height, FAR_PX))
            covers &= (x1 >= (1 - MARGIN) * width) & (y1 >= (1 - MARGIN) * height)
        covers &= block.finite & ~block.boxes.everywhere
        self._covered += len(set(block.boxes.owners[covers].tolist()))

    def hits(self) -> Iterator[Hit]:
        """Yield the count where it is large."""
        if self._covered >= max(MANY, WHOLE_SHARE * self._all):
            yield Hit(
                f"in {self._covered} of {self._all} pictures with boxes, a box covers the whole picture"
            )


class Constant:
    """Finds a box that many pictures have, in the room of a few thousand boxes.

    Boxes are counted by the thousand. Of each such count, and of all of them together, the MOST_BOXES with the most
    stay, lowered by what the next one has (Agarwal et al., Mergeable summaries, 2012): none is off by more than a 256th
    of all boxes.
    """

    def __init__(self) -> None:
        self._counts: Counter[Box] = Counter()
        self._all = self._held = 0
        self._tables: list[Numbers] = []

    def add(self, block: Block) -> None:
        """Keep the boxes of some annotations, each once in each of them."""
        if not block.objects:
            return
        self._all += int(np.count_nonzero(block.num_boxes))
        kept = block.finite & ~block.boxes.everywhere
        rows = block.boxes.rows[kept, :4] + 0.0  # no zero below 0
        if block.near:
            owners = block.boxes.owners[kept].astype(np.uint64)
            rows = rows[np.unique(_digests(rows) ^ owners, return_index=True)[1]]
        self._tables.append(rows)
        self._held += len(rows)
        if self._held >= HELD_BOXES:
            self._counts += self._counted(MOST_BOXES)
            if len(self._counts) > MOST_BOXES:
                least = sorted(self._counts.values())[-MOST_BOXES - 1]
                self._counts = +Counter({box: count - least for box, count in self._counts.items()})

    def _counted(self, most: int) -> Counter[Box]:
        """Return how often each box is held, and hold none any more."""
        rows = np.concatenate([np.zeros((0, 4)), *self._tables])
        self._tables, self._held = [], 0
        _, first, counts = np.unique(_digests(rows), return_index=True, return_counts=True)
        if len(counts) > most:
            counts -= np.partition(counts, -most - 1)[-most - 1]
        left = counts > 0
        boxes = [(x0, y0, x1, y1) for x0, y0, x1, y1 in rows[first[left]].tolist()]
        return Counter(dict(zip(boxes, counts[left].tolist(), strict=True)))

    def hits(self) -> Iterator[Hit]:
        """Yield the boxes that many pictures have."""
        self._counts += self._counted(HELD_BOXES)
        for box, count in sorted(self._counts.items(), key=lambda pair: (-pair[1], pair[0])):
            if count >= max(MANY, SAME_SHARE * self._all):
                numbers = ", ".join(f"{value:g}" for value in box)
                yield Hit(f"at least {count} of {self._all} pictures with boxes have the box ({numbers})")


def _digests(rows: Numbers) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return 64 bits of each row of numbers: no two rows of others have the same, as good as always."""
    found = np.zeros(len(rows), np.uint64)
    for column in rows.T:
        found = (found ^ np.ascontiguousarray(column).view(np.uint64)) * _ODD
        found ^= found >> np.uint64(29)
    return found


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
