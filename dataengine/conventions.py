"""Do a split's boxes and keypoints look like the convention that its reader takes them for? Evidence, never one object.

Each reading of four numbers that a source could have meant is tried: where many boxes make no sense as they were read,
and nearly all of them do under another reading, that reading is named.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.annotation import Annotation, Instance
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.images import probe

MIN_BOXES = 20
MIN_BORDER = 3
BOXES, KEYPOINTS = "box.convention", "keypoint.convention"
# A wrong reading leaves this share of boxes without sense, at least, and the right one explains all but that.
_SENSELESS, _UNEXPLAINED = 0.05, 0.02
_BLOCK = 4096
_UNKNOWN = (math.nan, math.nan)
# So many pictures' sizes are kept.
MOST_SIZES = 1 << 14
Sizes = list[tuple[int, int] | None]
Numbers = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


def _reading(*matrix: tuple[float, float, float, float]) -> Callable[[Numbers], Numbers]:
    """Return what makes x0, y0, x1, y1 [4, n] of four numbers as they were read: a row of factors for each."""
    factors = np.array(matrix)
    return lambda boxes: factors @ boxes


# What the four numbers may have been, from the corners that the reader took them for.
READINGS: dict[str, Callable[[Numbers], Numbers]] = {
    "x and y are swapped": _reading((0, 1, 0, 0), (1, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0)),
    "the last two numbers are corners, read as width and height": _reading(
        (1, 0, 0, 0), (0, 1, 0, 0), (-1, 0, 1, 0), (0, -1, 0, 1)
    ),
    "the last two numbers are width and height, read as corners": _reading(
        (1, 0, 0, 0), (0, 1, 0, 0), (1, 0, 1, 0), (0, 1, 0, 1)
    ),
    "the first two numbers are the center, read as a corner": _reading(
        (1.5, 0, -0.5, 0), (0, 1.5, 0, -0.5), (0.5, 0, 0.5, 0), (0, 0.5, 0, 0.5)
    ),
    "the numbers are x, x, y, y": _reading((1, 0, 0, 0), (0, 0, 1, 0), (0, 1, 0, 0), (0, 0, 0, 1)),
}


class PictureSizes:
    """The sizes of pictures as their source states them, else as their headers do; none without a root."""

    def __init__(self, root: Path | None) -> None:
        self._root = Root(root) if root is not None else None
        self._found: dict[str, tuple[int, int] | None] = {}

    def of(self, item: Annotation) -> Sizes:
        """Return (width, height) of each picture of an annotation, None where nothing says it."""
        return [
            (image.width, image.height)
            if image.width is not None and image.height is not None
            else self.on_disk(image.path)
            for image in item.images
        ]

    def on_disk(self, path: str) -> tuple[int, int] | None:
        """Return (width, height) as a picture's header says it, None where it cannot be read, or without a root."""
        if self._root is None:
            return None
        if path not in self._found:
            if len(self._found) >= MOST_SIZES:
                self._found.clear()
            try:
                header = probe(self._root.inside(path))
                self._found[path] = (header.width, header.height)
            except Quarantine:
                self._found[path] = None  # said of the picture itself
        return self._found[path]


def numbers(values: Sequence[float]) -> Numbers:
    """Return numbers as an array that is not to be written to; NumPy's own ways take twice the time and more.

    A whole number beyond all floats, as a source may state it, is endless.
    """
    try:
        packed = struct.pack(f"{len(values)}d", *values)
    except (struct.error, OverflowError):
        packed = struct.pack(f"{len(values)}d", *map(_as_float, values))
    return np.frombuffer(packed)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


