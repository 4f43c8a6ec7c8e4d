"""Teacher-forced predictions: the true answer is given with its routing tokens, next tokens and objects are predicted.

No box, mask, keypoint or picture of a target reaches the decoders that predict: targets are taken out of every batch
first. Only the noise loss of a picture decoder is measured with the wanted picture, as in training.
Shape suffixes as in `trainer.batch`; K predictions, J keypoints.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataengine import tokens
from dataengine.geometry import rle_from_mask
from dataengine.sample import Sample
from trainer.batch import IGNORED, Batch, ObjectTargets
from trainer.collate import collate
from trainer.encode import Encoded
from trainer.measures import measures_of
from trainer.metrics.pictures import picture_scores
from trainer.model.visionllm import VisionLLM
from trainer.predictions import Forced, FoundObject, Segment
from trainer.settings import DETECTION, EDITING, GENERATION, POSE, TEXT

TOP_K, TOP_K_REGIONS, TOP_K_POSES = 100, 300, 20
Place = tuple[int, int]  # an ask, and a routing token's place in its answer
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Part:
    """A sample, or one with a part of its classes, as tensors; `first_ask` is the number of its first round."""

    sample: Sample
    encoded: Encoded
    first_ask: int


@dataclass(frozen=True)
class Seen:
    """What one pass says of a part; a label map is (class of each pixel, how sure that is, where classes stand)."""

    text_loss: float
    exact: bool
    found: tuple[FoundObject, ...] | None = None
    label_map: LabelMap | None = None
    noise_loss: float | None = None
    made: Pixels | None = None


LabelMap = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], tuple[Place, ...]]


def decoding_of(sample: Sample) -> dict[str, dict[str, Any]]:
    """Return the settings with which decoders answer a sample, by family.

    Masks are made where the truth has some; one object is enough where one answer is asked for.
    """
    measures = measures_of(sample.task, "")
    alone = len(sample.routes) == 1 and measures[0] in ("answer_masks", "precision_at_50")
    regions = any(route.kind == "region" for route in sample.routes)
    instances = getattr(sample.targets, "instances", ())
    return {
        DETECTION: {
            "top_k": 1 if alone else TOP_K_REGIONS if regions else TOP_K,
            "with_masks": any(item.mask is not None for item in instances),
            "label_map": measures[0] == "label_maps",
        },
        POSE: {"top_k": TOP_K_POSES},
    }


def places_of(part: Sample, first_ask: int) -> list[Place]:
    """Return where the routing tokens of a sample stand, in their order."""
    places = []
    ask = itertools.count(first_ask)
    for turn in part.conversation:
        if turn.role == "assistant":
            number = next(ask)
            said = [token for token in tokens.placeholders(turn.text) if token in tokens.ROUTING_TOKENS]
            places += [(number, k) for k in range(len(said))]
    return places


def predict_parts(model: VisionLLM, parts: Sequence[Part], pad_id: int) -> list[Seen]:
    """Return what the model makes of some parts of one family and one task, all at once."""
    device = next(model.parameters()).device
    batch = collate([part.encoded for part in parts], pad_id).to(device)
    losses, exact = _text(model, batch)
    seen = [Seen(loss, one) for loss, one in zip(losses, exact, strict=True)]
    if batch.family == TEXT:
        return seen
    if batch.family in (GENERATION, EDITING):
        noise = _noise(model, batch)
        made = model.predict(blind(batch), batch.family)
        return [
            replace(one, noise_loss=noise, made=_pixels(picture))
            for one, picture in zip(seen, made, strict=True)
        ]
    found = model.predict(blind(batch), batch.family, **decoding_of(parts[0].sample).get(batch.family, {}))
    result = []
    for one, part, objects in zip(seen, parts, found, strict=True):
        places = _group_places(part)
        result.append(
            replace(
                one,
                found=found_objects(objects, places, part.encoded.tokens),
                label_map=label_map_of(objects, places),
            )
        )
    return result


def _group_places(part: Part) -> list[Place]:
    """Return where the tokens stand that the decoder reads."""
    places = places_of(part.sample, part.first_ask)
    read = set(part.encoded.tokens)
    return [place for place, route in zip(places, part.sample.routes, strict=True) if route.token in read]


def blind(batch: Batch) -> Batch:
    """Return the batch without any target: what is left is what a user would give, and the answer's text."""
    nothing = ObjectTargets(
        labels_n=torch.zeros(0, dtype=torch.int64),
        boxes_n4=torch.zeros((0, 4)),
        masks_nHW=torch.zeros((0, 1, 1), dtype=torch.uint8),
        has_mask_n=torch.zeros(0, dtype=torch.bool),
        ignore_m4=torch.zeros((0, 4)),
    )
    pictures = batch.pictures
    if pictures is not None:
        pictures = replace(pictures, wanted_B3SS=None, captions=("",) * len(pictures.captions))
    return replace(batch, targets=tuple(nothing for _ in batch.targets), pictures=pictures)


