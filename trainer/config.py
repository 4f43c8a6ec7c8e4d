"""What a training run is told: one strict YAML file, and the stage presets of the paper (table A13, section A.11)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from dataengine import yaml12
from dataengine.adapt import Adapt, check_adapt
from dataengine.errors import ModelError, SpecError, nearest
from dataengine.mix import Recipe
from dataengine.render import RenderOptions
from dataengine.store import StoreSettings, locate
from dataengine.strict import convert, load_struct
from dataengine.tokens import ROUTING_TOKENS
from trainer.model.config import PRESETS, ModelConfig, make_model
from trainer.model.decoders import find_decoder, readers_of, token_owners
from trainer.settings import EncodeSettings

Stage = Literal["1a", "1b", "2", "3", "joint"]

# Samples of a step. The largest of the paper's stages has 2048, contrastive training of pictures and text 2^15.
MAX_BATCH = 1 << 16

_STAGES = resources.files("trainer") / "stages"


def stage_fields(name: str) -> dict[str, Any]:
    """Return the fields of a training run in one of our files, by its name (trainer/stages/<name>.yaml).

    Its learning rates are left out: they are those of its `stage`, and `lr` may take their place. Raises SpecError
    where there is no file of that name.
    """
    return {key: value for key, value in _stage_file(name).items() if key != "learning_rates"}


def stage_names() -> list[str]:
    """Return the names of our files of settings."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _STAGES.iterdir())


def _stage_file(name: str) -> dict[str, Any]:
    if name not in stage_names():
        raise SpecError(f"{name}: no such file, and none of ours is called so{nearest(name, stage_names())}")
    with resources.as_file(_STAGES / f"{name}.yaml") as path:
        return yaml12.load(path)


# Learning rate by part of the model (`VisionLLM.parts`) in each stage; a part that is not named is frozen. "decoders"
# are all decoders but their picture backbones, which are "backbones".
STAGES: dict[str, dict[str, float]] = {
    file["stage"]: {part: rate for part, rate in file["learning_rates"].items() if rate is not None}
    for file in map(_stage_file, stage_names())
}


