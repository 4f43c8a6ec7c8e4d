from __future__ import annotations

import torch

from trainer.batch import ObjectTargets
from trainer.losses import sigmoid_focal
from trainer.model.decoders.match import Matches
from trainer.model.decoders.objective import class_losses, ignored


def matches(sets: list[int], samples: list[int], queries: list[int], targets: list[int]) -> Matches:
    return Matches(*(torch.tensor(values) for values in (sets, samples, queries, targets)))


def test_classification_counts_existing_groups_and_counted_queries_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((1, 2, 3, 4), generator=generator)
    group_mask = torch.tensor([[True] * 4, [True, True, False, False]])
    counted = torch.ones((1, 2, 3), dtype=torch.bool)
    counted[0, 1, 2] = False
    counted[0, 0, 1] = False
    labels = torch.tensor([[2, 0], [1, 0]])

    result = class_losses(
        logits.masked_fill(~group_mask[:, None], -torch.inf),
        counted,
        matches([0, 0], [0, 1], [1, 0], [0, 0]),
        labels,
        group_mask,
    )

    wanted = torch.zeros((2, 3, 4))
    wanted[0, 1, 2] = wanted[1, 0, 1] = 1
    focal = sigmoid_focal(logits[0], wanted)
    # Query 1 of the first sample is not counted, but matched; query 2 of the second is neither.
    torch.testing.assert_close(result[0], focal[0].sum() + focal[1, :2, :2].sum())


def test_a_box_is_ignored_if_more_than_half_of_it_lies_in_one_ignored_area() -> None:
    area = torch.tensor([[0.25, 0.5, 0.5, 1.0]])
    target = ObjectTargets(
        labels_n=torch.zeros(0, dtype=torch.long),
        boxes_n4=torch.zeros((0, 4)),
        masks_nHW=torch.zeros((0, 8, 8), dtype=torch.uint8),
        has_mask_n=torch.zeros(0, dtype=torch.bool),
        ignore_m4=area,
    )
    boxes = torch.tensor(
        [[0.3, 0.5, 0.2, 0.2], [0.49, 0.5, 0.2, 0.2], [0.51, 0.5, 0.2, 0.2], [0.8, 0.5, 0.2, 0.2]]
    )

    result = ignored(boxes[None, None], (target,))

    assert result.tolist() == [[[True, True, False, False]]]
