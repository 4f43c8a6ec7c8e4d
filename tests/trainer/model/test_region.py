from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dataengine.errors import ModelError
from trainer.model.config import RegionConfig
from trainer.model.region import RegionEncoder, sample_foreground

SIDE, PATCH, WIDTH = 28, 14, 12


def build(max_points: int = 64) -> RegionEncoder:
    torch.manual_seed(0)
    config = RegionConfig(stem_channels=(4, 8), max_points=max_points)
    return RegionEncoder(config, patch_size=PATCH, vision_width=WIDTH, language_width=10)


def levels(num_tiles: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn((num_tiles, 4, WIDTH), generator=generator) for _ in range(3)]


def masks(count: int) -> torch.Tensor:
    result = torch.zeros((count, SIDE, SIDE), dtype=torch.uint8)
    for index in range(count):
        result[index, index : index + 6, 4:9] = 1
    return result


def test_each_region_gives_one_vector_with_a_gradient() -> None:
    encoder = build()

    vectors = encoder(
        torch.randn(2, 3, SIDE, SIDE), levels(2), masks(3), torch.tensor([0, 1, 1]), ["a", "b", "b"], None
    )
    vectors.sum().backward()

    assert vectors.shape == (3, 10)
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_a_region_is_the_mean_over_its_pixels_of_the_accumulated_maps() -> None:
    encoder = build(max_points=1000)
    tiles, mask, some = torch.randn(1, 3, SIDE, SIDE), masks(1), levels(1)

    result = encoder(tiles, some, mask, torch.tensor([0]), ["a"], None)

    fused = encoder.stem(torch.cat([tiles, mask[:, None].float()], 1))
    y, x = mask[0].nonzero(as_tuple=True)
    grid = torch.stack([(x + 0.5) / SIDE, (y + 0.5) / SIDE], -1).view(1, 1, -1, 2) * 2 - 1
    sampled = []
    for level in some:
        fused = fused + level.transpose(1, 2).view(1, WIDTH, 2, 2)
        sampled.append(F.grid_sample(fused, grid, align_corners=False).mean((2, 3)))
    expected = encoder.projection(torch.stack(sampled).mean(0))
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-4)


def test_regions_do_not_see_each_other() -> None:
    encoder = build(max_points=8)
    tiles, some = torch.randn(2, 3, SIDE, SIDE), levels(2)

    together = encoder(tiles, some, masks(3), torch.tensor([0, 1, 0]), ["a", "b", "a"], None)
    alone = encoder(tiles, some, masks(3)[2:], torch.tensor([0]), ["a"], None)

    torch.testing.assert_close(together[2:], alone, atol=1e-5, rtol=1e-4)


@settings(deadline=None, max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    max_points=st.integers(1, 80),
    seed=st.one_of(st.none(), st.integers(0, 999)),
)
def test_points_are_distinct_foreground_pixels_up_to_the_limit(
    sizes: list[int], max_points: int, seed: int | None
) -> None:
    regions = torch.zeros((len(sizes), 8, 10), dtype=torch.uint8)
    for row, size in enumerate(sizes):
        regions[row].view(-1)[torch.randperm(80, generator=torch.Generator().manual_seed(row))[:size]] = 1
    generator = None if seed is None else torch.Generator().manual_seed(seed)

    grid, valid = sample_foreground(regions, max_points, generator)

    for row, size in enumerate(sizes):
        points = (grid[row][valid[row]] + 1) / 2 * torch.tensor([10, 8]) - 0.5
        pixels = {(round(x), round(y)) for x, y in points.tolist()}
        assert len(pixels) == len(points) == min(size, max_points)
        assert all(regions[row, y, x] for x, y in pixels)


def test_points_are_drawn_by_the_generator() -> None:
    regions = torch.ones((1, 20, 20), dtype=torch.uint8)

    first, _ = sample_foreground(regions, 10, torch.Generator().manual_seed(1))
    again, _ = sample_foreground(regions, 10, torch.Generator().manual_seed(1))
    other, _ = sample_foreground(regions, 10, torch.Generator().manual_seed(2))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_vanished_mask_is_an_error_that_names_the_sample() -> None:
    some = masks(2)
    some[1] = 0

    with pytest.raises(ModelError, match="coco/train/7#vqa: region mask 1"):
        build()(
            torch.randn(1, 3, SIDE, SIDE),
            levels(1),
            some,
            torch.tensor([0, 0]),
            ["x", "coco/train/7#vqa"],
            None,
        )


def test_an_odd_patch_size_is_refused() -> None:
    with pytest.raises(ModelError, match="odd"):
        RegionEncoder(RegionConfig(), patch_size=15, vision_width=8, language_width=8)
