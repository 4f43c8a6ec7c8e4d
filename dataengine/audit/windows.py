"""A part of a picture with what a finding names drawn on it: its box, and the object's outlines, mask and keypoints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from dataengine.annotation import Box, Keypoint, Rle
from dataengine.audit.shapes import Shape
from dataengine.geometry import mask_from_rle
from dataengine.images import Pixels
from dataengine.report.draw import Color, color_of, mark_box, mark_keypoints

SIDE = 360  # longest side of a thumbnail, in pixels
SMALL = 28  # a box that would be smaller on the thumbnail, in pixels, is shown close up too
MARGIN = 0.4  # what may be shown beyond a picture's edges for a box that leaves it, in sides of the picture
MOST_SCALE = 8.0
_AROUND = (58, 62, 68)
# Outlines are yellow, but where the box is nearly that.
_OUTLINES: tuple[Color, Color] = (255, 222, 0), (0, 229, 255)
_TINT = 0.3
_CROSS = 4  # half of a cross for a keypoint that has a place though none is labelled, in pixels


class Window(NamedTuple):
    """A part of the plane that a picture lies in, xyxy source pixels; it may be more than the picture."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def scale(self) -> float:
        """Pixels of the thumbnail for one of the source."""
        return min(SIDE / max(self.right - self.left, self.bottom - self.top), MOST_SCALE)

    @property
    def size(self) -> tuple[int, int]:
        """The (width, height) of the thumbnail."""
        wide, high = (self.right - self.left) * self.scale, (self.bottom - self.top) * self.scale
        return max(round(wide), 1), max(round(high), 1)

    def moved(self, x: float, y: float) -> tuple[float, float]:
        """Return a point in source pixels counted from the window's corner, no further away than can be drawn."""
        far = 1e5
        return min(max(x - self.left, -far), far), min(max(y - self.top, -far), far)


def whole(size: tuple[int, int], boxes: Iterable[Box]) -> Window:
    """Return the window onto a whole picture of (width, height), with a margin for boxes that leave it."""
    width, height = size
    lefts, tops, rights, bottoms = zip((0.0, 0.0, float(width), float(height)), *boxes, strict=True)
    return Window(
        max(min(lefts), -MARGIN * width),
        max(min(tops), -MARGIN * height),
        min(max(rights), (1 + MARGIN) * width),
        min(max(bottoms), (1 + MARGIN) * height),
    )


def close_up(size: tuple[int, int], box: Box | None) -> Window | None:
    """Return the square around a box that would be small on the thumbnail; None where it is none, or not on it."""
    width, height = size
    if box is None:
        return None
    scale = SIDE / max(size)
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    longest = max(box[2] - box[0], box[3] - box[1])
    if longest * scale >= SMALL or scale >= 1 or not (0 <= x <= width and 0 <= y <= height):
        return None
    side = min(max(4 * longest, 48.0), float(min(width, height)))
    left, top = min(max(x - side / 2, 0.0), width - side), min(max(y - side / 2, 0.0), height - side)
    return Window(math.floor(left), math.floor(top), math.ceil(left + side), math.ceil(top + side))


def show(
    pixels: Pixels, size: tuple[int, int], window: Window, box: Box | None, shape: Shape | None, text: str
) -> Image.Image:
    """Return what a window onto a picture of (width, height) shows, with a box, its text and a shape on it.

    `pixels` may be fewer than the picture has.
    """
    picture = Image.new("RGB", window.size, _AROUND)
    _paste(picture, window, Image.fromarray(pixels), size, Image.Resampling.LANCZOS)
    color = color_of(text or "close up")
    if shape is not None:
        _mark_shape(picture, window, shape, _OUTLINES[_alike(color, _OUTLINES[0])])
    if box is not None:
        moved = (*window.moved(*box[:2]), *window.moved(*box[2:]))
        mark_box(picture, moved, window.scale, color, text, dashed=False)
    return picture


