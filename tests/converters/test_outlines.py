from __future__ import annotations

import math

import pytest

from converters.outlines import box_corners, outline, turned, word
from dataengine.errors import Quarantine
from dataengine.geometry import rle_area


def test_four_points_are_a_quadrangle_and_more_are_an_outline() -> None:
    four = outline([0, 0, 10, 0, 10, 5, 0, 5], (40, 30))
    five = outline([0, 0, 10, 0, 10, 5, 5, 8, 0, 5], (40, 30))

    assert (four.box, four.quad) == ((0, 0, 10, 5), (0, 0, 10, 0, 10, 5, 0, 5))
    assert four.mask is not None and rle_area(four.mask) == 50
    assert (five.box, five.quad) == ((0, 0, 10, 8), None)


def test_without_a_size_there_is_no_mask() -> None:
    assert outline([0, 0, 10, 0, 10, 5], None).mask is None


@pytest.mark.parametrize("size", [None, (40, 30)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e9, -1e9])
def test_a_point_that_no_picture_has_is_refused(size: tuple[int, int] | None, value: float) -> None:
    with pytest.raises(Quarantine) as error:
        outline([0, 0, 10, 0, 10, value, 0, 5], size)

    assert error.value.reason == "polygon.invalid"


@pytest.mark.parametrize("points", [[], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7]])
def test_too_few_numbers_are_refused(points: list[float]) -> None:
    with pytest.raises(Quarantine) as error:
        outline(points, None)

    assert error.value.reason == "polygon.invalid"


@pytest.mark.parametrize("size", [(0, 30), (1 << 20, 1 << 20)])
def test_a_picture_of_no_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(Quarantine):
        outline([0, 0, 10, 0, 10, 5], size)


def test_a_turned_box_keeps_its_centre_and_sides() -> None:
    corners = turned(20, 15, 20, 10, math.atan2(3, 4))

    assert corners == pytest.approx([15, 5, 31, 17, 25, 25, 9, 13])
    assert turned(20, 15, 20, 10, 0) == box_corners((10, 10, 30, 20))


@pytest.mark.parametrize("angle", [math.nan, math.inf])
def test_a_box_that_is_turned_by_no_angle_is_refused(angle: float) -> None:
    with pytest.raises(Quarantine):
        turned(0, 0, 1, 1, angle)


@pytest.mark.parametrize(("text", "said"), [(" a \n b", "a b"), ("", None), (" ", None), (None, None)])
def test_a_word_without_text_is_ignored(text: str | None, said: str | None) -> None:
    item = word("1", [0, 0, 10, 0, 10, 5], text, None, {"script": "Latin"})

    assert (item.text, item.ignore) == (said, said is None)
    assert (item.category, item.attributes) == ("text", {"script": "Latin"})