@torch.no_grad()
def _text(model: VisionLLM, batch: Batch) -> tuple[list[float], list[bool]]:
    """Return each sample's mean text loss, and whether every labelled token of it is the likeliest one."""
    with _outputs_of(model.language.head) as outputs:
        output = model(replace(batch, family=TEXT))
    next_BL = batch.labels_BL[:, 1:]
    scored_BL = next_BL != IGNORED
    # The head scores the labelled positions alone, row by row.
    wrong_BL = torch.zeros_like(scored_BL)
    wrong_BL[scored_BL] = outputs[0].argmax(-1) != next_BL[scored_BL]
    return output.text_loss_B.tolist(), (~wrong_BL.any(1)).tolist()


@contextmanager
def _outputs_of(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collect what a module returns while the block runs."""
    outputs: list[torch.Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


@torch.no_grad()
def _noise(model: VisionLLM, batch: Batch) -> float:
    """Return the mean noise loss of a batch, whose chance comes from its samples' ids."""
    return float(model(batch).losses[f"{batch.family}/noise"])


def _pixels(picture_3SS: torch.Tensor) -> Pixels:
    return picture_3SS.permute(1, 2, 0).cpu().numpy()


def wanted_pixels(encoded: Encoded) -> Pixels | None:
    """Return the picture that a sample wants, uint8 [S, S, 3], as its decoder would make it; None without one."""
    picture = encoded.picture
    if picture is None or picture.wanted_B3SS is None:
        return None
    return _pixels(((picture.wanted_B3SS[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))


def found_objects(
    found: Any, places: Sequence[Place], group_tokens: Sequence[str]
) -> tuple[FoundObject, ...] | None:
    """Return a decoder's objects, which count its groups; `places` and `group_tokens` are those of the groups.

    None where the decoder finds none: one of another kind.
    """
    return tuple(_objects(found, places, group_tokens)) if hasattr(found, "boxes_K4") else None


def _objects(found: Any, places: Sequence[Place], group_tokens: Sequence[str]) -> Iterator[FoundObject]:
    points_KJ3 = getattr(found, "keypoints_KJ3", None)
    if points_KJ3 is not None:
        by_token = list(zip(places, group_tokens, strict=True))
        keypoints = [place for place, token in by_token if token == tokens.POSE]
        places = [place for place, token in by_token if token != tokens.POSE]
    masks_KHW = getattr(found, "masks_KHW", None)
    masks = None if masks_KHW is None else masks_KHW.cpu().numpy().astype(np.uint8)
    rows = zip(found.labels_K.tolist(), found.boxes_K4.tolist(), found.scores_K.tolist(), strict=True)
    for k, (label, box, score) in enumerate(rows):
        points = None
        if points_KJ3 is not None:
            points = tuple(
                (place[1], x, y) for place, (x, y, _) in zip(keypoints, points_KJ3[k].tolist(), strict=True)
            )
        yield FoundObject(
            ask=places[label][0],
            token=places[label][1],
            box=tuple(box),
            score=score,
            mask=None if masks is None else rle_from_mask(masks[k]),
            points=points,
        )


def label_map_of(found: Any, places: Sequence[Place]) -> LabelMap | None:
    """Return the label map of a decoder's result, where it made one."""
    classes_HW = getattr(found, "classes_HW", None)
    if classes_HW is None:
        return None
    return classes_HW.cpu().numpy(), found.class_scores_HW.float().cpu().numpy(), tuple(places)


def merged_objects(parts: Sequence[tuple[FoundObject, ...]], top_k: int) -> tuple[FoundObject, ...]:
    """Return the `top_k` best objects of all parts of a class list, as if it had been asked for at once."""
    if len(parts) == 1:
        return parts[0]
    return tuple(sorted(itertools.chain(*parts), key=lambda one: -one.score)[:top_k])


def merged_maps(maps: Sequence[LabelMap]) -> tuple[Segment, ...]:
    """Return the segments of a label map whose classes were asked for in parts: the surest part's class at a pixel."""
    if not maps:
        return ()
    best = np.stack([scores for _, scores, _ in maps]).argmax(0)
    segments = []
    for number, (classes, _, places) in enumerate(maps):
        for label in np.unique(classes[best == number]).tolist():
            mask = (classes == label) & (best == number)
            ask, token = places[label]
            segments.append(Segment(ask=ask, token=token, mask=rle_from_mask(mask.astype(np.uint8))))
    return tuple(segments)


def joined(seen: Sequence[Seen], parts: Sequence[Part]) -> Forced:
    """Return what was seen of a sample's parts as one prediction."""
    found = [one.found for one in seen if one.found is not None]
    wanted = wanted_pixels(parts[0].encoded)
    made = seen[0].made
    return Forced(
        text_loss=float(np.mean([one.text_loss for one in seen])),
        exact=all(one.exact for one in seen),
        found=merged_objects(found, top_k_of(parts[0].sample)) if found else None,
        segments=merged_maps([one.label_map for one in seen if one.label_map is not None]),
        noise_loss=seen[0].noise_loss,
        picture=None if made is None or wanted is None else picture_scores(made, wanted),
    )


def top_k_of(sample: Sample) -> int:
    """Return how many objects a sample is answered with."""
    family = POSE if any(route.token == tokens.POSE for route in sample.routes) else DETECTION
    return int(decoding_of(sample)[family]["top_k"])
