"""How masks overlap: single answers, label maps, and panoptic segments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from dataengine.annotation import Rle
from dataengine.geometry import mask_from_rle
from trainer.metrics.objects import Scene, best_of, by_label, code


def mask_iou(found: Rle, wanted: Sequence[Rle]) -> float:
    """Return intersection over union of a mask with the union of others; 0 where all are empty."""
    inter, union = _overlap(found, wanted)
    return inter / union if union else 0.0


def _overlap(found: Rle | None, wanted: Sequence[Rle]) -> tuple[int, int]:
    """Return the pixels of the intersection and of the union of a mask (None: nothing) with the union of others."""
    truth = coco_mask.merge([code(one) for one in wanted])
    if found is None:
        return 0, int(coco_mask.area(truth))
    both = [code(found), truth]
    return int(coco_mask.area(coco_mask.merge(both, intersect=True))), int(
        coco_mask.area(coco_mask.merge(both))
    )


def answer_overlaps(scene: Scene) -> list[tuple[int, int]]:
    """Return the (intersection, union) of the best mask of each name that was asked for with its true ones.

    Names of which some object has no mask are left out.
    """
    overlaps = []
    for label, wanted in by_label(scene.truth).items():
        masks = [item.mask for item in wanted if item.mask is not None]
        if len(masks) == len(wanted):
            best = best_of(scene.found, label)
            overlaps.append(_overlap(None if best is None else best.mask, masks))
    return overlaps


def answer_scores(scenes: Sequence[Scene]) -> dict[str, float] | None:
    """Return how the answers' masks overlap the truth, or None where nothing with masks was asked for.

    `mean_iou` is the mean of all answers' overlaps (gIoU of LISA), `cumulative_iou` all intersections over all unions
    (cIoU of referring segmentation), where large objects count more.
    """
    overlaps = [pair for scene in scenes for pair in answer_overlaps(scene)]
    if not overlaps:
        return None
    total = sum(union for _, union in overlaps)
    return {
        "mean_iou": float(np.mean([inter / union if union else 0.0 for inter, union in overlaps])),
        "cumulative_iou": sum(inter for inter, _ in overlaps) / total if total else 0.0,
    }


@dataclass(frozen=True)
class LabelMap:
    """A picture's classes as one mask a class; a pixel of no class, or of `void`, says nothing."""

    wanted: Mapping[str, Rle]
    found: Mapping[str, Rle]
    void: Rle | None


def semantic_scores(maps: Sequence[LabelMap]) -> dict[str, float] | None:
    """Return mean IoU over the classes of the whole set, and the share of right pixels; None without a labelled one.

    Counted as in ADE20K and Pascal VOC: intersections and unions of a class are summed over all pictures. What is
    found where the truth has no class is not wrong. A class that the truth never shows is left out.
    """
    inter, union, wanted = Counter[str](), Counter[str](), Counter[str]()
    for one in maps:
        labelled = _labelled(one)
        if labelled is None:
            continue
        found = {name: (mask_from_rle(mask) > 0) & labelled for name, mask in one.found.items()}
        truth = {name: (mask_from_rle(mask) > 0) & labelled for name, mask in one.wanted.items()}
        empty = np.zeros_like(labelled)
        for name in {*found, *truth}:
            left, right = found.get(name, empty), truth.get(name, empty)
            inter[name] += int((left & right).sum())
            union[name] += int((left | right).sum())
            wanted[name] += int(right.sum())
    shown = [name for name, count in wanted.items() if count]
    if not shown:
        return None
    return {
        "mean_iou": float(np.mean([inter[name] / union[name] for name in shown])),
        "pixel_accuracy": inter.total() / wanted.total(),
    }


def _labelled(one: LabelMap) -> npt.NDArray[np.bool_] | None:
    """Return the pixels that have a class in the truth; None where it has none."""
    masks = [mask_from_rle(mask) > 0 for mask in one.wanted.values()]
    if not masks:
        return None
    labelled = np.any(masks, axis=0)
    return labelled if one.void is None else labelled & (mask_from_rle(one.void) == 0)


def panoptic_scores(
    scenes: Sequence[Scene], least: float = 0.3, kept: float = 0.5
) -> dict[str, float] | None:
    """Return panoptic quality, segmentation quality and recognition quality (Kirillov et al. 2019), means over classes.

    Found masks become segments that do not overlap: the most certain first, each loses the pixels that are taken, and
    goes where less than the share `kept` is left of it, or where its score is below `least`. None without any object.
    """
    overlaps: dict[str, list[float]] = {}
    false_found, false_lost = Counter[str](), Counter[str]()
    for scene in scenes:
        segments = _segments(scene, least, kept)
        ignored = [
            mask_from_rle(item.mask) > 0 for item in scene.truth if item.ignore and item.mask is not None
        ]
        for label, truth in by_label(scene.truth).items():
            overlaps.setdefault(label, [])
            for item in truth:
                wanted = None if item.mask is None else mask_from_rle(item.mask) > 0
                match = (
                    None
                    if wanted is None
                    else next(
                        (one for one in segments if one[0] == label and _iou(one[1], wanted) > 0.5), None
                    )
                )
                if match is None or wanted is None:
                    false_lost[label] += 1
                    continue
                overlaps[label].append(_iou(match[1], wanted))
                segments = [one for one in segments if one is not match]
        for label, mask in segments:
            if not any((mask & area).sum() > 0.5 * mask.sum() for area in ignored):
                false_found[label] += 1
                overlaps.setdefault(label, [])
    shown = [name for name in overlaps if overlaps[name] or false_lost[name]]
    if not shown:
        return None
    matched = {name: len(overlaps[name]) for name in shown}
    quality = {
        name: matched[name] / (matched[name] + 0.5 * false_found[name] + 0.5 * false_lost[name])
        for name in shown
    }
    overlap = {name: float(np.mean(overlaps[name])) if overlaps[name] else 0.0 for name in shown}
    return {
        "panoptic_quality": float(np.mean([overlap[name] * quality[name] for name in shown])),
        "segmentation_quality": float(np.mean(list(overlap.values()))),
        "recognition_quality": float(np.mean(list(quality.values()))),
    }


def _segments(scene: Scene, least: float, kept: float) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    taken = np.zeros((scene.height, scene.width), dtype=bool)
    segments = []
    for item in sorted((one for one in scene.found if one.score >= least), key=lambda one: -one.score):
        if item.mask is None:
            continue
        whole = mask_from_rle(item.mask) > 0
        free = whole & ~taken
        if free.any() and free.sum() >= kept * whole.sum():
            segments.append((item.label, free))
            taken |= free
    return segments


def _iou(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0
