"""The mask head of the object decoder, and what masks cost in matching and in the loss.

Shape suffixes: B samples, L decoder layers, X sets of predictions, Q object queries, D width, K matched
pairs, P points, H W decoder image, h w its stride-4 map, n objects (of the batch, or of the sample with the
most where B stands before it).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoMLPPredictionHead

from trainer import losses
from trainer.batch import ObjectTargets
from trainer.model.config import MatchCosts
from trainer.model.decoders.grounding import GroundingOutput
from trainer.model.decoders.match import PaddedTargets


@dataclass(frozen=True)
class TargetMasks:
    """All masks of a batch, one sample after another, and which targets have one.

    `void_BHW` are the pixels of each sample where no mask is right or wrong; None where no sample has any.
    """

    masks_nHW: torch.Tensor
    has_mask_Bn: torch.Tensor
    void_BHW: torch.Tensor | None = None

    def known(self, sample_K: torch.Tensor, points_KP2: torch.Tensor) -> torch.Tensor | None:
        """Return how far each point of a sample lies outside the void, in [0, 1], [K, P]; None without any."""
        if self.void_BHW is None:
            return None
        height, width = self.void_BHW.shape[1:]
        half = 0.5 / torch.tensor([width, height], device=points_KP2.device)
        # Sampling fades to 0 beyond the outermost pixels' centres, which would make the void's edge known.
        inside_KP2 = torch.minimum(torch.maximum(points_KP2, half), 1 - half)
        return 1 - losses.sample_masks(self.void_BHW, sample_K, inside_KP2)


def stack_masks(targets: tuple[ObjectTargets, ...], padded: PaddedTargets) -> TargetMasks:
    """Collect the masks of all samples."""
    has_mask_Bn = torch.zeros_like(padded.valid_Bn)
    has_mask_Bn[padded.valid_Bn] = torch.cat([target.has_mask_n.bool() for target in targets])
    masks_nHW = torch.cat([target.masks_nHW for target in targets])
    void_BHW = None
    if any(target.void_HW is not None for target in targets):
        void_BHW = masks_nHW.new_zeros((len(targets), *masks_nHW.shape[1:]))
        for b, target in enumerate(targets):
            if target.void_HW is not None:
                void_BHW[b] = target.void_HW
    return TargetMasks(masks_nHW, has_mask_Bn, void_BHW)


class MaskHead(nn.Module):
    """Mask features at stride 4, from the encoder's stride-8 map and the backbone's stride-4 map, and query
    embeddings.

    A mask is the dot product of a query's embedding with the features.
    """

    def __init__(self, fine_width: int, coarse_width: int, mask_width: int) -> None:
        super().__init__()
        self.lateral = nn.Sequential(
            nn.Conv2d(fine_width, mask_width, kernel_size=1, bias=False), nn.GroupNorm(8, mask_width)
        )
        self.reduce = (
            nn.Identity()
            if coarse_width == mask_width
            else nn.Conv2d(coarse_width, mask_width, kernel_size=1)
        )
        self.merge = nn.Sequential(
            nn.Conv2d(mask_width, mask_width, kernel_size=3, padding=1, bias=False),
            nn.GroupNorm(8, mask_width),
            nn.ReLU(),
        )
        self.out = nn.Conv2d(mask_width, mask_width, kernel_size=1)
        self.embed = GroundingDinoMLPPredictionHead(coarse_width, coarse_width, mask_width, 3)

    def features(self, output: GroundingOutput) -> torch.Tensor:
        """Return [B, D, h, w]."""
        fine_BDhw = self.lateral(output.fine_BDhw)
        coarse_BDhw = F.interpolate(
            self.reduce(output.coarse_BDhw), size=fine_BDhw.shape[-2:], mode="bilinear", align_corners=False
        )
        return self.out(self.merge(fine_BDhw + coarse_BDhw))


def mask_losses(
    embedding_KD: torch.Tensor,
    feature_BDhw: torch.Tensor,
    sample_K: torch.Tensor,
    masks: TargetMasks,
    row_K: torch.Tensor,
    num_points: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cross entropy and dice of each pair, [K] each, on points where its predicted mask is uncertain.

    Pair k is the embedding k on the features of sample `sample_K[k]`, to be like the mask `row_K[k]`; points in
    the sample's void do not count.
    """
    if sample_K.shape[0] == 0:
        # Keep the head in the graph: a rank without masks must still give its parameters a gradient.
        nothing = embedding_KD.sum(1) + feature_BDhw.sum() * embedding_KD.new_zeros(0)
        return nothing.float(), nothing.float()
    order = sample_K.argsort(stable=True)
    counts = torch.bincount(sample_K, minlength=feature_BDhw.shape[0]).tolist()
    by_sample = [
        embedding_kD @ feature_Dhw.flatten(1)
        for embedding_kD, feature_Dhw in zip(embedding_KD[order].split(counts), feature_BDhw, strict=True)
    ]
    logits_Khw = torch.cat(by_sample)[order.argsort()].unflatten(1, feature_BDhw.shape[-2:])
    points_KP2 = losses.uncertain_points(logits_Khw, num_points, generator)
    sampled_KP = losses.sample_logits(logits_Khw, points_KP2).float()
    wanted_KP = losses.sample_masks(masks.masks_nHW, row_K, points_KP2)
    known_KP = masks.known(sample_K, points_KP2)
    return losses.mask_bce(sampled_KP, wanted_KP, known_KP), losses.dice(sampled_KP, wanted_KP, known_KP)


