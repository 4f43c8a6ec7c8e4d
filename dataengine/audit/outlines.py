"""Polygons, run-length codes and four corners: in themselves, and against their box and picture."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np

from dataengine.annotation import Box, Instance
from dataengine.audit.rule import Facts, Hit, Part
from dataengine.geometry import box_iou, clip_box, rle_box

OUTSIDE_TOLERANCE_PX = 1.0
# A box and the box around its mask may differ so much: amodal boxes differ more, rounding less.
LEAST_IOU = 0.8
LEAST_PX = 2.0
# Lines that cross by less only touch: numbers are rounded.
CROSSED_PX = 0.01
# So many points have all pairs of their lines in one table; longer outlines are looked at in stripes of lines.
FEW_POINTS = 64
STRIPE = 256
Numbers = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
Places = np.ndarray[Any, np.dtype[np.intp]]


def flat(facts: Facts) -> Iterator[Hit]:
    """Yield polygons whose points lie on one line: they have no area."""
    for part in facts.parts:
        x0, y0, x1, y1 = part.box
        if x0 == x1 or y0 == y1 or not _turns(part.xs, part.ys):
            yield Hit(
                f"instance {part.item.id}: polygon of {len(part.xs)} points without area",
                part.item.box,
                part.item.image,
            )


def _turns(xs: Sequence[float], ys: Sequence[float]) -> bool:
    """Say whether any three points of an outline are no line, counted from its first point."""
    x0, y0 = xs[0], ys[0]
    first = next(((x - x0, y - y0) for x, y in zip(xs, ys, strict=True) if x != x0 or y != y0), None)
    return first is not None and any(
        first[0] * (y - y0) != first[1] * (x - x0) for x, y in zip(xs, ys, strict=True)
    )


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
    few = [part for part in parts if len(part.xs) <= FEW_POINTS]
    crossed = {id(few[place]) for place in _crossed(few)} if few else set()
    for part in parts:
        if id(part) in crossed or (len(part.xs) > FEW_POINTS and _crosses(part)):
            text = f"instance {part.item.id}: the outline of {len(part.xs)} points crosses itself"
            yield Hit(text, part.item.box, part.item.image)


def _crossed(parts: Sequence[Part]) -> set[int]:
    """Return the positions of the parts that cross themselves: all pairs of lines of all of them in one table."""
    longest = max([len(part.xs) for part in parts])
    xs, ys = array("d"), array("d")
    for part in parts:
        # Lines from a point to itself cross nothing.
        spare = longest - len(part.xs)
        xs.extend(part.xs + part.xs[:1] * spare)
        ys.extend(part.ys + part.ys[:1] * spare)
    after, above = _table(longest)
    x = np.frombuffer(xs).reshape(len(parts), longest)
    y = np.frombuffer(ys).reshape(len(parts), longest)
    next_x, next_y = x[:, after], y[:, after]
    meet = np.minimum(x, next_x)[:, :, None] < np.maximum(x, next_x)[:, None, :]
    meet &= np.minimum(y, next_y)[:, :, None] < np.maximum(y, next_y)[:, None, :]
    meet &= meet.transpose(0, 2, 1) & above
    found = np.flatnonzero(meet)
    if not len(found):
        return set()
    part_of, pair = np.divmod(found, longest * longest)
    first, second = np.divmod(pair, longest)
    base = part_of * longest
    a, b = base + first, base + second
    cut = _cut(x.ravel(), y.ravel(), next_x.ravel(), next_y.ravel(), a, b)
    return set(part_of[cut].tolist())


@lru_cache(maxsize=FEW_POINTS)
def _table(count: int) -> tuple[Places, Flags]:
    """Return where each point's next one stands, and which pairs of lines to look at: each once, none with its next."""
    return (np.arange(count) + 1) % count, np.triu(np.ones((count, count), bool), 2)


def _crosses(part: Part) -> bool:
    """Say whether a long outline crosses itself, in memory that grows with its points alone."""
    x, y = np.array(part.xs, np.float64), np.array(part.ys, np.float64)
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    left, right = np.minimum(x, next_x), np.maximum(x, next_x)
    top, bottom = np.minimum(y, next_y), np.maximum(y, next_y)
    for start in range(0, len(x), STRIPE):
        lines = slice(start, start + STRIPE)
        meet = (left[lines, None] < right) & (left < right[lines, None])
        meet &= (top[lines, None] < bottom) & (top < bottom[lines, None])
        first, second = np.nonzero(meet)
        if _cut(x, y, next_x, next_y, first + start, second).any():
            return True
    return False


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
    """Yield objects whose polygons or mask fill another box than theirs.

    A crowd, or an ignored region, may have any.
    """
    for _, group in groupby(facts.parts, key=lambda part: id(part.item)):
        parts = list(group)
        item, boxes = parts[0].item, [part.box for part in parts]
        if item.box is None or item.crowd or item.ignore:
            continue
        around = boxes[0]
        if len(boxes) > 1:
            left, top, right, bottom = zip(*boxes, strict=True)
            around = (min(left), min(top), max(right), max(bottom))
        yield from _beside(facts, item, item.box, around)
    for item in facts.masked:
        size = facts.size_of(item)
        if item.box is None or item.mask is None or item.crowd or item.ignore:
            continue
        if size is None or item.mask.size == (size[1], size[0]):
            yield from _beside(facts, item, item.box, rle_box(item.mask))


def _beside(facts: Facts, item: Instance, box: Box, around: Box) -> Iterator[Hit]:
    if max([abs(one - other) for one, other in zip(box, around, strict=True)]) <= LEAST_PX:
        return
    size = facts.size_of(item)
    if size is not None:
        box, around = clip_box(box, *size), clip_box(around, *size)
    share = box_iou(box, around)
    if share < LEAST_IOU:
        numbers = ", ".join(f"{value:g}" for value in around)
        yield Hit(
            f"instance {item.id}: its mask fills ({numbers}), IoU with its box {share:.2f}", box, item.image
        )


def quad_crossed(facts: Facts) -> Iterator[Hit]:
    """Yield four corners whose sides cross: a bow-tie."""
    for item in facts.quads:
        assert item.quad is not None
        turns = [turn for turn in _corners(item.quad) if turn]
        # Of the corners of a bow-tie two turn left and two turn right; of all other shapes at least three turn alike.
        if sum(turn > 0 for turn in turns) == 2 and len(turns) == 4:
            yield Hit(_says(item, "the sides cross"), item.box, item.image)


def quad_order(facts: Facts) -> Iterator[Hit]:
    """Yield four corners that go around counter-clockwise, as they are seen."""
    for item in facts.quads:
        assert item.quad is not None
        turns = _corners(item.quad)
        if sum(turn < 0 for turn in turns) > 2:
            yield Hit(_says(item, "the corners go counter-clockwise"), item.box, item.image)


def _corners(quad: tuple[float, ...]) -> list[float]:
    """Return how each corner turns: above 0 to the right, as it is seen."""
    x0, y0, x1, y1, x2, y2, x3, y3 = quad
    ax, ay, bx, by = x1 - x0, y1 - y0, x2 - x1, y2 - y1
    cx, cy, dx, dy = x3 - x2, y3 - y2, x0 - x3, y0 - y3
    return [ax * by - ay * bx, bx * cy - by * cx, cx * dy - cy * dx, dx * ay - dy * ax]


def _says(item: Instance, what: str) -> str:
    assert item.quad is not None
    return f"instance {item.id}: {what} ({', '.join(f'{value:g}' for value in item.quad)})"