class Packing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several samples in a sequence, where the answer is text alone.

    A sequence holds at most `max_tokens` (without it as many as `max_length` allows a sample) and `max_tiles` (without
    it any number). A sample with more tiles is left out, as `image.too_many_tiles`.
    """

    max_tokens: int | None = None
    max_tiles: int | None = None


class MicroBatches(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step in parts, whose gradients add up to the step's: what goes through the model at once.

    A micro-batch has at most `max_rows` sequences and `max_tokens` positions, padding included. Their number is
    rounded up to `multiple_of`: ranks whose number divides it have equally many, others run one again without weight.
    """

    max_rows: int | None = None
    max_tokens: int | None = None
    multiple_of: int = 1


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A training run.

    `shards` is a folder or a URL, and `store` says how shards at a URL are read.

    `model` is a preset ("tiny", "small", "base"), or a mapping `{preset: tiny, decoders: [detection, pose],
    pose: {...}, superlink: {...}}`, or the fields of `trainer.model.config.ModelConfig` (see `make_model`).
    `tokenizer` is a folder or hub id; without one a small tokenizer is trained on our prompt banks and the run's first
    samples. `init_from` is a run or a checkpoint of one, whose weights and tokenizer this run starts with, and nothing
    else. `mixture` holds the fields of a recipe (policy, weights, ...); seed and batch come from here, and the mode is
    "unmixed" or "accumulate". `adapt` changes it on the way: `{function: my.module:choose, every: 100}`, see
    `dataengine.adapt`.
    `render: each_epoch` words samples anew in each pass over their source; `render_options` are the
    fields of `dataengine.render.RenderOptions`.

    A part learns at `learning_rates[part]`, else at `lr`, else at the stage's rate; null freezes it. The rate rises
    over `warmup_ratio` of the steps and falls to zero as a cosine. `decoder_short` and `decoder_longest` are pixels.
    A gradient longer than `grad_clip` is shortened to it: the whole of a step's, or with `clip_by: part` each part's by
    itself, so that a decoder's long one does not shrink the text's.
    `flip_ratio` and `crop_ratio` are the shares of training samples that are mirrored and cropped, where that leaves
    them true (`trainer.augment`). Pictures of at least `reduce_from` pixels are decoded at a part of their size where
    their views need no more; null decodes all of them whole.
    `threads` compute on a CPU; 0 means the cores that the data threads (`num_workers`) leave free, at least one.
    `max_bad_ratio` is the share of positions that may be bad (damaged bytes, pictures that cannot be decoded) before
    the run ends, counted over at least 1000; samples that are only skipped do not count.

    The newest `keep` checkpoints stay, and one every `keep_every_hours`. Several processes share the model as
    `parallel` says: "fsdp", each holds a slice of all weights, or "ddp", each holds all of them. `compile` names the
    backend of torch.compile (usually "inductor") for the language model's layers. `tensorboard` also writes the log's
    numbers for that tool; `wandb` are arguments of `wandb.init` (`{project: ...}`). `peak_tflops` is what one device
    can do, for the MFU of the log, where its name does not tell.
    """

    shards: str
    store: StoreSettings = StoreSettings()
    steps: int
    global_batch: int
    seed: int = 0
    mixture: dict[str, Any] = {}
    adapt: Adapt | None = None
    render: Literal["stored", "each_epoch"] = "stored"
    render_options: dict[str, Any] = {}
    model: str | dict[str, Any] = "tiny"
    tokenizer: str | None = None
    init_from: str | None = None
    stage: Stage = "joint"
    lr: float | None = None
    learning_rates: dict[str, float | None] = {}
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    grad_clip: float = 1.0
    clip_by: Literal["whole", "part"] = "whole"
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"
    max_length: int = 2048
    max_tiles: int = 4
    decoder_short: tuple[int, ...] = ()
    decoder_longest: int | None = None
    flip_ratio: float = 0.0
    crop_ratio: float = 0.0
    pack: Packing | None = None
    micro_batch: MicroBatches | None = None
    reduce_from: int | None = 1 << 20
    max_bad_ratio: float = 0.01
    num_workers: int = 2
    threads: int = 0
    prefetch: int = 4
    log_every: int = 1
    checkpoint_every: int = 500
    keep: int = 2
    keep_every_hours: float | None = None
    parallel: Literal["fsdp", "ddp"] = "fsdp"
    compile: str | None = None
    tensorboard: bool = True
    wandb: dict[str, Any] | None = None
    peak_tflops: float | None = None


# What may change when a run goes on: none of it changes a number that the model sees. Micro-batches change the order in
# which gradients are summed, and which random number a decoder's noise is; another machine may need other ones.
FREE_TO_CHANGE = frozenset(
    {
        "shards",
        "store",
        "device",
        "max_bad_ratio",
        "micro_batch",
        "num_workers",
        "threads",
        "prefetch",
        "log_every",
        "checkpoint_every",
        "keep",
        "keep_every_hours",
        "parallel",
        "compile",
        "tensorboard",
        "wandb",
        "peak_tflops",
        "tokenizer",
        "init_from",
    }
)


def load_config(path: Path) -> TrainConfig:
    """Read a training run's YAML file. Raises SpecError with file, line and nearest known key."""
    config = load_struct(path, TrainConfig)
    check_config(config, str(path))
    return config


def make_config(fields: Mapping[str, Any], place: str = "train") -> TrainConfig:
    """Read a training run from plain data, as strictly as from a file. Raises SpecError."""
    config = convert(dict(fields), TrainConfig, place, [])
    check_config(config, place)
    return config


