"""Visual prompts drawn from an object's mask: what a user would click, scribble, circle or box.

The six kinds and their numbers follow VisionLLM v2 (its visual sampler, after SEEM): a point prompt is 1 to 20 pixels,
a scribble 1 to 5 thin strokes, a circle 1 to 5 thick ones, a polygon a smooth curve through 1 to 20 points of the mask.
Brushes are stated for a picture of 336 pixels and grow with it. Every marked pixel lies in the mask, except for a box.
There is no trigonometry here: sines differ between machines in their last bit, and a prompt must not.
"""

from __future__ import annotations

import math
import random
from typing import Literal, get_args

import numpy as np

from dataengine.annotation import Box, Instance, Rle
from dataengine.geometry import mask_from_rle, rle_area, rle_box, rle_from_mask
from dataengine.sample import Region

Kind = Literal["point", "scribble", "circle", "polygon", "box", "mask"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MIN_MASK_PIXELS = 4
MIN_POINT_PIXELS = 10
MAX_POINTS = 20
MAX_STROKES = 5
BRUSH_SIDE = 336
# Widths in pixels, most turns of a stroke, and how far a stroke goes before it turns, as a share of the object's side.
THIN_BRUSH, THIN_TURNS, THIN_REACH = (2.5, 10.0), 6, 0.5
THICK_BRUSH, THICK_TURNS, THICK_REACH = (10.0, 50.0), 3, 0.15

# Binary masks, uint8 [height, width]; points are (x, y) in pixels, a pixel's own place being its index.
Mask = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Point = tuple[float, float]


def draw(item: Instance, kind: Kind, rng: random.Random) -> Region | None:
    """Return a prompt of that kind for an object with a box and a mask, or None where its mask is too small for one.

    `mask` holds the marked pixels of the whole picture and `box` is tight around them; a box prompt has its box alone.
    """
    assert item.box is not None and item.mask is not None
    whole = mask_from_rle(item.mask)
    rows, columns = np.nonzero(whole)
    if len(rows) < (MIN_POINT_PIXELS if kind == "point" else MIN_MASK_PIXELS):
        return None
    if kind == "box":
        return box_region(item.box, item.image)
    if kind == "mask":
        return mask_region(item.mask, item.image)
    window = np.s_[int(rows.min()) : int(rows.max()) + 1, int(columns.min()) : int(columns.max()) + 1]
    inside = whole[window]
    scale = max(whole.shape) / BRUSH_SIDE
    match kind:
        case "point":
            drawn = _points(inside, rng)
        case "scribble":
            drawn = _strokes(inside, THIN_BRUSH, THIN_TURNS, THIN_REACH, scale, rng)
        case "circle":
            drawn = _strokes(inside, THICK_BRUSH, THICK_TURNS, THICK_REACH, scale, rng)
        case "polygon":
            drawn = _curve(inside, rng)
    marked = np.zeros_like(whole)
    marked[window] = drawn & inside
    return mask_region(rle_from_mask(marked), item.image, kind)


def stored(item: Instance, kind: Kind) -> Region | None:
    """Return the prompt of that kind that the source has stored for an object, or None where it is empty or missing.

    A stored box may be several, one a part of the object, so it keeps its pixels.
    """
    mask = item.prompts.get(kind)
    return mask_region(mask, item.image, kind) if mask is not None and rle_area(mask) else None


def box_region(box: Box, image: int = 0) -> Region:
    """Return a box prompt."""
    return Region(kind="box", box=box, image=image)


def mask_region(mask: Rle, image: int = 0, kind: Kind = "mask") -> Region:
    """Return a prompt that marks the pixels of a mask, with the tight box around them."""
    return Region(kind=kind, box=rle_box(mask), mask=mask, image=image)


def _pixels(inside: Mask, count: int, rng: random.Random) -> list[tuple[int, int]]:
    """Return different pixels of the mask as (x, y), at most `count`."""
    rows, columns = np.nonzero(inside)
    chosen = rng.sample(range(len(rows)), min(count, len(rows)))
    return [(int(columns[index]), int(rows[index])) for index in chosen]


def _points(inside: Mask, rng: random.Random) -> Mask:
    drawn = np.zeros_like(inside)
    for x, y in _pixels(inside, rng.randint(1, MAX_POINTS), rng):
        drawn[y, x] = 1
    return drawn


def _strokes(
    inside: Mask, brush: tuple[float, float], max_turns: int, share: float, scale: float, rng: random.Random
) -> Mask:
    """Draw 1 to 5 strokes that start on the mask and turn at random; `brush` is the range of their widths in pixels."""
    height, width = inside.shape
    reach = max(height, width) * share
    drawn = np.zeros_like(inside)
    for start in _pixels(inside, rng.randint(1, MAX_STROKES), rng):
        radius = rng.uniform(*brush) / 2 * scale
        here: Point = start
        for _ in range(rng.randint(1, max_turns)):
            x = here[0] + rng.uniform(-reach, reach)
            y = here[1] + rng.uniform(-reach, reach)
            there = (min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0))
            stamp(drawn, here, there, radius)
            here = there
    return drawn


def stamp(drawn: Mask, start: Point, end: Point, radius: float) -> None:
    """Set every pixel within `radius` of the line between two points."""
    height, width = drawn.shape
    left = max(math.floor(min(start[0], end[0]) - radius), 0)
    right = min(math.ceil(max(start[0], end[0]) + radius) + 1, width)
    top = max(math.floor(min(start[1], end[1]) - radius), 0)
    bottom = min(math.ceil(max(start[1], end[1]) + radius) + 1, height)
    x = np.arange(left, right)[None, :] - start[0]
    y = np.arange(top, bottom)[:, None] - start[1]
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = dx * dx + dy * dy
    along = np.clip((x * dx + y * dy) / length, 0, 1) if length else np.zeros((1, 1))
    near = (x - along * dx) ** 2 + (y - along * dy) ** 2 <= radius * radius
    drawn[top:bottom, left:right] |= near.astype(np.uint8)


def _curve(inside: Mask, rng: random.Random) -> Mask:
    """Draw a closed, smooth line through 1 to 20 pixels of the mask, taken in the order around their centre."""
    height, width = inside.shape
    points = _pixels(inside, rng.randint(1, MAX_POINTS), rng)
    cx = sum(x for x, _ in points) / len(points)
    cy = sum(y for _, y in points) / len(points)
    points.sort(key=lambda point: (_turn(point[0] - cx, point[1] - cy), point))
    drawn = np.zeros_like(inside)
    count = len(points)
    for index in range(count):
        before, start, end, after = (
            np.array(points[(index + step) % count], float) for step in (-1, 0, 1, 2)
        )
        # A Bezier piece whose ends lie on the points and whose tangents are those of a Catmull-Rom spline.
        leave, arrive = start + (end - before) / 6, end - (after - start) / 6
        polygon = np.abs(np.diff([start, leave, arrive, end], axis=0)).max(axis=1).sum()
        t = np.linspace(0, 1, 2 * math.ceil(polygon) + 1)[:, None]
        s = 1 - t
        path = s * s * s * start + 3 * s * s * t * leave + 3 * s * t * t * arrive + t * t * t * end
        x, y = np.rint(path).astype(int).T
        drawn[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)] = 1
    return drawn


def _turn(dx: float, dy: float) -> float:
    """Return a number from 0 to 4 that grows with the angle of a direction."""
    total = abs(dx) + abs(dy)
    if total == 0:
        return 0.0
    return 1 - dx / total if dy >= 0 else 3 + dx / total
