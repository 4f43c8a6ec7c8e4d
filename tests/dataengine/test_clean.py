from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import Annotation, Box, Image, Instance, Origin, Rle
from dataengine.clean import Cleaned, clean
from dataengine.geometry import box_area, rle_of_box

WIDTH, HEIGHT = 40, 30


def _clean(*instances: Instance) -> Cleaned:
    annotation = Annotation(
        key="1", images=(Image(path="a.jpg"),), origin=Origin(file="f", record="r"), instances=instances
    )
    return clean(annotation, [(WIDTH, HEIGHT)])


def _thing(box: Box | None = (1, 2, 11, 12), **fields: Any) -> Instance:
    return Instance(id="7", category="cat", box=box, **fields)


def test_a_sound_object_stays_as_it_is() -> None:
    item = _thing(keypoints=((3.0, 4.0, 2), (0.0, 0.0, 0)), mask=rle_of_box((1, 2, 11, 12), WIDTH, HEIGHT))

    cleaned = _clean(item)

    assert cleaned.annotation.instances == (item,)
    assert (cleaned.dropped, cleaned.fixed) == ({}, {})


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (_thing((5, 5, 5, 9)), "box.degenerate"),
        (_thing((5, 5, 4, 9)), "box.inverted"),
        (_thing((5, 9, 8, 5)), "box.inverted"),
        (_thing((math.nan, 1, 2, 3)), "box.nonfinite"),
        (_thing((1, 1, math.inf, 3)), "box.nonfinite"),
        (_thing((100, 1, 120, 20)), "box.outside"),
        (_thing((30, 0, 80, 30)), "box.outside"),
        (_thing(mask=Rle((WIDTH, HEIGHT), "")), "rle.size_mismatch"),
        (_thing(prompts={"point": Rle((WIDTH, HEIGHT), "")}), "rle.size_mismatch"),
        (_thing(None, mask=Rle((HEIGHT, WIDTH), "`j1")), "box.degenerate"),
    ],
)
def test_an_object_that_cannot_be_used_becomes_an_ignored_one_without_a_place(
    item: Instance, reason: str
) -> None:
    cleaned = _clean(_thing(), item)

    kept, lost = cleaned.annotation.instances
    assert cleaned.dropped == {reason: 1}
    assert kept == _thing()
    assert lost == Instance(id="7", category="cat", ignore=True)


def test_a_box_beyond_the_border_is_cut_and_counted() -> None:
    cleaned = _clean(_thing((-4, 2, 12, 33)))

    assert cleaned.annotation.instances[0].box == (0, 2, 12, 30)
    assert cleaned.fixed == {"box.outside": 1}


def test_rounding_at_the_border_is_cut_without_a_count() -> None:
    cleaned = _clean(_thing((-0.6, 2, 40.9, 30)))

    assert cleaned.annotation.instances[0].box == (0, 2, 40, 30)
    assert cleaned.fixed == {}


def test_a_mask_gives_the_box_that_is_missing() -> None:
    cleaned = _clean(_thing(None, mask=rle_of_box((3, 4, 9, 11), WIDTH, HEIGHT)))

    assert cleaned.annotation.instances[0].box == (3, 4, 9, 11)


def test_keypoints_lose_a_place_that_means_nothing() -> None:
    points = ((5.0, 6.0, 0), (300.0, 4.0, 2), (math.nan, 1.0, 1), (40.7, -0.5, 2), (7.0, 8.0, 1))

    cleaned = _clean(_thing(keypoints=points))

    assert cleaned.annotation.instances[0].keypoints == (
        (0.0, 0.0, 0), (0.0, 0.0, 0), (0.0, 0.0, 0), (40, 0.0, 2), (7.0, 8.0, 1),
    )  # fmt: skip
    assert cleaned.fixed == {"keypoint.outside": 2}


def test_an_object_on_a_picture_that_is_not_there_is_dropped() -> None:
    cleaned = _clean(_thing(image=3))

    assert cleaned.dropped == {"box.outside": 1}


NUMBER = st.one_of(
    st.floats(-100, 140), st.integers(-5, 45).map(float), st.sampled_from([math.nan, math.inf, -math.inf])
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER), max_size=6))
def test_every_box_that_is_left_lies_in_its_picture_and_every_other_is_counted(boxes: list[Box]) -> None:
    cleaned = _clean(*(_thing(box) for box in boxes))

    left = [one.box for one in cleaned.annotation.instances if one.box is not None]
    assert len(cleaned.annotation.instances) == len(boxes)
    assert len(left) + sum(cleaned.dropped.values()) == len(boxes)
    for box in left:
        assert 0 <= box[0] < box[2] <= WIDTH
        assert 0 <= box[1] < box[3] <= HEIGHT
        assert box_area(box) > 0


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER), max_size=4))
def test_cleaning_twice_changes_nothing(boxes: list[Box]) -> None:
    once = _clean(*(_thing(box) for box in boxes)).annotation

    twice = clean(once, [(WIDTH, HEIGHT)])

    assert twice.annotation == once
    assert (twice.dropped, twice.fixed) == ({}, {})
