"""Average precision and the precision of single answers on scenes whose answer is known by hand."""

from __future__ import annotations

import pytest

from dataengine.geometry import rle_of_box
from dataengine.sample import TargetInstance
from trainer.metrics.objects import (
    Found,
    Scene,
    average_precision,
    matches_at_50,
    precision_at_50,
    recall_at_50,
)

Box = tuple[float, float, float, float]
LEFT: Box = (10, 10, 50, 50)
RIGHT: Box = (60, 10, 90, 50)
NOWHERE: Box = (0, 80, 10, 90)


def true(label: str, box: Box, *, ignore: bool = False, masked: bool = True) -> TargetInstance:
    mask = rle_of_box(box, 100, 100) if masked else None
    area = (box[2] - box[0]) * (box[3] - box[1])
    return TargetInstance(label=label, box=box, area=area, mask=mask, ignore=ignore)


def seen(label: str, box: Box, score: float) -> Found:
    return Found(label, box, score, rle_of_box(box, 100, 100))


def scene(truth: list[TargetInstance], found: list[Found]) -> Scene:
    return Scene(100, 100, truth, sorted(found, key=lambda item: -item.score))


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_perfect_predictions_score_one(kind: str) -> None:
    scenes = [
        scene([true("cat", LEFT), true("dog", RIGHT)], [seen("cat", LEFT, 0.9), seen("dog", RIGHT, 0.8)])
    ]

    found = average_precision(scenes, kind)  # type: ignore[arg-type]

    assert found == pytest.approx({"ap": 1, "ap50": 1, "ap75": 1})


def test_a_wrong_name_scores_nothing() -> None:
    found = average_precision([scene([true("cat", LEFT)], [seen("dog", LEFT, 0.9)])], "bbox")

    assert found is not None and found["ap"] == pytest.approx(0)


def test_one_of_two_found_scores_half() -> None:
    scenes = [scene([true("cat", LEFT)], [seen("cat", LEFT, 0.9)]), scene([true("cat", RIGHT)], [])]

    found = average_precision(scenes, "bbox")

    # 101 recall points, of which 0 to .5 are reached.
    assert found is not None and found["ap"] == pytest.approx(51 / 101)


def test_a_box_that_fits_by_sixty_percent_counts_at_half_only() -> None:
    found = average_precision(
        [scene([true("cat", (0, 0, 50, 100))], [seen("cat", (0, 0, 30, 100), 0.9)])], "bbox"
    )

    assert found is not None
    # 0.50, 0.55 and 0.60 of ten thresholds
    assert found == pytest.approx({"ap": 0.3, "ap50": 1, "ap75": 0})


def test_what_is_found_in_an_ignored_area_is_not_wrong() -> None:
    truth = [true("cat", LEFT), true("cat", RIGHT, ignore=True)]
    found = [seen("cat", RIGHT, 0.95), seen("cat", LEFT, 0.9)]

    tolerant = average_precision([scene(truth, found)], "bbox")
    strict = average_precision([scene(truth[:1], found)], "bbox")

    assert tolerant is not None and tolerant["ap"] == pytest.approx(1)
    assert strict is not None and strict["ap"] == pytest.approx(0.5)


def test_nothing_to_find_has_no_score_and_nothing_found_has_zero() -> None:
    assert average_precision([scene([], [seen("cat", LEFT, 0.9)])], "bbox") is None
    assert average_precision([scene([true("cat", LEFT, ignore=True)], [])], "bbox") is None
    assert average_precision([scene([true("cat", LEFT)], [])], "bbox") == {"ap": 0, "ap50": 0, "ap75": 0}


ASKED = [
    scene([true("the cat", LEFT)], [seen("the cat", LEFT, 0.9), seen("the cat", NOWHERE, 0.3)]),
    scene([true("the dog", LEFT)], [seen("the dog", NOWHERE, 0.9), seen("the dog", LEFT, 0.3)]),
    scene([true("either", LEFT), true("either", RIGHT)], [seen("either", RIGHT, 0.9)]),
    scene([true("missed", LEFT)], [seen("other", LEFT, 0.9)]),
]


def test_the_best_object_of_each_name_is_the_answer() -> None:
    assert precision_at_50(ASKED) == {"precision_at_50": 0.5}
    assert precision_at_50([]) is None


def test_a_relation_is_found_when_both_its_ends_are() -> None:
    both = scene([true("a", LEFT), true("b", RIGHT)], [seen("a", LEFT, 0.9), seen("b", RIGHT, 0.8)])
    one = scene([true("a", LEFT), true("b", RIGHT)], [seen("a", LEFT, 0.9)])

    assert recall_at_50([both, one]) == {"recall_at_50": 0.5}


def test_objects_of_a_picture_are_matched_once_each_and_ignored_ones_do_not_count() -> None:
    truth = [true("cat", LEFT), true("cat", RIGHT, ignore=True)]
    found = [
        seen("cat", LEFT, 0.9),
        seen("cat", LEFT, 0.8),
        seen("cat", RIGHT, 0.7),
        seen("dog", LEFT, 0.6),
        seen("cat", LEFT, 0.1),
    ]

    assert matches_at_50(scene(truth, found)) == (1, 3, 1)
