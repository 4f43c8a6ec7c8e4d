"""Outlines of words and of turned objects: from a source's points to a box, a quadrangle and a mask.

Points are pixels, x1, y1, x2, y2, …, origin 0. The mask is the outline as COCO rasterises it; it needs the picture's
size, which text layouts seldom state, so that the picture's own header is asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dataengine.annotation import Box, Instance, Label, LabelSpace, Rle
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import MAX_COORDINATE, quad_box, rle_from_polygons
from dataengine.images import probe

Size = tuple[int, int]
Quad = tuple[float, float, float, float, float, float, float, float]

TEXT = "text"
TEXT_LABELS = LabelSpace(id="source", labels=(Label(name=TEXT),))


class Outline(NamedTuple):
    """The tight box, the corners where there are four, and the pixels where the picture's size is known."""

    box: Box
    quad: Quad | None
    mask: Rle | None


def outline(points: Sequence[float], size: Size | None) -> Outline:
    """Return the outline of at least three points on a picture of (width, height).

    Raises Quarantine `polygon.invalid` where there are fewer, an odd count, or one that no picture has.
    """
    if len(points) < 6 or len(points) % 2:
        raise Quarantine("polygon.invalid", f"{len(points)} numbers, expected x and y of 3 or more points")
    if not all(abs(value) <= MAX_COORDINATE for value in points):
        raise Quarantine("polygon.invalid", "a coordinate is not finite or beyond a million pixels")
    mask = None
    if size is not None:
        try:
            mask = rle_from_polygons([points], *size)
        except ValueError as error:
            raise Quarantine("polygon.invalid", str(error)) from error
    quad = None
    if len(points) == 8:
        x0, y0, x1, y1, x2, y2, x3, y3 = (float(value) for value in points)
        quad = (x0, y0, x1, y1, x2, y2, x3, y3)
    return Outline(quad_box(points), quad, mask)


def box_corners(box: Sequence[float]) -> list[float]:
    """Return the corners of an xyxy box, clockwise from the top left."""
    x0, y0, x1, y1 = box
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def turned(cx: float, cy: float, width: float, height: float, angle: float) -> list[float]:
    """Return the corners of a box that is turned about its centre; the angle in radians, clockwise as one sees it."""
    if not math.isfinite(angle):
        raise Quarantine("polygon.invalid", f"the angle is {angle}")
    cos, sin = math.cos(angle), math.sin(angle)
    corners = ((-width, -height), (width, -height), (width, height), (-width, height))
    return [
        value
        for x, y in corners
        for value in (cx + x / 2 * cos - y / 2 * sin, cy + x / 2 * sin + y / 2 * cos)
    ]


def numbers(values: Sequence[str]) -> list[float]:
    """Return texts as numbers. Raises Quarantine `schema`."""
    try:
        return [float(value) for value in values]
    except ValueError as error:
        raise Quarantine("schema", f"{error}, expected a coordinate in pixels") from error


def picture_size(root: Root, path: str) -> Size | None:
    """Return (width, height) of a picture by its header; None where it cannot be read, which is said of it later.

    Raises Quarantine `image.exif_orientation` where the header turns or mirrors the picture: layouts that state no size
    do not say which of the two pictures their numbers belong to.
    """
    try:
        header = probe(root.inside(path))
    except Quarantine:
        return None
    if header.orientation != 1:
        detail = f"{path}: EXIF orientation {header.orientation}; store it upright if the numbers fit that"
        raise Quarantine("image.exif_orientation", detail)
    return header.width, header.height


def word(
    number: str,
    points: Sequence[float],
    text: str | None,
    size: Size | None,
    attributes: Mapping[str, str] | None = None,
) -> Instance:
    """Return a word (or line) of text; one without text is there but cannot be read: it is ignored."""
    shape = outline(points, size)
    said = " ".join((text or "").split())
    return Instance(
        id=number,
        category=TEXT,
        box=shape.box,
        quad=shape.quad,
        mask=shape.mask,
        text=said or None,
        attributes=dict(attributes or {}),
        ignore=not said,
    )
