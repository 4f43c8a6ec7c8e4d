"""Polygons, run-length codes and four corners: in themselves, and against their box and picture."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np

from dataengine.annotation import Box, Instance
from dataengine.audit.block import Block
from dataengine.audit.rule import Facts, Hit, Part, is_outline
from dataengine.geometry import box_iou, clip_box, rle_box

OUTSIDE_TOLERANCE_PX = 1.0
# A box and the box around its mask may differ so much: amodal boxes differ more, rounding less.
LEAST_IOU = 0.8
LEAST_PX = 2.0
# Lines that cross by less only touch: numbers are rounded.
CROSSED_PX = 0.01
# All pairs of lines are looked at in one table where there are no more of them; else the lines are sorted first.
TABLE = 6000
MOST_PAIRS = 1 << 18
Numbers = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
Places = np.ndarray[Any, np.dtype[np.intp]]


def flat(facts: Facts) -> Iterator[Hit]:
    """Yield polygons of fewer than three points, or whose points lie on one line: they have no area."""
    for item in facts.outlined:
        for polygon in item.polygons:
            if not is_outline(polygon):
                text = f"instance {item.id}: polygon of {len(polygon)} numbers, not x and y of three points"
                yield Hit(text, item.box, item.image)
    for part in facts.parts:
        xs, ys = part.xs, part.ys
        # Nearly always the first three points are no line already.
        if (xs[1] - xs[0]) * (ys[2] - ys[0]) == (xs[2] - xs[0]) * (ys[1] - ys[0]) and not _turns(xs, ys):
            text = f"instance {part.item.id}: polygon of {len(xs)} points without area"
            yield Hit(text, part.item.box, part.item.image)


def _turns(xs: Sequence[float], ys: Sequence[float]) -> bool:
    """Say whether the points of an outline lie on more than one line through the first."""
    ways = [(x - xs[0], y - ys[0]) for x, y in zip(xs, ys, strict=True) if x != xs[0] or y != ys[0]]
    return any(ways[0][0] * dy != ways[0][1] * dx for dx, dy in ways)


def polygon_outside(facts: Facts) -> Iterator[Hit]:
    """Yield polygons that leave their picture by more than a pixel."""
    for part in facts.parts:
        size = facts.size_of(part.item)
        if size is None:
            continue
        x0, y0, x1, y1 = part.box
        if max(-x0, -y0, x1 - size[0], y1 - size[1]) > OUTSIDE_TOLERANCE_PX:
            around = f"({x0:g}, {y0:g}, {x1:g}, {y1:g})"
            text = f"instance {part.item.id}: polygon in {around}, picture of {size[0]} x {size[1]}"
            yield Hit(text, part.box, part.item.image)


def hole_lost(facts: Facts) -> Iterator[Hit]:
    """Yield polygons that lie inside another one of their object: a mask is their union, so no hole is left."""
    for _, group in groupby(facts.parts, key=lambda part: id(part.item)):
        parts = list(group)
        if len(parts) < 2:
            continue
        for inner in parts:
            outer = next((one for one in parts if one is not inner and _holds(one, inner)), None)
            if outer is not None:
                text = f"instance {inner.item.id}: a polygon of {len(inner.xs)} points lies inside another"
                yield Hit(text, inner.box, inner.item.image)


def _holds(outer: Part, inner: Part) -> bool:
    """Say whether each point of a polygon lies inside another one, by the crossings of a line to its right."""
    a, b = outer.box, inner.box
    if not (a[0] < b[0] and a[1] < b[1] and b[2] < a[2] and b[3] < a[3]):
        return False
    edges = list(
        zip(outer.xs, outer.ys, (*outer.xs[1:], outer.xs[0]), (*outer.ys[1:], outer.ys[0]), strict=True)
    )

    def inside(x: float, y: float) -> bool:
        return (
            sum(
                (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0) for x0, y0, x1, y1 in edges
            )
            % 2
            == 1
        )

    return all(inside(x, y) for x, y in zip(inner.xs, inner.ys, strict=True))


def polygon_crossed(facts: Facts) -> Iterator[Hit]:
    """Yield polygons whose outline crosses itself."""
    parts = [part for part in facts.parts if len(part.xs) > 3]
    if not parts:
        return
    longest = max([len(part.xs) for part in parts])
    found = _crossed(parts) if len(parts) * longest**2 <= TABLE else set(_swept(parts))
    for place in sorted(found):
        part = parts[place]
        text = f"instance {part.item.id}: the outline of {len(part.xs)} points crosses itself"
        yield Hit(text, part.item.box, part.item.image)


def _crossed(parts: Sequence[Part]) -> set[int]:
    """Return the positions of the parts that cross themselves: all pairs of lines of all of them in one table."""
    longest = max([len(part.xs) for part in parts])
    xs, ys = array("d"), array("d")
    for part in parts:
        # Back to the first point; lines from a point to itself cross nothing.
        spare = longest + 1 - len(part.xs)
        xs.extend(part.xs + part.xs[:1] * spare)
        ys.extend(part.ys + part.ys[:1] * spare)
    x = np.frombuffer(xs).reshape(len(parts), longest + 1)
    y = np.frombuffer(ys).reshape(len(parts), longest + 1)
    dx, dy = x[:, 1:] - x[:, :-1], y[:, 1:] - y[:, :-1]
    # On which side of each line each point lies: dx (y' - y) - dy (x' - x).
    base = dx * y[:, :-1] - dy * x[:, :-1]
    side = dx[:, :, None] * y[:, None, :]
    side -= dy[:, :, None] * x[:, None, :]
    left = side > base[:, :, None]
    parted = left[:, :, 1:] ^ left[:, :, :-1]
    parted &= parted.transpose(0, 2, 1) & _apart(longest)
    if not parted.any():
        return set()
    # What only touches is told from what crosses in pixels.
    part_of, first, second = np.nonzero(parted)
    a, b = part_of * longest + first, part_of * longest + second
    ends = (x[:, 1:].ravel(), y[:, 1:].ravel())
    cut = _cut(x[:, :-1].ravel(), y[:, :-1].ravel(), *ends, a, b)
    return set(part_of[cut].tolist())


@lru_cache(maxsize=128)
def _apart(count: int) -> Flags:
    """Return which pairs of lines share no point: each pair once."""
    apart = np.triu(np.ones((count, count), bool), 2)
    apart[0, -1] = False
    return apart


def _swept(parts: Sequence[Part]) -> Iterator[int]:
    """Yield the positions of the parts that cross themselves."""
    xs, ys = array("d"), array("d")
    for part in parts:
        xs.extend(part.xs)
        ys.extend(part.ys)
    counts = np.array([len(part.xs) for part in parts])
    lefts, rights = np.array([(part.box[0], part.box[2]) for part in parts]).T
    return swept(np.frombuffer(xs), np.frombuffer(ys), counts, lefts, rights)


def swept(xs: Numbers, ys: Numbers, counts: Places, lefts: Numbers, rights: Numbers) -> Iterator[int]:
    """Yield the positions of outlines that cross themselves, in time and memory that hardly grow faster than points.

    All of them, of so many points each, are laid side by side, and their lines sorted by where they begin from the
    left: only lines that begin before a line ends can cross it.
    """
    widths = np.cumsum(rights - lefts + 1)
    owner = np.repeat(np.arange(len(counts)), counts)
    x, y = xs + (np.concatenate([[0.0], widths[:-1]]) - lefts)[owner], ys
    after = np.arange(1, len(x) + 1)
    ends = np.cumsum(counts)
    after[ends - 1] = ends - counts
    next_x, next_y = x[after], y[after]
    left = np.minimum(x, next_x)
    order = np.argsort(left, kind="stable")  # outlines are sorted nearly, as they lie side by side
    # How many lines begin after each line, and before its end.
    past = np.searchsorted(left[order], np.maximum(x, next_x)[order]) - np.arange(1, len(x) + 1)
    top, bottom = np.minimum(y, next_y)[order], np.maximum(y, next_y)[order]
    for lines in _stripes(past):
        reach = np.maximum(past[lines], 0)
        first = np.repeat(np.arange(lines.start, lines.stop), reach)
        second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(reach) - reach, reach)
        meet = (top[first] < bottom[second]) & (top[second] < bottom[first])
        a, b = order[first[meet]], order[second[meet]]
        cut = _cut(x, y, next_x, next_y, a, b)
        if cut.any():
            yield from owner[a[cut]].tolist()


def _stripes(past: Places) -> Iterator[slice]:
    """Yield slices of lines with no more pairs than fit into memory, or one line."""
    start, pairs = 0, np.cumsum(np.maximum(past, 0))
    while start < len(past):
        done = pairs[start - 1] if start else 0
        stop = max(int(np.searchsorted(pairs, done + MOST_PAIRS, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def _cut(x: Numbers, y: Numbers, next_x: Numbers, next_y: Numbers, a: Places, b: Places) -> Flags:
    """Say of pairs of lines whether each has the ends of the other on both of its sides."""

    def sides(one: Places, other: Places) -> Flags:
        x0, y0 = x[one], y[one]
        dx, dy = next_x[one] - x0, next_y[one] - y0
        begin = dx * (y[other] - y0) - dy * (x[other] - x0)
        end = dx * (next_y[other] - y0) - dy * (next_x[other] - x0)
        least = CROSSED_PX * np.hypot(dx, dy)
        found: Flags = (np.minimum(begin, end) < -least) & (np.maximum(begin, end) > least)
        return found

    return sides(a, b) & sides(b, a)


def mask_size(facts: Facts) -> Iterator[Hit]:
    """Yield masks of another size than their picture."""
    for item in facts.masked:
        size = facts.size_of(item)
        if item.mask is not None and size is not None and item.mask.size != (size[1], size[0]):
            text = f"instance {item.id}: mask of {item.mask.size}, picture of {(size[1], size[0])}"
            yield Hit(text, item.box, item.image)


def box_mismatch(facts: Facts) -> Iterator[Hit]:
    """Yield objects whose polygons or mask fill another box than theirs; a crowd or ignored region may have any."""
    last: Instance | None = None
    around: Box = (0, 0, 0, 0)
    for part in facts.parts:
        if part.item is last:
            a, b = around, part.box
            around = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
            continue
        if last is not None and _differs(last, around):
            yield from _beside(facts, last, around)
        last, around = part.item, part.box
    if last is not None and _differs(last, around):
        yield from _beside(facts, last, around)
    for item in facts.masked:
        size = facts.size_of(item)
        if item.mask is not None and (size is None or item.mask.size == (size[1], size[0])):
            around = rle_box(item.mask)
            if _differs(item, around):
                yield from _beside(facts, item, around)


def _differs(item: Instance, around: Box) -> bool:
    """Say whether any side of an object's box is more than rounding away from another."""
    if item.box is None or item.crowd or item.ignore:
        return False
    x0, y0, x1, y1 = item.box
    a, b, c, d = around
    return max(x0 - a, a - x0, y0 - b, b - y0, x1 - c, c - x1, y1 - d, d - y1) > LEAST_PX


