"""The losses, each a function of plain tensors; boxes are cxcywh in [0, 1] unless a name says xyxy.

Shape suffixes: S supervised text positions, V vocabulary, B samples, n m boxes, K pairs of a prediction and
its target, P points of a mask, H W a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.nn import functional as F


@dataclass(frozen=True)
class TextLoss:
    """`loss` carries the gradient; `sample_loss_B` (mean per sample, detached) and `num_tokens_B` are for
    the log.
    """

    loss: torch.Tensor
    sample_loss_B: torch.Tensor
    num_tokens_B: torch.Tensor


def text_loss(
    logits_SV: torch.Tensor,
    target_S: torch.Tensor,
    sample_S: torch.Tensor,
    num_samples: int,
    count: torch.Tensor | None = None,
) -> TextLoss:
    """Return the cross entropy over all supervised tokens, divided by their number (see `mean_count`), or by `count`.

    `sample_S` names the sample of each position. Without any supervised token the loss is zero.
    """
    each_S = F.cross_entropy(logits_SV.float(), target_S, reduction="none")
    num_tokens_B = torch.bincount(sample_S, minlength=num_samples)
    sums_B = each_S.new_zeros(num_samples).index_add(0, sample_S, each_S.detach())
    loss = each_S.sum() / (mean_count(num_tokens_B.sum()) if count is None else count)
    return TextLoss(loss, sums_B / num_tokens_B.clamp(min=1), num_tokens_B)


def mean_count(count: torch.Tensor) -> torch.Tensor:
    """Return the mean of a count over all ranks, of which the count is at least 1.

    Ranks average their gradients, so a sum divided by this is the sum over all ranks divided by the count
    over all ranks. Every rank must call it equally often.
    """
    count = count.detach().float()
    if not (dist.is_available() and dist.is_initialized()):
        return count.clamp(min=1)
    count = count.clone()
    dist.all_reduce(count)
    return count.clamp(min=1) / dist.get_world_size()


def sigmoid_focal(
    logits: torch.Tensor, target: torch.Tensor, *, alpha: float = 0.25, gamma: float = 2.0
) -> torch.Tensor:
    """Return the focal loss of each logit (Lin et al. 2017, equation 5, on sigmoids), same shape as the
    input.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid()
    miss = probability * (1 - target) + (1 - probability) * target
    balance = alpha * target + (1 - alpha) * (1 - target)
    return balance * miss**gamma * cross_entropy


def to_xyxy(boxes: torch.Tensor) -> torch.Tensor:
    """Convert cxcywh boxes, [..., 4]."""
    center, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([center - size / 2, center + size / 2], dim=-1)


