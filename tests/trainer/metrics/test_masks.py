"""Overlaps of masks: by hand, and held against a confusion matrix and against sets of pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import Rle
from dataengine.geometry import rle_from_mask, rle_of_box
from dataengine.sample import TargetInstance
from trainer.metrics.masks import LabelMap, answer_scores, mask_iou, panoptic_scores, semantic_scores
from trainer.metrics.objects import Found, Scene

Box = tuple[float, float, float, float]
LEFT: Box = (0, 0, 50, 100)
RIGHT: Box = (50, 0, 100, 100)


def rle(box: Box) -> Rle:
    return rle_of_box(box, 100, 100)


def true(label: str, box: Box, *, ignore: bool = False, masked: bool = True) -> TargetInstance:
    return TargetInstance(label=label, box=box, area=1.0, mask=rle(box) if masked else None, ignore=ignore)


def seen(label: str, box: Box, score: float) -> Found:
    return Found(label, box, score, rle(box))


def test_the_overlap_of_masks_is_counted_in_pixels() -> None:
    whole = rle((0, 0, 100, 100))

    assert mask_iou(rle(LEFT), [whole]) == pytest.approx(0.5)
    assert mask_iou(whole, [rle(LEFT), rle(RIGHT)]) == pytest.approx(1)


def test_giou_weighs_answers_alike_and_ciou_weighs_pixels() -> None:
    scenes = [
        # All of 5000 pixels; none of 1000; half of the union of two (5000 of 10000).
        Scene(100, 100, [true("a", LEFT)], [seen("a", LEFT, 0.2), seen("a", RIGHT, 0.1)]),
        Scene(100, 100, [true("b", (0, 0, 10, 100))], [seen("other", LEFT, 0.9)]),
        Scene(100, 100, [true("c", LEFT), true("c", RIGHT)], [seen("c", RIGHT, 0.9)]),
    ]

    assert answer_scores(scenes) == pytest.approx(
        {"mean_iou": (1 + 0 + 0.5) / 3, "cumulative_iou": (5000 + 0 + 5000) / (5000 + 1000 + 10000)}
    )


def test_answers_without_masks_are_not_measured() -> None:
    assert (
        answer_scores([Scene(100, 100, [true("cat", LEFT, masked=False)], [seen("cat", LEFT, 0.9)])]) is None
    )
    assert answer_scores([]) is None


def maps(labels: npt.NDArray[np.int64]) -> dict[str, Rle]:
    return {f"class{k}": rle_from_mask((labels == k).astype(np.uint8)) for k in np.unique(labels) if k >= 0}


label_pictures = st.lists(
    st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 3)), min_size=12, max_size=12),
    min_size=1,
    max_size=4,
)


@given(pictures=label_pictures)
@settings(deadline=None, max_examples=60)
def test_mean_iou_is_that_of_the_confusion_matrix(pictures: list[list[tuple[int, int]]]) -> None:
    pairs = [np.array(one).reshape(3, 4, 2) for one in pictures]
    matrix = np.zeros((4, 4))
    for pair in pairs:
        inside = pair[..., 0] >= 0
        np.add.at(matrix, (pair[..., 0][inside], pair[..., 1][inside]), 1)

    found = semantic_scores([LabelMap(maps(pair[..., 0]), maps(pair[..., 1]), None) for pair in pairs])

    if not matrix.sum():
        assert found is None
        return
    inter, rows, columns = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    shown = rows > 0
    assert found == pytest.approx(
        {
            "mean_iou": (inter / np.maximum(rows + columns - inter, 1))[shown].mean(),
            "pixel_accuracy": inter.sum() / matrix.sum(),
        }
    )


def test_void_pixels_and_classes_that_are_nowhere_true_do_not_count() -> None:
    one = LabelMap({"a": rle(LEFT), "b": rle(RIGHT)}, {"a": rle((0, 0, 100, 100))}, rle(RIGHT))
    other = LabelMap({"a": rle(LEFT)}, {"c": rle(LEFT)}, None)

    assert semantic_scores([one]) == {"mean_iou": 1.0, "pixel_accuracy": 1.0}
    assert semantic_scores([one, other]) == {"mean_iou": 0.5, "pixel_accuracy": 0.5}


def test_panoptic_quality_is_overlap_times_recognition() -> None:
    """Kirillov et al.: the sum of matched IoU over matched + half of the false ones, mean over classes."""
    part: Box = (0, 0, 40, 100)
    scenes = [
        Scene(100, 100, [true("a", LEFT), true("b", RIGHT)], [seen("a", part, 0.9)]),
        Scene(100, 100, [true("a", LEFT)], [seen("a", LEFT, 0.9), seen("a", RIGHT, 0.8)]),
    ]

    # a: overlaps .8 and 1, one false; b: one missed.
    assert panoptic_scores(scenes) == pytest.approx(
        {
            "panoptic_quality": (1.8 / 2.5 + 0) / 2,
            "segmentation_quality": (0.9 + 0) / 2,
            "recognition_quality": (2 / 2.5 + 0) / 2,
        }
    )


def test_panoptic_segments_do_not_overlap_and_the_unsure_go() -> None:
    whole: Box = (0, 0, 100, 100)
    scene = Scene(
        100,
        100,
        [true("a", LEFT), true("b", RIGHT, ignore=True)],
        # The second loses half of its pixels and stays as the right half, the third is taken, the last is unsure.
        [seen("a", LEFT, 0.9), seen("b", whole, 0.8), seen("a", LEFT, 0.7), seen("c", LEFT, 0.1)],
    )

    assert panoptic_scores([scene]) == {
        "panoptic_quality": 1.0,
        "segmentation_quality": 1.0,
        "recognition_quality": 1.0,
    }
    assert panoptic_scores([Scene(100, 100, [], [seen("a", LEFT, 0.9)])]) is None
