"""How good predicted objects are: COCO's average precision by pycocotools, and the overlap of single answers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dataengine.annotation import Box, Rle
from dataengine.geometry import box_iou, to_xywh
from dataengine.sample import TargetInstance

Kind = Literal["bbox", "segm", "keypoints"]


@dataclass(frozen=True)
class Found:
    """A predicted object: what it is called, where it is (xyxy pixels of the original picture), how sure that is.

    `keypoints` are (x, y) pixels by name.
    """

    label: str
    box: Box
    score: float
    mask: Rle | None
    keypoints: Mapping[str, tuple[float, float]] | None = None


@dataclass(frozen=True)
class Scene:
    """One picture's true objects (those to be ignored too) and the predicted ones, best first."""

    width: int
    height: int
    truth: Sequence[TargetInstance]
    found: Sequence[Found]


def average_precision(scenes: Sequence[Scene], kind: Literal["bbox", "segm"]) -> dict[str, float] | None:
    """Return COCO's `ap`, `ap50`, `ap75` (all areas, at most 100 objects a picture), or None without any true object.

    Objects to be ignored count as crowds: what is found in them is neither right nor wrong.
    """
    truth = [
        {
            **_place(number, item.label, item.box, item.mask, kind),
            "area": item.area,
            "iscrowd": int(item.ignore),
        }
        for number, scene in enumerate(scenes, start=1)
        for item in scene.truth
    ]
    found = [
        {**_place(number, item.label, item.box, item.mask, kind), "score": item.score}
        for number, scene in enumerate(scenes, start=1)
        for item in scene.found
        if kind == "bbox" or item.mask is not None
    ]
    return coco_scores([(scene.width, scene.height) for scene in scenes], truth, found, kind)


def _place(number: int, label: str, box: Box, mask: Rle | None, kind: str) -> dict[str, Any]:
    place = {"image_id": number, "category_id": label, "bbox": list(to_xywh(box))}
    return place | ({"segmentation": code(mask)} if kind == "segm" and mask else {})


def coco_scores(
    sizes: Sequence[tuple[int, int]],
    truth: Sequence[dict[str, Any]],
    found: Sequence[dict[str, Any]],
    kind: Kind,
    sigmas: Sequence[float] = (),
) -> dict[str, float] | None:
    """Return `ap`, `ap50`, `ap75` by COCOeval of annotations and results in COCO's form, or None without a true object.

    Pictures, of which (width, height) are given, are numbered from 1. `category_id` holds names, which get their ids
    here. `sigmas` are those of the keypoints.
    """
    if all(item["iscrowd"] for item in truth):
        return None
    if not found:
        return {"ap": 0.0, "ap50": 0.0, "ap75": 0.0}
    names = sorted({item["category_id"] for item in (*truth, *found)})
    ids = {name: number for number, name in enumerate(names, start=1)}
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [
            {"id": number, "width": width, "height": height}
            for number, (width, height) in enumerate(sizes, start=1)
        ],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
        # COCOeval takes id 0 for "no match".
        "annotations": [
            {**item, "id": number, "category_id": ids[item["category_id"]]}
            for number, item in enumerate(truth, start=1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it works
        coco.createIndex()
        results = coco.loadRes([{**item, "category_id": ids[item["category_id"]]} for item in found])
        evaluation = COCOeval(coco, results, kind)
        if kind == "keypoints":
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(("ap", "ap50", "ap75"), evaluation.stats, strict=False)}


def precision_at_50(scenes: Sequence[Scene]) -> dict[str, float] | None:
    """Return the share of names whose best-scored box overlaps one of their true boxes by half or more.

    None where nothing was asked for.
    """
    hits = [hit for scene in scenes for hit in pointed_hits(scene)]
    return {"precision_at_50": float(np.mean(hits))} if hits else None


def pointed_hits(scene: Scene) -> list[bool]:
    """Return, for each name that was asked for, whether its best-scored box overlaps a true one by half or more."""
    hits = []
    for label, wanted in by_label(scene.truth).items():
        best = best_of(scene.found, label)
        hits.append(best is not None and max(box_iou(best.box, item.box) for item in wanted) >= 0.5)
    return hits


def recall_at_50(scenes: Sequence[Scene]) -> dict[str, float] | None:
    """Return the share of samples of which every name is found at an overlap of half or more; None without any."""
    whole = [all(hits) for scene in scenes if (hits := pointed_hits(scene))]
    return {"recall_at_50": float(np.mean(whole))} if whole else None


def matches_at_50(scene: Scene, least: float = 0.3) -> tuple[int, int, int]:
    """Return right, found and true objects of a picture: a found one of the score `least` or more is right where a true
    one of its name, not yet taken, overlaps it by half or more. Ignored ones do not count, nor what is found in them.
    """
    truth = [item for item in scene.truth if not item.ignore]
    areas = [item.box for item in scene.truth if item.ignore]
    wanted, right, found = len(truth), 0, 0
    for item in sorted((one for one in scene.found if one.score >= least), key=lambda one: -one.score):
        match = next(
            (one for one in truth if one.label == item.label and box_iou(one.box, item.box) >= 0.5), None
        )
        if match is not None:
            truth.remove(match)
            right += 1
            found += 1
        elif not any(box_iou(area, item.box) >= 0.5 for area in areas):
            found += 1
    return right, found, wanted


def best_of(found: Sequence[Found], label: str) -> Found | None:
    """Return the most certain object of a name; the first of equals."""
    return max((item for item in found if item.label == label), key=lambda item: item.score, default=None)


def by_label(truth: Sequence[TargetInstance]) -> dict[str, list[TargetInstance]]:
    """Return the objects that are not to be ignored by their labels."""
    result: dict[str, list[TargetInstance]] = {}
    for item in truth:
        if not item.ignore:
            result.setdefault(item.label, []).append(item)
    return result


def code(mask: Rle) -> dict[str, Any]:
    """Return a mask in the form of pycocotools' JSON."""
    return {"size": list(mask.size), "counts": mask.counts}
