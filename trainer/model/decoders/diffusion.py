"""The decoders that make pictures: text-to-image and editing, latent diffusion conditioned by super-link queries.

Shape suffixes: B samples, G groups (one a sample), N super-link queries, C width of the language model, Q condition
tokens, D their width, S picture side, E channels of a latent, h w its size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from diffusers import DDIMScheduler
from torch import nn
from torch.nn import functional as F

from dataengine import tokens
from dataengine.errors import ModelError
from trainer.batch import Batch, PictureTargets
from trainer.losses import mean_count
from trainer.model.config import DiffusionConfig, EditingConfig, GenerationConfig
from trainer.model.decoders import DecoderLosses
from trainer.model.decoders.chance import chance_of, draw_seed
from trainer.model.decoders.diffusion_parts import make_parts
from trainer.model.options import read


class ConditionMapper(nn.Module):
    """Hidden states of N queries to the Q vectors that a UNet takes for a caption's states (App. B.2).

    A two-layer MLP on each, then a Transformer of one encoder and one decoder layer, whose queries are learned. No
    dropout: all chance of a step is handed in.
    """

    def __init__(
        self, language_width: int, width: int, num_tokens: int, num_heads: int, ffn_dim: int
    ) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(language_width, width), nn.GELU(), nn.Linear(width, width))
        self.queries_QD = nn.Parameter(torch.randn(num_tokens, width) * 0.02)
        sizes: dict[str, Any] = {
            "d_model": width,
            "nhead": num_heads,
            "dim_feedforward": ffn_dim,
            "dropout": 0.0,
            "batch_first": True,
            "norm_first": True,
        }
        encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**sizes), 1, nn.LayerNorm(width), enable_nested_tensor=False
        )
        decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**sizes), 1, nn.LayerNorm(width))
        self.attention = nn.Transformer(
            width, num_heads, custom_encoder=encoder, custom_decoder=decoder, batch_first=True
        )

    def forward(self, hidden_GNC: torch.Tensor) -> torch.Tensor:
        """Return [G, Q, D]."""
        queries_GQD = self.queries_QD.expand(len(hidden_GNC), -1, -1)
        return self.attention(self.project(hidden_GNC), queries_GQD)


@dataclass(frozen=True)
class Chance:
    """What the samples of a batch draw: a timestep, by what their condition is dropped (in [0, 1)), the noise, and that
    of the autoencoder.
    """

    timestep_B: torch.Tensor
    drop_B: torch.Tensor
    noise_BEhw: torch.Tensor
    spread_BEhw: torch.Tensor


class DiffusionDecoder(nn.Module):
    """Makes the picture of each sample's one group. What `edits` says is all in which the two families differ."""

    family: str
    tokens: tuple[str, ...]
    edits: bool
    options: type[DiffusionConfig]
    num_queries = DiffusionConfig.num_queries

    def __init__(self, config: DiffusionConfig, language_width: int) -> None:
        super().__init__()
        if config.drop_text + config.drop_picture + config.drop_both > 1:
            raise ModelError(
                f"{self.family}: drop_text, drop_picture and drop_both add up to more than 1; they are shares"
            )
        if config.noise_to_the_end and config.noise_prediction == "epsilon":
            raise ModelError(
                f"{self.family}: noise_to_the_end needs noise_prediction 'v_prediction' or 'sample': pure noise tells"
                " nothing of a picture; change one of them"
            )
        self.config = config
        self.num_queries = config.num_queries
        parts = make_parts(self.family, config, edits=self.edits)
        self.latents, self.unet, self.schedule, self.text = (
            parts.latents,
            parts.unet,
            parts.schedule,
            parts.text,
        )
        width: int = self.unet.config.cross_attention_dim
        num_tokens = config.num_tokens if self.text is None else self.text.num_tokens
        self.mapper = ConditionMapper(language_width, width, num_tokens, config.num_heads, config.ffn_dim)
        # What stands for no caption: with a text encoder, its states of the empty one.
        self.nothing_QD = nn.Parameter(torch.randn(num_tokens, width) * 0.02) if self.text is None else None
        self.freeze()

    @classmethod
    def build(cls, options: Mapping[str, Any], language_width: int) -> Self:
        """Build from the fields of the family's configuration; raises ModelError for unknown or ill-typed ones."""
        return cls(read(cls.options, options, cls.family), language_width)

    def freeze(self) -> None:
        """Take from training what is never trained: text encoder, autoencoder, and the UNet unless configured."""
        frozen = [self.latents, self.text, None if self.config.unet_learns else self.unet]
        for part in frozen:
            if part is not None:
                part.requires_grad_(False)

    def forward(self, hidden_GNC: torch.Tensor, batch: Batch, generator: torch.Generator) -> DecoderLosses:
        """Return the losses: "noise", the mean square error of what the UNet foretells at a timestep drawn evenly, and
        "caption", that of the condition against the text encoder's states of the caption, where there is one.
        """
        pictures = self._check(hidden_GNC, batch)
        if pictures is None or pictures.wanted_B3SS is None:
            raise ModelError(
                f"{batch.sample_ids[0]}: batch has no pictures to make, training the {self.family} decoder needs them;"
                " collate PictureTargets"
            )
        seed = draw_seed(generator) if batch.whole is None else batch.whole.seed
        mean_BEhw, std_BEhw = self.latents.encode(pictures.wanted_B3SS)
        chance = self._chance(seed, batch.sample_ids, mean_BEhw)
        latents_BEhw = (mean_BEhw + std_BEhw * chance.spread_BEhw) * self.latents.scale
        noisy_BEhw = self.schedule.add_noise(latents_BEhw, chance.noise_BEhw, chance.timestep_B)

        mapped_BQD = self.mapper(hidden_GNC)
        states_BQD = None if self.text is None else self.text([*pictures.captions, ""])
        nothing_QD = self.nothing_QD if states_BQD is None else states_BQD[-1]
        without_text_B, without_picture_B = self._dropped(chance.drop_B)
        condition_BQD = torch.where(without_text_B[:, None, None], nothing_QD.to(mapped_BQD), mapped_BQD)
        given_BEhw = self._given(pictures)
        if given_BEhw is not None:
            given_BEhw = given_BEhw * ~without_picture_B[:, None, None, None]
        foretold_BEhw = self._foretell(noisy_BEhw, chance.timestep_B, condition_BQD, given_BEhw)

        if batch.whole is None:
            count = mean_count(chance.drop_B.new_tensor(len(batch.sample_ids)))
        else:
            count = batch.whole.counts_5[3]
        target_BEhw = self._target(latents_BEhw, chance)
        terms = {"noise": _square_error(foretold_BEhw, target_BEhw).sum() / count}
        if states_BQD is not None:
            error_B = _square_error(mapped_BQD, states_BQD[:-1])
            terms["caption"] = self.config.caption_weight * error_B.sum() / count
        return DecoderLosses(terms)

    @torch.no_grad()
    def predict(
        self,
        hidden_GNC: torch.Tensor,
        batch: Batch,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        picture_guidance: float | None = None,
        generator: torch.Generator | None = None,
    ) -> list[torch.Tensor]:
        """Return a picture a sample, uint8 [3, S, S] on the CPU, by DDIM (Song et al. 2021).

        `guidance` is how far the condition is followed beyond the empty caption's (Ho and Salimans 2022), and
        `picture_guidance`, in editing, the given picture (Brooks et al. 2023, equation 3). A picture depends on the
        number that `generator` draws and on its sample, not on the others of its batch; without one it is the same each
        time.
        """
        pictures = self._check(hidden_GNC, batch)
        config = self.config
        mapped_BQD = self.mapper(hidden_GNC)
        nothing_QD = self.nothing_QD if self.text is None else self.text([""])[0]
        nothing_BQD = nothing_QD.to(mapped_BQD).expand_as(mapped_BQD)
        given_BEhw = None if pictures is None else self._given(pictures)
        guides = self._guides(
            mapped_BQD,
            nothing_BQD,
            given_BEhw,
            config.guidance if guidance is None else guidance,
            config.picture_guidance if picture_guidance is None else picture_guidance,
        )
        sampler = DDIMScheduler.from_config(self.schedule.config)
        sampler.set_timesteps(config.sampling_steps if steps is None else steps, device=mapped_BQD.device)
        side = config.picture_side // self.latents.factor
        like_BEhw = mapped_BQD.new_zeros((len(mapped_BQD), self.latents.num_channels, side, side)).float()
        seed = 0 if generator is None else draw_seed(generator)
        latents_BEhw = self._chance(seed, batch.sample_ids, like_BEhw).noise_BEhw
        for timestep in sampler.timesteps:
            foretold_BEhw = torch.zeros_like(latents_BEhw)
            for weight, condition_BQD, shown_BEhw in guides:
                found_BEhw = self._foretell(latents_BEhw, timestep, condition_BQD, shown_BEhw)
                foretold_BEhw += weight * found_BEhw.float()
            latents_BEhw = sampler.step(foretold_BEhw, timestep, latents_BEhw).prev_sample
        made_B3SS = self.latents.decode(latents_BEhw / self.latents.scale)
        return list(((made_B3SS.clamp(-1, 1) + 1) * 127.5).round().to("cpu", torch.uint8))

    def _check(self, hidden_GNC: torch.Tensor, batch: Batch) -> PictureTargets | None:
        """Return the batch's pictures, None where it has none; raises ModelError where they or the groups misfit."""
        if batch.groups_G2[:, 0].tolist() != list(range(len(batch.sample_ids))):
            raise ModelError(
                f"{batch.sample_ids[0]}: routing tokens of the batch stand in samples {batch.groups_G2[:, 0].tolist()},"
                f" the {self.family} decoder expects one in each; leave out samples with none or several"
            )
        pictures = batch.pictures
        if self.edits and (pictures is None or pictures.given_B3SS is None):
            raise ModelError(
                f"{batch.sample_ids[0]}: batch has no pictures to edit, the {self.family} decoder needs them; collate"
                " PictureTargets.given_B3SS"
            )
        for shown in () if pictures is None else (pictures.wanted_B3SS, pictures.given_B3SS):
            expected = (len(batch.sample_ids), 3, self.config.picture_side, self.config.picture_side)
            if shown is not None and tuple(shown.shape) != expected:
                raise ModelError(
                    f"{batch.sample_ids[0]}: pictures have shape {tuple(shown.shape)!r}, expected {expected!r}; encode"
                    " with the model's EncodeSettings"
                )
        return pictures

    def _chance(self, seed: int, sample_ids: tuple[str, ...], like_BEhw: torch.Tensor) -> Chance:
        """Return what each sample draws, from the seed and its own id alone."""
        drawn = []
        for sample_id in sample_ids:
            own = chance_of(seed, sample_id)
            noise_2Ehw = torch.randn((2, *like_BEhw.shape[1:]), generator=own)
            timestep = torch.randint(self.schedule.config.num_train_timesteps, (), generator=own)
            drawn.append((noise_2Ehw, timestep, torch.rand((), generator=own)))
        noise_B2Ehw, timestep_B, drop_B = (
            torch.stack(parts).to(like_BEhw.device) for parts in zip(*drawn, strict=True)
        )
        return Chance(timestep_B, drop_B, noise_B2Ehw[:, 0], noise_B2Ehw[:, 1])

    def _dropped(self, drop_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return where the condition is dropped, and where the given picture is, bool [B] each."""
        both, text, picture = self.config.drop_both, self.config.drop_text, self.config.drop_picture
        without_text_B = drop_B < both + text
        without_picture_B = (drop_B < both) | (~without_text_B & (drop_B < both + text + picture))
        return without_text_B, without_picture_B

    def _given(self, pictures: PictureTargets) -> torch.Tensor | None:
        """Return what the UNet is shown of the given pictures: the mode of their latents, not scaled."""
        return self.latents.encode(pictures.given_B3SS)[0] if self.edits else None

    def _foretell(
        self,
        noisy_BEhw: torch.Tensor,
        timestep: torch.Tensor,
        condition_BQD: torch.Tensor,
        given_BEhw: torch.Tensor | None,
    ) -> torch.Tensor:
        shown = noisy_BEhw if given_BEhw is None else torch.cat([noisy_BEhw, given_BEhw], dim=1)
        return self.unet(shown, timestep, encoder_hidden_states=condition_BQD).sample

    def _target(self, latents_BEhw: torch.Tensor, chance: Chance) -> torch.Tensor:
        """Return what the UNet is to foretell, as its schedule says."""
        match self.schedule.config.prediction_type:
            case "epsilon":
                return chance.noise_BEhw
            case "v_prediction":
                return self.schedule.get_velocity(latents_BEhw, chance.noise_BEhw, chance.timestep_B)
            case _:
                return latents_BEhw

    def _guides(
        self,
        mapped_BQD: torch.Tensor,
        nothing_BQD: torch.Tensor,
        given_BEhw: torch.Tensor | None,
        guidance: float,
        picture_guidance: float,
    ) -> list[tuple[float, torch.Tensor, torch.Tensor | None]]:
        """Return (weight, condition, given picture) of each call of the UNet; the weighted sum is the guided result."""
        found: list[tuple[float, torch.Tensor, torch.Tensor | None]] = [(guidance, mapped_BQD, given_BEhw)]
        if given_BEhw is None:
            found.append((1 - guidance, nothing_BQD, None))
        else:
            found.append((picture_guidance - guidance, nothing_BQD, given_BEhw))
            found.append((1 - picture_guidance, nothing_BQD, torch.zeros_like(given_BEhw)))
        return [guide for guide in found if guide[0]]


class GenerationDecoder(DiffusionDecoder):
    """Makes a picture from text."""

    family = "generation"
    tokens = (tokens.GEN,)
    edits = False
    options = GenerationConfig


class EditingDecoder(DiffusionDecoder):
    """Changes a picture as told; the UNet sees its latents beside the noisy ones."""

    family = "editing"
    tokens = (tokens.EDIT,)
    edits = True
    options = EditingConfig


def _square_error(found_B: torch.Tensor, wanted_B: torch.Tensor) -> torch.Tensor:
    """Return the mean square error of each sample, [B]."""
    return F.mse_loss(found_B.float(), wanted_B.float(), reduction="none").flatten(1).mean(1)
