"""The losses of boxes and masks, over all sets of predictions at once.

Shape suffixes: X sets of predictions (decoder layers, encoder's proposals), L decoder layers, B samples, Q
queries, M groups of the sample with the most, n m objects of a sample, K matched pairs, D width, h w stride-4
map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trainer import losses
from trainer.batch import ObjectTargets
from trainer.model.config import DetectionConfig, LossWeights, PoseWeights
from trainer.model.decoders import DecoderLosses
from trainer.model.decoders.denoise import Denoising
from trainer.model.decoders.grounding import GroundingOutput
from trainer.model.decoders.masks import MaskHead, TargetMasks, mask_costs, mask_losses, stack_masks
from trainer.model.decoders.match import Matches, PaddedTargets, match


@dataclass(frozen=True)
class PredictionSets:
    """Sets of predictions that are judged alike: the object queries' or the denoising queries'.

    Queries that are not `counted_XBQ` add nothing to classification unless they are matched. `share` is the weight of
    a pair: one over how often each target is repeated. `queries_LBQD` are the states of the decoder layers, which are
    the first of the sets: masks come from them (None: there are no masks).
    """

    names: list[str]
    logits_XBQM: torch.Tensor
    boxes_XBQ4: torch.Tensor
    counted_XBQ: torch.Tensor
    matches: Matches
    share: float
    queries_LBQD: torch.Tensor | None = None


def objective(
    output: GroundingOutput,
    denoising: Denoising | None,
    padded: PaddedTargets,
    targets: tuple[ObjectTargets, ...],
    group_mask_BM: torch.Tensor,
    mask_head: MaskHead,
    config: DetectionConfig,
    generator: torch.Generator,
    counts_2: torch.Tensor | None = None,
) -> DecoderLosses:
    """Return classification, L1, GIoU, mask cross entropy and dice, weighted.

    They are divided by the number of boxes, those of masks by the number of masks: `counts_2`, or without it those of
    the batch (see `losses.mean_count`).
    """
    weights = config.weights
    feature_BDhw = mask_head.features(output)
    masks = stack_masks(targets, padded)
    sets = [_object_sets(output, padded, targets, mask_head, feature_BDhw, masks, config, generator)]
    if denoising is not None:
        end = output.num_denoising
        sets.append(
            denoising_sets(
                denoising,
                torch.stack([logits[:, :end] for logits in output.logits]),
                torch.stack([boxes[:, :end] for boxes in output.boxes]),
                torch.stack([queries[:, :end] for queries in output.queries]),
            )
        )
    if counts_2 is None:
        counts_2 = losses.mean_count(torch.stack([padded.valid_Bn.sum(), masks.has_mask_Bn.sum()]))
    num_boxes, num_masks = counts_2.unbind(0)
    values: dict[str, dict[str, torch.Tensor]] = {}
    for some in sets:
        for term, by_set in box_objective(some, padded, group_mask_BM, weights, num_boxes).items():
            values.setdefault(term, {}).update(by_set)
    names, bce_X, dice_X = _mask_sums(
        sets, padded, masks, mask_head, feature_BDhw, config.mask_points, generator
    )
    for term, factor, sum_X in (("mask", weights.mask, bce_X), ("dice", weights.dice, dice_X)):
        values[term] = dict(zip(names, factor / num_masks * sum_X, strict=True))
    return summarise(values)


def box_objective(
    some: PredictionSets,
    padded: PaddedTargets,
    group_mask_BM: torch.Tensor,
    weights: LossWeights | PoseWeights,
    num_boxes: torch.Tensor,
) -> dict[str, dict[str, torch.Tensor]]:
    """Return classification, L1 and GIoU of each set, weighted and divided by the number of boxes, by term and set."""
    cls_X = class_losses(some.logits_XBQM, some.counted_XBQ, some.matches, padded.labels_Bn, group_mask_BM)
    l1_X, giou_X = _box_losses(some, padded)
    values = {}
    for term, factor, sum_X in (
        ("cls", weights.cls, cls_X),
        ("l1", weights.l1, l1_X),
        ("giou", weights.giou, giou_X),
    ):
        mean_X = factor * some.share / num_boxes * sum_X
        values[term] = dict(zip(some.names, mean_X, strict=True))
    return values


def class_losses(
    logits_XBQM: torch.Tensor,
    counted_XBQ: torch.Tensor,
    matches: Matches,
    labels_Bn: torch.Tensor,
    group_mask_BM: torch.Tensor,
) -> torch.Tensor:
    """Return the focal loss summed over samples, queries and existing groups, [X]."""
    where = (matches.set_K, matches.sample_K, matches.query_K)
    wanted_XBQM = torch.zeros_like(logits_XBQM, dtype=torch.float32)
    wanted_XBQM[(*where, labels_Bn[matches.sample_K, matches.target_K])] = 1.0
    counted_XBQ = counted_XBQ.clone()
    counted_XBQ[where] = True
    # Groups that do not exist have logits of -inf; they are replaced first, since inf * 0 is not 0.
    logits_XBQM = logits_XBQM.float().masked_fill(~group_mask_BM[:, None], 0.0)
    focal_XBQM = losses.sigmoid_focal(logits_XBQM, wanted_XBQM)
    return (focal_XBQM * (counted_XBQ[..., None] & group_mask_BM[:, None])).sum((1, 2, 3))


def ignored(boxes_XBQ4: torch.Tensor, targets: tuple[ObjectTargets, ...]) -> torch.Tensor:
    """Return which predicted boxes lie by more than half of their area in one ignored area, [X, B, Q]."""
    result = torch.zeros(boxes_XBQ4.shape[:3], dtype=torch.bool, device=boxes_XBQ4.device)
    for b, target in enumerate(targets):
        if len(target.ignore_m4):
            boxes_XQ14 = losses.to_xyxy(boxes_XBQ4[:, b, :, None])
            overlap_XQm = losses.intersections(boxes_XQ14, losses.to_xyxy(target.ignore_m4))
            result[:, b] = (overlap_XQm > 0.5 * losses.box_areas(boxes_XQ14)).any(-1)
    return result


def _object_sets(
    output: GroundingOutput,
    padded: PaddedTargets,
    targets: tuple[ObjectTargets, ...],
    mask_head: MaskHead,
    feature_BDhw: torch.Tensor,
    masks: TargetMasks,
    config: DetectionConfig,
    generator: torch.Generator,
) -> PredictionSets:
    """Match the object queries of every decoder layer, and the encoder's proposals, to the targets."""
    start = output.num_denoising
    logits_XBQM = torch.stack([*(logits[:, start:] for logits in output.logits), output.proposal_logits_BQM])
    boxes_XBQ4 = torch.stack([*(boxes[:, start:] for boxes in output.boxes), output.proposal_boxes_BQ4])
    queries_LBQD = torch.stack([queries[:, start:] for queries in output.queries])
    costs = None
    if config.costs.mask or config.costs.dice:
        embedding_LBQD = mask_head.embed(queries_LBQD)
        costs = mask_costs(
            embedding_LBQD, feature_BDhw, masks, padded, config.costs, config.mask_points, generator
        )
    return PredictionSets(
        names=[*map(str, range(len(output.logits))), "enc"],
        logits_XBQM=logits_XBQM,
        boxes_XBQ4=boxes_XBQ4,
        counted_XBQ=~ignored(boxes_XBQ4.detach(), targets),
        matches=match(logits_XBQM, boxes_XBQ4, padded, config.costs, costs),
        share=1.0,
        queries_LBQD=queries_LBQD,
    )


