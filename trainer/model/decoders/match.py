"""One-to-one assignment of predictions to targets (Hungarian matching, DETR).

Shape suffixes: X sets of predictions (decoder layers, encoder), B samples, Q object queries, M groups of a
sample, n targets of the sample with the most, K matched pairs, P points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F

from trainer.batch import ObjectTargets
from trainer.losses import generalized_iou, to_xyxy
from trainer.model.config import MatchCosts, PoseWeights


@dataclass(frozen=True)
class PaddedTargets:
    """The targets of a batch with one row a sample: `row_Bn` are positions among all targets, one sample
    after another.

    Boxes of rows that are not `valid_Bn` are a unit box, so that no cost is undefined.
    """

    labels_Bn: torch.Tensor
    boxes_Bn4: torch.Tensor
    valid_Bn: torch.Tensor
    row_Bn: torch.Tensor


@dataclass(frozen=True)
class Matches:
    """K pairs: prediction (set, sample, query) and target (sample, position among the sample's targets)."""

    set_K: torch.Tensor
    sample_K: torch.Tensor
    query_K: torch.Tensor
    target_K: torch.Tensor


def pad_targets(targets: tuple[ObjectTargets, ...]) -> PaddedTargets:
    """Stack the targets of all samples."""
    counts = [target.labels_n.shape[0] for target in targets]
    device = targets[0].labels_n.device
    most = max(counts)
    labels_Bn = torch.zeros((len(targets), most), dtype=torch.long, device=device)
    boxes_Bn4 = torch.tensor([0.5, 0.5, 1.0, 1.0], device=device).repeat(len(targets), most, 1)
    for b, (target, count) in enumerate(zip(targets, counts, strict=True)):
        labels_Bn[b, :count] = target.labels_n
        boxes_Bn4[b, :count] = target.boxes_n4
    count_B1 = torch.tensor(counts, device=device)[:, None]
    position_1n = torch.arange(most, device=device)[None]
    row_Bn = count_B1.cumsum(0) - count_B1 + position_1n
    return PaddedTargets(labels_Bn, boxes_Bn4, position_1n < count_B1, row_Bn)


@torch.no_grad()
def match(
    logits_XBQM: torch.Tensor,
    boxes_XBQ4: torch.Tensor,
    targets: PaddedTargets,
    costs: MatchCosts | PoseWeights,
    extra_XBQn: torch.Tensor | None = None,
) -> Matches:
    """Assign each target to one query in every set of predictions, at the least total cost.

    The class cost is the focal one: what the query would lose as a positive less what it would lose as a
    negative. `extra_XBQn` is added (costs of masks or of keypoints). Costs that are not finite count as very large.
    """
    num_sets, num_samples, num_queries = boxes_XBQ4.shape[:3]
    most = targets.labels_Bn.shape[1]
    index = targets.labels_Bn[None, :, None].expand(num_sets, -1, num_queries, -1)
    logits_XBQn = logits_XBQM.float().gather(3, index)
    probability = logits_XBQn.sigmoid()
    positive = 0.25 * (1 - probability) ** 2 * F.softplus(-logits_XBQn)
    negative = 0.75 * probability**2 * F.softplus(logits_XBQn)
    cost = costs.cls * (positive - negative)
    boxes_XBQ14, boxes_1B1n4 = boxes_XBQ4.float()[..., None, :], targets.boxes_Bn4[None, :, None]
    cost = cost + costs.l1 * (boxes_XBQ14 - boxes_1B1n4).abs().sum(-1)
    cost = cost - costs.giou * generalized_iou(to_xyxy(boxes_XBQ14), to_xyxy(boxes_1B1n4))
    if extra_XBQn is not None:
        cost = cost + extra_XBQn
    table = cost.nan_to_num(nan=1e8, posinf=1e8, neginf=1e8).cpu().numpy()
    counts = targets.valid_Bn.sum(1).tolist()
    pairs: list[tuple[int, int, int, int]] = []
    if most:
        for x in range(num_sets):
            for b in range(num_samples):
                queries, columns = linear_sum_assignment(table[x, b, :, : counts[b]])
                pairs += [(x, b, int(q), int(c)) for q, c in zip(queries, columns, strict=True)]
    chosen_K4 = torch.tensor(pairs, dtype=torch.long, device=boxes_XBQ4.device).reshape(-1, 4)
    return Matches(*chosen_K4.unbind(1))