def _beside(facts: Facts, item: Instance, around: Box) -> Iterator[Hit]:
    assert item.box is not None
    box, size = item.box, facts.size_of(item)
    if size is not None:
        box, around = clip_box(box, *size), clip_box(around, *size)
    share = box_iou(box, around)
    if share < LEAST_IOU:
        numbers = ", ".join(f"{value:g}" for value in around)
        yield Hit(
            f"instance {item.id}: its mask fills ({numbers}), IoU with its box {share:.2f}",
            item.box,
            item.image,
        )


def quad_crossed(facts: Facts) -> Iterator[Hit]:
    """Yield four corners whose sides cross: a bow-tie."""
    for item in facts.quads:
        assert item.quad is not None
        turns = [turn for turn in _corners(item.quad) if turn]
        # Of the corners of a bow-tie two turn left and two turn right; of all other shapes at least three turn alike.
        if sum(turn > 0 for turn in turns) == 2 and len(turns) == 4:
            yield Hit(_says(item, "the sides cross"), item.box, item.image)


class QuadOrder:
    """Counts the corners that go around counter-clockwise, as they are seen: a source has one order, or is mixed."""

    def __init__(self) -> None:
        self._turned = self._all = 0
        self._first = ""

    def add(self, block: Block) -> None:
        """Look at the quadrilaterals of some annotations."""
        if not (places := block.having("quad")):
            return
        for place, item in zip(places, [one for one in block.objects if one.quad is not None], strict=True):
            assert item.quad is not None
            self._all += 1
            if sum(turn < 0 for turn in _corners(item.quad)) > 2:
                self._turned += 1
                self._first = self._first or f"{block.items[place].key}: {_says(item, 'the first')}"

    def hits(self) -> Iterator[Hit]:
        """Yield the count, and the first of them."""
        if self._turned:
            yield Hit(f"{self._turned} of {self._all} quadrilaterals go counter-clockwise; {self._first}")


def _corners(quad: tuple[float, ...]) -> list[float]:
    """Return how each corner turns: above 0 to the right, as it is seen."""
    x0, y0, x1, y1, x2, y2, x3, y3 = quad
    ax, ay, bx, by = x1 - x0, y1 - y0, x2 - x1, y2 - y1
    cx, cy, dx, dy = x3 - x2, y3 - y2, x0 - x3, y0 - y3
    return [ax * by - ay * bx, bx * cy - by * cx, cx * dy - cy * dx, dx * ay - dy * ax]


def _says(item: Instance, what: str) -> str:
    assert item.quad is not None
    return f"instance {item.id}: {what} ({', '.join(f'{value:g}' for value in item.quad)})"
