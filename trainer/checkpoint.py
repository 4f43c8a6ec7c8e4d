"""Checkpoints: a folder each, whole or absent, from which a run goes on bit for bit.

Written with `torch.save` and read with `weights_only=True`. torch's distributed checkpoint was tried and dropped
(2026-11): its reader unpickles the metadata file without any restriction, so that opening somebody's checkpoint would
run their code. What is not a tensor is JSON, for people to read.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from dataengine.adapt import Memory
from dataengine.errors import ModelError
from dataengine.state import Hole, SourceMark
from trainer.config import TrainConfig
from trainer.model.config import ModelConfig, without_folders
from trainer.model.lora import merge_lora
from trainer.model.options import read
from trainer.model.visionllm import VisionLLM
from trainer.tokenizer import load_tokenizer, save_tokenizer

_NAME = re.compile(r"step-(\d{8})")
WEIGHTS, OPTIMIZER, RECORD, TOKENIZER = "weights.pt", "optimizer.pt", "checkpoint.json", "tokenizer"


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a checkpoint says of itself: steps done, the stream's next position, the plan, the run, the model.

    `holes` are the samples that proved bad so far, `sources` those of the plan (see `dataengine.state`); `adapt` holds
    the decisions on the mixture, and what the next one is made from.
    """

    step: int
    position: int
    plan: str
    config: TrainConfig
    model: dict[str, Any]
    torch: str
    holes: tuple[Hole, ...] = ()
    sources: tuple[SourceMark, ...] = ()
    adapt: Memory = Memory()


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk."""

    directory: Path
    record: Record


def save(
    directory: Path,
    record: Record,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tokenizer: PreTrainedTokenizerFast,
    keep: int,
) -> Path:
    """Write `directory/step-<n>` by rename and remove all but the newest `keep`; return its path."""
    target = directory / f"step-{record.step:08d}"
    temporary = directory / f".step-{record.step:08d}.tmp{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    torch.save(model.state_dict(), temporary / WEIGHTS)
    torch.save(
        {"optimizer": optimizer.state_dict(), "random": torch.get_rng_state(), "devices": _device_states()},
        temporary / OPTIMIZER,
    )
    save_tokenizer(tokenizer, temporary / TOKENIZER)
    (temporary / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
    _sync(temporary)
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)
    for old in find_all(directory)[:-keep]:
        shutil.rmtree(old)
    return target


def find_all(directory: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest first; unfinished ones have other names."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))


def newest(directory: Path) -> Checkpoint | None:
    """Return the newest checkpoint of a folder, or None. Raises ModelError where it cannot be read."""
    found = find_all(directory)
    return open_checkpoint(found[-1]) if found else None


def find_checkpoint(directory: Path) -> Checkpoint:
    """Return a checkpoint, or the newest one of a training run. Raises ModelError where there is none."""
    found = newest(directory / "checkpoints") if not (directory / RECORD).exists() else None
    return found or open_checkpoint(directory)


def open_checkpoint(directory: Path) -> Checkpoint:
    """Read what a checkpoint says of itself. Raises ModelError where it is none."""
    try:
        return Checkpoint(directory, msgspec.json.decode((directory / RECORD).read_bytes(), type=Record))
    except (OSError, msgspec.DecodeError) as error:
        raise ModelError(
            f"{directory}: not a checkpoint: {error}; expected the folder that training wrote, with {RECORD}"
        ) from error


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load weights, optimiser and random states into a run that is to go on."""
    restore_weights(checkpoint, model)
    state = _load(checkpoint.directory / OPTIMIZER)
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    if state["devices"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["devices"])


def restore_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Load the weights. Raises ModelError where they do not fit the model."""
    try:
        model.load_state_dict(_load(checkpoint.directory / WEIGHTS))
    except RuntimeError as error:
        raise ModelError(
            f"{checkpoint.directory}: weights do not fit the model ({str(error).splitlines()[1].strip()}), expected the"
            " one that was saved; give the model settings of its checkpoint.json"
        ) from error


def load_model(
    directory: Path, *, merge: bool = True
) -> tuple[VisionLLM, PreTrainedTokenizerFast, TrainConfig]:
    """Return the model of a checkpoint, ready to evaluate, its tokenizer and the run that made it.

    `directory` is a checkpoint, or a training run, of which the newest is taken. Adapters of the language model are
    added to the weights that they stand beside, unless `merge` is false. Raises ModelError.
    """
    checkpoint = find_checkpoint(directory)
    config = read(ModelConfig, checkpoint.record.model, str(checkpoint.directory))
    model = VisionLLM(without_folders(config))
    restore_weights(checkpoint, model)
    if merge:
        merge_lora(model.language)
    return model.eval(), load_tokenizer(checkpoint.directory / TOKENIZER), checkpoint.record.config


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise ModelError(f"{path}: cannot be read: {error}; take an older checkpoint") from error


def _device_states() -> list[torch.Tensor]:
    return list(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else []


def _sync(directory: Path) -> None:
    """Have every file on disk before the rename says so."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
