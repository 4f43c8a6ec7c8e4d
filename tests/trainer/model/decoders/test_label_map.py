"""A label map says of each pixel the class for which the most speaks: probability times mask, over all queries."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from trainer.model.decoders.detection import GROUPS_AT_ONCE, vote


def test_every_query_votes_with_its_probability_and_its_mask() -> None:
    """Two queries see the left half, one the right; two weak ones outvote a stronger one."""
    left, right = torch.zeros(8, 8), torch.zeros(8, 8)
    left[:, :4], right[:, 4:] = 1, 1
    score_QM = torch.tensor([[0.1, 0.4], [0.1, 0.4], [0.7, 0.0]])
    mask_Qhw = torch.stack([left, left, torch.ones(8, 8)])

    class_HW, score_HW = vote(score_QM, mask_Qhw, torch.Size((32, 32)), [32, 32], (32, 32))

    # On the left 2 x .1 + .7 = .9 against .8; on the right .7 against 0.
    assert (class_HW == 0).all()
    class_HW, score_HW = vote(
        torch.tensor([[0.1, 0.5], [0.1, 0.5], [0.7, 0.0]]), mask_Qhw, torch.Size((32, 32)), [32, 32], (32, 32)
    )
    assert (class_HW[:, :12] == 1).all() and (class_HW[:, 20:] == 0).all()
    assert torch.allclose(score_HW[:, :12], torch.tensor(1.0))
    assert torch.allclose(score_HW[:, 20:], torch.tensor(0.7))


def test_classes_are_compared_over_all_of_them_on_the_original_picture() -> None:
    generator = torch.Generator().manual_seed(2)
    count = 2 * GROUPS_AT_ONCE + 3
    score_QM = torch.rand(5, count, generator=generator)
    mask_Qhw = torch.rand(5, 8, 16, generator=generator)
    padded, inside, original = torch.Size((32, 64)), [30, 50], (45, 75)

    class_HW, score_HW = vote(score_QM, mask_Qhw, padded, inside, original)

    sums_Mhw = torch.stack([(score_QM[:, m, None, None] * mask_Qhw).sum(0) for m in range(count)])
    large = F.interpolate(sums_Mhw[None], size=(32, 64), mode="bilinear", align_corners=False)[..., :30, :50]
    best = F.interpolate(large, size=original, mode="bilinear", align_corners=False)[0].max(0)
    assert class_HW.shape == original
    assert torch.allclose(score_HW, best.values, atol=1e-5)
    assert (class_HW == best.indices).float().mean() > 0.999
