"""What a model is made of, as plain frozen data: sizes for random weights, or a folder or hub id to load
weights from.

A configuration holds only strings, numbers and mappings, so that it can stand in a YAML file and in a
checkpoint; `msgspec.convert(mapping, ModelConfig)` reads one back, strictly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

import msgspec

from dataengine import tokens
from dataengine.errors import ModelError

T = TypeVar("T")


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
        sizes: dict[str, Any] = {**_TINY_GROUNDING, "num_instances": 10, "box_layers": 1}
        return cls(**{**sizes, **changes})


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
    superlink: SuperLinkConfig | None = None,
    seed: int = 0,
) -> ModelConfig:
    """Return a whole model of random weights that trains on two processor cores, for a tokenizer's
    vocabulary.
    """
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
        decoders={"detection": _plain(detection or DetectionConfig.tiny())},
        token_ids=TokenIds.of(vocabulary),
        seed=seed,
    )


def read_options(family: str, options: Mapping[str, Any], kind: type[T]) -> T:
    """Return a decoder's options as its configuration class. Raises ModelError for unknown or ill-typed ones."""
    known = {field.name for field in fields(kind)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ModelError(f"{family}: unknown option {unknown[0]!r}, expected one of {sorted(known)!r}")
    try:
        return msgspec.convert(dict(options), kind)
    except msgspec.ValidationError as error:
        raise ModelError(f"{family}: {error}; see {kind.__name__}") from error


def _plain(config: Any) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(config))
