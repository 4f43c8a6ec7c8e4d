"""What a model is made of, as plain frozen data: sizes for random weights, or a folder or hub id to load
weights from.

A configuration holds only strings, numbers and mappings, so that it can stand in a YAML file and in a
checkpoint; `msgspec.convert(mapping, ModelConfig)` reads one back, strictly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import msgspec

from dataengine import tokens
from dataengine.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class TokenIds:
    """The ids that the model looks for in `input_ids`; `emb` are the placeholders of super-link queries, in
    order.
    """

    image_patch: int
    region: int
    routing: dict[str, int]
    emb: tuple[int, ...]

    @classmethod
    def of(cls, vocabulary: Mapping[str, int]) -> TokenIds:
        """Return the ids of our added tokens in a tokenizer's vocabulary (token -> id).

        Raises ModelError if one is missing or if the placeholders' ids are not consecutive.
        """
        missing = [token for token in tokens.ADDED_TOKENS if token not in vocabulary]
        if missing:
            raise ModelError(
                f"vocabulary: token {missing[0]!r} is missing, expected all {len(tokens.ADDED_TOKENS)} added tokens; "
                "add them to the tokenizer first"
            )
        emb = tuple(vocabulary[token] for token in tokens.EMB_TOKENS)
        if emb != tuple(range(emb[0], emb[0] + len(emb))):
            raise ModelError(
                f"vocabulary: placeholder ids are {emb!r}, expected consecutive ids; add [EMB*] in order"
            )
        return cls(
            image_patch=vocabulary["<im_patch>"],
            region=vocabulary[tokens.REGION],
            routing={token: vocabulary[token] for token in tokens.ROUTING_TOKENS},
            emb=emb,
        )


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """The image encoder (CLIP's vision transformer) and its projector to the language model's width.

    `pretrained` is a local folder or hub id; then `image_size` and `patch_size` must be those of the loaded
    weights and the other sizes are not used. `feature_layer` counts hidden states as transformers does.
    `pixel_shuffle` merges squares of n x n patches into one token.
    """

    pretrained: str | None = None
    image_size: int = 336
    patch_size: int = 14
    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_layers: int = 24
    num_heads: int = 16
    feature_layer: int = -2
    pixel_shuffle: int = 1

    @property
    def tokens_per_tile(self) -> int:
        """Return how many `<im_patch>` tokens stand for one tile."""
        return (self.image_size // self.patch_size // self.pixel_shuffle) ** 2


@dataclass(frozen=True, kw_only=True)
class RegionConfig:
    """The region encoder: channels of the two first stem convolutions, ViT levels fused, points sampled per
    mask.
    """

    stem_channels: tuple[int, int] = (64, 256)
    num_levels: int = 3
    max_points: int = 2304


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """The language model. With `pretrained` the sizes are not used; `vocab_size` is the tokenizer's, added
    tokens included.

    `look_back` gives heads of random weights a start: head k of the first layer attends about
    `look_back[k]` tokens back. `gradient_checkpointing` recomputes activations in the backward pass.
    `attention` is transformers' `attn_implementation` (sdpa, flash_attention_2, ...); without it, transformers
    chooses.
    """

    vocab_size: int
    pretrained: str | None = None
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_layers: int = 32
    num_heads: int = 32
    max_length: int = 4096
    look_back: tuple[int, ...] = ()
    gradient_checkpointing: bool = False
    attention: str | None = None


@dataclass(frozen=True, kw_only=True)
class SuperLinkConfig:
    """What stands at the query positions after a routing token.

    `mode` "superlink": a learned table, one per decoder, or a single one where `shared`; "token": the
    vocabulary's own embeddings of the placeholders (the ablation of the paper's tables 5 and A10).
    """

    mode: Literal["superlink", "token"] = "superlink"
    shared: bool = False


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Factors of the detection losses."""

    cls: float = 2.0
    l1: float = 5.0
    giou: float = 2.0
    mask: float = 5.0
    dice: float = 5.0