def _paste(
    onto: Image.Image,
    window: Window,
    picture: Image.Image,
    size: tuple[int, int],
    resampling: Image.Resampling,
) -> None:
    """Put what a window shows of a picture onto its thumbnail; the picture may have fewer pixels than `size` says."""
    inner = (
        max(window.left, 0), max(window.top, 0), min(window.right, size[0]), min(window.bottom, size[1]),
    )  # fmt: skip
    if inner[0] >= inner[2] or inner[1] >= inner[3]:
        return
    of, scale = (picture.width / size[0], picture.height / size[1]), window.scale
    part = picture.resize(
        (max(round((inner[2] - inner[0]) * scale), 1), max(round((inner[3] - inner[1]) * scale), 1)),
        resampling,
        box=(inner[0] * of[0], inner[1] * of[1], inner[2] * of[0], inner[3] * of[1]),
    )
    onto.paste(part, (round((inner[0] - window.left) * scale), round((inner[1] - window.top) * scale)))


def _alike(one: Color, other: Color) -> bool:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) < 120


def _mark_shape(picture: Image.Image, window: Window, shape: Shape, color: Color) -> None:
    """Draw a shape on a thumbnail: what it covers tinted, its outlines, its keypoints."""
    lines = [_points(window, one) for one in shape.polygons]
    covered = Image.new("L", picture.size)
    if shape.mask is not None:
        _paste_mask(covered, window, shape.mask)
    for points in filter(None, lines):
        # Where an outline crosses itself, what lies between is not covered twice.
        covered = ImageChops.lighter(covered, _filled(picture.size, points))
    tint = covered.point([round(value * _TINT) for value in range(256)])
    picture.paste(color, mask=tint)
    pen = ImageDraw.Draw(picture)
    for points in filter(None, lines):
        pen.line([*points, points[0]], fill=color, width=2, joint="curve")
    _mark_points(picture, window, shape)


def _points(window: Window, polygon: Sequence[float]) -> list[tuple[float, float]]:
    """Return an outline in pixels of the thumbnail, nothing for one that is not finite."""
    pairs = [*zip(polygon[0::2], polygon[1::2], strict=False)]
    if len(pairs) < 2 or not all(map(math.isfinite, polygon)):
        return []
    moved = (window.moved(x, y) for x, y in pairs)
    return [(x * window.scale, y * window.scale) for x, y in moved]


def _filled(size: tuple[int, int], points: Sequence[tuple[float, float]]) -> Image.Image:
    inside = Image.new("L", size)
    ImageDraw.Draw(inside).polygon(points, fill=255)
    return inside


def _paste_mask(covered: Image.Image, window: Window, mask: Rle) -> None:
    """Put a mask onto a thumbnail as it lies: one of another size than the picture is not stretched."""
    try:
        pixels = np.where(mask_from_rle(mask), 255, 0).astype(np.uint8)
    except ValueError:
        return  # no mask: that is a finding of its own
    if pixels.size:
        height, width = pixels.shape
        _paste(covered, window, Image.fromarray(pixels), (width, height), Image.Resampling.NEAREST)


def _mark_points(picture: Image.Image, window: Window, shape: Shape) -> None:
    """Draw keypoints; one that has a place though none is labelled is a cross."""
    moved: list[Keypoint] = []
    pen = ImageDraw.Draw(picture)
    for x, y, v in shape.keypoints:
        finite = math.isfinite(x) and math.isfinite(y)
        moved.append((*window.moved(x, y), v) if finite else (0.0, 0.0, 0))
        if finite and not v and (x or y):
            a, b = (value * window.scale for value in moved[-1][:2])
            for ends in ((a - _CROSS, b - _CROSS, a + _CROSS, b + _CROSS),
                         (a - _CROSS, b + _CROSS, a + _CROSS, b - _CROSS)):  # fmt: skip
                pen.line(ends, fill=(255, 255, 255), width=4)
                pen.line(ends, fill=(200, 0, 0), width=2)
    mark_keypoints(picture, moved, window.scale, shape.skeleton)
