"""What a model is made of, as plain frozen data: sizes for random weights, or a folder or hub id to load
weights from.

A configuration holds only strings, numbers and mappings, so that it can stand in a YAML file and in a
checkpoint; `options.read(ModelConfig, mapping, place)` reads one back, strictly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from dataengine import tokens
from dataengine.errors import ModelError, nearest
from trainer.model.decoders import DECODERS, decoder_options
from trainer.model.options import overlay, plain, read
from trainer.model.pretrained import describe_encoder, describe_language
from trainer.settings import CLIP_MEAN, CLIP_STD


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
    """The image encoder (a vision transformer: CLIP, SigLIP or DINOv2) and its projector to the language model's width.

    Without `pretrained` it is CLIP's, of random weights and the sizes given. `pretrained` is a local folder or hub id,
    which says the sizes; `make_model` writes them here, and what transformers must know to build it again as
    `architecture`. Tiles have another side than the weights were trained with where `image_size` says so: position
    embeddings are then interpolated. `image_mean` and `image_std` normalise the tiles. `feature_layer` counts hidden
    states as transformers does. `pixel_shuffle` merges squares of n x n patches into one token.
    `gradient_checkpointing` and `attention` are as in LanguageConfig.
    """

    pretrained: str | None = None
    architecture: dict[str, Any] | None = None
    image_size: int = 336
    patch_size: int = 14
    image_mean: tuple[float, float, float] = CLIP_MEAN
    image_std: tuple[float, float, float] = CLIP_STD
    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_layers: int = 24
    num_heads: int = 16
    feature_layer: int = -2
    pixel_shuffle: int = 1
    gradient_checkpointing: bool = False
    attention: str | None = None

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
class LoraConfig:
    """Low-rank adapters (Hu et al. 2021) of the linear layers named `targets`: W x + alpha / rank * B A x.

    The defaults are those of the paper's code.
    """

    rank: int = 32
    alpha: float = 64.0
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """The language model: Llama's of random weights and the sizes given, or with `pretrained` (a local folder or hub
    id) any causal one of transformers, whose sizes are its own; `make_model` writes them as `architecture`.

    `vocab_size` is the tokenizer's, added tokens included; pretrained weights know its first `known_tokens`, and the
    rows of later ones start as the mean of theirs.

    `look_back` gives heads of random weights a start: head k of the first layer attends about
    `look_back[k]` tokens back. With `copy_across`, they look exactly there, and two heads of the second layer start by
    copying a list of the question into the answer, where so many tokens (a routing token and its queries) stand behind
    each item (`trainer.model.starts`). `head_size` without a number is width by heads, `rope_theta` the base of the
    rotary embeddings' wave lengths. `gradient_checkpointing` recomputes activations in the backward pass.
    `attention` is transformers' `attn_implementation` (sdpa, flash_attention_2, ...); without it, transformers
    chooses. With `lora`, adapters stand beside the linear layers; they are a part of their own ("lora").
    """

    vocab_size: int
    known_tokens: int | None = None
    pretrained: str | None = None
    architecture: dict[str, Any] | None = None
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_layers: int = 32
    num_heads: int = 32
    max_length: int = 4096
    head_size: int | None = None
    rope_theta: float = 10000.0
    look_back: tuple[int, ...] = ()
    copy_across: int | None = None
    gradient_checkpointing: bool = False
    attention: str | None = None
    lora: LoraConfig | None = None


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
class GroundingConfig:
    """Grounding DINO with injected class vectors: what detection and pose have in common.

    `pretrained` (folder or hub id of a Grounding DINO checkpoint) overrides every size and the backbone; else
    `backbone` is "conv" (a small plain one) or "swin". `num_queries` are super-link queries per routing
    token, `num_objects` the decoder's object queries, `max_groups` the most classes of a sample. `calibrated` divides
    class logits by sqrt(d_model) and adds a learned bias that starts at the prior .01, which random weights need and
    pretrained ones do not have. `denoising` is the number of positive denoising queries (as many negative ones come
    with them; 0: none).
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
    denoising: int = 100
    label_noise: float = 0.5
    box_noise: float = 1.0


