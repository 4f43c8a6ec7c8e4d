"""Contrastive denoising (DINO, Zhang et al. 2022, section 3.3) with super-link vectors as label embeddings.

Shape suffixes: B samples, M groups of a sample, n targets of the sample with the most, R repeats, J denoising
queries (R * 2 * n: each repeat holds n positive ones, then n negative ones), Q object queries, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trainer.losses import to_cxcywh, to_xyxy
from trainer.model.decoders.match import PaddedTargets


@dataclass(frozen=True)
class Denoising:
    """Queries that start from noised targets. `positive_BJ` are to recover target `target_BJ`, the other
    `valid_BJ` nothing.

    `repeat_J` says which repeat a query belongs to; `num_repeats` is R.
    """

    content_BJD: torch.Tensor
    boxes_BJ4: torch.Tensor
    valid_BJ: torch.Tensor
    positive_BJ: torch.Tensor
    target_BJ: torch.Tensor
    repeat_J: torch.Tensor
    num_repeats: int


def make_denoising(
    targets: PaddedTargets,
    vectors_BMD: torch.Tensor,
    num_groups_B: torch.Tensor,
    *,
    num_positive: int,
    label_noise: float,
    box_noise: float,
    generator: torch.Generator,
) -> Denoising | None:
    """Make about `num_positive` positive queries per sample, and as many negative ones; None if there is no
    target.

    With probability label_noise / 2 a query carries the vector of a random class of its sample. Corners of
    positive boxes move by less than box_noise times half a side, those of negative ones by one to two times
    that.
    """
    num_samples, most = targets.labels_Bn.shape
    if most == 0 or num_positive == 0:
        return None
    repeats = max(1, num_positive // most)
    device = vectors_BMD.device

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator, device=generator.device).to(device)

    def repeat(values: torch.Tensor) -> torch.Tensor:
        return torch.cat([values] * (2 * repeats), dim=1)

    num_denoising = 2 * repeats * most
    labels_BJ, boxes_BJ4, valid_BJ = (
        repeat(targets.labels_Bn),
        repeat(targets.boxes_Bn4),
        repeat(targets.valid_Bn),
    )
    target_BJ = repeat(torch.arange(most, device=device).expand(num_samples, -1))
    slot_J = torch.arange(num_denoising, device=device)
    negative_J = slot_J // most % 2 == 1

    random_BJ = (uniform(num_samples, num_denoising) * num_groups_B[:, None]).long()
    random_BJ = random_BJ.clamp(max=vectors_BMD.shape[1] - 1)
    relabel_BJ = uniform(num_samples, num_denoising) < label_noise / 2
    labels_BJ = torch.where(relabel_BJ, random_BJ, labels_BJ)
    content_BJD = vectors_BMD.gather(1, labels_BJ[..., None].expand(-1, -1, vectors_BMD.shape[2]))
    content_BJD = content_BJD * valid_BJ[..., None]

    amount_BJ4 = uniform(num_samples, num_denoising, 4) + negative_J[None, :, None]
    sign_BJ4 = (uniform(num_samples, num_denoising, 4) < 0.5).float() * 2 - 1
    half_side_BJ4 = (boxes_BJ4[..., 2:] / 2).repeat(1, 1, 2)
    corners_BJ4 = to_xyxy(boxes_BJ4) + sign_BJ4 * amount_BJ4 * half_side_BJ4 * box_noise
    low, high = corners_BJ4.clamp(0, 1).split(2, dim=-1)
    # Large noise can swap corners; a box must keep its orientation, or its size would be negative.
    noised_BJ4 = to_cxcywh(torch.cat([torch.minimum(low, high), torch.maximum(low, high)], dim=-1))
    return Denoising(
        content_BJD=content_BJD,
        boxes_BJ4=noised_BJ4,
        valid_BJ=valid_BJ,
        positive_BJ=valid_BJ & ~negative_J,
        target_BJ=target_BJ,
        repeat_J=slot_J // (2 * most),
        num_repeats=repeats,
    )


def attention_mask(denoising: Denoising, num_objects: int) -> torch.Tensor:
    """Return which query may see which, bool [B, J + Q, J + Q]: denoising queries stand before the object
    queries.

    Object queries see only each other (else they would read the answers), denoising queries see their repeat
    and the object queries; nobody sees a padded query but itself.
    """
    num_samples, num_denoising = denoising.valid_BJ.shape
    device = denoising.valid_BJ.device
    repeat = torch.cat([denoising.repeat_J, torch.full((num_objects,), -1, device=device)])
    allowed = (repeat[None] == -1) | (repeat[:, None] == repeat[None])
    real = torch.ones((num_samples, num_denoising + num_objects), dtype=torch.bool, device=device)
    real[:, :num_denoising] = denoising.valid_BJ
    itself = torch.eye(num_denoising + num_objects, dtype=torch.bool, device=device)
    return (allowed[None] & real[:, None]) | itself
