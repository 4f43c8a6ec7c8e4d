"""Marks drawn on the pixels of a picture: circles, hand-drawn circles, arrows, boxes and masks, each solid or hollow.

The five kinds are those of VisionLLM v2's in-context set (its appendix C.1). A hollow mark is a line; a solid one has
its inside tinted as well, so that the object can still be seen, except for an arrow, which is filled. What a mark looks
like follows from its facts and the picture's size alone: chance is needed to make one, never to draw it. There is no
trigonometry here, for the reason that `regions` states.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from dataengine.annotation import Box, Instance, Rle
from dataengine.geometry import mask_from_rle, rle_from_polygons
from dataengine.images import Format, Pixels, decode, encode
from dataengine.regions import Mask, Point, stamp
from dataengine.sample import Mark, MarkColor, MarkKind

VERSION = "1"  # changes whenever the same facts would give other pixels
KINDS: tuple[MarkKind, ...] = get_args(MarkKind)
COLORS: dict[MarkColor, tuple[int, int, int]] = {
    "red": (230, 25, 35), "green": (30, 180, 60), "blue": (30, 80, 235), "yellow": (255, 225, 20),
    "orange": (255, 130, 0), "purple": (130, 40, 180), "cyan": (20, 210, 230), "magenta": (245, 40, 200),
}  # fmt: skip
MAX_MARKS = 5
TINT = 0.4  # how much of a solid mark's inside is its colour

LINE = 0.008  # the width of a line as a share of the picture's longest side
MIN_LINE_PX = 2.0
REACH = (0.1, 0.2)  # the length of an arrow, likewise
MIN_REACH_PX = 8.0
WOBBLE = (0.92, 1.22)  # how far a hand-drawn circle strays from the ellipse around its object
_NAMES = {"circle": "circle", "hand_circle": "hand-drawn circle", "arrow": "arrow", "box": "box"}
_D = 0.7071067811865476
_DIRECTIONS = ((1.0, 0.0), (_D, _D), (0.0, 1.0), (-_D, _D), (-1.0, 0.0), (-_D, -_D), (0.0, -1.0), (_D, -_D))


def mark_all(
    items: Sequence[Instance], kind: MarkKind, size: tuple[int, int], image: int, rng: random.Random
) -> tuple[Mark, ...]:
    """Return a mark of one kind for each of at most eight objects with boxes, every one in a colour of its own.

    `size` is (width, height) of the picture, `image` its position in the sample. A mask mark needs an object's mask.
    """
    solid = rng.random() < 0.5
    colors = rng.sample(list(COLORS), len(items))
    return tuple(
        _mark(item, kind, color, solid, size, image, rng) for item, color in zip(items, colors, strict=True)
    )


def _mark(
    item: Instance,
    kind: MarkKind,
    color: MarkColor,
    solid: bool,
    size: tuple[int, int],
    image: int,
    rng: random.Random,
) -> Mark:
    assert item.box is not None
    points: tuple[Point, ...] = ()
    if kind == "hand_circle":
        points = _hand_circle(item.box, size, rng)
    elif kind == "arrow":
        points = _arrow(item.box, item.mask, size, rng)
    mask = item.mask if kind == "mask" else None
    return Mark(
        kind=kind, color=color, solid=solid, box=item.box, mask=mask, points=_rounded(points), image=image
    )


def name(mark: Mark) -> str:
    """Return how a prompt speaks of a mark: "red circle"."""
    noun = _NAMES.get(mark.kind) or ("area" if mark.solid else "outline")
    return f"{mark.color} {noun}"


def draw(pixels: Pixels, marks: Sequence[Mark]) -> Pixels:
    """Return a copy of an RGB picture, uint8 [height, width, 3], with the marks on it, in their order.

    Lines lie above all tints: no mark takes on the colour of another one.
    """
    drawn = np.array(pixels)
    height, width = drawn.shape[:2]
    lines = []
    for mark in marks:
        color = COLORS[mark.color]
        line, inside = _shape(mark, width, height)
        if mark.solid and mark.kind == "arrow":
            line |= inside
        elif mark.solid:
            drawn[inside] = np.rint(drawn[inside] * (1 - TINT) + np.array(color) * TINT).astype(np.uint8)
        lines.append((line, color))
    for line, color in lines:
        drawn[line] = color
    return drawn


def draw_on(data: bytes, file_format: Format, marks: Sequence[Mark]) -> tuple[bytes, Format]:
    """Return a picture's file with marks on it, and its format (JPEG stays JPEG, anything else becomes PNG).

    The EXIF orientation is applied. Raises Quarantine where the picture cannot be decoded whole.
    """
    made: Literal["jpeg", "png"] = "jpeg" if file_format == "jpeg" else "png"
    return encode(draw(decode(data), marks), made), made


def _shape(mark: Mark, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels of a mark's line and of what it encloses, bool [height, width] each."""
    thick = max(MIN_LINE_PX, max(width, height) * LINE)
    if mark.kind == "mask":
        assert mark.mask is not None
        whole = mask_from_rle(mark.mask).astype(bool)
        return whole & ~_eroded(whole, math.ceil(thick)), whole
    path, closed = _path(mark, width, height, thick)
    path = [(min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)) for x, y in path]
    line: Mask = np.zeros((height, width), np.uint8)
    for start, end in zip(path, [*path[1:], path[0]] if closed else path[1:], strict=False):
        stamp(line, start, end, thick / 2)
    corners = [value + 0.5 for point in path for value in point]
    return line.astype(bool), mask_from_rle(rle_from_polygons([corners], width, height)).astype(bool)


