"""The image encoder: CLIP's vision transformer, one forward per tile, and the projector to the language
model.

Shape suffixes: T tiles, S tile side in pixels, P patches of a tile, K tokens of a tile (P after pixel
shuffle), D width of the encoder, C width of the language model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from dataengine.errors import ModelError
from trainer.model.config import VisionConfig


@dataclass(frozen=True)
class VisionFeatures:
    """`tokens_TKC` go into the text; `levels_TPD` are the last hidden states without CLS, for the region
    encoder.
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
        self.encoder = _build_clip(config)
        self.freeze_unused()
        self.width: int = self.encoder.config.hidden_size
        self.projector = nn.Sequential(
            nn.Linear(self.width * config.pixel_shuffle**2, language_width),
            nn.GELU(),
            nn.Linear(language_width, language_width),
        )

    def freeze_unused(self) -> None:
        """Freeze the norm of the pooled output, which nothing reads: it would never have a gradient."""
        getattr(self.encoder, "vision_model", self.encoder).post_layernorm.requires_grad_(False)

    def forward(self, tiles_T3SS: torch.Tensor) -> VisionFeatures:
        """Return the features of normalised tiles (CLIP mean and std) of side `config.image_size`."""
        states = self.encoder(pixel_values=tiles_T3SS, output_hidden_states=True).hidden_states
        feature_TPD = states[self.config.feature_layer][:, 1:]
        tokens_TKC = self.projector(pixel_shuffle(feature_TPD, self.config.pixel_shuffle))
        return VisionFeatures(tokens_TKC, tuple(state[:, 1:] for state in states[-self.num_levels :]))


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


def _build_clip(config: VisionConfig) -> CLIPVisionModel:
    if config.image_size % (config.patch_size * config.pixel_shuffle):
        raise ModelError(
            f"vision: image_size {config.image_size!r} is not a multiple of patch_size * pixel_shuffle "
            f"({config.patch_size} * {config.pixel_shuffle}); choose sizes that divide"
        )
    if config.pretrained is None:
        return CLIPVisionModel(
            CLIPVisionConfig(
                image_size=config.image_size,
                patch_size=config.patch_size,
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
            )
        )
    model = CLIPVisionModel.from_pretrained(config.pretrained)
    loaded = (model.config.image_size, model.config.patch_size)
    if loaded != (config.image_size, config.patch_size):
        raise ModelError(
            f"vision: {config.pretrained!r} has image_size, patch_size {loaded!r}, expected "
            f"{(config.image_size, config.patch_size)!r}; set both in the vision configuration"
        )
    return model
