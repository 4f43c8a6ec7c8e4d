"""The image encoder, a vision transformer (CLIP, SigLIP, DINOv2), one forward per tile, and the projector to the
language model.

Shape suffixes: T tiles, S tile side in pixels, P patches of a tile, K tokens of a tile (P after pixel
shuffle), D width of the encoder, C width of the language model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers import (
    AutoModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Model,
    Dinov2WithRegistersModel,
    PreTrainedModel,
    SiglipVisionModel,
)

from dataengine.errors import ModelError, nearest
from trainer.model.config import VisionConfig
from trainer.model.language import recompute_activations
from trainer.model.pretrained import built_config, describe_encoder

# By transformers' `model_type`. Each gives hidden states of the patches in rows, behind class and register tokens
# where it has some. SigLIP 2 of one resolution is SigLIP; its other kind (NaFlex) takes patches instead of pictures.
ENCODERS: dict[str, type[PreTrainedModel]] = {
    "clip_vision_model": CLIPVisionModel,
    "siglip_vision_model": SiglipVisionModel,
    "dinov2": Dinov2Model,
    "dinov2_with_registers": Dinov2WithRegistersModel,
}
# What only the pooled output, the last norm or pretraining reads.
_UNUSED = ("post_layernorm", "layernorm", "head", "embeddings.mask_token")


@dataclass(frozen=True)
class VisionFeatures:
    """`tokens_TKC` go into the text; `levels_TPD` are the last hidden states without class and register tokens, for
    the region encoder.
    """

    tokens_TKC: torch.Tensor
    levels_TPD: tuple[torch.Tensor, ...]


class VisionEncoder(nn.Module):
    """Tiles in, projected tokens and the last hidden states out.

    Whether it is trained is decided by `requires_grad` of its parameters alone: with a frozen encoder no
    graph is kept.
    """

    def __init__(self, config: VisionConfig, language_width: int, num_levels: int) -> None:
        super().__init__()
        self.config = config
        self.num_levels = num_levels
        self.encoder = _build(config)
        if config.gradient_checkpointing:
            recompute_activations(self.encoder)
        self.freeze_unused()
        self.width: int = self.encoder.config.hidden_size
        self.projector = nn.Sequential(
            nn.Linear(self.width * config.pixel_shuffle**2, language_width),
            nn.GELU(),
            nn.Linear(language_width, language_width),
        )

    def freeze_unused(self) -> None:
        """Freeze what stands behind the hidden states, which nothing reads: it would never have a gradient."""
        for name, parameter in self.encoder.named_parameters():
            if name.startswith(_UNUSED):
                parameter.requires_grad_(False)

    def forward(self, tiles_T3SS: torch.Tensor) -> VisionFeatures:
        """Return the features of normalised tiles (`image_mean`, `image_std`) of side `config.image_size`."""
        states = self.encoder(
            pixel_values=tiles_T3SS, output_hidden_states=True, **self._interpolation()
        ).hidden_states
        num_patches = (self.config.image_size // self.config.patch_size) ** 2
        feature_TPD = states[self.config.feature_layer][:, -num_patches:]
        tokens_TKC = self.projector(pixel_shuffle(feature_TPD, self.config.pixel_shuffle))
        return VisionFeatures(
            tokens_TKC, tuple(state[:, -num_patches:] for state in states[-self.num_levels :])
        )

    def _interpolation(self) -> dict[str, bool]:
        """Ask for position embeddings of another size than the weights'; DINOv2 gives them without being asked."""
        if "dino" in self.encoder.config.model_type:
            return {}
        return {"interpolate_pos_encoding": self.config.image_size != self.encoder.config.image_size}


def pixel_shuffle(feature_TPD: torch.Tensor, factor: int) -> torch.Tensor:
    """Merge each square of factor x factor patches into one token: [T, P, D] -> [T, P / factor^2, D *
    factor^2].
    """
    if factor == 1:
        return feature_TPD
    num_tiles, num_patches, width = feature_TPD.shape
    side = math.isqrt(num_patches)
    blocks = feature_TPD.view(num_tiles, side // factor, factor, side // factor, factor, width)
    return blocks.permute(0, 1, 3, 2, 4, 5).reshape(num_tiles, (side // factor) ** 2, factor**2 * width)


def _build(config: VisionConfig) -> PreTrainedModel:
    if config.image_size % (config.patch_size * config.pixel_shuffle):
        raise ModelError(
            f"vision: image_size {config.image_size!r} is not a multiple of patch_size * pixel_shuffle "
            f"({config.patch_size} * {config.pixel_shuffle}); choose sizes that divide"
        )
    architecture = config.architecture
    if architecture is None and config.pretrained is not None:
        architecture = describe_encoder(config.pretrained)["architecture"]
    settings = _random_clip(config) if architecture is None else built_config(architecture)
    if settings.model_type not in ENCODERS:
        raise ModelError(
            f"vision: {config.pretrained!r} is of type {settings.model_type!r}, expected another image encoder"
            f"{nearest(settings.model_type, ENCODERS)}"
        )
    if settings.patch_size != config.patch_size:
        raise ModelError(
            f"vision: {config.pretrained!r} has patch_size {settings.patch_size!r}, expected {config.patch_size!r};"
            " change it in the vision configuration"
        )
    if config.pretrained is None:
        return AutoModel.from_config(settings, attn_implementation=config.attention)
    return ENCODERS[settings.model_type].from_pretrained(
        config.pretrained, dtype=torch.float32, attn_implementation=config.attention
    )


def _random_clip(config: VisionConfig) -> CLIPVisionConfig:
    return CLIPVisionConfig(
        image_size=config.image_size,
        patch_size=config.patch_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
    )
