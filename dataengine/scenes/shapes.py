"""Which pixels an object covers: a pixel is covered where its center lies inside the shape.

Only sums, products and comparisons of short decimals decide, so every machine finds the same pixels.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dataengine.scenes.objects import BONES, Point, Thing

Bits = npt.NDArray[np.bool_]
Reals = npt.NDArray[np.float64]

# Half the side of a square, and half the width of a cross's bar, where the circle around them has radius 1.
_SQUARE = 0.7071
_BAR = 0.30
_BAR_END = 0.95
_RING_HOLE = 0.52
# The regular star's inner pentagon: its distance from the center where the tips have radius 1 (cos 72°).
_STAR = 0.3090


def bounds(thing: Thing) -> tuple[int, int, int, int]:
    """Return the pixel window (x0, y0, x1, y1), end exclusive, outside of which the object covers nothing."""
    if thing.joints:
        xs, ys = [x for x, _ in thing.joints], [y for _, y in thing.joints]
        top = thing.joints[0][1] - thing.skull
        left, right = min(*xs, thing.joints[0][0] - thing.skull), max(*xs, thing.joints[0][0] + thing.skull)
        x0, x1 = left - thing.limb, right + thing.limb
        y0, y1 = min(top, min(ys) - thing.limb), max(ys) + thing.limb
    else:
        (x, y), r = thing.center, thing.radius
        x0, y0, x1, y1 = x - r, y - r, x + r, y + r
    return (math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1))


def cover(thing: Thing) -> tuple[int, int, Bits]:
    """Return (x, y, mask): the window's upper left pixel and the covered pixels in it, bool [height, width]."""
    x0, y0, x1, y1 = bounds(thing)
    x = np.arange(x0, x1, dtype=np.float64)[None, :] + 0.5
    y = np.arange(y0, y1, dtype=np.float64)[:, None] + 0.5
    return x0, y0, _figure(thing, x, y) if thing.joints else _shape(thing, x, y)


def unit_vector(degrees: int) -> Point:
    """Return (cos, sin) rounded to four places: the last bits of a cosine differ between machines."""
    return (round(math.cos(math.radians(degrees)), 4), round(math.sin(math.radians(degrees)), 4))


def _shape(thing: Thing, x: Reals, y: Reals) -> Bits:
    cos, sin = unit_vector(thing.angle)
    dx, dy = (x - thing.center[0]) / thing.radius, (y - thing.center[1]) / thing.radius
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    inside: Bits
    match thing.category:
        case "circle":
            inside = u * u + v * v <= 1
        case "ellipse":
            v = v / thing.aspect
            inside = u * u + v * v <= 1
        case "square":
            inside = np.maximum(np.abs(u), np.abs(v)) <= _SQUARE
        case "rectangle":
            # The corners lie on the circle around it.
            long = round(1 / math.sqrt(1 + thing.aspect * thing.aspect), 4)
            inside = (np.abs(u) <= long) & (np.abs(v) <= long * thing.aspect)
        case "triangle":
            inside = _sides(u, v, 3, 90, 0.5) == 3
        case "hexagon":
            inside = _sides(u, v, 6, 0, 0.8660) == 6
        case "star":
            # A tip lies beyond one side of the inner pentagon only; what is outside lies beyond two or more.
            inside = _sides(u, v, 5, -90, _STAR) >= 4
        case "cross":
            a, b = np.abs(u), np.abs(v)
            inside = ((a <= _BAR) & (b <= _BAR_END)) | ((b <= _BAR) & (a <= _BAR_END))
        case "ring":
            square = u * u + v * v
            inside = (square <= 1) & (square >= _RING_HOLE * _RING_HOLE)
        case "heart":
            # (x² + y² - 1)³ = x² y³ with y upwards, shrunk and shifted into the unit circle.
            hx, hy = u * 1.25, 0.25 - v * 1.25
            bulge = hx * hx + hy * hy - 1
            inside = bulge * bulge * bulge <= hx * hx * hy * hy * hy
        case _:
            raise AssertionError(thing.category)
    return inside


def _sides(u: Reals, v: Reals, count: int, first: int, distance: float) -> npt.NDArray[np.int64]:
    """Count, for each point, the sides of a regular polygon on whose inner side it lies.

    `first` is the direction of one side, in degrees; every side is `distance` from the center.
    """
    inside = np.zeros(np.broadcast_shapes(u.shape, v.shape), np.int64)
    for number in range(count):
        cos, sin = unit_vector(first + 360 // count * number)
        inside += u * cos + v * sin <= distance
    return inside


def _figure(thing: Thing, x: Reals, y: Reals) -> Bits:
    head_x, head_y = thing.joints[0]
    found = (x - head_x) * (x - head_x) + (y - head_y) * (y - head_y) <= thing.skull * thing.skull
    for a, b in BONES:
        found |= _line(thing.joints[a], thing.joints[b], thing.limb, x, y)
    return found


def _line(a: Point, b: Point, half_width: float, x: Reals, y: Reals) -> Bits:
    """Points no farther than `half_width` from the segment a-b."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = dx * dx + dy * dy
    along = np.clip(((x - a[0]) * dx + (y - a[1]) * dy) / max(length, 1e-9), 0.0, 1.0)
    off_x, off_y = x - a[0] - along * dx, y - a[1] - along * dy
    found: Bits = off_x * off_x + off_y * off_y <= half_width * half_width
    return found