def check_config(config: TrainConfig, place: str) -> None:
    """Raise SpecError for a value that no run can have."""
    for name in (
        "steps",
        "global_batch",
        "max_length",
        "max_tiles",
        "prefetch",
        "log_every",
        "checkpoint_every",
        "keep",
    ):
        if getattr(config, name) < 1:
            raise SpecError(
                f"{place}: {name} is {getattr(config, name)!r}, expected at least 1; give a larger number"
            )
    if config.global_batch > MAX_BATCH:
        raise SpecError(
            f"{place}: global_batch is {config.global_batch}, expected at most {MAX_BATCH}: all samples of a step"
            " are in memory at once, and of the steps that are read ahead; lower it, and take more steps"
        )
    for name in ("flip_ratio", "crop_ratio", "warmup_ratio", "max_bad_ratio"):
        if not 0 <= getattr(config, name) <= 1:
            raise SpecError(f"{place}: {name} is {getattr(config, name)!r}, expected 0 to 1; it is a share")
    for name, meaning in (
        ("num_workers", "reads in the main thread"),
        ("threads", "takes the free cores"),
    ):
        if getattr(config, name) < 0:
            raise SpecError(f"{place}: {name} is {getattr(config, name)!r}, expected 0 or more; 0 {meaning}")
    rates = [config.lr, *config.learning_rates.values()]
    wrong = [rate for rate in rates if rate is not None and not (rate > 0 and math.isfinite(rate))]
    if wrong:
        raise SpecError(
            f"{place}: a learning rate is {wrong[0]!r}, expected a positive number; null freezes a part"
        )
    if isinstance(config.model, str) and config.model not in PRESETS:
        raise SpecError(
            f"{place}: model is {config.model!r}, expected a preset or a mapping{nearest(config.model, PRESETS)}"
        )
    if config.init_from is not None and config.tokenizer is not None:
        raise SpecError(
            f"{place}: tokenizer stands beside init_from, which brings its run's, expected one; remove tokenizer"
        )
    _check_layout(config, place)
    locate(config.shards)
    recipe = recipe_of(config, place)
    if config.adapt is not None:
        check_adapt(config.adapt, config.prefetch, place)
        if recipe.schedule:
            raise SpecError(
                f"{place}: mixture.schedule and adapt both change the mixture, expected one; remove the other"
            )
    render_of(config, place)


def render_of(config: TrainConfig, place: str = "train") -> RenderOptions | None:
    """Return how samples are worded anew, None where they stay as they are stored. Raises SpecError."""
    options = convert(config.render_options, RenderOptions, place, ["render_options"])
    if config.render == "stored" and config.render_options:
        raise SpecError(
            f"{place}: render_options say how samples are worded anew, and render is 'stored', expected 'each_epoch';"
            " change one of them"
        )
    return options if config.render == "each_epoch" else None


def _check_layout(config: TrainConfig, place: str) -> None:
    """Raise SpecError where a sample, or the samples of a step, could not be laid out."""
    settings = {"pack": config.pack, "micro_batch": config.micro_batch}
    for name, found in settings.items():
        for field in () if found is None else found.__struct_fields__:
            value = getattr(found, field)
            if value is not None and value < 1:
                raise SpecError(
                    f"{place}: {name}.{field} is {value!r}, expected at least 1; leave it out for no limit"
                )
    sequence = config.max_length
    if config.pack is not None and config.pack.max_tokens is not None:
        if config.pack.max_tokens < config.max_length:
            raise SpecError(
                f"{place}: pack.max_tokens is {config.pack.max_tokens}, expected at least max_length"
                f" {config.max_length}: a sample must fit; raise one or lower the other"
            )
        sequence = config.pack.max_tokens
    if config.micro_batch is None:
        return
    if config.micro_batch.max_tokens is not None and config.micro_batch.max_tokens < sequence:
        raise SpecError(
            f"{place}: micro_batch.max_tokens is {config.micro_batch.max_tokens}, expected at least {sequence}, as long"
            " as a sequence may be; raise it, or lower max_length and pack.max_tokens"
        )
    if config.micro_batch.multiple_of > config.global_batch:
        raise SpecError(
            f"{place}: micro_batch.multiple_of is {config.micro_batch.multiple_of}, expected at most global_batch"
            f" {config.global_batch}: a micro-batch needs a sample; lower it"
        )


