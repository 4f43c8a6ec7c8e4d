from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    LlamaConfig,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from dataengine.errors import ModelError
from trainer.model.config import RegionConfig, VisionConfig
from trainer.model.options import read
from trainer.model.pretrained import describe_encoder
from trainer.model.region import RegionEncoder
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


def test_loaded_weights_of_another_patch_size_are_refused(tmp_path: Path) -> None:
    build(SMALL).encoder.save_pretrained(tmp_path)

    with pytest.raises(ModelError, match=r"has patch_size 7, expected 14"):
        build(VisionConfig(pretrained=str(tmp_path)))


def test_patches_must_divide_the_tile() -> None:
    with pytest.raises(ModelError, match="not a multiple"):
        build(replace(SMALL, image_size=30))


SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}
GREY = ([0.4, 0.5, 0.6], [0.2, 0.3, 0.25])
# A model of each kind, its patch size, and how many tokens stand before those of the patches.
KINDS: dict[str, tuple[Any, Any, int]] = {
    "clip": (CLIPVisionModel, CLIPVisionConfig(image_size=56, patch_size=14, **SIZES), 1),
    "siglip": (SiglipVisionModel, SiglipVisionConfig(image_size=64, patch_size=16, **SIZES), 0),
    "dinov2": (Dinov2Model, Dinov2Config(image_size=56, patch_size=14, mlp_ratio=2, **SIZES), 1),
    "registers": (
        Dinov2WithRegistersModel,
        Dinov2WithRegistersConfig(image_size=56, patch_size=14, mlp_ratio=2, num_register_tokens=4, **SIZES),
        5,
    ),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def folder(kind: str, tmp_path: Path) -> Path:
    """Save a model of random weights and its processor, as others publish theirs."""
    model, config, _ = KINDS[kind]
    torch.manual_seed(1)
    model(config).save_pretrained(tmp_path)
    mean, std = GREY
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}))
    return tmp_path


def described(folder: Path, **changes: Any) -> VisionConfig:
    return read(
        VisionConfig, {"pretrained": str(folder), **describe_encoder(str(folder)), **changes}, "vision"
    )


@pytest.mark.parametrize("shuffle", [1, 2])
def test_other_encoders_give_the_tokens_of_their_patches_alone(kind: str, folder: Path, shuffle: int) -> None:
    model, settings, before = KINDS[kind]
    config = described(folder, pixel_shuffle=shuffle)
    tiles = torch.randn(2, 3, config.image_size, config.image_size)

    encoder = build(config)
    features = encoder(tiles)

    states = model.from_pretrained(folder)(pixel_values=tiles, output_hidden_states=True).hidden_states
    assert (config.image_size, config.patch_size) == (settings.image_size, settings.patch_size)
    assert states[-2].shape[1] == 16 + before
    assert features.tokens_TKC.shape == (2, 16 // shuffle**2, 24)
    torch.testing.assert_close(features.levels_TPD[1], states[-2][:, before:])
    expected = encoder.projector(pixel_shuffle(states[-2][:, before:], shuffle))
    torch.testing.assert_close(features.tokens_TKC, expected)


def test_tiles_are_normalised_by_what_the_encoder_was_trained_with(folder: Path) -> None:
    config = described(folder)

    assert (list(config.image_mean), list(config.image_std)) == GREY


def test_tiles_may_be_larger_than_those_that_the_weights_were_trained_with(folder: Path) -> None:
    config = described(folder)
    config = replace(config, image_size=6 * config.patch_size)

    features = build(config)(torch.randn(1, 3, config.image_size, config.image_size))

    assert features.levels_TPD[0].shape == (1, 36, 16)


def test_every_weight_of_other_encoders_that_is_not_frozen_learns(folder: Path) -> None:
    config = described(folder)
    encoder = build(config)
    features = encoder(torch.randn(2, 3, config.image_size, config.image_size))

    (features.tokens_TKC.sum() + sum(level.square().sum() for level in features.levels_TPD)).backward()

    missing = [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


def test_an_encoder_is_built_again_without_its_folder(folder: Path) -> None:
    config = described(folder)
    original = build(config)

    again = build(replace(config, pretrained=None))
    again.load_state_dict(original.state_dict())

    tiles = torch.randn(1, 3, config.image_size, config.image_size)
    torch.testing.assert_close(again(tiles).tokens_TKC, original(tiles).tokens_TKC)


def test_regions_follow_the_patches_of_other_encoders(folder: Path) -> None:
    config = described(folder)
    encoder = build(config)
    side = config.image_size
    region = RegionEncoder(
        RegionConfig(stem_channels=(4, 8)), patch_size=config.patch_size, vision_width=16, language_width=24
    )
    tiles, masks = torch.randn(2, 3, side, side), torch.zeros(3, side, side, dtype=torch.bool)
    masks[:, 5:20, 8:30] = True

    found = region(tiles, encoder(tiles).levels_TPD, masks, torch.tensor([0, 1, 1]), ["a", "b", "b"], None)

    assert found.shape == (3, 24)


def test_weights_of_half_precision_are_kept_in_full(kind: str, folder: Path) -> None:
    model, config, _ = KINDS[kind]
    model(config).to(torch.bfloat16).save_pretrained(folder)

    assert {p.dtype for p in build(described(folder)).parameters()} == {torch.float32}


def test_an_encoder_without_mean_and_deviation_is_refused(tmp_path: Path) -> None:
    Dinov2Model(KINDS["dinov2"][1]).save_pretrained(tmp_path)

    with pytest.raises(ModelError, match=r"no preprocessor_config\.json with image_mean and image_std"):
        describe_encoder(str(tmp_path))


def test_what_is_no_image_encoder_is_refused(tmp_path: Path) -> None:
    LlamaConfig(**SIZES).save_pretrained(tmp_path)
    architecture = {"model_type": "llama", **SIZES}

    with pytest.raises(ModelError, match="is of type 'llama', expected another image encoder"):
        build(VisionConfig(architecture=architecture))


def test_recomputed_activations_give_the_same_gradient() -> None:
    tiles = torch.randn(2, 3, 28, 28)
    gradients, calls = [], []
    for checkpointing in (False, True):
        encoder = build(replace(SMALL, gradient_checkpointing=checkpointing)).train()
        called: list[int] = []
        mlp = encoder.encoder.get_submodule("encoder.layers.0.mlp")
        mlp.register_forward_pre_hook(lambda *_, called=called: called.append(1))
        encoder(tiles).tokens_TKC.square().sum().backward()
        gradients.append(encoder.encoder.get_submodule("embeddings.patch_embedding").weight.grad)
        calls.append(len(called))

    assert calls == [1, 2]
    torch.testing.assert_close(gradients[0], gradients[1])