def to_cxcywh(boxes_xyxy: torch.Tensor) -> torch.Tensor:
    """Convert xyxy boxes, [..., 4]."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def box_areas(boxes_xyxy: torch.Tensor) -> torch.Tensor:
    """Return width times height of xyxy boxes, [...]."""
    return (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0).prod(-1)


def intersections(a_xyxy: torch.Tensor, b_xyxy: torch.Tensor) -> torch.Tensor:
    """Return the areas of overlap of boxes that broadcast against each other."""
    low = torch.maximum(a_xyxy[..., :2], b_xyxy[..., :2])
    high = torch.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    return (high - low).clamp(min=0).prod(-1)


def generalized_iou(a_xyxy: torch.Tensor, b_xyxy: torch.Tensor) -> torch.Tensor:
    """Return the generalized IoU (Rezatofighi et al. 2019) of boxes that broadcast against each other, in
    [-1, 1].

    For all pairs pass `a[:, None]` and `b[None]`. Boxes without area give 0 overlap instead of a division by
    zero.
    """
    tiny = torch.finfo(a_xyxy.dtype).eps
    overlap = intersections(a_xyxy, b_xyxy)
    union = box_areas(a_xyxy) + box_areas(b_xyxy) - overlap
    low = torch.minimum(a_xyxy[..., :2], b_xyxy[..., :2])
    high = torch.maximum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    hull = (high - low).prod(-1)
    return overlap / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def object_keypoint_similarity(
    points_P2: torch.Tensor,
    wanted_P2: torch.Tensor,
    visible_P: torch.Tensor,
    area: torch.Tensor,
    sigmas_P: torch.Tensor,
) -> torch.Tensor:
    """Return the object keypoint similarity (COCO's keypoint evaluation) of objects of P points, in [0, 1].

    Every argument may have further dimensions before those of its name, which broadcast. Points and the square root of
    the area have one unit. The mean is that over the points that are visible; without any it is 0.
    """
    square_P = (points_P2 - wanted_P2).square().sum(-1)
    # COCO adds this to the area, too: an object without area is not divided by.
    tolerance_P = 2 * (area[..., None] + torch.finfo(torch.float64).eps) * (2 * sigmas_P).square()
    similarity_P = torch.exp(-square_P / tolerance_P) * visible_P
    return similarity_P.sum(-1) / visible_P.sum(-1).clamp(min=1)


def dice(
    logits_KP: torch.Tensor, target_KP: torch.Tensor, known_KP: torch.Tensor | None = None
) -> torch.Tensor:
    """Return 1 - the smoothed Dice coefficient of each mask (Milletari et al. 2016, plus one above and
    below), [K]. Points count by `known_KP` in [0, 1], if it is given.
    """
    probability = logits_KP.sigmoid()
    if known_KP is not None:
        probability, target_KP = probability * known_KP, target_KP * known_KP
    overlap = 2 * (probability * target_KP).sum(-1)
    return 1 - (overlap + 1) / (probability.sum(-1) + target_KP.sum(-1) + 1)


def mask_bce(
    logits_KP: torch.Tensor, target_KP: torch.Tensor, known_KP: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean binary cross entropy over the points of each mask, [K].

    Points count by `known_KP` in [0, 1], if it is given.
    """
    each_KP = F.binary_cross_entropy_with_logits(logits_KP, target_KP, reduction="none")
    if known_KP is None:
        return each_KP.mean(-1)
    return (each_KP * known_KP).sum(-1) / known_KP.sum(-1).clamp(min=1)


def sample_logits(logits_KHW: torch.Tensor, points_KP2: torch.Tensor) -> torch.Tensor:
    """Return bilinear samples of each map at points (x, y) in [0, 1], [K, P]; outside is 0."""
    grid = points_KP2[:, :, None] * 2 - 1
    return F.grid_sample(logits_KHW[:, None], grid, align_corners=False)[:, 0, :, 0]


def sample_masks(masks_nHW: torch.Tensor, row_K: torch.Tensor, points_KP2: torch.Tensor) -> torch.Tensor:
    """Return bilinear samples of `masks[row]` at points (x, y) in [0, 1], [K, P]; outside is 0.

    Equal to `sample_logits(masks[row], points)`, but the masks are neither copied per row nor converted:
    several predictions (layers, denoising copies) point to one target.
    """
    height, width = masks_nHW.shape[1:]
    x = points_KP2[..., 0] * width - 0.5
    y = points_KP2[..., 1] * height - 0.5
    left, top = x.floor(), y.floor()
    result = torch.zeros_like(x)
    for column, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
        for line, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
            inside = (column >= 0) & (column < width) & (line >= 0) & (line < height)
            value = masks_nHW[
                row_K[:, None], line.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()
            ]
            result = result + value * weight_x * weight_y * inside
    return result


def uncertain_points(
    logits_KHW: torch.Tensor,
    num_points: int,
    generator: torch.Generator,
    *,
    oversample: float = 3.0,
    importance: float = 0.75,
) -> torch.Tensor:
    """Draw points where a mask is least certain (PointRend, Kirillov et al. 2020, section 3.1), [K, P, 2] in
    [0, 1].

    Of `oversample` times as many random points, the share `importance` with logits nearest 0 is kept; the
    rest is random.
    """
    num_masks = logits_KHW.shape[0]
    num_drawn = int(num_points * oversample)
    num_kept = int(num_points * importance)
    drawn = _uniform((num_masks, num_drawn, 2), generator, logits_KHW)
    certainty = sample_logits(logits_KHW.detach(), drawn).abs()
    kept = certainty.topk(num_kept, dim=1, largest=False).indices
    points = drawn.gather(1, kept[..., None].expand(-1, -1, 2))
    rest = _uniform((num_masks, num_points - num_kept, 2), generator, logits_KHW)
    return torch.cat([points, rest], dim=1)


def _uniform(shape: tuple[int, ...], generator: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    return torch.rand(shape, generator=generator, device=generator.device).to(like.device)
