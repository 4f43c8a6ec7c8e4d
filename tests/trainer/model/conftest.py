"""A toy problem for the model: coloured rectangles on a plain background, asked for by colour."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from dataengine.tokens import ADDED_TOKENS, DET, EMB_TOKENS
from trainer.batch import Batch, ObjectTargets
from trainer.model.config import ModelConfig, tiny

WORDS = ("<s>", "</s>", "<unk>", *ADDED_TOKENS, "find", ",", ".", "red", "green", "blue", "yellow")
COLOURS = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.8, 0.2),
    "blue": (0.1, 0.2, 0.9),
    "yellow": (0.9, 0.9, 0.1),
}

MakeBatch = Callable[..., Batch]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Run on one thread: on a busy machine, threads that wait for each other cost far more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def vocabulary() -> dict[str, int]:
    """Every word of the toy language and its id."""
    return {word: index for index, word in enumerate(WORDS)}


@pytest.fixture
def config(vocabulary: dict[str, int]) -> ModelConfig:
    """The tiny model for the toy language."""
    return tiny(vocabulary)


@pytest.fixture
def make_batch(vocabulary: dict[str, int]) -> MakeBatch:
    """Return a function that makes a batch of toy samples."""

    def make(
        num_samples: int = 4,
        *,
        seed: int = 0,
        token: str = DET,
        num_queries: int = 4,
        tokens_per_tile: int = 16,
        tile_side: int = 112,
        image_side: int = 128,
        classes: tuple[int, ...] | None = None,
        region: bool = False,
        family: str = "detection",
    ) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        names = list(COLOURS)
        rows: list[list[int]] = []
        labels: list[list[int]] = []
        groups: list[tuple[int, int]] = []
        images: list[torch.Tensor] = []
        targets: list[ObjectTargets] = []
        for b in range(num_samples):
            num_classes = classes[b] if classes else len(names)
            order = torch.randperm(len(names), generator=generator).tolist()[:num_classes]
            ids = [vocabulary["<s>"], *[vocabulary["<im_patch>"]] * tokens_per_tile, vocabulary["find"]]
            ids += [vocabulary["<region>"]] if region else []
            wanted = [-100] * len(ids)
            for index in order:
                groups.append((b, len(ids) + 1))
                ids += [vocabulary[names[index]], vocabulary[token]]
                ids += [vocabulary[emb] for emb in EMB_TOKENS[:num_queries]] + [vocabulary[","]]
                wanted += [vocabulary[names[index]], vocabulary[token]] + [-100] * num_queries
                wanted += [vocabulary[","]]
            rows.append([*ids, vocabulary["</s>"]])
            labels.append([*wanted, vocabulary["</s>"]])
            image, target = _draw(order[:2], names, image_side, generator)
            images.append(image)
            targets.append(target)
        length = max(len(row) for row in rows)
        input_ids = torch.full((num_samples, length), vocabulary["[PAD]"])
        wanted_ids = torch.full((num_samples, length), -100)
        for b, (row, label) in enumerate(zip(rows, labels, strict=True)):
            input_ids[b, : len(row)] = torch.tensor(row)
            wanted_ids[b, : len(label)] = torch.tensor(label)
        pictures = torch.stack(images)
        regions = torch.zeros((num_samples if region else 0, tile_side, tile_side), dtype=torch.uint8)
        regions[:, 20:60, 30:80] = 1
        return Batch(
            family=family,
            sample_ids=tuple(f"toy/train/{seed}-{b}#detection" for b in range(num_samples)),
            tasks=("detection",) * num_samples,
            input_ids_BL=input_ids,
            labels_BL=wanted_ids,
            attention_mask_BL=input_ids != vocabulary["[PAD]"],
            tiles_T3SS=torch.nn.functional.interpolate(pictures, size=(tile_side, tile_side)),
            tiles_per_image=((1,),) * num_samples,
            regions_RSS=regions,
            region_tile_R=torch.arange(regions.shape[0]),
            groups_G2=torch.tensor(groups, dtype=torch.long).reshape(-1, 2),
            group_tokens=(token,) * len(groups),
            images_B3HW=pictures,
            pixel_mask_BHW=torch.ones((num_samples, image_side, image_side), dtype=torch.bool),
            targets=tuple(targets),
            original_sizes=((image_side, image_side),) * num_samples,
        )

    return make


def _draw(
    shown: list[int], names: list[str], side: int, generator: torch.Generator
) -> tuple[torch.Tensor, ObjectTargets]:
    """Draw a rectangle of each shown colour in its own half of a grey picture; label k is the k-th colour."""
    image = torch.full((3, side, side), 0.5)
    boxes, masks = [], []
    half = side // 2
    for place, index in enumerate(shown):
        size = torch.randint(half // 2, half - 8, (2,), generator=generator).tolist()
        left = place * half + int(torch.randint(0, half - size[0], (1,), generator=generator))
        top = int(torch.randint(0, side - size[1], (1,), generator=generator))
        mask = torch.zeros((side, side), dtype=torch.uint8)
        mask[top : top + size[1], left : left + size[0]] = 1
        image[:, mask.bool()] = torch.tensor(COLOURS[names[index]])[:, None]
        boxes.append([left + size[0] / 2, top + size[1] / 2, size[0], size[1]])
        masks.append(mask)
    count = len(shown)
    return (image - 0.5) * 4, ObjectTargets(
        labels_n=torch.arange(count),
        boxes_n4=torch.tensor(boxes).reshape(-1, 4) / side,
        masks_nHW=torch.stack(masks) if masks else torch.zeros((0, side, side), dtype=torch.uint8),
        has_mask_n=torch.ones(count, dtype=torch.bool),
        ignore_m4=torch.zeros((0, 4)),
    )
