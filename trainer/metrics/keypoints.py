"""How good predicted keypoints are: COCO's average precision by object keypoint similarity, and PCK."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dataengine.geometry import box_iou, to_xywh
from dataengine.sample import TargetInstance
from trainer.metrics.objects import Found, Scene, coco_scores

# Of keypoints for which a dataset states none (X-Pose's code).
SIGMA = 0.025


@dataclass(frozen=True)
class PoseScene(Scene):
    """A picture's poses: the names of its objects' keypoints in order, those that were asked for, and OKS constants."""

    names: tuple[str, ...]
    asked: frozenset[str]
    sigmas: tuple[float, ...]


def keypoint_precision(scenes: Sequence[PoseScene]) -> dict[str, float] | None:
    """Return COCO's `ap`, `ap50`, `ap75` of keypoints (at most 20 objects a picture), or None without any true one.

    Pictures that name other keypoints are joined by name. An object without a labelled keypoint that was asked for is
    neither to be found nor wrong to find, as in COCO.
    """
    sigmas: dict[str, float] = {}
    for scene in scenes:
        for number, name in enumerate(scene.names):
            sigmas.setdefault(name, scene.sigmas[number] if scene.sigmas else SIGMA)
    names = list(sigmas)
    truth, found = [], []
    for number, scene in enumerate(scenes, start=1):
        truth += [_true(number, item, scene, names) for item in scene.truth]
        found += [_seen(number, item, names) for item in scene.found if item.keypoints is not None]
    if not any(item["num_keypoints"] for item in truth if not item["iscrowd"]):
        return None
    sizes = [(scene.width, scene.height) for scene in scenes]
    return coco_scores(sizes, truth, found, "keypoints", list(sigmas.values()))


def _points(item: TargetInstance, scene: PoseScene) -> dict[str, tuple[float, float, int]]:
    """Return an object's labelled keypoints that were asked for, by name."""
    return {
        name: (point[0], point[1], int(point[2]))
        for name, point in zip(scene.names, item.keypoints or (), strict=False)
        if point[2] and name in scene.asked
    }


def _true(number: int, item: TargetInstance, scene: PoseScene, names: Sequence[str]) -> dict[str, Any]:
    points = _points(item, scene)
    return {
        "image_id": number,
        "category_id": item.label,
        "bbox": list(to_xywh(item.box)),
        "area": item.area,
        "iscrowd": int(item.ignore),
        "num_keypoints": len(points),
        "keypoints": [value for name in names for value in points.get(name, (0.0, 0.0, 0))],
    }


def _seen(number: int, item: Found, names: Sequence[str]) -> dict[str, Any]:
    points = item.keypoints or {}
    # Without a box: pycocotools would take the result for a detection.
    return {
        "image_id": number,
        "category_id": item.label,
        "score": item.score,
        "keypoints": [value for name in names for value in (*points.get(name, (0.0, 0.0)), 2)],
    }


def pck(scenes: Sequence[PoseScene], share: float = 0.2) -> dict[str, float] | None:
    """Return the share of labelled keypoints that are found within `share` of the longer side of their object's box.

    Each true object is held against the found one of its class whose box overlaps its own the most, once each, the most
    certain first; without one, all its keypoints are missed. None without a labelled keypoint.
    """
    right = wanted = 0
    for scene in scenes:
        left = [item for item in scene.truth if not item.ignore]
        wanted += sum(len(_points(item, scene)) for item in left)
        for item in sorted(scene.found, key=lambda one: -one.score):
            match = max(
                (one for one in left if one.label == item.label),
                key=lambda one: box_iou(one.box, item.box),
                default=None,
            )
            if match is None or box_iou(match.box, item.box) <= 0:
                continue
            left.remove(match)
            right += _near(_points(match, scene), item, share * _side(match))
    return {f"pck_at_{round(100 * share)}": right / wanted} if wanted else None


def _side(item: TargetInstance) -> float:
    return max(item.box[2] - item.box[0], item.box[3] - item.box[1])


def _near(points: dict[str, tuple[float, float, int]], item: Found, reach: float) -> int:
    seen = item.keypoints or {}
    return sum(name in seen and math.dist(seen[name], point[:2]) <= reach for name, point in points.items())
