"""Thumbnails of findings: what they show of a picture, and where the marks lie."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dataengine.annotation import Box, Rle
from dataengine.audit.shapes import Shape
from dataengine.audit.windows import MARGIN, SIDE, SMALL, Window, close_up, show, whole
from dataengine.geometry import rle_from_mask
from dataengine.report.draw import color_of

GREY = np.full((100, 200, 3), 128, np.uint8)
SIZE = (200, 100)
ALL = Window(0, 0, 200, 100)
YELLOW, CROSS = (255, 222, 0), (200, 0, 0)
sides = st.integers(1, 5000)
numbers = st.floats(-1e9, 1e9)


def shown(shape: Shape | None, window: Window = ALL, box: Box | None = None, text: str = "") -> Image.Image:
    return show(GREY, SIZE, window, box, shape, text)


def at(picture: Image.Image, x: float, y: float, window: Window = ALL) -> tuple[int, int, int]:
    """Return the colour at a place in source pixels."""
    scale = picture.width / (window.right - window.left)
    place = int((x - window.left) * scale), int((y - window.top) * scale)
    red, green, blue = np.asarray(picture)[place[1], place[0]].tolist()
    return red, green, blue


@given(sides, sides, st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=3))
def test_a_window_shows_the_whole_picture_and_of_boxes_what_lies_near(
    width: int, height: int, boxes: list[Box]
) -> None:
    window = whole((width, height), boxes)

    assert window.left <= 0 <= width <= window.right and window.top <= 0 <= height <= window.bottom
    assert window.right - window.left <= (1 + 2 * MARGIN) * width * 1.001
    for x0, y0, x1, y1 in boxes:
        assert window.left <= max(x0, -MARGIN * width) and window.right >= min(x1, (1 + MARGIN) * width)
        assert window.top <= max(y0, -MARGIN * height) and window.bottom >= min(y1, (1 + MARGIN) * height)
    assert max(window.size) <= SIDE + 1


@given(sides, sides, st.floats(0, 1), st.floats(0, 1), st.floats(0, 400), st.floats(0, 400))
def test_a_small_box_is_shown_close_up_inside_its_picture(
    width: int, height: int, x: float, y: float, wide: float, high: float
) -> None:
    x0, y0 = x * width, y * height
    box = (x0, y0, min(x0 + wide, width), min(y0 + high, height))

    window = close_up((width, height), box)

    longest, scale = max(box[2] - box[0], box[3] - box[1]), SIDE / max(width, height)
    assert (window is None) == (longest * scale >= SMALL or scale >= 1)
    if window is not None:
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        assert -1 <= window.left <= middle[0] <= window.right <= width + 1
        assert -1 <= window.top <= middle[1] <= window.bottom <= height + 1
        assert window.scale > scale


def test_a_box_that_is_not_on_the_picture_has_no_close_up() -> None:
    assert close_up((4000, 3000), (-90, 5, -80, 9)) is None
    assert close_up((4000, 3000), None) is None


def test_a_window_beyond_the_picture_shows_grey_around_it() -> None:
    window = Window(-100, 0, 200, 100)

    picture = shown(None, window)

    assert at(picture, -50, 50, window) == (58, 62, 68)
    assert at(picture, 50, 50, window) == (128, 128, 128)


def test_an_outline_is_drawn_where_it_lies_and_what_it_covers_is_tinted() -> None:
    shape = Shape(polygons=((20, 20, 120, 20, 120, 80, 20, 80),))

    picture = shown(shape)

    assert at(picture, 70, 20) == at(picture, 20, 50) == YELLOW
    inside = at(picture, 70, 50)
    assert inside[0] > 150 and inside[2] < 100
    assert at(picture, 160, 50) == (128, 128, 128)


def test_an_outline_lies_at_the_same_place_close_up() -> None:
    shape, window = Shape(polygons=((20, 20, 60, 20, 60, 50, 20, 50),)), Window(10, 10, 70, 70)

    picture = shown(shape, window)

    assert at(picture, 40, 20.2, window) == YELLOW
    assert at(picture, 65, 60, window) == (128, 128, 128)


def test_a_mask_is_tinted_where_it_lies_and_one_of_another_size_is_not_stretched() -> None:
    mask = np.zeros((100, 200), np.uint8)
    mask[10:50, 100:180] = 1

    for size in ((100, 200), (60, 190)):
        picture = shown(Shape(mask=rle_from_mask(mask[: size[0], : size[1]])))

        assert at(picture, 140, 30) == pytest.approx((166, 156, 90), abs=2)
        assert at(picture, 90, 30) == at(picture, 140, 60) == (128, 128, 128)


def test_a_mask_that_is_none_is_left_out() -> None:
    assert shown(Shape(mask=Rle((3, 4), "0aaaaaaaa"))).tobytes() == shown(None).tobytes()


def test_keypoints_are_drawn_and_one_without_label_but_with_a_place_is_a_cross() -> None:
    points = ((50.0, 50.0, 2), (150.0, 50.0, 0), (0.0, 0.0, 0), (100.0, 20.0, 2))

    picture = shown(Shape(keypoints=points, skeleton=((0, 3),)))

    assert at(picture, 50, 50) == (230, 57, 70)
    assert at(picture, 150, 50) == CROSS
    assert at(picture, 75, 35) == (255, 255, 255)  # the line that joins the two
    assert at(picture, 1, 1) == (128, 128, 128)


def test_an_outline_is_yellow_but_where_the_box_is_nearly_that() -> None:
    shape = Shape(polygons=((20, 20, 120, 20, 120, 80, 20, 80),))
    texts = {color_of(f"rule {number}"): f"rule {number}" for number in range(200)}

    lines = {color: at(shown(shape, text=text), 70, 20) for color, text in texts.items()}

    assert lines.pop((255, 183, 3)) == (0, 229, 255)
    assert len(lines) > 8 and set(lines.values()) == {YELLOW}


@pytest.mark.parametrize("far", [1e30, -1e30])
def test_what_is_far_away_is_drawn_as_far_as_it_is_shown(far: float) -> None:
    picture = shown(Shape(polygons=((20, 20, far, 20, far, 80, 20, 80),)), box=(10, 10, 1e30, 90))

    assert at(picture, 199 if far > 0 else 1, 20) == YELLOW
    assert picture.size == (360, 180)


@pytest.mark.parametrize("number", [math.inf, math.nan])
def test_what_is_not_finite_is_not_drawn(number: float) -> None:
    shape = Shape(
        polygons=((20, 20, number, 20, 120, 80), (number, number)),
        keypoints=((number, 3.0, 2), (3.0, number, 0)),
        skeleton=((0, 1),),
    )

    assert shown(shape).tobytes() == shown(None).tobytes()
