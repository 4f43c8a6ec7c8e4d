from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval
from torch.nn import functional as F
from transformers.loss import loss_for_object_detection as oracle

from trainer import losses

# As COCO states them, for a person's seventeen keypoints.
COCO_SIGMAS = torch.tensor(
    [
        0.026,
        0.025,
        0.025,
        0.035,
        0.035,
        0.079,
        0.079,
        0.072,
        0.072,
        0.062,
        0.062,
        0.107,
        0.107,
        0.087,
        0.087,
        0.089,
        0.089,
    ]
)


def boxes(count: int, seed: int) -> torch.Tensor:
    """Return cxcywh boxes inside the unit square."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand((count, 2), generator=generator) * 0.5
    size = torch.rand((count, 2), generator=generator) * 0.4 + 0.05
    return torch.cat([low + size / 2, size], dim=1)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_generalized_iou_is_that_of_transformers(seed: int) -> None:
    a, b = losses.to_xyxy(boxes(5, seed)), losses.to_xyxy(boxes(7, seed + 1))

    result = losses.generalized_iou(a[:, None], b[None])

    torch.testing.assert_close(result, oracle.generalized_box_iou(a, b), atol=1e-5, rtol=0)


def test_generalized_iou_of_boxes_without_area_is_finite() -> None:
    point = torch.tensor([[0.5, 0.5, 0.5, 0.5]], requires_grad=True)

    result = losses.generalized_iou(point, point)
    result.sum().backward()

    assert torch.isfinite(result).all()
    assert point.grad is not None
    assert torch.isfinite(point.grad).all()


def test_focal_loss_is_that_of_transformers() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((4, 6, 3), generator=generator) * 4
    target = (torch.rand((4, 6, 3), generator=generator) < 0.3).float()

    result = losses.sigmoid_focal(logits, target)

    expected = oracle.sigmoid_focal_loss(logits, target, num_boxes=1)
    torch.testing.assert_close(result.mean(1).sum(), expected, atol=1e-5, rtol=1e-5)


def coco_oks(
    points: torch.Tensor, wanted: torch.Tensor, visible: torch.Tensor, area: float, sigmas: torch.Tensor
) -> float:
    """Return COCO's similarity of two objects' keypoints, [P, 2] pixels each."""

    def flat(xy: torch.Tensor) -> list[float]:
        return torch.cat([xy, visible[:, None] * 2.0], dim=1).flatten().tolist()

    coco = COCOeval(iouType="keypoints")
    coco.params.kpt_oks_sigmas = sigmas.numpy()
    coco.params.imgIds, coco.params.catIds = [1], [1]
    coco._gts[1, 1] = [{"keypoints": flat(wanted), "bbox": [0, 0, 1, 1], "area": area}]
    coco._dts[1, 1] = [{"keypoints": flat(points), "score": 1.0}]
    return float(coco.computeOks(1, 1)[0, 0])


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 68))
def test_keypoint_similarity_is_that_of_pycocotools(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    wanted = torch.rand((count, 2), generator=generator, dtype=torch.float64) * 200
    points = wanted + torch.randn((count, 2), generator=generator, dtype=torch.float64) * 6
    visible = torch.rand(count, generator=generator) < 0.7
    visible[0] = True
    area = float(torch.rand((), generator=generator)) * 9000 + 50
    sigmas = COCO_SIGMAS if count == 17 else torch.rand(count, generator=generator) * 0.1 + 0.02

    result = losses.object_keypoint_similarity(points, wanted, visible, torch.tensor(area), sigmas)

    assert float(result) == pytest.approx(coco_oks(points, wanted, visible, area, sigmas), abs=1e-5)


def test_keypoint_similarity_of_many_pairs_is_that_of_each() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand((5, 1, 17, 2), generator=generator)
    wanted = torch.rand((1, 3, 17, 2), generator=generator)
    visible = torch.rand((3, 17), generator=generator) < 0.5
    areas = torch.tensor([0.1, 0.5, 0.9])

    table = losses.object_keypoint_similarity(points, wanted, visible, areas, COCO_SIGMAS)

    assert table.shape == (5, 3)
    for i in range(5):
        for j in range(3):
            expected = coco_oks(points[i, 0], wanted[0, j], visible[j], float(areas[j]), COCO_SIGMAS)
            assert float(table[i, j]) == pytest.approx(expected, abs=1e-5)


def test_keypoint_similarity_without_a_visible_point_or_an_area_is_finite() -> None:
    points = torch.zeros((2, 4, 2), requires_grad=True)

    result = losses.object_keypoint_similarity(
        points,
        torch.full((2, 4, 2), 0.5),
        torch.tensor([[False] * 4, [True] * 4]),
        torch.tensor([0.3, 0.0]),
        torch.full((4,), 0.1),
    )
    result.sum().backward()

    assert result.tolist() == [0, 0]
    assert points.grad is not None
    assert torch.isfinite(points.grad).all()


def test_dice_is_that_of_transformers() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((5, 40), generator=generator)
    target = (torch.rand((5, 40), generator=generator) < 0.5).float()

    result = losses.dice(logits, target)

    torch.testing.assert_close(result.sum(), oracle.dice_loss(logits, target, 1), atol=1e-5, rtol=0)


def test_mask_cross_entropy_is_the_mean_over_points() -> None:
    logits = torch.tensor([[2.0, -1.0]])
    target = torch.tensor([[1.0, 1.0]])

    result = losses.mask_bce(logits, target)

    expected = -(torch.sigmoid(logits).log()).mean(1)
    torch.testing.assert_close(result, expected)


def test_boxes_convert_there_and_back() -> None:
    some = boxes(6, seed=3)

    torch.testing.assert_close(losses.to_cxcywh(losses.to_xyxy(some)), some)


def test_text_loss_divides_by_the_number_of_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((5, 11), generator=generator)
    target = torch.tensor([1, 2, 3, 4, 5])
    sample = torch.tensor([0, 0, 0, 2, 2])

    result = losses.text_loss(logits, target, sample, num_samples=3)

    torch.testing.assert_close(result.loss, F.cross_entropy(logits, target))
    torch.testing.assert_close(result.sample_loss_B[2], F.cross_entropy(logits[3:], target[3:]))
    assert result.num_tokens_B.tolist() == [3, 0, 2]


def test_text_loss_without_tokens_is_zero_and_has_a_gradient() -> None:
    logits = torch.zeros((0, 7), requires_grad=True)
    nothing = torch.zeros(0, dtype=torch.long)

    result = losses.text_loss(logits, nothing, nothing, num_samples=2)

    assert result.loss.item() == 0
    result.loss.backward()


def test_count_without_objects_is_one() -> None:
    assert losses.mean_count(torch.tensor(0)).item() == 1


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_samples_of_masks_are_bilinear(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = (torch.rand((3, 9, 14), generator=generator) < 0.5).to(torch.uint8)
    rows = torch.tensor([2, 0, 2, 1])
    points = torch.rand((4, 20, 2), generator=generator)

    result = losses.sample_masks(masks, rows, points)

    expected = losses.sample_logits(masks[rows].float(), points)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


def test_uncertain_points_gather_where_logits_are_near_zero() -> None:
    ramp = torch.linspace(-10, 10, 64).expand(1, 64, 64)
    generator = torch.Generator().manual_seed(0)

    points = losses.uncertain_points(ramp, 400, generator)

    from_edge = (points[0, :, 0] - 0.5).abs()
    assert points.shape == (1, 400, 2)
    assert (from_edge[:300] < 0.2).all()
    assert from_edge[300:].max() > 0.4


def test_uncertain_points_depend_on_the_generator_alone() -> None:
    logits = torch.randn((2, 8, 8), generator=torch.Generator().manual_seed(0))

    first = losses.uncertain_points(logits, 20, torch.Generator().manual_seed(5))
    again = losses.uncertain_points(logits, 20, torch.Generator().manual_seed(5))
    other = losses.uncertain_points(logits, 20, torch.Generator().manual_seed(6))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("size", [0, 1, 5])
def test_dice_of_a_perfect_mask_is_near_zero(size: int) -> None:
    target = torch.zeros((1, 9))
    target[:, :size] = 1

    result = losses.dice((target - 0.5) * 100, target)

    assert result.item() == pytest.approx(0, abs=1e-5)


COUNT_ON_RANK = """
import sys, torch
from trainer.losses import mean_count
rank, store = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
print(mean_count(torch.tensor([2 + 4 * rank, 0])).tolist())
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_counts_are_averaged_over_ranks_and_their_sum_is_at_least_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COUNT_ON_RANK]

    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]

    assert [process.communicate(timeout=60)[0].strip() for process in ranks] == ["[4.0, 0.5]"] * 2