class Evidence:
    """Counts over the boxes and keypoints of a split, from which a wrong unit, order or origin shows.

    `most` is how many boxes and how many keypoints are looked at.
    """

    def __init__(self, counts: Mapping[str, int] | None = None, most: int = 1 << 62) -> None:
        self._counts: Counter[str] = Counter(counts or {})
        self._left = {BOXES: most, KEYPOINTS: most}
        self._boxes: list[float] = []
        self._tables: list[Numbers] = []
        self._points: list[float] = []

    @property
    def counts(self) -> dict[str, int]:
        """What was counted: counts of several parts of a split may be added."""
        self._count()
        return {key: count for key, count in sorted(self._counts.items()) if count}

    def add(self, annotation: Annotation, sizes: Sequence[tuple[int, int] | None]) -> None:
        """Count the objects of one annotation on pictures of (width, height), None where that is not known."""
        boxes, left = self._boxes, self._left[BOXES]
        first = (sizes[0] if sizes else None) or _UNKNOWN
        for item in annotation.instances:
            if item.crowd:
                continue
            size = (sizes[item.image] if 0 <= item.image < len(sizes) else None) if item.image else first
            width, height = size or _UNKNOWN
            if item.box is not None and left > 0:
                left -= 1
                boxes += item.box
                boxes += (width, height)
            if item.keypoints:
                self.add_keypoints(item, size)
        self._left[BOXES] = left
        if len(self._boxes) > 6 * _BLOCK:
            self._count()

    def add_boxes(self, rows: Numbers) -> None:
        """Count boxes [n, 6]: x0, y0, x1, y1, and the (width, height) of their pictures, NaN where not known."""
        self._tables.append(rows[: max(self._left[BOXES], 0)])
        self._left[BOXES] -= len(rows)
        if sum(map(len, self._tables)) > _BLOCK:
            self._count()

    def add_keypoints(self, item: Instance, size: tuple[float, float] | None) -> None:
        """Count the keypoints of one object on a picture of (width, height), None where that is not known."""
        if self._left[KEYPOINTS] <= 0:
            return
        around = item.box or (np.nan,) * 4
        placed = [(x, y) for x, y, v in item.keypoints or () if v > 0]
        self._left[KEYPOINTS] -= len(placed)
        for x, y in placed:
            self._points.extend((x, y, *(size or _UNKNOWN), *around))
        if len(self._points) > 8 * _BLOCK:
            self._count()

    def _count(self) -> None:
        tables = [*self._tables, numbers(self._boxes).reshape(-1, 6)]
        with np.errstate(all="ignore"):
            if len(rows := np.concatenate(tables)):
                self._counts.update(_box_counts(rows))
            if self._points:
                self._counts.update(_point_counts(numbers(self._points).reshape(-1, 8)))
        self._tables, self._boxes, self._points = [], [], []

    def verdicts(self) -> list[tuple[str, str]]:
        """Return what speaks against the convention: the rule, and a line that says what and how often."""
        count = Counter(self.counts)
        found = [(BOXES, line) for line in _box_verdicts(count)] if count["boxes"] >= MIN_BOXES else []
        if count["points"] >= MIN_BOXES:
            found += [(KEYPOINTS, line) for line in _point_verdicts(count)]
        return found


def _box_counts(rows: Numbers) -> dict[str, int]:
    columns = np.ascontiguousarray(rows.T)
    boxes, sides = columns[:4], columns[4:]
    x0, y0, x1, y1, width, height = columns
    sized = ~np.isnan(width)
    inverted = (x1 < x0) | (y1 < y0)
    far = (x1 > width * 1.1) | (y1 > height * 1.1)
    counts = {
        "inverted": inverted,
        "unit": np.abs(boxes).max(axis=0) <= 1.5,
        "integer": (boxes == np.floor(boxes)).all(axis=0),
        "start_zero": boxes[:2] == 0,
        "start_one": boxes[:2] == 1,
        "start_two": boxes[:2] == 2,
        "sized": sized,
        "far_outside": far,
        "past_end": boxes[2:] == sides + 1,
        "senseless": sized & (inverted | far),
    }
    spare = np.maximum(2.0, 0.01 * sides)
    counts |= {name: _inside(read(boxes), -spare, sides + spare) for name, read in READINGS.items()}
    return {"boxes": len(rows)} | {name: int(np.count_nonzero(found)) for name, found in counts.items()}


def _inside(boxes: Numbers, first: Numbers, last: Numbers) -> Flags:
    """Say of each box [4, n] whether it has an area and lies between two corners [2, n]."""
    starts, ends = boxes[:2], boxes[2:]
    x, y = (starts >= first) & (ends <= last) & (ends > starts)
    inside: Flags = x & y
    return inside