# Sizes of a GroundingConfig that train on two processor cores.
_TINY_GROUNDING: dict[str, Any] = {
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
    "denoising": 10,
}


@dataclass(frozen=True, kw_only=True)
class DetectionConfig(GroundingConfig):
    """The object decoder: Grounding DINO and a mask head."""

    mask_width: int = 256
    mask_points: int = 12544
    costs: MatchCosts = field(default_factory=MatchCosts)
    weights: LossWeights = field(default_factory=LossWeights)

    @classmethod
    def tiny(cls, **changes: Any) -> DetectionConfig:
        """Return sizes that train on two processor cores."""
        sizes: dict[str, Any] = {
            **_TINY_GROUNDING,
            "mask_width": 32,
            "mask_points": 112,
            # The paper's are 2, 5 and 5. From random weights boxes are learnt long before names, and mask losses
            # that are many times the others keep both waiting.
            "weights": LossWeights(cls=4.0, mask=1.0, dice=1.0),
        }
        return cls(**{**sizes, **changes})

    @classmethod
    def small(cls, **changes: Any) -> DetectionConfig:
        """Return sizes that train on one GPU from random weights."""
        sizes: dict[str, Any] = {
            "ffn_dim": 1024,
            "encoder_layers": 4,
            "num_objects": 300,
            "dropout": 0.0,
            "calibrated": True,
            "mask_points": 3136,
            "denoising": 50,
            "weights": cls.tiny().weights,
        }
        return cls(**{**sizes, **changes})


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """What the two decoders that make pictures have in common: latent diffusion conditioned by super-link queries.

    The defaults here are those of Stable Diffusion 1.5; each decoder adds its own.

    `pretrained` is a folder or hub id of a pipeline of diffusers (subfolders vae, unet, scheduler, text_encoder,
    tokenizer); it overrides `num_tokens`, `width`, `patch` and all that begins with `unet_` or `noise_`. Autoencoder
    and text encoder stay frozen, the UNet too unless `train_unet` (null: where
    nobody has trained it before). Without `pretrained`, the UNet has random weights,
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
    train_unet: bool | None
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

    @classmethod
    def small(cls, **changes: Any) -> Self:
        """Return sizes that train on one GPU from random weights."""
        sizes: dict[str, Any] = {
            "picture_side": 128,
            "num_tokens": 77,
            "width": 256,
            "num_heads": 8,
            "ffn_dim": 1024,
            "unet_channels": (96, 192, 256),
            "unet_layers": 2,
            "unet_heads": 8,
            "unet_norm_groups": 16,
            "sampling_steps": 50,
        }
        return cls.tiny(**{**sizes, **changes})

    @property
    def unet_learns(self) -> bool:
        """Whether the UNet is trained."""
        return self.pretrained is None if self.train_unet is None else self.train_unet


@dataclass(frozen=True, kw_only=True)
class GenerationConfig(DiffusionConfig):
    """The text-to-image decoder. The paper's code says .1 for `drop_text` and drops twice as many."""

    picture_side: int = 512
    train_unet: bool | None = None
    drop_text: float = 0.1
    drop_picture: float = 0.0
    drop_both: float = 0.0


@dataclass(frozen=True, kw_only=True)
class EditingConfig(DiffusionConfig):
    """The editing decoder; shares are InstructPix2Pix's (Brooks et al. 2023, section 3.2.1), a twentieth each. The
    paper's code has the same: the .05 that it states is dropped twice for the text and twice for the picture.
    """

    picture_side: int = 256
    train_unet: bool | None = True
    drop_text: float = 0.05
    drop_picture: float = 0.05
    drop_both: float = 0.05


@dataclass(frozen=True, kw_only=True)
class PoseWeights:
    """Factors of the pose losses, and of the matching costs of the same names."""

    cls: float = 2.0
    l1: float = 5.0
    giou: float = 2.0
    keypoints: float = 10.0
    oks: float = 4.0


