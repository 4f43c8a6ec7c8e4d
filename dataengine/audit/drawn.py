"""The outlines of a block of annotations, looked at together."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np

from dataengine.annotation import Instance
from dataengine.audit.block import Block
from dataengine.audit.outlines import LEAST_PX, OUTSIDE_TOLERANCE_PX, Flags, Numbers, Places, swept
from dataengine.audit.rule import is_outline
from dataengine.conventions import numbers

# So many points are looked at together, as with texts.
POINTS_AT_ONCE = 1 << 12
_NOWHERE = (math.nan,) * 4
_ANY_SIZE = (math.inf, math.inf)


def doubtful_outlines(block: Block) -> set[int]:
    """Return the places of annotations with an outline that may not be plainly sound."""
    places: set[int] = set()
    table = _Table()
    for place, item in block.outlined:
        if not all(map(is_outline, item.polygons)):
            places.add(place)
        table.add(place, item, block.size_of(place, item))
        if table.full:
            places.update(table.doubtful())
            table = _Table()
    places.update(table.doubtful())
    return places


class _Table:
    """Of objects with outlines: their annotations, boxes and pictures' sizes. Of outlines: their objects and points."""

    def __init__(self) -> None:
        self._points: list[float] = []
        self._counts: list[int] = []
        self._objects: list[int] = []
        self._annotations: list[int] = []
        self._frames: list[float] = []

    @property
    def full(self) -> bool:
        """Whether there are enough to look at."""
        return len(self._points) >= 2 * POINTS_AT_ONCE

    def add(self, place: int, item: Instance, size: tuple[int, int] | None) -> None:
        """Keep the outlines of an object."""
        self._frames += _NOWHERE if item.box is None or item.crowd or item.ignore else item.box
        self._frames += size or _ANY_SIZE
        for polygon in item.polygons:
            if is_outline(polygon):
                self._points += polygon
                self._counts.append(len(polygon) // 2)
                self._objects.append(len(self._annotations))
        self._annotations.append(place)

    def doubtful(self) -> set[int]:
        """Return the places of annotations with an outline that may not be plainly sound."""
        if not self._counts:
            return set()
        with np.errstate(invalid="ignore", over="ignore"):
            objects = self._doubtful_objects()
        return set(np.array(self._annotations)[objects].tolist())

    def _doubtful_objects(self) -> Places:
        x, y = numbers(self._points).reshape(-1, 2).T.copy()
        counts, objects = np.array(self._counts), np.array(self._objects)
        starts = np.cumsum(counts) - counts
        boxes = np.stack(
            [
                np.minimum.reduceat(x, starts),
                np.minimum.reduceat(y, starts),
                np.maximum.reduceat(x, starts),
                np.maximum.reduceat(y, starts),
            ],
            axis=1,
        )
        frames = numbers(self._frames).reshape(-1, 6)
        # Whatever compares with a number that is none is false: such an outline is no sound one.
        sound = _inside(boxes, frames[objects, 4:]) & _has_area(x, y, starts)
        sound[~_simple(x, y, counts, starts, boxes)] = False
        found = set(objects[~sound].tolist())
        first = np.flatnonzero(np.diff(objects, prepend=-1))
        around = np.concatenate(
            [np.minimum.reduceat(boxes[:, :2], first), np.maximum.reduceat(boxes[:, 2:], first)], axis=1
        )
        stated = frames[objects[first], :4]
        near = np.logical_and.reduce(np.abs(around - stated) <= LEAST_PX, axis=1)
        apart: Flags = ~(near | np.isnan(stated[:, 0]))
        found.update(objects[first[apart]].tolist())
        several = np.diff(np.append(first, len(objects))) > 1
        for start, stop in zip(first[several], np.append(first, len(objects))[1:][several], strict=True):
            if any(_surrounds(a, b) for a, b in permutations(boxes[start:stop].tolist(), 2)):
                found.add(int(objects[start]))
        return np.array(sorted(found), np.intp)


def _inside(boxes: Numbers, sizes: Numbers) -> Flags:
    beyond = np.maximum(-boxes[:, :2], boxes[:, 2:] - sizes)
    found: Flags = np.logical_and.reduce(beyond <= OUTSIDE_TOLERANCE_PX, axis=1)
    return found


def _has_area(x: Numbers, y: Numbers, starts: Places) -> Flags:
    """Say of each outline whether its first three points are no line."""
    x0, y0 = x[starts], y[starts]
    one = (x[starts + 1] - x0) * (y[starts + 2] - y0)
    other = (x[starts + 2] - x0) * (y[starts + 1] - y0)
    found: Flags = (one < other) | (one > other)
    return found


def _simple(x: Numbers, y: Numbers, counts: Places, starts: Places, boxes: Numbers) -> Flags:
    """Say of each outline whether no line of it crosses another."""
    owner = np.repeat(np.arange(len(counts)), counts)
    after = np.arange(1, len(x) + 1)
    after[starts + counts - 1] = starts
    dx = x - (np.add.reduceat(x, starts) / counts)[owner]
    dy = y - (np.add.reduceat(y, starts) / counts)[owner]
    # Once around its centre, and never back: nothing crosses.
    turns = dx * dy[after] - dx[after] * dy
    one_way = (np.minimum.reduceat(turns, starts) > 0) | (np.maximum.reduceat(turns, starts) < 0)
    rounds = np.add.reduceat(((dy < 0) & (dy[after] >= 0)).astype(np.intp), starts)
    simple: Flags = one_way & (rounds == 1)
    open_ones = ~simple & np.isfinite(boxes).all(axis=1)
    if open_ones.any():
        simple[open_ones] = True
        points = open_ones[owner]
        crossed = swept(x[points], y[points], counts[open_ones], boxes[open_ones, 0], boxes[open_ones, 2])
        simple[np.flatnonzero(open_ones)[list(set(crossed))]] = False
    return simple


def _surrounds(outer: list[float], inner: list[float]) -> bool:
    """Say whether one box lies inside another."""
    return outer[0] < inner[0] and outer[1] < inner[1] and inner[2] < outer[2] and inner[3] < outer[3]
