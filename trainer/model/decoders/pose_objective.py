"""The losses of the pose decoder, over all its sets of predictions at once.

Shape suffixes: X sets of predictions (decoder layers, encoder's proposals), L decoder layers, B samples, Q queries, I
instances, M groups of the sample with the most, n objects of the sample with the most, K keypoints of the sample that
asks for the most, P matched pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trainer import losses
from trainer.batch import Batch
from trainer.model.config import PoseConfig, PoseWeights
from trainer.model.decoders import DecoderLosses
from trainer.model.decoders.denoise import Denoising
from trainer.model.decoders.inputs import inside
from trainer.model.decoders.match import Matches, PaddedTargets, match
from trainer.model.decoders.objective import (
    PredictionSets,
    box_objective,
    denoising_sets,
    ignored,
    summarise,
)
from trainer.model.decoders.pose_transformer import Found, PoseOutput


@dataclass(frozen=True)
class PoseTargets:
    """The keypoints of a batch with one row a sample.

    Points that are not `visible_BnK` count nowhere: those that are unknown, off the picture, of a slot that the sample
    does not ask for, or of an object that is not there. Points are fractions of the picture's sides; `stretch_B2` makes
    them lengths whose unit is the root of the picture's area, as that of `areas_Bn` is.
    """

    points_BnK2: torch.Tensor
    visible_BnK: torch.Tensor
    areas_Bn: torch.Tensor
    sigmas_BK: torch.Tensor
    stretch_B2: torch.Tensor

    @property
    def known_Bn(self) -> torch.Tensor:
        """Say of which objects at least one keypoint counts."""
        return self.visible_BnK.any(-1)


def pad_poses(batch: Batch, keypoint_mask_BK: torch.Tensor) -> PoseTargets:
    """Stack the keypoints of all samples; each has as many slots as the sample that asks for the most."""
    most = max(len(target.labels_n) for target in batch.targets)
    num_samples, num_keypoints = keypoint_mask_BK.shape
    zeros = torch.zeros((), device=keypoint_mask_BK.device)
    points_BnK3 = zeros.repeat(num_samples, most, num_keypoints, 3)
    areas_Bn = zeros.repeat(num_samples, most)
    sigmas_BK = torch.ones_like(keypoint_mask_BK, dtype=torch.float32)
    for b, target in enumerate(batch.targets):
        if target.keypoints is not None:
            count, asked = target.keypoints.points_nK3.shape[:2]
            points_BnK3[b, :count, :asked] = target.keypoints.points_nK3
            areas_Bn[b, :count] = target.keypoints.areas_n
            sigmas_BK[b, :asked] = target.keypoints.sigmas_K
    assert batch.pixel_mask_BHW is not None
    height_B, width_B = inside(batch.pixel_mask_BHW).float().unbind(1)
    return PoseTargets(
        points_BnK2=points_BnK3[..., :2],
        visible_BnK=points_BnK3[..., 2] > 0,
        areas_Bn=areas_Bn,
        sigmas_BK=sigmas_BK,
        stretch_B2=torch.stack([width_B / height_B, height_B / width_B], 1).sqrt(),
    )


def pose_objective(
    output: PoseOutput,
    denoising: Denoising | None,
    padded: PaddedTargets,
    poses: PoseTargets,
    batch: Batch,
    group_mask_BM: torch.Tensor,
    config: PoseConfig,
) -> DecoderLosses:
    """Return classification, L1, GIoU, and of later layers L1 and OKS of keypoints, weighted.

    The first three are divided by the number of boxes, those of keypoints by the number of objects of which a keypoint
    is known: those of the whole step where the batch is a part of one, else its own (see `losses.mean_count`).
    """
    points_XBIK2 = torch.stack([found.points_BIK2 for found in output.instances])
    instances = _instance_sets(output, points_XBIK2, padded, poses, batch, config)
    sets = [_object_sets(output, padded, batch, config), instances]
    if denoising is not None:
        layers, end = [*output.objects, *output.instances], output.num_denoising
        sets.append(
            denoising_sets(
                denoising,
                torch.stack([found.logits_BXM[:, :end] for found in layers]),
                torch.stack([found.boxes_BX4[:, :end] for found in layers]),
            )
        )
    if batch.whole is None:
        counts_2 = losses.mean_count(torch.stack([padded.valid_Bn.sum(), poses.known_Bn.sum()]))
    else:
        counts_2 = batch.whole.counts_5[[1, 4]]
    num_boxes, num_poses = counts_2.unbind(0)
    values: dict[str, dict[str, torch.Tensor]] = {}
    for some in sets:
        for term, by_set in box_objective(some, padded, group_mask_BM, config.weights, num_boxes).items():
            values.setdefault(term, {}).update(by_set)
    l1_X, oks_X = keypoint_losses(points_XBIK2, instances.matches, poses)
    for term, factor, sum_X in (
        ("keypoints", config.weights.keypoints, l1_X),
        ("oks", config.weights.oks, oks_X),
    ):
        values[term] = dict(zip(instances.names, factor / num_poses * sum_X, strict=True))
    return summarise(values)


def keypoint_losses(
    points_XBIK2: torch.Tensor, matches: Matches, poses: PoseTargets
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sums over the pairs of each set of the L1 of visible keypoints, and of 1 - OKS, [X] each.

    An object without a visible keypoint adds nothing to either.
    """
    sample_P, target_P = matches.sample_K, matches.target_K
    points_PK2 = points_XBIK2[matches.set_K, sample_P, matches.query_K].float()
    l1_P, miss_P = _distances(
        points_PK2,
        poses.points_BnK2[sample_P, target_P],
        poses.visible_BnK[sample_P, target_P],
        poses.areas_Bn[sample_P, target_P],
        poses.sigmas_BK[sample_P],
        poses.stretch_B2[sample_P],
    )
    zeros_X = l1_P.new_zeros(len(points_XBIK2))
    return zeros_X.index_add(0, matches.set_K, l1_P), zeros_X.index_add(0, matches.set_K, miss_P)


