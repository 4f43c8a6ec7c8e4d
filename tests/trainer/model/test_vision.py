from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dataengine.errors import ModelError
from trainer.model.config import VisionConfig
from trainer.model.vision import VisionEncoder, pixel_shuffle

SMALL = VisionConfig(
    image_size=28, patch_size=7, hidden_size=16, intermediate_size=32, num_layers=3, num_heads=2
)


def build(config: VisionConfig) -> VisionEncoder:
    torch.manual_seed(0)
    return VisionEncoder(config, language_width=24, num_levels=3)


@pytest.mark.parametrize("shuffle", [1, 2])
def test_a_tile_gives_its_tokens_and_three_levels(shuffle: int) -> None:
    config = replace(SMALL, pixel_shuffle=shuffle)

    features = build(config)(torch.randn(5, 3, 28, 28))

    assert features.tokens_TKC.shape == (5, config.tokens_per_tile, 24)
    assert [level.shape for level in features.levels_TPD] == [(5, 16, 16)] * 3


def test_tokens_come_from_the_layer_before_the_last() -> None:
    encoder = build(SMALL)
    tiles = torch.randn(1, 3, 28, 28)
    before = encoder(tiles)

    with torch.no_grad():
        for parameter in encoder.encoder.get_submodule("encoder.layers.2").parameters():
            parameter.add_(1.0)
    after = encoder(tiles)

    torch.testing.assert_close(after.tokens_TKC, before.tokens_TKC)
    assert not torch.allclose(after.levels_TPD[2], before.levels_TPD[2])


def test_pixel_shuffle_merges_neighbours() -> None:
    grid = torch.arange(16.0).view(1, 16, 1)

    merged = pixel_shuffle(grid, 2)

    assert merged[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


@pytest.mark.parametrize("trained", [True, False])
def test_requires_grad_alone_decides_whether_the_encoder_is_trained(trained: bool) -> None:
    encoder = build(SMALL)
    encoder.encoder.requires_grad_(trained)

    encoder(torch.randn(1, 3, 28, 28)).tokens_TKC.sum().backward()

    patch_weight = encoder.encoder.get_submodule("embeddings.patch_embedding").weight
    assert (patch_weight.grad is not None) == trained
    assert encoder.projector[0].weight.grad is not None


def test_weights_load_from_a_folder(tmp_path: Path) -> None:
    original = build(SMALL)
    original.encoder.save_pretrained(tmp_path)

    loaded = build(VisionConfig(pretrained=str(tmp_path), image_size=28, patch_size=7))

    tiles = torch.randn(1, 3, 28, 28)
    torch.testing.assert_close(loaded(tiles).levels_TPD[2], original(tiles).levels_TPD[2])


def test_loaded_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    build(SMALL).encoder.save_pretrained(tmp_path)

    with pytest.raises(ModelError, match=r"image_size, patch_size \(28, 7\)"):
        build(VisionConfig(pretrained=str(tmp_path)))


def test_patches_must_divide_the_tile() -> None:
    with pytest.raises(ModelError, match="not a multiple"):
        build(replace(SMALL, image_size=30))