def _path(mark: Mark, width: int, height: int, thick: float) -> tuple[list[Point], bool]:
    """Return the line that a mark follows, and whether its end is its beginning."""
    x0, y0, x1, y1 = mark.box[0], mark.box[1], mark.box[2] - 1, mark.box[3] - 1
    match mark.kind:
        case "hand_circle":
            return list(mark.points), False
        case "arrow":
            return _arrow_outline(mark.points[0], mark.points[1], thick), True
        case "box":
            return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], True
    (cx, cy), (rx, ry) = _ellipse(mark.box, width, height)
    return [(cx + rx * x, cy + ry * y) for x, y in _turn(12)], True


def _eroded(mask: np.ndarray, steps: int) -> np.ndarray:
    """Return the pixels of a mask that are farther than `steps` from its edge, counted along rows and columns."""
    rows, columns = np.nonzero(mask)
    result = np.zeros_like(mask)
    if not len(rows):
        return result
    window = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    part = np.pad(mask[window], 1)
    for _ in range(steps):
        inner = part[1:-1, 1:-1] & part[:-2, 1:-1] & part[2:, 1:-1] & part[1:-1, :-2] & part[1:-1, 2:]
        part = np.pad(inner, 1)
    result[window] = part[1:-1, 1:-1]
    return result


