from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import Instance
from dataengine.errors import Quarantine
from dataengine.geometry import mask_from_rle, rle_box, rle_from_mask
from dataengine.images import decode, encode
from dataengine.marks import COLORS, KINDS, draw, draw_on, mark_all, name
from dataengine.sample import Mark, MarkKind

GREY = 128


@st.composite
def pictures(draw_value: st.DrawFn) -> tuple[tuple[int, int], list[Instance]]:
    """A picture's (width, height) and one to five objects on it: filled boxes with a corner cut off, or boxes alone."""
    width, height = draw_value(st.integers(1, 90)), draw_value(st.integers(1, 90))
    items = []
    for number in range(draw_value(st.integers(1, 5))):
        left, top = draw_value(st.integers(0, width - 1)), draw_value(st.integers(0, height - 1))
        right, bottom = draw_value(st.integers(left + 1, width)), draw_value(st.integers(top + 1, height))
        mask = np.zeros((height, width), np.uint8)
        mask[top:bottom, left:right] = 1
        if draw_value(st.booleans()):
            mask[top : top + (bottom - top) // 2, left : left + (right - left) // 2] = 0
        code = rle_from_mask(mask)
        items.append(Instance(id=str(number), box=rle_box(code), mask=code))
    return (width, height), items


def plain(size: tuple[int, int]) -> np.ndarray:
    return np.full((size[1], size[0], 3), GREY, np.uint8)


@given(picture=pictures(), kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=150)
def test_a_mark_changes_pixels_inside_its_picture_and_touches_its_object(
    picture: tuple[tuple[int, int], list[Instance]], kind: MarkKind, seed: int
) -> None:
    size, items = picture

    made = mark_all(items, kind, size, 0, random.Random(seed))

    for item, mark in zip(items, made, strict=True):
        drawn = draw(plain(size), [mark])
        assert drawn.shape == (size[1], size[0], 3)
        rows, columns = np.nonzero((drawn != GREY).any(axis=2))
        assert len(rows)
        assert item.box is not None and item.mask is not None
        x0, y0, x1, y1 = item.box
        # What was drawn lies on the object's box or around it.
        assert columns.min() < x1 and columns.max() >= x0 and rows.min() < y1 and rows.max() >= y0
        assert all(0 <= x <= size[0] - 1 and 0 <= y <= size[1] - 1 for x, y in mark.points)
        if kind == "arrow":
            x, y = mark.points[1]
            assert mask_from_rle(item.mask)[round(y), round(x)]
        if kind == "mask":
            assert mask_from_rle(item.mask)[rows, columns].all()


@given(picture=pictures(), kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_marks_of_a_picture_share_kind_and_form_and_no_colour(
    picture: tuple[tuple[int, int], list[Instance]], kind: MarkKind, seed: int
) -> None:
    size, items = picture

    made = mark_all(items, kind, size, 3, random.Random(seed))

    assert {(mark.kind, mark.image) for mark in made} == {(kind, 3)}
    assert len({mark.solid for mark in made}) == 1
    assert len({mark.color for mark in made}) == len(items)
    assert made == mark_all(items, kind, size, 3, random.Random(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_a_hollow_mark_leaves_the_inside_of_its_object_alone(kind: MarkKind) -> None:
    mask = np.zeros((120, 160), np.uint8)
    mask[30:90, 40:120] = 1
    item = Instance(id="1", box=(40, 30, 120, 90), mask=rle_from_mask(mask))
    by_form = {}
    for seed in range(20):
        (mark,) = mark_all([item], kind, (160, 120), 0, random.Random(seed))
        by_form[mark.solid] = (draw(plain((160, 120)), [mark]) != GREY).any(axis=2)

    inside = np.s_[45:75, 60:100]

    assert not by_form[False][inside].any()
    assert by_form[True].sum() > by_form[False].sum() or kind == "arrow"
    assert by_form[True][inside].all() != (kind == "arrow")


def test_an_object_without_a_mask_is_pointed_at_near_its_middle() -> None:
    item = Instance(id="1", box=(40, 40, 80, 60))

    for seed in range(30):
        (mark,) = mark_all([item], "arrow", (200, 200), 0, random.Random(seed))

        (x, y) = mark.points[1]
        assert 49 <= x <= 71 and 44 <= y <= 56


def test_lines_lie_above_the_tints_of_other_marks() -> None:
    small = Mark(kind="box", color="red", solid=True, box=(20, 20, 40, 40))
    large = Mark(kind="box", color="blue", solid=True, box=(0, 0, 60, 60))

    drawn = draw(plain((60, 60)), [small, large])

    assert tuple(drawn[20, 30]) == COLORS["red"]


def test_drawing_leaves_the_given_pixels_alone() -> None:
    pixels = plain((30, 30))

    draw(pixels, [Mark(kind="box", color="red", solid=True, box=(5, 5, 20, 20))])

    assert (pixels == GREY).all()


def test_a_prompt_names_a_mark_by_colour_and_form() -> None:
    mark = Mark(kind="hand_circle", color="cyan", solid=False, box=(0, 0, 1, 1))
    area = Mark(kind="mask", color="red", solid=True, box=(0, 0, 1, 1))
    outline = Mark(kind="mask", color="red", solid=False, box=(0, 0, 1, 1))

    assert [name(mark), name(area), name(outline)] == ["cyan hand-drawn circle", "red area", "red outline"]


def test_a_jpeg_stays_one_and_anything_else_becomes_png() -> None:
    mark = Mark(kind="box", color="red", solid=False, box=(5, 5, 25, 25))
    pixels = plain((30, 30))

    jpeg, jpeg_format = draw_on(encode(pixels, "jpeg"), "jpeg", [mark])
    png, png_format = draw_on(encode(pixels, "png"), "webp", [mark])

    assert (jpeg_format, png_format) == ("jpeg", "png")
    assert np.array_equal(decode(png), draw(pixels, [mark]))
    assert jpeg.startswith(b"\xff\xd8")
    assert np.abs(decode(jpeg).astype(int) - draw(pixels, [mark])).mean() < 3


def test_a_picture_that_ends_early_cannot_be_marked() -> None:
    mark = Mark(kind="box", color="red", solid=False, box=(5, 5, 25, 25))

    with pytest.raises(Quarantine, match=r"image\.corrupt"):
        draw_on(encode(plain((30, 30)), "png")[:-30], "png", [mark])
