"""The parts of latent diffusion that diffusers and transformers have: autoencoder, UNet, noise schedule, text encoder.

They come from the folder of a pipeline, or are made at random by their sizes.

Shape suffixes: B samples, S picture side, E channels of a latent, h w its size, Q condition tokens, D their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from dataengine.errors import ModelError
from trainer.model.config import DiffusionConfig


class KLLatents(nn.Module):
    """A pretrained variational autoencoder."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae
        self.num_channels: int = vae.config.latent_channels
        self.factor: int = 2 ** (len(vae.config.block_out_channels) - 1)
        self.scale: float = vae.config.scaling_factor

    @torch.no_grad()
    def encode(self, pictures_B3SS: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation of the latents of pictures in [-1, 1], unscaled, [B, E, h, w] each."""
        found = self.vae.encode(pictures_B3SS).latent_dist
        return found.mean.float(), found.std.float()

    @torch.no_grad()
    def decode(self, latents_BEhw: torch.Tensor) -> torch.Tensor:
        """Return the pictures of unscaled latents, [B, 3, S, S]."""
        return self.vae.decode(latents_BEhw).sample.float()


class PixelLatents(nn.Module):
    """Squares of pixels as the channels of a latent, for a UNet of random weights.

    An autoencoder of random weights gives back nothing like the picture that it was given, and one that learns beside
    the UNet would move its target. This one has no weights and loses nothing.
    """

    scale = 1.0

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.num_channels, self.factor = 3 * patch**2, patch

    def encode(self, pictures_B3SS: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the squares [B, E, h, w], and their standard deviation, which is zero."""
        latents_BEhw = F.pixel_unshuffle(pictures_B3SS, self.factor)
        return latents_BEhw, torch.zeros_like(latents_BEhw)

    def decode(self, latents_BEhw: torch.Tensor) -> torch.Tensor:
        """Return the pictures of squares, [B, 3, S, S]."""
        return F.pixel_shuffle(latents_BEhw, self.factor)


class TextStates(nn.Module):
    """The text encoder that a pretrained UNet was trained with: what the mapper is to come near to."""

    def __init__(self, encoder: CLIPTextModel, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.num_tokens: int = tokenizer.model_max_length

    @torch.no_grad()
    def forward(self, captions: Sequence[str]) -> torch.Tensor:
        """Return the last hidden states of captions, padded and cut to the encoder's length, [B, Q, D]."""
        coded = self.tokenizer(
            list(captions),
            padding="max_length",
            max_length=self.num_tokens,
            truncation=True,
            return_tensors="pt",
        )
        return self.encoder(coded.input_ids.to(self.encoder.device)).last_hidden_state.float()


@dataclass(frozen=True)
class Parts:
    """What a decoder is built of; `text` is None where there is no text encoder."""

    latents: KLLatents | PixelLatents
    unet: UNet2DConditionModel
    schedule: DDPMScheduler
    text: TextStates | None


def make_parts(family: str, config: DiffusionConfig, *, edits: bool) -> Parts:
    """Return the parts of a decoder, whose UNet is shown the given picture's latents too where it `edits`.

    Raises ModelError for sizes that do not fit each other, and for a UNet that nobody has trained or will.
    """
    parts = _random(config, edits) if config.pretrained is None else _load(config.pretrained)
    if config.pretrained is None and not config.unet_learns:
        raise ModelError(
            f"{family}: train_unet is false and the UNet has random weights, expected one of the two; set pretrained"
            " or train_unet"
        )
    channels = parts.latents.num_channels * (2 if edits else 1)
    if parts.unet.config.in_channels != channels:
        raise ModelError(
            f"{family}: the UNet of {config.pretrained!r} takes {parts.unet.config.in_channels} channels, expected"
            f" {channels}; give the folder of a pipeline that {'edits pictures' if edits else 'makes them from text'}"
        )
    multiple = parts.latents.factor * 2 ** (len(parts.unet.config.block_out_channels) - 1)
    if config.picture_side % multiple:
        raise ModelError(
            f"{family}: picture_side is {config.picture_side!r}, expected a multiple of {multiple}, by which"
            " autoencoder and UNet divide; choose another"
        )
    if config.gradient_checkpointing:
        parts.unet.enable_gradient_checkpointing()
    return parts


def _load(folder: str) -> Parts:
    precise = {"torch_dtype": torch.float32}
    # A schedule is a few numbers, whatever sampler the pipeline was published with.
    stated = DDPMScheduler.load_config(folder, subfolder="scheduler")
    return Parts(
        latents=KLLatents(AutoencoderKL.from_pretrained(folder, subfolder="vae", **precise)),
        unet=UNet2DConditionModel.from_pretrained(folder, subfolder="unet", **precise),
        # Latents are not bounded, which not every published schedule says.
        schedule=DDPMScheduler.from_config(stated, clip_sample=False),
        text=TextStates(
            CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", dtype=torch.float32),
            CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer"),
        ),
    )


def _random(config: DiffusionConfig, edits: bool) -> Parts:
    latents = PixelLatents(config.patch)
    levels = len(config.unet_channels)
    # As in Stable Diffusion: every level looks at the condition but the coarsest, which the middle block does for.
    down = ["CrossAttnDownBlock2D"] * (levels - 1) + ["DownBlock2D"]
    up = ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * (levels - 1)
    unet = UNet2DConditionModel(
        sample_size=config.picture_side // config.patch,
        in_channels=latents.num_channels * (2 if edits else 1),
        out_channels=latents.num_channels,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        block_out_channels=config.unet_channels,
        layers_per_block=config.unet_layers,
        cross_attention_dim=config.width,
        # diffusers' name for the number of heads.
        attention_head_dim=config.unet_heads,
        norm_num_groups=config.unet_norm_groups,
    )
    schedule = DDPMScheduler(
        num_train_timesteps=config.noise_steps,
        beta_start=0.00085,
        beta_end=config.noise_beta,
        beta_schedule="scaled_linear",
        prediction_type=config.noise_prediction,
        rescale_betas_zero_snr=config.noise_to_the_end,
        timestep_spacing="trailing" if config.noise_to_the_end else "leading",
        # Squares of pixels lie in [-1, 1].
        clip_sample=True,
    )
    return Parts(latents=latents, unet=unet, schedule=schedule, text=None)