def _ellipse(box: Box, width: int, height: int) -> tuple[Point, Point]:
    """Return the centre and the half axes of the ellipse through a box's corners, never less than a few lines."""
    least = 3 * max(MIN_LINE_PX, max(width, height) * LINE)
    half = (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    center = (box[0] + box[2] - 1) / 2, (box[1] + box[3] - 1) / 2
    return center, (max(half[0] / _D, least), max(half[1] / _D, least))


def _turn(steps: int) -> list[Point]:
    """Return points around the unit circle, `steps` to a quarter, by the circle's rational form."""
    quarter = []
    for step in range(steps):
        t = step / steps
        quarter.append(((1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)))
    points = list(quarter)
    for _ in range(3):
        quarter = [(-y, x) for x, y in quarter]
        points += quarter
    return points


def _hand_circle(box: Box, size: tuple[int, int], rng: random.Random) -> tuple[Point, ...]:
    """Return a line around a box as a hand draws it: it strays, and its end runs past its beginning."""
    (cx, cy), (rx, ry) = _ellipse(box, *size)
    around = _turn(6)
    start = rng.randrange(len(around))
    knots = [rng.uniform(*WOBBLE) for _ in range(10)]
    points = []
    for step in range(len(around) + 3):
        knot, part = divmod(step, 3)
        far = knots[knot] + (knots[knot + 1] - knots[knot]) * part / 3
        x, y = around[(start + step) % len(around)]
        points.append((cx + rx * far * x, cy + ry * far * y))
    return tuple((min(max(x, 0.0), size[0] - 1.0), min(max(y, 0.0), size[1] - 1.0)) for x, y in points)


def _arrow(box: Box, mask: Rle | None, size: tuple[int, int], rng: random.Random) -> tuple[Point, Point]:
    """Return tail and tip of an arrow to an object: its tip is on the object's edge.

    Where the object leaves no room for an arrow outside of it, the tip is in its middle.
    """
    middle, on_object = _middle(box, mask, size)
    wanted = max(rng.uniform(*REACH) * max(size), MIN_REACH_PX)
    found = []
    for direction in rng.sample(_DIRECTIONS, len(_DIRECTIONS)):
        tip = _edge(middle, direction, on_object)
        room = _room(tip, direction, size)
        if room >= wanted:
            return _moved(tip, direction, wanted), tip
        found.append((room, tip, direction))
    room, tip, direction = max(found, key=lambda one: one[0])
    if room < MIN_REACH_PX:
        tip = middle
        room, direction = max((_room(tip, one, size), one) for one in _DIRECTIONS)
    return _moved(tip, direction, min(room, wanted)), tip


def _middle(box: Box, mask: Rle | None, size: tuple[int, int]) -> tuple[Point, np.ndarray]:
    """Return the object's pixel that is nearest to the middle of its box, and all its pixels, bool [height, width].

    Of an object without a mask those around the middle are taken: the corners of its box show something else.
    """
    width, height = size
    if mask is not None:
        on_object = mask_from_rle(mask).astype(bool)
    else:
        on_object = np.zeros((height, width), bool)
        left, top = math.floor(box[0] * 0.75 + box[2] * 0.25), math.floor(box[1] * 0.75 + box[3] * 0.25)
        right, bottom = math.ceil(box[0] * 0.25 + box[2] * 0.75), math.ceil(box[1] * 0.25 + box[3] * 0.75)
        on_object[top : max(bottom, top + 1), left : max(right, left + 1)] = True
    rows, columns = np.nonzero(on_object)
    cx, cy = (box[0] + box[2] - 1) / 2, (box[1] + box[3] - 1) / 2
    nearest = int(((columns - cx) ** 2 + (rows - cy) ** 2).argmin()) if len(rows) else None
    middle = (cx, cy) if nearest is None else (float(columns[nearest]), float(rows[nearest]))
    return middle, on_object


def _edge(start: Point, direction: Point, on_object: np.ndarray) -> Point:
    """Return the last place on the object on the way from a pixel of it into a direction."""
    height, width = on_object.shape
    steps = np.arange(max(height, width) * 2)
    x = np.rint(start[0] + direction[0] * steps).astype(int)
    y = np.rint(start[1] + direction[1] * steps).astype(int)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    inside[inside] = on_object[y[inside], x[inside]]
    last = max(int(inside.argmin()) - 1, 0)  # the way always ends outside of the picture
    return float(x[last]), float(y[last])


def _room(start: Point, direction: Point, size: tuple[int, int]) -> float:
    """Return how far it is from a place to the border of the picture in a direction, in pixels."""
    room = math.inf
    for place, step, length in zip(start, direction, size, strict=True):
        if step:
            room = min(room, ((length - 1 - place) if step > 0 else place) / abs(step))
    return max(room, 0.0)


def _moved(start: Point, direction: Point, length: float) -> Point:
    return start[0] + direction[0] * length, start[1] + direction[1] * length


def _arrow_outline(tail: Point, tip: Point, thick: float) -> list[Point]:
    """Return the seven corners of an arrow."""
    dx, dy = tip[0] - tail[0], tip[1] - tail[1]
    length = math.sqrt(dx * dx + dy * dy)
    if not length:
        return [tail, tip, tail]
    dx, dy = dx / length, dy / length
    head = min(length * 0.5, thick * 6)
    neck = (tip[0] - dx * head, tip[1] - dy * head)
    shaft, wing = head * 0.18, head * 0.55

    def beside(point: Point, far: float) -> Point:
        return point[0] - dy * far, point[1] + dx * far

    return [
        beside(tail, shaft), beside(neck, shaft), beside(neck, wing), tip, beside(neck, -wing),
        beside(neck, -shaft), beside(tail, -shaft),
    ]  # fmt: skip


def _rounded(points: Sequence[Point]) -> tuple[Point, ...]:
    return tuple((round(x, 1), round(y, 1)) for x, y in points)
