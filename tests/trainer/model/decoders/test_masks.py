from __future__ import annotations

import dataclasses

import pytest
import torch
from transformers.models.mask2former import modeling_mask2former as oracle

from trainer import losses
from trainer.batch import ObjectTargets
from trainer.model.config import MatchCosts
from trainer.model.decoders.masks import TargetMasks, mask_costs, mask_losses, stack_masks
from trainer.model.decoders.match import PaddedTargets, pad_targets

FEATURES = torch.randn((2, 5, 8, 8), generator=torch.Generator().manual_seed(0))


def targets() -> tuple[tuple[ObjectTargets, ...], PaddedTargets, TargetMasks]:
    generator = torch.Generator().manual_seed(1)
    some = tuple(
        ObjectTargets(
            labels_n=torch.zeros(count, dtype=torch.long),
            boxes_n4=torch.rand((count, 4), generator=generator),
            masks_nHW=(torch.rand((count, 32, 32), generator=generator) < 0.5).to(torch.uint8),
            has_mask_n=torch.tensor(has_mask),
            ignore_m4=torch.zeros((0, 4)),
        )
        for count, has_mask in ((1, [True]), (3, [True, False, True]))
    )
    padded = pad_targets(some)
    return some, padded, stack_masks(some, padded)


def test_which_targets_have_masks_is_kept_by_sample() -> None:
    _, _, masks = targets()

    assert masks.has_mask_Bn.tolist() == [[True, False, False], [True, False, True]]
    assert masks.masks_nHW.shape == (4, 32, 32)


def test_losses_on_points_are_those_of_transformers() -> None:
    some, _, masks = targets()
    rows, wanted = torch.tensor([0, 1, 3]), [(0, 0), (1, 0), (1, 2)]
    embeddings = torch.randn((3, 5), generator=torch.Generator().manual_seed(2))
    sample = torch.tensor([b for b, _ in wanted])

    bce, dice = mask_losses(embeddings, FEATURES, sample, masks, rows, 40, torch.Generator().manual_seed(4))

    logits = torch.stack(
        [(embeddings[k] @ FEATURES[b].flatten(1)).view(8, 8) for k, (b, _) in enumerate(wanted)]
    )
    truth = torch.stack([some[b].masks_nHW[n].float() for b, n in wanted])
    points = losses.uncertain_points(logits, 40, torch.Generator().manual_seed(4))
    predicted, labels = (
        oracle.sample_point(planes[:, None], points, align_corners=False).squeeze(1)
        for planes in (logits, truth)
    )
    torch.testing.assert_close(
        bce.sum(), oracle.sigmoid_cross_entropy_loss(predicted, labels, 1), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(dice.sum(), oracle.dice_loss(predicted, labels, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("order", [[0, 1, 1], [1, 0, 1]])
def test_each_pair_is_judged_on_its_own_sample_and_mask(order: list[int]) -> None:
    _, _, masks = targets()
    sample, rows = torch.tensor(order), torch.tensor([3, 0, 1])
    embeddings = torch.randn((3, 5), generator=torch.Generator().manual_seed(2))

    bce, dice = mask_losses(embeddings, FEATURES, sample, masks, rows, 40, torch.Generator().manual_seed(4))

    logits = torch.stack([(embeddings[k] @ FEATURES[b].flatten(1)).view(8, 8) for k, b in enumerate(order)])
    points = losses.uncertain_points(logits, 40, torch.Generator().manual_seed(4))
    wanted = losses.sample_logits(masks.masks_nHW[rows].float(), points)
    sampled = losses.sample_logits(logits, points)
    torch.testing.assert_close(bce, losses.mask_bce(sampled, wanted), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(dice, losses.dice(sampled, wanted), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("void", [False, True])
def test_costs_are_the_losses_of_every_query_for_every_mask(void: bool) -> None:
    some, padded, masks = targets()
    if void:
        half = (torch.arange(32) < 16).to(torch.uint8).expand(32, 32)
        masks = stack_masks((some[0], dataclasses.replace(some[1], void_HW=half)), padded)
    embeddings = torch.randn((2, 2, 6, 5), generator=torch.Generator().manual_seed(2))

    cost = mask_costs(
        embeddings, FEATURES, masks, padded, MatchCosts(mask=5, dice=3), 30, torch.Generator().manual_seed(4)
    )

    assert cost.shape == (3, 2, 6, 3)
    assert cost[2].abs().sum() == 0
    assert cost[:, 0, :, 1:].abs().sum() == cost[:, 1, :, 1].abs().sum() == 0
    points = torch.rand((1, 30, 2), generator=torch.Generator().manual_seed(4))
    for sample, target in ((0, 0), (1, 0), (1, 2)):
        logits = (embeddings[1, sample, 4] @ FEATURES[sample].flatten(1)).view(1, 8, 8)
        sampled = losses.sample_logits(logits, points)
        wanted = losses.sample_logits(some[sample].masks_nHW[target][None].float(), points)
        known = masks.known(torch.tensor([sample]), points)
        assert (known is not None) == void
        expected = 5 * losses.mask_bce(sampled, wanted, known) + 3 * losses.dice(sampled, wanted, known)
        torch.testing.assert_close(cost[1, sample, 4, target], expected[0], atol=1e-4, rtol=1e-4)


def test_nothing_is_right_or_wrong_in_the_void() -> None:
    some, padded, masks = targets()
    void, inner = torch.zeros((2, 32, 32), dtype=torch.uint8)
    # Two pixels inside its border nothing is blended with what is known.
    void[:, 16:], inner[:, 18:] = 1, 1
    open_right = (some[0], dataclasses.replace(some[1], void_HW=void))
    flipped = torch.cat([masks.masks_nHW[:1], masks.masks_nHW[1:] ^ inner])
    sample, rows = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 3])
    embeddings = torch.randn((3, 5), generator=torch.Generator().manual_seed(2))
    costs = MatchCosts(mask=5, dice=3)

    def judged(masks: TargetMasks) -> list[torch.Tensor]:
        lost = mask_losses(embeddings, FEATURES, sample, masks, rows, 40, torch.Generator().manual_seed(4))
        queries = embeddings.expand(1, 2, 3, 5)
        cost = mask_costs(queries, FEATURES, masks, padded, costs, 30, torch.Generator().manual_seed(4))
        return [*lost, cost]

    with_void = stack_masks(open_right, padded)
    changed = dataclasses.replace(with_void, masks_nHW=flipped)

    for known, other, plain in zip(judged(with_void), judged(changed), judged(masks), strict=True):
        torch.testing.assert_close(known, other, atol=1e-5, rtol=0)
        assert not torch.allclose(known, plain)