@torch.no_grad()
def keypoint_costs(points_XBIK2: torch.Tensor, poses: PoseTargets, costs: PoseWeights) -> torch.Tensor:
    """Return what each instance's keypoints would lose for each object, weighted, [X, B, I, n]."""
    l1_XBIn, miss_XBIn = _distances(
        points_XBIK2.float()[:, :, :, None],
        poses.points_BnK2[:, None],
        poses.visible_BnK[:, None],
        poses.areas_Bn[:, None],
        poses.sigmas_BK[:, None, None],
        poses.stretch_B2[:, None, None],
    )
    return costs.keypoints * l1_XBIn + costs.oks * miss_XBIn


def _distances(
    points_K2: torch.Tensor,
    wanted_K2: torch.Tensor,
    visible_K: torch.Tensor,
    area: torch.Tensor,
    sigmas_K: torch.Tensor,
    stretch_2: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the L1 over visible keypoints and 1 - OKS; further dimensions before those of the names broadcast."""
    l1_K = (points_K2 - wanted_K2).abs().sum(-1) * visible_K
    stretch_12 = stretch_2[..., None, :]
    similarity = losses.object_keypoint_similarity(
        points_K2 * stretch_12, wanted_K2 * stretch_12, visible_K, area, sigmas_K
    )
    return l1_K.sum(-1), (1 - similarity) * visible_K.any(-1)


def _object_sets(
    output: PoseOutput, padded: PaddedTargets, batch: Batch, config: PoseConfig
) -> PredictionSets:
    """Match the queries of the layers that see boxes alone, and the encoder's proposals, to the targets."""
    names = [*map(str, range(len(output.objects))), "enc"]
    logits_LBQM, boxes_LBQ4 = _stack(output.objects, output.num_denoising)
    logits_XBQM = torch.cat([logits_LBQM, output.proposal_logits_BQM[None]])
    boxes_XBQ4 = torch.cat([boxes_LBQ4, output.proposal_boxes_BQ4[None]])
    matches = match(logits_XBQM, boxes_XBQ4, padded, config.costs)
    return _sets(names, logits_XBQM, boxes_XBQ4, matches, batch)


def _instance_sets(
    output: PoseOutput,
    points_XBIK2: torch.Tensor,
    padded: PaddedTargets,
    poses: PoseTargets,
    batch: Batch,
    config: PoseConfig,
) -> PredictionSets:
    """Match the instances of the later layers to the targets, by their keypoints as well."""
    first = len(output.objects)
    names = [str(first + layer) for layer in range(len(output.instances))]
    logits_XBIM, boxes_XBI4 = _stack(output.instances, output.num_denoising)
    costs_XBIn = keypoint_costs(points_XBIK2, poses, config.costs)
    matches = match(logits_XBIM, boxes_XBI4, padded, config.costs, costs_XBIn)
    return _sets(names, logits_XBIM, boxes_XBI4, matches, batch)


def _stack(layers: list[Found], end: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits and boxes of some layers, denoising queries left out."""
    logits_LBQM = torch.stack([found.logits_BXM[:, end:] for found in layers])
    return logits_LBQM, torch.stack([found.boxes_BX4[:, end:] for found in layers])


def _sets(
    names: list[str], logits_XBQM: torch.Tensor, boxes_XBQ4: torch.Tensor, matches: Matches, batch: Batch
) -> PredictionSets:
    return PredictionSets(
        names=names,
        logits_XBQM=logits_XBQM,
        boxes_XBQ4=boxes_XBQ4,
        counted_XBQ=~ignored(boxes_XBQ4.detach(), batch.targets),
        matches=matches,
        share=1.0,
    )
