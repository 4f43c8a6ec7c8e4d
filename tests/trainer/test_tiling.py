"""Which grid a picture gets, and how many tokens that makes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.tiling import choose_grid, grids, num_tiles


def test_four_tiles_allow_eight_grids() -> None:
    found = grids(4)

    assert set(found) == {(1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 2), (1, 4), (4, 1)}
    assert [columns * rows for columns, rows in found] == [1, 2, 2, 3, 3, 4, 4, 4]


@pytest.mark.parametrize(
    ("width", "height", "side", "max_tiles", "expected"),
    [
        (336, 336, 336, 4, (1, 1)),
        (640, 480, 336, 3, (1, 1)),  # 1.33 is nearer to 1 than to 2
        (1000, 500, 336, 4, (2, 1)),
        (500, 1000, 336, 4, (1, 2)),
        (1500, 500, 336, 4, (3, 1)),
        (5000, 10, 336, 4, (4, 1)),
        (10, 5000, 336, 4, (1, 4)),
        (10, 5000, 336, 6, (1, 6)),
        (900, 600, 448, 6, (3, 2)),
        (5000, 5000, 336, 1, (1, 1)),
        # Ties: 1x1 and 2x2 have one ratio, and the picture's size decides.
        (475, 475, 336, 4, (1, 1)),  # 225,625 pixels, not more than half of 451,584
        (476, 476, 336, 4, (2, 2)),  # 226,576
        (672, 336, 336, 4, (2, 1)),
        # 1.5 is as far from 1 as from 2: the larger grid wins only where there are pixels for it.
        (150, 100, 336, 2, (1, 1)),
        (600, 400, 336, 2, (2, 1)),
    ],
)
def test_the_grid_is_the_nearest_ratio(
    width: int, height: int, side: int, max_tiles: int, expected: tuple[int, int]
) -> None:
    grid = choose_grid(width, height, side, max_tiles)

    assert grid == expected


@pytest.mark.parametrize(
    ("grid", "per_tile", "expected"),
    [((1, 1), 576, 576), ((2, 2), 576, 2880), ((1, 2), 576, 1728), ((1, 1), 256, 256), ((3, 2), 256, 1792)],
)
def test_tokens_are_tiles_times_tokens_per_tile(grid: tuple[int, int], per_tile: int, expected: int) -> None:
    assert num_tiles(grid) * per_tile == expected


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 20000), st.integers(1, 20000), st.integers(1, 12))
def test_no_grid_is_nearer(width: int, height: int, most: int) -> None:
    columns, rows = choose_grid(width, height, 336, most)

    distance = abs(width / height - columns / rows)
    assert columns * rows <= most
    assert all(distance <= abs(width / height - c / r) + 1e-9 for c, r in grids(most))
