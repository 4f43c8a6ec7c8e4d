"""How good predicted objects are: COCO's average precision by pycocotools, and the overlap of single answers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dataengine.annotation import Box, Rle
from dataengine.geometry import box_iou, mask_from_rle, to_xywh
from dataengine.sample import TargetInstance


@dataclass(frozen=True)
class Found:
    """A predicted object: what it is called, where it is (xyxy pixels of the original picture), how sure that is."""

    label: str
    box: Box
    score: float
    mask: Rle | None


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
    names = sorted({item.label for scene in scenes for item in (*scene.truth, *scene.found)})
    ids = {name: number for number, name in enumerate(names, start=1)}
    truth = [
        {
            "image_id": number,
            "category_id": ids[item.label],
            "bbox": list(to_xywh(item.box)),
            "area": item.area,
            "iscrowd": int(item.ignore),
            **({"segmentation": _code(item.mask)} if kind == "segm" and item.mask else {}),
        }
        for number, scene in enumerate(scenes, start=1)
        for item in scene.truth
    ]
    found = [
        {
            "image_id": number,
            "category_id": ids[item.label],
            "bbox": list(to_xywh(item.box)),
            "score": item.score,
            **({"segmentation": _code(item.mask)} if kind == "segm" and item.mask else {}),
        }
        for number, scene in enumerate(scenes, start=1)
        for item in scene.found
    ]
    if all(item["iscrowd"] for item in truth):
        return None
    if not found:
        return {"ap": 0.0, "ap50": 0.0, "ap75": 0.0}
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [
            {"id": number, "width": scene.width, "height": scene.height}
            for number, scene in enumerate(scenes, start=1)
        ],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
        # COCOeval takes id 0 for "no match".
        "annotations": [{"id": number, **item} for number, item in enumerate(truth, start=1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it works
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(("ap", "ap50", "ap75"), evaluation.stats, strict=False)}


def pointed_precision(scenes: Sequence[Scene]) -> dict[str, float] | None:
    """Return how well the best object of each name that was asked for fits, or None where nothing was.

    `precision_at_50` is the share of names whose best-scored box overlaps one of their true boxes by half or more;
    `mean_mask_iou` the mean overlap of its mask with the union of their true masks, where all of them have one.
    """
    hits: list[bool] = []
    overlaps: list[float] = []
    for scene in scenes:
        for label, wanted in _by_label(scene.truth).items():
            best = next((item for item in scene.found if item.label == label), None)
            hits.append(best is not None and max(box_iou(best.box, item.box) for item in wanted) >= 0.5)
            masks = [item.mask for item in wanted if item.mask is not None]
            if len(masks) == len(wanted):
                seen = best.mask if best is not None else None
                overlaps.append(mask_iou(seen, masks) if seen is not None else 0.0)
    if not hits:
        return None
    result = {"precision_at_50": float(np.mean(hits))}
    return result | ({"mean_mask_iou": float(np.mean(overlaps))} if overlaps else {})


def mask_iou(found: Rle, wanted: Sequence[Rle]) -> float:
    """Return intersection over union of a mask with the union of others; 0 where all are empty."""
    one: npt.NDArray[np.bool_] = mask_from_rle(found) > 0
    other = np.any([mask_from_rle(mask) > 0 for mask in wanted], axis=0)
    union = int((one | other).sum())
    return float((one & other).sum()) / union if union else 0.0


def _by_label(truth: Sequence[TargetInstance]) -> Mapping[str, list[TargetInstance]]:
    result: dict[str, list[TargetInstance]] = {}
    for item in truth:
        if not item.ignore:
            result.setdefault(item.label, []).append(item)
    return result


def _code(mask: Rle) -> dict[str, Any]:
    return {"size": list(mask.size), "counts": mask.counts}
