"""Keypoints: by hand, and held against pycocotools fed directly."""

from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dataengine.sample import TargetInstance
from trainer.metrics.keypoints import PoseScene, keypoint_precision, pck
from trainer.metrics.objects import Found

BOX = (10.0, 10.0, 50.0, 90.0)
NAMES = ("nose", "tail")
SIGMAS = (0.05, 0.1)


def true(points: tuple[tuple[float, float, int], ...], *, ignore: bool = False) -> TargetInstance:
    return TargetInstance(label="cat", box=BOX, area=3200.0, keypoints=points, ignore=ignore)


def seen(score: float, **points: tuple[float, float]) -> Found:
    return Found("cat", BOX, score, None, points)


def scene(
    truth: list[TargetInstance],
    found: list[Found],
    asked: frozenset[str] = frozenset(NAMES),
    sigmas: tuple[float, ...] = SIGMAS,
) -> PoseScene:
    return PoseScene(100, 100, truth, found, NAMES, asked, sigmas)


def oks(distances: tuple[float, ...], sigmas: tuple[float, ...] = SIGMAS, area: float = 3200.0) -> float:
    """COCO's object keypoint similarity: exp(-d^2 / (2 s^2 k^2)) with k twice the sigma and s^2 the area."""
    return sum(
        math.exp(-(d**2) / (2 * area * (2 * k) ** 2)) for d, k in zip(distances, sigmas, strict=True)
    ) / len(distances)


def test_the_similarity_of_keypoints_takes_the_samples_sigmas() -> None:
    shifted = {"nose": (25.0, 20.0), "tail": (20.0, 85.0)}
    truth = true(((20.0, 20.0, 2), (20.0, 80.0, 1)))
    thresholds = np.linspace(0.5, 0.95, 10)

    for sigmas in (SIGMAS, (0.02, 0.02), (0.3, 0.3)):
        similarity = oks((5.0, 5.0), sigmas)
        found = keypoint_precision([scene([truth], [seen(0.9, **shifted)], sigmas=sigmas)])

        assert found is not None
        assert found["ap"] == pytest.approx((similarity >= thresholds).mean())


def test_a_keypoint_that_was_not_asked_for_is_not_missed() -> None:
    truth = true(((20.0, 20.0, 2), (20.0, 80.0, 2)))
    nose = seen(0.9, nose=(20.0, 20.0))

    alone = keypoint_precision([scene([truth], [nose], frozenset({"nose"}))])
    both = keypoint_precision([scene([truth], [nose])])

    assert alone is not None and alone["ap"] == pytest.approx(1)
    assert both is not None and both["ap75"] == 0


def test_without_a_labelled_keypoint_nothing_is_measured() -> None:
    hidden = true(((0.0, 0.0, 0), (0.0, 0.0, 0)))

    assert keypoint_precision([scene([hidden], [seen(0.9, nose=(1.0, 1.0))])]) is None
    assert pck([scene([hidden], [])]) is None


def test_average_precision_is_that_of_pycocotools_on_many_pictures() -> None:
    rng = np.random.default_rng(4)
    scenes, annotations, results = [], [], []
    for number in range(1, 13):
        points = rng.uniform(10, 90, (2, 2))
        noise = points + rng.normal(0, 6, (2, 2))
        area, score = 3200.0, float(rng.uniform())
        scenes.append(
            scene(
                [true(tuple((float(x), float(y), 2) for x, y in points))],
                [seen(score, nose=tuple(noise[0]), tail=tuple(noise[1]))],
            )
        )
        annotations.append(
            {
                "id": number, "image_id": number, "category_id": 1, "bbox": [10, 10, 40, 80],
                "area": area, "iscrowd": 0, "num_keypoints": 2, "keypoints": [v for x, y in points for v in (x, y, 2)],
            }
        )  # fmt: skip
        results.append(
            {
                "image_id": number,
                "category_id": 1,
                "score": score,
                "keypoints": [v for x, y in noise for v in (x, y, 1)],
            }
        )
    coco = COCO()
    coco.dataset = {"info": {}, "images": [{"id": n} for n in range(1, 13)], "annotations": annotations,
                    "categories": [{"id": 1, "name": "cat"}]}  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(SIGMAS)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()

    found = keypoint_precision(scenes)

    assert found is not None
    assert 0 < found["ap"] < 1
    assert list(found.values()) == pytest.approx(evaluation.stats[:3])


def test_pck_counts_keypoints_within_a_share_of_the_box() -> None:
    # The box's longer side is 80: a fifth of it is 16.
    truth = true(((20.0, 20.0, 2), (20.0, 80.0, 2)))
    near = {"nose": (20.0, 35.9), "tail": (20.0, 63.0)}
    # A second one of the same object finds nothing more.
    scenes = [scene([truth], [seen(0.9, **near), seen(0.5, **near)]), scene([truth], [])]

    assert pck(scenes) == {"pck_at_20": 0.25}
    assert pck(scenes, 0.3) == {"pck_at_30": 0.5}