@dataclass(frozen=True, kw_only=True)
class PoseConfig(GroundingConfig):
    """The pose decoder: Grounding DINO of which only the first `box_layers` decoder layers see boxes alone.

    Then the best `num_instances` boxes go on, each with a box for every keypoint that the sample asks for, at most
    `max_keypoints`.
    """

    max_groups: int = 100
    dropout: float = 0.0
    max_keypoints: int = 68
    num_instances: int = 50
    box_layers: int = 2
    costs: PoseWeights = field(default_factory=PoseWeights)
    weights: PoseWeights = field(default_factory=PoseWeights)

    @classmethod
    def tiny(cls, **changes: Any) -> PoseConfig:
        """Return sizes that train on two processor cores."""
        sizes: dict[str, Any] = {
            **_TINY_GROUNDING,
            "num_instances": 10,
            "box_layers": 1,
            # Three layers find keypoints; with two, a model of random weights learns them many times slower.
            "decoder_layers": 4,
        }
        return cls(**{**sizes, **changes})

    @classmethod
    def small(cls, **changes: Any) -> PoseConfig:
        """Return sizes that train on one GPU from random weights."""
        sizes: dict[str, Any] = {
            "ffn_dim": 1024,
            "encoder_layers": 4,
            "num_objects": 300,
            "calibrated": True,
            "denoising": 50,
        }
        return cls(**{**sizes, **changes})


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The whole model. `decoders` maps a name of `trainer.model.decoders.DECODERS`, or `package.module:Class`
    for a decoder of one's own, to that decoder's options (for "detection": the fields of DetectionConfig).

    `seed` seeds the random weights. `decoder_short` and `decoder_longest` are the sides, in pixels, of the pictures
    that decoders of objects are made for (see `EncodeSettings`).
    """

    vision: VisionConfig
    region: RegionConfig
    language: LanguageConfig
    superlink: SuperLinkConfig
    decoders: dict[str, dict[str, Any]]
    token_ids: TokenIds
    decoder_short: tuple[int, ...] = (800,)
    decoder_longest: int = 1333
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain mappings, sequences, strings and numbers."""
        return plain(self)


# What each preset changes in the defaults; those are the sizes of the paper's 7B model, which is "base". A decoder's
# options are its own class's (`decoders.decoder_options`).
PRESETS: dict[str, dict[str, Any]] = {
    # Trains on two processor cores.
    "tiny": {
        "vision": {
            "image_size": 112,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_layers": 4,
            "num_heads": 4,
            "pixel_shuffle": 2,
        },
        "region": {"stem_channels": [16, 32], "max_points": 256},
        "language": {
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_layers": 3,
            "num_heads": 8,
            "head_size": 32,
            "rope_theta": 1e6,
            "max_length": 2048,
            # Queries stand 2 to 5 tokens after the end of the name that they ask for. Pretrained models read it
            # there; random ones gave every class nearly the same vector for hundreds of steps. Nor do random ones
            # copy a list from the question in thousands of steps: [DET] and its four queries stand between a name and
            # the comma, from where it is 6 tokens back.
            "look_back": [0, 1, 2, 3, 4, 6, 7],
            "copy_across": 5,
        },
        "decoder_short": [128],
        "decoder_longest": 128,
        "decoders": ["detection"],
    },
    # Trains on one GPU in minutes, from random weights.
    "small": {
        "vision": {
            "image_size": 224,
            "hidden_size": 384,
            "intermediate_size": 1536,
            "num_layers": 12,
            "num_heads": 6,
            "pixel_shuffle": 2,
        },
        "language": {
            "hidden_size": 768,
            "intermediate_size": 2048,
            "num_layers": 12,
            "num_heads": 12,
            "look_back": [2, 3, 4],
        },
        "decoder_short": [384],
        "decoder_longest": 640,
        "decoders": list(DECODERS),
    },
    "base": {"decoders": list(DECODERS)},
}


