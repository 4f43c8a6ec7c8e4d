from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from dataengine.annotation import Instance
from dataengine.geometry import mask_from_rle, rle_area, rle_box, rle_from_mask, rle_of_box
from dataengine.regions import KINDS, Kind, Mask, draw, stored


def instance(mask: Mask) -> Instance:
    code = rle_from_mask(mask)
    return Instance(id="1", box=rle_box(code), mask=code, image=2)


def disc(height: int, width: int, cx: float, cy: float, radius: float) -> Mask:
    y, x = np.mgrid[:height, :width]
    return np.asarray((x - cx) ** 2 + (y - cy) ** 2 <= radius * radius, np.uint8)


def pixels(item: Instance, kind: Kind, seed: int) -> Mask:
    region = draw(item, kind, random.Random(seed))
    assert region is not None and region.mask is not None
    return mask_from_rle(region.mask)


@given(
    cells=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 29)), min_size=1, max_size=120),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=200)
def test_marks_lie_within_any_mask_however_ragged(
    cells: list[tuple[int, int]], kind: Kind, seed: int
) -> None:
    mask = np.zeros((30, 40), np.uint8)
    for x, y in cells:
        mask[y, x] = 1
    item = instance(mask)

    region = draw(item, kind, random.Random(seed))

    if region is None:
        assert mask.sum() < (10 if kind == "point" else 4)
        return
    assert (region.kind, region.image) == (kind, 2)
    if kind == "box":
        assert (region.box, region.mask) == (item.box, None)
        return
    assert region.mask is not None
    marked = mask_from_rle(region.mask)
    assert marked.shape == mask.shape
    assert marked.any() and not (marked & ~mask & 1).any()
    assert region.box == rle_box(region.mask)


@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=40)
def test_the_same_chance_draws_the_same_marks(kind: Kind, seed: int) -> None:
    item = instance(disc(60, 80, 40, 30, 20))

    assert draw(item, kind, random.Random(seed)) == draw(item, kind, random.Random(seed))


def test_a_point_prompt_is_one_to_twenty_pixels() -> None:
    item = instance(disc(120, 160, 80, 60, 50))

    counts = {int(pixels(item, "point", seed).sum()) for seed in range(300)}

    assert counts == set(range(1, 21))


def test_a_mask_prompt_is_the_mask() -> None:
    mask = disc(60, 80, 40, 30, 20)

    assert (pixels(instance(mask), "mask", 0) == mask).all()


def test_scribbles_are_thinner_than_circles() -> None:
    item = instance(disc(336, 336, 168, 168, 150))

    def core(marked: Mask) -> float:
        """Return the share of the pixels that lie in the middle of a marked square of 9 x 9."""
        rows = sliding_window_view(marked, 9, axis=0).min(axis=-1)
        return float(sliding_window_view(rows, 9, axis=1).min(axis=-1).sum() / marked.sum())

    thin = [core(pixels(item, "scribble", seed)) for seed in range(40)]
    thick = [core(pixels(item, "circle", seed)) for seed in range(40)]

    assert np.median(thin) < 0.15 < 0.5 < np.median(thick)


def test_a_curve_is_a_connected_thin_line_in_a_convex_object() -> None:
    mask = np.ones((200, 200), np.uint8)
    item = instance(mask)

    for seed in range(30):
        marked = pixels(item, "polygon", seed)
        rows, columns = np.nonzero(marked)
        assert marked.sum() < 0.2 * mask.sum()
        reached, todo = {(int(rows[0]), int(columns[0]))}, [(int(rows[0]), int(columns[0]))]
        while todo:
            y, x = todo.pop()
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    near = (y + dy, x + dx)
                    inside = 0 <= near[0] < 200 and 0 <= near[1] < 200
                    if inside and near not in reached and marked[near]:
                        reached.add(near)
                        todo.append(near)
        assert len(reached) == int(marked.sum())


def test_brushes_grow_with_the_picture() -> None:
    small, large = disc(168, 168, 84, 84, 75), disc(672, 672, 336, 336, 300)

    shares = [
        np.mean([pixels(instance(mask), "circle", seed).sum() / mask.sum() for seed in range(40)])
        for mask in (small, large)
    ]

    assert shares[0] == pytest.approx(shares[1], rel=0.25)


def test_an_object_of_a_single_row_can_be_marked_by_every_kind() -> None:
    mask = rle_of_box((3.0, 5.0, 33.0, 6.0), 40, 30)
    item = Instance(id="1", box=(3.0, 5.0, 33.0, 6.0), mask=mask)

    for kind in KINDS:
        region = draw(item, kind, random.Random(1))
        assert region is not None
        assert region.mask is None or 0 < rle_area(region.mask) <= 30


def test_a_curve_goes_around_its_centre_and_not_to_and_fro() -> None:
    item = instance(np.ones((200, 200), np.uint8))

    # A tour through 20 random places, in the order in which they were drawn, is about twice as long.
    assert max(int(pixels(item, "polygon", seed).sum()) for seed in range(60)) < 1400


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_needs_four_pixels_and_ten_for_a_point(kind: Kind) -> None:
    least = 10 if kind == "point" else 4

    for count in range(1, 12):
        mask = np.zeros((20, 20), np.uint8)
        mask[7, 3 : 3 + count] = 1
        assert (draw(instance(mask), kind, random.Random(count)) is not None) == (count >= least)


def test_a_stored_mark_is_shown_as_it_stands_and_an_empty_one_is_none() -> None:
    mark = rle_of_box((3, 4, 9, 11), 40, 30)
    item = Instance(id="1", image=2, prompts={"box": mark, "point": rle_of_box((0, 0, 0, 0), 40, 30)})

    shown = stored(item, "box")

    assert shown is not None
    assert (shown.kind, shown.box, shown.mask, shown.image) == ("box", (3, 4, 9, 11), mark, 2)
    assert (stored(item, "point"), stored(item, "mask")) == (None, None)