def recipe_of(config: TrainConfig, place: str = "train") -> Recipe:
    """Return the mixture's recipe. Raises SpecError where it says what the run itself says."""
    for name in ("seed", "global_batch"):
        if name in config.mixture:
            raise SpecError(
                f"{place}: mixture.{name} stands apart from {name}, expected one; remove mixture.{name}"
            )
    mode = config.mixture.get("mode", "unmixed")
    if mode not in ("unmixed", "accumulate"):
        raise SpecError(
            f"{place}: mixture.mode is {mode!r}, expected 'unmixed' (a step trains one decoder family) or"
            " 'accumulate' (a part of each)"
        )
    # What is null has its default, as in a pipeline's mix.
    given = {name: value for name, value in config.mixture.items() if value is not None}
    fields = {**given, "mode": mode, "seed": config.seed, "global_batch": config.global_batch}
    return convert(fields, Recipe, place, ["mixture"])


def model_config(config: TrainConfig, vocabulary: Mapping[str, int]) -> ModelConfig:
    """Return the model to build for a tokenizer's vocabulary (token -> id). Raises ModelError for unknown sizes."""
    options = {"preset": config.model} if isinstance(config.model, str) else config.model
    return make_model(options, vocabulary, seed=config.seed)


def encode_settings(config: TrainConfig, model: ModelConfig) -> EncodeSettings:
    """Return how samples are encoded for a model: its tile, queries and tokens, and the run's choices."""
    readers = readers_of(model.decoders)
    owners = token_owners(readers)
    return EncodeSettings(
        tile_side=model.vision.image_size,
        tokens_per_tile=model.vision.tokens_per_tile,
        tile_mean=model.vision.image_mean,
        tile_std=model.vision.image_std,
        max_tiles=config.max_tiles,
        max_length=config.max_length,
        decoder_short=config.decoder_short or model.decoder_short,
        decoder_longest=config.decoder_longest or model.decoder_longest,
        flip_ratio=config.flip_ratio,
        crop_ratio=config.crop_ratio,
        reduce_from=config.reduce_from,
        num_queries=dict.fromkeys(ROUTING_TOKENS, 0) | {token: n for token, (_, n) in owners.items()},
        readers={family: read for family, read, _ in readers},
        picture_side={
            find_decoder(name).family: options["picture_side"]
            for name, options in model.decoders.items()
            if "picture_side" in options
        },
    )


def learning_rates(config: TrainConfig, parts: Mapping[str, object]) -> dict[str, float]:
    """Return the learning rate of each part that is trained, by the names of `VisionLLM.parts`.

    Raises ModelError for a name that is no part (and neither "decoders" nor "backbones"), and where nothing is trained.
    """
    unknown = sorted(set(config.learning_rates) - set(parts) - {"decoders", "backbones", "lora"})
    if unknown:
        raise ModelError(f"learning_rates: no part is called {unknown[0]!r}{nearest(unknown[0], parts)}")
    preset: dict[str, float | None] = dict(STAGES[config.stage])
    if config.lr is not None:
        preset = dict.fromkeys(preset, config.lr)
    chosen = preset | config.learning_rates
    rates = {part: chosen[part] if part in chosen else chosen.get(_kind(part)) for part in parts}
    found = {part: rate for part, rate in rates.items() if rate is not None}
    if not found:
        raise ModelError(
            f"learning_rates: all parts of the model are frozen, expected one that learns; known: {', '.join(parts)}"
        )
    return found


def _kind(part: str) -> str:
    """Return the name under which a stage speaks of a part: decoders are named as a whole."""
    if not part.startswith("decoders."):
        return part
    return "backbones" if part.endswith(".backbone") else "decoders"


def rate_factor(step: int, steps: int, warmup_ratio: float) -> float:
    """Return the factor on every learning rate at a step (from 0): linear warm-up, then a cosine to zero."""
    warmup = math.ceil(steps * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))