@dataclass(frozen=True, kw_only=True)
class MatchCosts:
    """Factors of the matching costs; mask costs are off unless set."""

    cls: float = 2.0
    l1: float = 5.0
    giou: float = 2.0
    mask: float = 0.0
    dice: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DetectionConfig:
    """The object decoder: Grounding DINO with injected class vectors, and a mask head.

    `pretrained` (folder or hub id of a Grounding DINO checkpoint) overrides every size and the backbone; else
    `backbone` is "conv" (a small plain one) or "swin". `num_queries` are super-link queries per routing
    token, `num_objects` the decoder's object queries. `calibrated` divides class logits by sqrt(d_model) and
    adds a learned bias that starts at the prior .01, which random weights need and pretrained ones do not
    have. `denoising` is the number of positive denoising queries (as many negative ones come with them; 0:
    none).
    """

    pretrained: str | None = None
    num_queries: int = 4
    max_groups: int = 256
    backbone: Literal["conv", "swin"] = "swin"
    backbone_width: int = 96
    swin_depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    swin_heads: tuple[int, int, int, int] = (3, 6, 12, 24)
    swin_window: int = 7
    d_model: int = 256
    ffn_dim: int = 2048
    num_heads: int = 8
    num_levels: int = 4
    num_points: int = 4
    encoder_layers: int = 6
    decoder_layers: int = 6
    num_objects: int = 900
    dropout: float = 0.1
    drop_path: float = 0.1
    calibrated: bool = False
    link_width: int = 256
    mask_width: int = 256
    mask_points: int = 12544
    denoising: int = 100
    label_noise: float = 0.5
    box_noise: float = 1.0
    costs: MatchCosts = field(default_factory=MatchCosts)
    weights: LossWeights = field(default_factory=LossWeights)

    @classmethod
    def tiny(cls, **changes: Any) -> DetectionConfig:
        """Return sizes that train on two processor cores."""
        sizes: dict[str, Any] = {
            "backbone": "conv",
            "backbone_width": 32,
            "d_model": 64,
            "ffn_dim": 128,
            "num_heads": 4,
            "num_levels": 3,
            "num_points": 2,
            "encoder_layers": 2,
            "decoder_layers": 3,
            "num_objects": 40,
            "dropout": 0.0,
            "drop_path": 0.0,
            "calibrated": True,
            "link_width": 64,
            "mask_width": 32,
            "mask_points": 112,
            "denoising": 10,
            # The paper's are 2, 5 and 5. From random weights boxes are learnt long before names, and mask losses
            # that are many times the others keep both waiting.
            "weights": LossWeights(cls=4.0, mask=1.0, dice=1.0),
        }
        return cls(**{**sizes, **changes})


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """What the two decoders that make pictures have in common: latent diffusion conditioned by super-link queries
    (visionllmv2, A.8). The defaults here are those of Stable Diffusion 1.5; each decoder adds its own.

    `pretrained` is a folder or hub id of a pipeline of diffusers (subfolders vae, unet, scheduler, text_encoder,
    tokenizer); it overrides `num_tokens`, `width`, `patch` and all that begins with `unet_` or `noise_`. Autoencoder
    and text encoder stay frozen, the UNet too unless `train_unet`. Without `pretrained`, the UNet has random weights,
    latents are squares of `patch` x `patch` pixels, and there is no text encoder: a random one would teach nothing.

    `picture_side` is the side of the pictures in pixels. The mapper turns `num_queries` hidden states into `num_tokens`
    vectors of `width`, with `num_heads` and `ffn_dim`. `noise_prediction` says what the UNet foretells, `noise_beta` is
    the largest beta, and `noise_to_the_end` says that nothing is left of a picture at the last timestep (Lin et al.
    2024), which "epsilon" cannot learn. `caption_weight` is the factor of the caption loss.

    Training replaces the condition by the empty caption's in the shares of samples `drop_text` (the condition alone),
    `drop_picture` (the given picture alone) and `drop_both`. `sampling_steps`, `guidance` and `picture_guidance` are
    defaults of `predict`.
    """

    picture_side: int
    train_unet: bool
    drop_text: float
    drop_picture: float
    drop_both: float
    pretrained: str | None = None
    num_queries: int = 64
    num_tokens: int = 77
    width: int = 768
    num_heads: int = 8
    ffn_dim: int = 3072
    patch: int = 8
    unet_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    unet_layers: int = 2
    unet_heads: int = 8
    unet_norm_groups: int = 32
    noise_steps: int = 1000
    noise_beta: float = 0.012
    noise_prediction: Literal["epsilon", "v_prediction", "sample"] = "epsilon"
    noise_to_the_end: bool = False
    caption_weight: float = 0.1
    gradient_checkpointing: bool = False
    sampling_steps: int = 50
    guidance: float = 7.5
    picture_guidance: float = 1.5

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Return sizes that train on two processor cores."""
        sizes: dict[str, Any] = {
            "picture_side": 64,
            "train_unet": True,
            # Words stand a few tokens before the first queries, where a random language model can see them.
            "num_queries": 16,
            "num_tokens": 16,
            "width": 64,
            "num_heads": 4,
            "ffn_dim": 128,
            "patch": 4,
            "unet_channels": (64, 128),
            "unet_layers": 1,
            "unet_heads": 4,
            "unet_norm_groups": 8,
            # A square of pixels has many numbers and little in it: the picture is easier to foretell than the noise.
            "noise_prediction": "sample",
            # Flat areas show through noise that would hide a latent. Only where nothing shows is the text looked at.
            "noise_beta": 0.1,
            "noise_to_the_end": True,
            "sampling_steps": 20,
            "guidance": 3.0,
        }
        return cls(**{**sizes, **changes})


@dataclass(frozen=True, kw_only=True)
class GenerationConfig(DiffusionConfig):
    """The text-to-image decoder. The paper's code says .1 for `drop_text` and drops twice as many."""

    picture_side: int = 512
    train_unet: bool = False
    drop_text: float = 0.1
    drop_picture: float = 0.0
    drop_both: float = 0.0


