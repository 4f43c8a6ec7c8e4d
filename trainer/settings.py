"""What encoding is told, and the families of decoders.

A family names the decoder that answers a sample; "text" where the language model alone does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dataengine import tokens
from dataengine.sample import ImageTargets, InstanceTargets, KeypointTargets, Sample, TextTargets
from trainer.tiling import choose_grid, num_tiles

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

TEXT, DETECTION, POSE, GENERATION, EDITING = "text", "detection", "pose", "generation", "editing"


def _default_queries() -> dict[str, int]:
    return {token: 64 if token in (tokens.GEN, tokens.EDIT) else 4 for token in tokens.ROUTING_TOKENS}


def _default_sides() -> dict[str, int]:
    return {GENERATION: 512, EDITING: 256}


def _default_readers() -> dict[str, tuple[str, ...]]:
    return {
        DETECTION: (tokens.DET, tokens.GRD, tokens.SEG),
        POSE: (tokens.DET, tokens.POSE),
        GENERATION: (tokens.GEN,),
        EDITING: (tokens.EDIT,),
    }


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """What the model fixes (sizes, queries) and what a run chooses (lengths, augmentation).

    `tile_mean` and `tile_std` normalise the tiles: those of the image encoder's training.
    `num_queries` are the placeholders after each routing token, `readers` the tokens that each family's decoder reads,
    `picture_side` the pixels of a side of the pictures that a family makes.
    `decoder_short` are sides of which one is drawn in training (the last one otherwise), in pixels; `max_length`
    counts tokens after pictures and queries are expanded. Mirroring needs a random generator and `flip_ratio` > 0, as a
    crop to at least `crop_least` of each side does `crop_ratio`.
    Pictures of at least `reduce_from` pixels may be decoded at a part of their size (see `needed`); None: none is.
    """

    tile_side: int
    tokens_per_tile: int
    tile_mean: tuple[float, float, float] = CLIP_MEAN
    tile_std: tuple[float, float, float] = CLIP_STD
    max_tiles: int = 4
    max_length: int = 4096
    decoder_short: tuple[int, ...] = (800,)
    decoder_longest: int = 1333
    flip_ratio: float = 0.0
    crop_ratio: float = 0.0
    crop_least: float = 0.6
    reduce_from: int | None = None
    flip_never: frozenset[str] = frozenset({"ocr", "text_detection", "text_spotting"})
    num_queries: Mapping[str, int] = field(default_factory=_default_queries)
    readers: Mapping[str, tuple[str, ...]] = field(default_factory=_default_readers)
    picture_side: Mapping[str, int] = field(default_factory=_default_sides)


def family_of(sample: Sample) -> str:
    """Return the decoder family that answers a sample; `text` where the language model alone does."""
    match sample.targets:
        case TextTargets():
            return TEXT
        case InstanceTargets():
            return DETECTION
        case KeypointTargets():
            return POSE
        case ImageTargets():
            return EDITING if any(route.token == tokens.EDIT for route in sample.routes) else GENERATION


def tiles_per_image(sample: Sample, settings: EncodeSettings) -> list[int]:
    """Return how many tiles each input picture of a sample gives."""
    return [
        num_tiles(choose_grid(image.width, image.height, settings.tile_side, settings.max_tiles))
        for image in sample.images
        if image.role == "input"
    ]