def make_model(options: Mapping[str, Any], vocabulary: Mapping[str, int], *, seed: int = 0) -> ModelConfig:
    """Return the model that plain data describes, for a tokenizer's vocabulary (token -> id).

    `options` are the fields of ModelConfig, of which the vocabulary gives `token_ids` and `language.vocab_size`. With
    `preset`, a name of PRESETS, they are laid over that preset's, `decoders` is a list of names, and each one's options
    stand under its name. What pretrained folders say of themselves is written out. Raises ModelError for what is
    unknown, ill-typed or missing.
    """
    given = dict(options)
    preset = given.pop("preset", None)
    if not all(isinstance(given.get(part, {}), Mapping) for part in ("vision", "language")):
        raise ModelError("model: vision and language are mappings of options")
    if "token_ids" in given or "vocab_size" in given.get("language", {}):
        raise ModelError("model: token_ids and language.vocab_size are the tokenizer's; remove them")
    given = overlay(_described(given), given)
    if preset is not None:
        given = _laid_over(preset, given)
    decoders = given.get("decoders")
    if not isinstance(decoders, Mapping) or not all(isinstance(some, Mapping) for some in decoders.values()):
        raise ModelError("model: decoders is a mapping of names to options, expected {} for none; give it")
    filled = {
        "vision": {},
        "region": {},
        "superlink": {},
        "seed": seed,
        **given,
        "decoders": {name: decoder_options(name, some, preset) for name, some in decoders.items()},
        "language": {**given.get("language", {}), **_rows(vocabulary)},
        "token_ids": plain(TokenIds.of(vocabulary)),
    }
    return read(ModelConfig, filled, "model")


def without_folders(config: ModelConfig) -> ModelConfig:
    """Return the configuration of the same model without the folders that the weights of its image encoder and
    language model came from: what is to be loaded from a checkpoint does not need them."""
    return replace(
        config,
        vision=replace(config.vision, pretrained=None),
        language=replace(config.language, pretrained=None),
    )


def tiny(
    vocabulary: Mapping[str, int], *, superlink: SuperLinkConfig | None = None, seed: int = 0, **decoders: Any
) -> ModelConfig:
    """Return a whole model of random weights that trains on two processor cores, for a tokenizer's vocabulary.

    `decoders` are names and their options, as dataclasses or plain data; without any, detection.
    """
    options = {name: plain(some) for name, some in decoders.items()}
    options |= {} if superlink is None else {"superlink": plain(superlink)}
    names = list(decoders) or PRESETS["tiny"]["decoders"]
    return make_model({"preset": "tiny", "decoders": names, **options}, vocabulary, seed=seed)


def _laid_over(preset: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a preset with those given over them, and its decoders as a mapping of options."""
    if preset not in PRESETS:
        raise ModelError(f"model: unknown preset {preset!r}{nearest(preset, PRESETS)}")
    names = given.pop("decoders", PRESETS[preset]["decoders"])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(
            f"model: decoders is {names!r}, expected a list of names beside a preset; put the options of each under"
            " its name"
        )
    decoders = {name: given.pop(name, {}) for name in names}
    for name in set(given) & set(DECODERS):
        raise ModelError(f"model: options for {name!r}, which is not among decoders {names!r}; add it there")
    return {**overlay(PRESETS[preset], given), "decoders": decoders}


def _described(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the pretrained folders of image encoder and language model say of themselves."""
    describe = {"vision": describe_encoder, "language": describe_language}
    names = {part: given.get(part, {}).get("pretrained") for part in describe}
    return {part: describe[part](name) for part, name in names.items() if name is not None}


def _rows(vocabulary: Mapping[str, int]) -> dict[str, int]:
    """Return how many rows the embeddings have, and how many of them others may have trained: those before our tokens,
    which stand at the end (but for those that the tokenizer had before)."""
    ours = {vocabulary[token] for token in tokens.ADDED_TOKENS}
    first = vocabulary[tokens.EMB_TOKENS[-1]]
    while first - 1 in ours:
        first -= 1
    return {"vocab_size": max(vocabulary.values()) + 1, "known_tokens": first}
