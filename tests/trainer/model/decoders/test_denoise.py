from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.losses import to_xyxy
from trainer.model.decoders.denoise import Denoising, attention_mask, make_denoising
from trainer.model.decoders.match import PaddedTargets

VECTORS = torch.randn((2, 3, 8), generator=torch.Generator().manual_seed(0))


def targets() -> PaddedTargets:
    return PaddedTargets(
        labels_Bn=torch.tensor([[2, 0], [1, 0]]),
        boxes_Bn4=torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.3, 0.6, 0.2, 0.2]], [[0.5, 0.4, 0.3, 0.1]] * 2]),
        valid_Bn=torch.tensor([[True, True], [True, False]]),
        row_Bn=torch.tensor([[0, 1], [2, 3]]),
    )


def make(
    *, label_noise: float = 0.0, box_noise: float = 1.0, num_positive: int = 10, seed: int = 0
) -> Denoising:
    denoising = make_denoising(
        targets(),
        VECTORS,
        torch.tensor([3, 2]),
        num_positive=num_positive,
        label_noise=label_noise,
        box_noise=box_noise,
        generator=torch.Generator().manual_seed(seed),
    )
    assert denoising is not None
    return denoising


def test_as_many_positive_as_negative_queries() -> None:
    denoising = make()

    assert denoising.num_repeats == 5
    assert denoising.boxes_BJ4.shape == (2, 20, 4)
    assert denoising.positive_BJ.sum(1).tolist() == [10, 5]
    assert (denoising.valid_BJ & ~denoising.positive_BJ).sum(1).tolist() == [10, 5]


def test_the_content_is_the_super_link_vector_of_the_class() -> None:
    denoising = make()

    for sample, query in denoising.valid_BJ.nonzero().tolist():
        label = targets().labels_Bn[sample, denoising.target_BJ[sample, query]]
        torch.testing.assert_close(denoising.content_BJD[sample, query], VECTORS[sample, label])


def test_gradient_flows_into_the_vectors() -> None:
    vectors = VECTORS.clone().requires_grad_()

    denoising = make_denoising(
        targets(),
        vectors,
        torch.tensor([3, 2]),
        num_positive=4,
        label_noise=0.5,
        box_noise=1.0,
        generator=torch.Generator().manual_seed(0),
    )
    assert denoising is not None
    denoising.content_BJD.sum().backward()

    assert vectors.grad is not None
    assert vectors.grad.abs().sum() > 0


def test_label_noise_draws_existing_classes_only() -> None:
    contents = torch.cat([make(label_noise=2.0, seed=seed).content_BJD[1, ::2] for seed in range(10)])

    distance = (contents[:, None] - VECTORS[1]).abs().sum(-1)

    assert set(distance.argmin(1).tolist()) == {0, 1}
    assert distance.min(1).values.max() < 1e-6


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 9999))
def test_positive_corners_move_less_than_half_a_side_and_negative_ones_more(seed: int) -> None:
    denoising = make(seed=seed)

    true_boxes = targets().boxes_Bn4.gather(1, denoising.target_BJ[..., None].expand(-1, -1, 4))
    half = (true_boxes[..., 2:] / 2).repeat(1, 1, 2)
    moved = (to_xyxy(denoising.boxes_BJ4) - to_xyxy(true_boxes)).abs() / half
    negative = denoising.valid_BJ & ~denoising.positive_BJ
    assert (moved[denoising.positive_BJ] <= 1 + 1e-4).all()
    assert (denoising.boxes_BJ4[..., 2:] >= 0).all()
    # A corner moved by over a whole side may swap with its opposite: then its distance is less.
    assert (moved[negative] > 0.99).float().mean() > 0.4


def test_without_box_noise_boxes_stay() -> None:
    denoising = make(box_noise=0.0)

    torch.testing.assert_close(denoising.boxes_BJ4[0, 0], targets().boxes_Bn4[0, 0])


def test_object_queries_cannot_read_the_answers() -> None:
    denoising = make()

    allowed = attention_mask(denoising, num_objects=6)

    assert allowed.shape == (2, 26, 26)
    assert not allowed[:, 20:, :20].any()
    assert allowed[:, 20:, 20:].all()
    assert allowed[0, :20, 20:].all()
    same = denoising.repeat_J[:, None] == denoising.repeat_J[None]
    assert torch.equal(allowed[0, :20, :20], same)


def test_padded_queries_are_seen_by_themselves_alone() -> None:
    denoising = make()

    allowed = attention_mask(denoising, num_objects=6)

    padded = (~denoising.valid_BJ[1]).nonzero()[:, 0]
    assert len(padded) > 0
    assert allowed[1][:, padded].sum(0).tolist() == [1] * len(padded)


@pytest.mark.parametrize("num_positive", [0, 5])
def test_nothing_is_made_of_nothing(num_positive: int) -> None:
    empty = PaddedTargets(
        torch.zeros((2, 0), dtype=torch.long),
        torch.zeros((2, 0, 4)),
        torch.zeros((2, 0), dtype=torch.bool),
        torch.zeros((2, 0), dtype=torch.long),
    )

    result = make_denoising(
        empty if num_positive else targets(),
        VECTORS,
        torch.tensor([3, 2]),
        num_positive=num_positive,
        label_noise=0.5,
        box_noise=1.0,
        generator=torch.Generator(),
    )

    assert result is None