@dataclass(frozen=True, kw_only=True)
class EditingConfig(DiffusionConfig):
    """The editing decoder; shares are InstructPix2Pix's (Brooks et al. 2023, section 3.2.1), a twentieth each. The
    paper's code has the same: the .05 that it states is dropped twice for the text and twice for the picture.
    """

    picture_side: int = 256
    train_unet: bool = True
    drop_text: float = 0.05
    drop_picture: float = 0.05
    drop_both: float = 0.05


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The whole model. `decoders` maps a name of `trainer.model.decoders.DECODERS`, or `package.module:Class`
    for a decoder of one's own, to that decoder's options (for "detection": the fields of DetectionConfig).

    `seed` seeds the random weights.
    """

    vision: VisionConfig
    region: RegionConfig
    language: LanguageConfig
    superlink: SuperLinkConfig
    decoders: dict[str, dict[str, Any]]
    token_ids: TokenIds
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain mappings, sequences, strings and numbers."""
        return _plain(self)


def tiny(
    vocabulary: Mapping[str, int],
    *,
    detection: DetectionConfig | None = None,
    generation: GenerationConfig | None = None,
    editing: EditingConfig | None = None,
    superlink: SuperLinkConfig | None = None,
    seed: int = 0,
) -> ModelConfig:
    """Return a whole model of random weights that trains on two processor cores, for a tokenizer's
    vocabulary. It makes pictures only where a configuration for that is given.
    """
    pictures = {"generation": generation, "editing": editing}
    return ModelConfig(
        vision=VisionConfig(
            image_size=112, hidden_size=64, intermediate_size=128, num_layers=4, num_heads=4, pixel_shuffle=2
        ),
        region=RegionConfig(stem_channels=(16, 32), max_points=256),
        language=LanguageConfig(
            vocab_size=max(vocabulary.values()) + 1,
            hidden_size=128,
            intermediate_size=256,
            num_layers=3,
            num_heads=4,
            max_length=2048,
            # Queries stand 2 to 5 tokens after the end of the name that they ask for. Pretrained models read it
            # there; random ones gave every class nearly the same vector for hundreds of steps.
            look_back=(2, 3, 4),
        ),
        superlink=superlink or SuperLinkConfig(),
        decoders={
            "detection": _plain(detection or DetectionConfig.tiny()),
            **{name: _plain(config) for name, config in pictures.items() if config is not None},
        },
        token_ids=TokenIds.of(vocabulary),
        seed=seed,
    )


def _plain(config: Any) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(config))
