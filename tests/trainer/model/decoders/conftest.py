"""A toy problem for the pose decoder: grey rectangles with coloured dots, asked for by colour."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from dataengine.tokens import DET, EMB_TOKENS, POSE
from trainer.batch import Batch, KeypointTargets, ObjectTargets

DOTS = {"red": (0.9, 0.1, 0.1), "green": (0.1, 0.8, 0.2), "blue": (0.1, 0.2, 0.9), "yellow": (0.9, 0.9, 0.1)}
SIDE = 128

MakePoseBatch = Callable[..., Batch]


@pytest.fixture
def make_pose_batch(vocabulary: dict[str, int]) -> MakePoseBatch:
    """Return a function that makes a batch of toy samples; the one class is called "find"."""

    def make(
        num_samples: int = 2,
        *,
        seed: int = 0,
        keypoints: tuple[int, ...] | None = None,
        objects: tuple[int, ...] | None = None,
        num_queries: int = 4,
    ) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        asked = [
            torch.randperm(len(DOTS), generator=generator).tolist()[: keypoints[b] if keypoints else 4]
            for b in range(num_samples)
        ]
        drawn = [_draw(order, objects[b] if objects else 2, generator) for b, order in enumerate(asked)]
        placeholders = [vocabulary[emb] for emb in EMB_TOKENS[:num_queries]]
        rows: list[list[int]] = []
        labels: list[list[int]] = []
        groups: list[tuple[int, int]] = []
        tokens: list[str] = []
        for b, order in enumerate(asked):
            ids = [vocabulary["<s>"], *[vocabulary["<im_patch>"]] * 16]
            wanted = [-100] * len(ids)
            for name, token in [("find", DET), *((list(DOTS)[k], POSE) for k in order)]:
                groups.append((b, len(ids) + 1))
                tokens.append(token)
                ids += [vocabulary[name], vocabulary[token], *placeholders, vocabulary[","]]
                wanted += [vocabulary[name], vocabulary[token], *[-100] * num_queries, vocabulary[","]]
            rows.append(ids)
            labels.append(wanted)
        length = max(len(row) for row in rows)
        input_ids = torch.tensor([row + [vocabulary["[PAD]"]] * (length - len(row)) for row in rows])
        pictures = torch.stack([image for image, _ in drawn])
        return Batch(
            family="pose",
            sample_ids=tuple(f"toy/train/{seed}-{b}#keypoints" for b in range(num_samples)),
            tasks=("keypoints",) * num_samples,
            input_ids_BL=input_ids,
            labels_BL=torch.tensor([row + [-100] * (length - len(row)) for row in labels]),
            attention_mask_BL=input_ids != vocabulary["[PAD]"],
            tiles_T3SS=torch.nn.functional.interpolate(pictures, size=(112, 112)),
            tiles_per_image=((1,),) * num_samples,
            regions_RSS=torch.zeros((0, 112, 112), dtype=torch.uint8),
            region_tile_R=torch.zeros(0, dtype=torch.long),
            groups_G2=torch.tensor(groups),
            group_tokens=tuple(tokens),
            images_B3HW=pictures,
            pixel_mask_BHW=torch.ones((num_samples, SIDE, SIDE), dtype=torch.bool),
            targets=tuple(target for _, target in drawn),
            original_sizes=((SIDE, SIDE),) * num_samples,
        )

    return make


def _draw(order: list[int], count: int, generator: torch.Generator) -> tuple[torch.Tensor, ObjectTargets]:
    """Draw rectangles in their own half of a picture, each with a dot of every colour in one quarter of it."""
    image = torch.full((3, SIDE, SIDE), 0.5)
    half = SIDE // 2
    boxes = torch.zeros((count, 4))
    points = torch.ones((count, len(order), 3))
    for number in range(count):
        size = torch.randint(44, half - 4, (2,), generator=generator)
        low = torch.stack(
            [
                number * half + torch.randint(0, half - int(size[0]), (), generator=generator),
                torch.randint(0, SIDE - int(size[1]), (), generator=generator),
            ]
        )
        left, top = low.tolist()
        image[:, top : top + int(size[1]), left : left + int(size[0])] = 0.7
        boxes[number] = torch.cat([low + size / 2, size])
        quarters = torch.randperm(4, generator=generator).tolist()
        for color, quarter in enumerate(quarters):
            corner = low + size * torch.tensor([quarter % 2, quarter // 2]) / 2
            x, y = (corner + 4 + (size / 2 - 12) * torch.rand(2, generator=generator)).long().tolist()
            image[:, y : y + 8, x : x + 8] = torch.tensor(list(DOTS.values())[color])[:, None, None]
            if color in order:
                points[number, order.index(color), :2] = torch.tensor([x + 4.0, y + 4.0])
    points[..., :2] /= SIDE
    return (image - 0.5) * 4, ObjectTargets(
        labels_n=torch.zeros(count, dtype=torch.long),
        boxes_n4=boxes / SIDE,
        masks_nHW=torch.zeros((count, SIDE, SIDE), dtype=torch.uint8),
        has_mask_n=torch.zeros(count, dtype=torch.bool),
        ignore_m4=torch.zeros((0, 4)),
        keypoints=KeypointTargets(
            points_nK3=points,
            areas_n=(boxes[:, 2] * boxes[:, 3]) / SIDE**2,
            sigmas_K=torch.full((len(order),), 0.08),
        ),
    )