def _box_verdicts(count: Counter[str]) -> Iterator[str]:
    boxes, sized = count["boxes"], count["sized"]
    if count["unit"] > 0.9 * boxes:
        yield f"{count['unit']} of {boxes} boxes lie within 0 to 1: are they fractions of the picture?"
        return
    if count["inverted"] > 0.1 * boxes:
        yield f"{count['inverted']} of {boxes} boxes end before they begin: is the order another one?"
    if count["far_outside"] > 0.1 * max(sized, 1):
        yield (
            f"{count['far_outside']} of {sized} boxes end far outside their picture: are the last two numbers"
            " corners, or is the picture another size?"
        )
    if count["senseless"] >= max(MIN_BORDER, _SENSELESS * sized):
        fits = [name for name in READINGS if count[name] >= (1 - _UNEXPLAINED) * sized]
        if fits:
            what = f"{count['senseless']} of {sized} boxes make no sense as they are read, and nearly all would if"
            yield f"{what} {', or '.join(fits)}"
    # What a border cuts off begins at its first pixel: there are more of these than begin at any other.
    first = count["start_one"] >= MIN_BORDER and count["start_one"] > 2 * count["start_two"]
    if count["integer"] == boxes and count["start_zero"] == 0 and first:
        yield f"whole numbers, {count['start_one']} of them begin at 1 and none at 0: do they count pixels from 1?"
    if count["past_end"] >= MIN_BORDER:
        yield f"{count['past_end']} boxes end one pixel past the picture: is the end counted twice?"


def _point_counts(rows: Numbers) -> dict[str, int]:
    points, sides, starts, ends = rows[:, :2], rows[:, 2:4], rows[:, 4:6], rows[:, 6:]
    swapped = points[:, ::-1]
    spare = 0.25 * (ends - starts) + 2

    def around(places: Numbers) -> Flags:
        found: Flags = np.logical_and.reduce((places >= starts - spare) & (places <= ends + spare), axis=1)
        return found

    counts = {
        "points": len(rows),
        "points_unit": (np.abs(points) <= 1.5).all(axis=1),
        "points_sized": ~np.isnan(sides[:, 0]),
        "points_outside": (points > 1.1 * sides).any(axis=1),
        "points_swapped_inside": (swapped <= sides + 2).all(axis=1),
        "points_boxed": ~np.isnan(starts[:, 0]),
        "points_in_box": around(points),
        "points_swapped_in_box": around(swapped),
        "points_of_box": around(points + starts),
    }
    return {name: int(np.sum(found)) for name, found in counts.items()}


def _point_verdicts(count: Counter[str]) -> Iterator[str]:
    points, sized, boxed = count["points"], count["points_sized"], count["points_boxed"]
    if count["points_unit"] > 0.9 * points:
        yield f"{count['points_unit']} of {points} keypoints lie within 0 to 1: are they fractions of the picture?"
        return
    outside = count["points_outside"]
    if outside > 0.1 * max(sized, 1):
        yield f"{outside} of {sized} keypoints lie far outside their picture: is the picture another size?"
    if (
        outside >= max(MIN_BORDER, _SENSELESS * sized)
        and count["points_swapped_inside"] >= (1 - _UNEXPLAINED) * sized
    ):
        yield f"{outside} of {sized} keypoints lie far outside their picture, and would not if x and y are swapped"
    astray = boxed - count["points_in_box"]
    if boxed >= MIN_BOXES and astray >= max(MIN_BORDER, _SENSELESS * boxed):
        # Where few lie astray, as on square pictures, the other reading has to explain all but a few.
        least = 0.9 if astray > 0.5 * boxed else 1 - _UNEXPLAINED
        for name, what in (
            ("points_swapped_in_box", "x and y are swapped"),
            ("points_of_box", "they count from the corner of the box"),
        ):
            if count[name] > least * boxed:
                yield f"{astray} of {boxed} keypoints lie outside the box of their object, and would not if {what}"
