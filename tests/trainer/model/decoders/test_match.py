from __future__ import annotations

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.loss.loss_for_object_detection import generalized_box_iou
from transformers.loss.loss_grounding_dino import GroundingDinoHungarianMatcher

from trainer.batch import ObjectTargets
from trainer.losses import to_xyxy
from trainer.model.config import MatchCosts
from trainer.model.decoders.match import match, pad_targets


def targets(counts: list[int], num_groups: int, seed: int) -> tuple[ObjectTargets, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        ObjectTargets(
            labels_n=torch.randint(0, num_groups, (count,), generator=generator),
            boxes_n4=torch.rand((count, 4), generator=generator) * 0.4 + 0.3,
            masks_nHW=torch.zeros((count, 8, 8), dtype=torch.uint8),
            has_mask_n=torch.zeros(count, dtype=torch.bool),
            ignore_m4=torch.zeros((0, 4)),
        )
        for count in counts
    )


def predictions(
    num_sets: int, num_samples: int, num_groups: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((num_sets, num_samples, 9, num_groups), generator=generator)
    return logits, torch.rand((num_sets, num_samples, 9, 4), generator=generator) * 0.4 + 0.3


@settings(deadline=None, max_examples=25)
@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=4), seed=st.integers(0, 9999))
def test_matching_is_that_of_transformers(counts: list[int], seed: int) -> None:
    some = targets(counts, 3, seed)
    logits, boxes = predictions(2, len(counts), 3, seed)

    found = match(logits, boxes, pad_targets(some), MatchCosts())

    matcher = GroundingDinoHungarianMatcher(class_cost=2.0, bbox_cost=5.0, giou_cost=2.0)
    for layer in range(2):
        expected = matcher(
            {
                "logits": logits[layer],
                "pred_boxes": boxes[layer],
                "label_maps": (torch.eye(3),) * len(counts),
            },
            [{"class_labels": t.labels_n, "boxes": t.boxes_n4} for t in some],
        )
        for sample, (queries, columns) in enumerate(expected):
            here = (found.set_K == layer) & (found.sample_K == sample)
            ours = set(zip(found.query_K[here].tolist(), found.target_K[here].tolist(), strict=True))
            assert ours == set(zip(queries.tolist(), columns.tolist(), strict=True))


def test_the_assignment_has_the_least_cost() -> None:
    some = targets([3], 2, seed=1)
    logits, boxes = predictions(1, 1, 2, seed=2)

    found = match(logits, boxes, pad_targets(some), MatchCosts(cls=0, l1=0, giou=1))

    giou = generalized_box_iou(to_xyxy(boxes[0, 0]), to_xyxy(some[0].boxes_n4))
    best = max(sum(giou[q, c] for c, q in enumerate(order)) for order in itertools.permutations(range(9), 3))
    torch.testing.assert_close(giou[found.query_K, found.target_K].sum(), torch.as_tensor(best))


def test_extra_costs_decide_where_they_are_large() -> None:
    some = targets([1], 2, seed=1)
    logits, boxes = predictions(1, 1, 2, seed=2)
    extra = torch.full((1, 1, 9, 1), 1000.0)
    extra[0, 0, 4] = 0

    found = match(logits, boxes, pad_targets(some), MatchCosts(), extra)

    assert found.query_K.tolist() == [4]


def test_groups_that_do_not_exist_are_never_chosen_and_break_nothing() -> None:
    some = targets([2, 0], 1, seed=1)
    logits, boxes = predictions(1, 2, 3, seed=2)
    logits[..., 1:] = -torch.inf

    found = match(logits, boxes, pad_targets(some), MatchCosts())

    assert found.sample_K.tolist() == [0, 0]


def test_rows_count_through_the_samples() -> None:
    padded = pad_targets(targets([2, 0, 3], 2, seed=1))

    assert padded.row_Bn[padded.valid_Bn].tolist() == [0, 1, 2, 3, 4]
    assert padded.valid_Bn.sum(1).tolist() == [2, 0, 3]
