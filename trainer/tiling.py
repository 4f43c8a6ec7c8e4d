"""Dynamic tiling: a picture as a grid of squares and a thumbnail (InternVL 1.5; VisionLLM v2 section 3.1)."""

from __future__ import annotations

from functools import cache


@cache
def grids(max_tiles: int) -> tuple[tuple[int, int], ...]:
    """Return every (columns, rows) of at most `max_tiles` tiles, by number of tiles, then by columns."""
    found = [
        (columns, rows)
        for columns in range(1, max_tiles + 1)
        for rows in range(1, max_tiles + 1)
        if columns * rows <= max_tiles
    ]
    return tuple(sorted(found, key=lambda grid: (grid[0] * grid[1], grid[0])))


def choose_grid(width: int, height: int, side: int, max_tiles: int) -> tuple[int, int]:
    """Return the (columns, rows) whose ratio is closest to width / height.

    Where a later grid is exactly as close, it wins only if the picture has more than half the grid's pixels:
    `width * height > 0.5 * side^2 * columns * rows`. Ratios are compared as integers, so that ties are exact.
    """
    best = (1, 1)
    for grid in grids(max_tiles):
        near = _distance(width, height, grid) * best[1]
        far = _distance(width, height, best) * grid[1]
        roomy = 2 * width * height > side * side * grid[0] * grid[1]
        if near < far or (near == far and roomy):
            best = grid
    return best


def num_tiles(grid: tuple[int, int]) -> int:
    """Return how many tiles a grid gives, the thumbnail included; a single tile needs none."""
    count = grid[0] * grid[1]
    return count + 1 if count > 1 else 1


def _distance(width: int, height: int, grid: tuple[int, int]) -> int:
    """Return |width / height - columns / rows| times height times rows."""
    return abs(width * grid[1] - grid[0] * height)
