"""From the pixels of a mask to one polygon that draws them."""

from __future__ import annotations

import numpy as np

from dataengine.annotation import Rle
from dataengine.geometry import mask_from_rle, rle_from_polygons

Point = tuple[int, int]


def outline(mask: Rle) -> list[float] | None:
    """Return one polygon, x and y in turn in pixels, that COCO's rasteriser turns into exactly this mask.

    It goes around each part and hole, and from one to the next and back along a seam of no width. None for an empty
    mask, and for one that no such polygon draws.
    """
    loops = _loops(mask)
    if not loops:
        return None
    first = loops[0]
    points = [*first, first[0]] if len(loops) > 1 else first
    for loop in loops[1:]:
        points += [*loop, loop[0], first[0]]
    flat = [float(value) for point in points for value in point]
    height, width = mask.size
    return flat if rle_from_polygons([flat], width, height) == mask else None


def _loops(mask: Rle) -> list[list[Point]]:
    """Return the corners of each closed line between mask and background, the mask on the right."""
    inside = np.pad(mask_from_rle(mask).astype(np.int8), 1)
    ahead: dict[Point, list[Point]] = {}
    down, across = np.diff(inside, axis=0), np.diff(inside, axis=1)
    for sign in (1, -1):
        for y, x in np.argwhere(down[:, 1:-1] == sign).tolist():
            start, end = ((x, y), (x + 1, y)) if sign > 0 else ((x + 1, y), (x, y))
            ahead.setdefault(start, []).append(end)
        for y, x in np.argwhere(across[1:-1] == sign).tolist():
            start, end = ((x, y + 1), (x, y)) if sign > 0 else ((x, y), (x, y + 1))
            ahead.setdefault(start, []).append(end)
    loops = []
    while ahead:
        start = next(iter(ahead))
        loop, here = [start], _step(ahead, start)
        while here != start:
            loop.append(here)
            here = _step(ahead, here)
        loops.append(_corners(loop))
    return loops


def _step(ahead: dict[Point, list[Point]], here: Point) -> Point:
    following = ahead[here].pop()
    if not ahead[here]:
        del ahead[here]
    return following


def _corners(loop: list[Point]) -> list[Point]:
    """Return a closed line without the points at which it goes straight on."""
    return [
        here
        for before, here, after in zip([loop[-1], *loop[:-1]], loop, [*loop[1:], loop[0]], strict=True)
        if not (before[0] == here[0] == after[0] or before[1] == here[1] == after[1])
    ]