def denoising_sets(
    denoising: Denoising,
    logits_LBJM: torch.Tensor,
    boxes_LBJ4: torch.Tensor,
    queries_LBJD: torch.Tensor | None = None,
) -> PredictionSets:
    """Pair the positive denoising queries with the targets they came from: nothing has to be matched."""
    num_layers = boxes_LBJ4.shape[0]
    sample_k, query_k = denoising.positive_BJ.nonzero(as_tuple=True)
    target_k = denoising.target_BJ[sample_k, query_k]
    layer_K = torch.arange(num_layers, device=sample_k.device).repeat_interleave(sample_k.shape[0])
    return PredictionSets(
        names=[f"dn_{layer}" for layer in range(num_layers)],
        logits_XBQM=logits_LBJM,
        boxes_XBQ4=boxes_LBJ4,
        counted_XBQ=denoising.valid_BJ.expand(num_layers, -1, -1),
        matches=Matches(layer_K, *(values.repeat(num_layers) for values in (sample_k, query_k, target_k))),
        share=1 / denoising.num_repeats,
        queries_LBQD=queries_LBJD,
    )


def _box_losses(some: PredictionSets, padded: PaddedTargets) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sums of L1 and of 1 - GIoU over the pairs of each set, [X] each."""
    matches = some.matches
    boxes_K4 = some.boxes_XBQ4[matches.set_K, matches.sample_K, matches.query_K].float()
    wanted_K4 = padded.boxes_Bn4[matches.sample_K, matches.target_K]
    l1_K = (boxes_K4 - wanted_K4).abs().sum(-1)
    giou_K = 1 - losses.generalized_iou(losses.to_xyxy(boxes_K4), losses.to_xyxy(wanted_K4))
    zeros_X = l1_K.new_zeros(len(some.names))
    return zeros_X.index_add(0, matches.set_K, l1_K), zeros_X.index_add(0, matches.set_K, giou_K)


def _mask_sums(
    sets: list[PredictionSets],
    padded: PaddedTargets,
    masks: TargetMasks,
    mask_head: MaskHead,
    feature_BDhw: torch.Tensor,
    num_points: int,
    generator: torch.Generator,
) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Return the names of the sets that have masks (all but the proposals), and each one's sums of cross
    entropy and dice.

    All pairs are judged together, since one large step is faster than one a layer.
    """
    names: list[str] = []
    states, samples, rows, places, shares = [], [], [], [], []
    for some in sets:
        assert some.queries_LBQD is not None
        matches, num_layers = some.matches, some.queries_LBQD.shape[0]
        keep_K = (matches.set_K < num_layers) & masks.has_mask_Bn[matches.sample_K, matches.target_K]
        layer_K, sample_K, query_K, target_K = (
            values[keep_K] for values in (matches.set_K, matches.sample_K, matches.query_K, matches.target_K)
        )
        states.append(some.queries_LBQD[layer_K, sample_K, query_K])
        samples.append(sample_K)
        rows.append(padded.row_Bn[sample_K, target_K])
        places.append(layer_K + len(names))
        shares.append(torch.full(sample_K.shape, some.share, device=sample_K.device))
        names += some.names[:num_layers]
    each_K = mask_losses(
        mask_head.embed(torch.cat(states)),
        feature_BDhw,
        torch.cat(samples),
        masks,
        torch.cat(rows),
        num_points,
        generator,
    )
    share_K, place_K = torch.cat(shares), torch.cat(places)
    bce_X, dice_X = (
        loss_K.new_zeros(len(names)).index_add(0, place_K, loss_K * share_K) for loss_K in each_K
    )
    return names, bce_X, dice_X


def summarise(values: dict[str, dict[str, torch.Tensor]]) -> DecoderLosses:
    """Sum each term over the decoder's layers, "term", and over denoising, "term_dn"; "term_enc" is alone.

    The detail lists every single value as `term_set`.
    """
    terms: dict[str, torch.Tensor] = {}
    detail: dict[str, torch.Tensor] = {}
    for term, by_set in values.items():
        for name, value in by_set.items():
            total = term if name.isdigit() else f"{term}_{name.partition('_')[0]}"
            terms[total] = terms[total] + value if total in terms else value
            detail[f"{term}_{name}"] = value.detach()
    return DecoderLosses(terms, detail)