@torch.no_grad()
def mask_costs(
    embedding_LBQD: torch.Tensor,
    feature_BDhw: torch.Tensor,
    masks: TargetMasks,
    targets: PaddedTargets,
    costs: MatchCosts,
    num_points: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the weighted costs of each query for each target [X, B, Q, n], at random points that all of them
    share.

    The last set, the encoder's proposals, has no masks and costs nothing; nor do targets without a mask. Points in
    the sample's void do not count.
    """
    num_layers, num_samples, num_objects = embedding_LBQD.shape[:3]
    has_mask_Bn = masks.has_mask_Bn
    points_1P2 = torch.rand((1, num_points, 2), generator=generator, device=generator.device).to(
        feature_BDhw.device
    )
    grid_BP12 = points_1P2.expand(num_samples, -1, -1)[:, :, None] * 2 - 1
    sampled_BDP = F.grid_sample(feature_BDhw, grid_BP12, align_corners=False)[..., 0]
    logits_LBQP = torch.einsum("lbqd,bdp->lbqp", embedding_LBQD, sampled_BDP).float()
    cost_XBQn = logits_LBQP.new_zeros((num_layers + 1, num_samples, num_objects, has_mask_Bn.shape[1]))
    if not has_mask_Bn.any():
        return cost_XBQn
    row_n = targets.row_Bn[has_mask_Bn]
    wanted_BnP = logits_LBQP.new_zeros((*has_mask_Bn.shape, num_points))
    wanted_BnP[has_mask_Bn] = losses.sample_masks(
        masks.masks_nHW, row_n, points_1P2.expand(row_n.shape[0], -1, -1)
    )
    known_BP = masks.known(
        torch.arange(num_samples, device=points_1P2.device), points_1P2.expand(num_samples, -1, -1)
    )
    if known_BP is None:
        known_BP = logits_LBQP.new_ones((num_samples, num_points))
    unwanted_BnP, wanted_BnP = (1 - wanted_BnP) * known_BP[:, None], wanted_BnP * known_BP[:, None]
    inside_LBQn = torch.einsum("lbqp,bnp->lbqn", F.softplus(-logits_LBQP), wanted_BnP)
    outside_LBQn = torch.einsum("lbqp,bnp->lbqn", F.softplus(logits_LBQP), unwanted_BnP)
    probability_LBQP = logits_LBQP.sigmoid() * known_BP[:, None]
    overlap_LBQn = 2 * torch.einsum("lbqp,bnp->lbqn", probability_LBQP, wanted_BnP) + 1
    size_LBQn = probability_LBQP.sum(-1)[..., None] + wanted_BnP.sum(-1)[:, None] + 1
    total_LBQn = costs.mask * (inside_LBQn + outside_LBQn) / known_BP.sum(-1).clamp(min=1)[:, None, None]
    total_LBQn = total_LBQn + costs.dice * (1 - overlap_LBQn / size_LBQn)
    cost_XBQn[:num_layers] = total_LBQn * has_mask_Bn[:, None]
    return cost_XBQn
