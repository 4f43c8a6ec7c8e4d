"""Checkpoints: a folder each, whole or absent, from which a run goes on bit for bit, on any number of ranks.

Written by torch's distributed checkpoint as safetensors: each rank writes its slices, beside training. That library's
own form was tried and dropped (2026-11): its reader unpickles the metadata file without any restriction, so that
opening somebody's checkpoint would run their code. What is not a tensor is JSON, for people to read. There is no random
state: all chance follows from the seed and the step.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
import torch.distributed.checkpoint as dcp
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.distributed.checkpoint import CheckpointException
from transformers import PreTrainedTokenizerFast

from dataengine.adapt import Memory
from dataengine.errors import ModelError
from dataengine.files import digest_file, make_folder
from dataengine.state import Hole, SourceMark
from trainer.config import TrainConfig
from trainer.distributed import Ranks
from trainer.model.config import ModelConfig, without_folders
from trainer.model.lora import merge_lora
from trainer.model.options import read
from trainer.model.visionllm import VisionLLM
from trainer.tokenizer import load_tokenizer, save_tokenizer

_NAME = re.compile(r"step-(\d{8})")
RECORD, TOKENIZER = "checkpoint.json", "tokenizer"
FILE_BYTES = 2**30


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


class Saver:
    """Writes checkpoints of a run beside its training: the next one waits for the last."""

    def __init__(
        self, directory: Path, ranks: Ranks, keep: int, keep_every_hours: float | None = None
    ) -> None:
        self.directory, self.ranks = directory, ranks
        self.keep, self.keep_every_hours = keep, keep_every_hours
        self._last: Future[Any] | None = None
        self._path: Path | None = None

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def wait(self) -> None:
        """Wait until what was begun is on disk. Raises ModelError where it could not be written, on every rank."""
        last, self._last = self._last, None
        if last is None:
            return
        try:
            last.result()
        except (OSError, RuntimeError, ValueError, CheckpointException) as error:
            raise ModelError(
                f"{self._path}: the checkpoint could not be written: {_first_cause(error)}; the one before it is whole"
            ) from error

    def save(
        self,
        record: Record,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        tokenizer: PreTrainedTokenizerFast,
    ) -> Path:
        """Copy weights and optimiser, and begin to write `directory/step-<n>`; return that path.

        Every rank calls it at the same step. The folder gets its name when all ranks have written, and then all but the
        newest `keep` are removed, and one every `keep_every_hours`.
        """
        self.wait()
        name = f"step-{record.step:08d}"
        temporary = self.directory / f".{name}.tmp"

        def publish() -> None:
            save_tokenizer(tokenizer, temporary / TOKENIZER)
            (temporary / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
            _sync(temporary)
            shutil.rmtree(self.directory / name, ignore_errors=True)
            temporary.replace(self.directory / name)
            self._prune()

        state = weights_of(model) | moments_of(model, optimizer)
        _hush()
        self._path = self.directory / name
        self._last = dcp.async_save(
            _nested(state),
            storage_writer=_Writer(temporary, _files(state), publish),
            process_group=self.ranks.saving,
            no_dist=self.ranks.world == 1,
        )
        return self._path

    def clear(self) -> None:
        """Remove what a killed run left unfinished."""
        for path in self.directory.glob(".step-*.tmp*"):
            shutil.rmtree(path)

    def _prune(self) -> None:
        found = find_all(self.directory)
        hours = [(path / RECORD).stat().st_mtime / 3600 for path in found]
        for number in superfluous(hours, self.keep, self.keep_every_hours):
            shutil.rmtree(found[number])


def superfluous(hours: Sequence[float], keep: int, every: float | None) -> list[int]:
    """Return which checkpoints to remove, by their ages in hours, oldest first: all but the newest `keep`, and but
    those that are the first of their kind for `every` hours, counted from the oldest that there is."""
    gone, last = [], -math.inf
    for number, hour in enumerate(hours[:-keep]):
        if every is not None and hour - last >= every:
            last = hour
        else:
            gone.append(number)
    return gone


class _Writer(dcp.HuggingFaceStorageWriter):
    """Each rank writes its slices as safetensors; `publish` is called on one of them when all are on disk.

    The form holds tensors alone and says itself where each slice lies, so that a checkpoint has nothing to unpickle.
    """

    def __init__(self, directory: Path, files: dict[str, int], publish: Callable[[], None]) -> None:
        super().__init__(str(directory), fqn_to_index_mapping=files, save_distributed=True)
        self.directory, self.publish = directory, publish

    def prepare_global_plan(self, plans: list[Any]) -> list[Any]:
        # One rank does this before any writes. What another run left there would be read with ours.
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        return super().prepare_global_plan(plans)

    def finish(self, metadata: Any, results: Any) -> None:
        super().finish(metadata, results)
        self.publish()


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return every parameter once, and every buffer that is kept, under `model.` and its name."""
    named = dict(model.named_parameters())
    kept = model.state_dict()
    named |= {name: buffer for name, buffer in model.named_buffers() if name in kept}
    return {f"model.{name}": value.detach() for name, value in named.items()}


def moments_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return what the optimiser remembers of each parameter, under `optimizer.<its name>.<what>`.

    A parameter that never had a gradient has nothing. Rates are no state: they follow from the step.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"optimizer.{names[parameter]}.{what}": value.reshape(1) if value.dim() == 0 else value
        for parameter, state in optimizer.state.items()
        for what, value in state.items()
    }


def _nested(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the same state in two tables, whose names torch joins to ours: it logs every entry of the first level."""
    nested: dict[str, Any] = {}
    for name, value in state.items():
        kind, _, rest = name.partition(".")
        nested.setdefault(kind, {})[rest] = value
    return nested


def _files(state: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Return which file of a rank holds each tensor: weights apart from the optimiser, and no more in one than are held
    in memory twice while it is written."""
    files, number, size = {}, 0, 0
    kind = ""
    for name, value in state.items():
        if kind != (kind := name.partition(".")[0]) or size > FILE_BYTES:
            number, size = number + 1, 0
        files[name] = number
        size += value.numel() * value.element_size()
    return files


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


def weights_digest(checkpoint: Checkpoint) -> str:
    """Return a digest of the files that hold weights, whatever else the checkpoint holds."""
    digests = []
    for path in sorted(checkpoint.directory.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            names = list(file.keys())
        if names and names[0].startswith("model."):
            digests.append(digest_file(path))
    return xxhash.xxh3_128_hexdigest(" ".join(digests).encode())


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load weights and optimiser into a run that is to go on, on as many ranks as there are now.

    Raises ModelError where they do not fit or cannot be read.
    """
    wanted = weights_of(model)
    parameters = dict(model.named_parameters())
    for key in _saved(checkpoint):
        kind, _, name = key.partition(".")
        name, _, what = name.rpartition(".")
        if kind == "optimizer" and name in parameters:
            parameter = parameters[name]
            value = torch.zeros(1) if what == "step" else torch.zeros_like(parameter.detach())
            wanted[key] = value
            optimizer.state[parameter][what] = value.reshape(()) if what == "step" else value
    _read(checkpoint, wanted)


def restore_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Load the weights. Raises ModelError where they do not fit the model or cannot be read."""
    _read(checkpoint, weights_of(model))


def _saved(checkpoint: Checkpoint) -> dict[str, torch.Size]:
    """Return the tensors of a checkpoint, and their shapes."""
    try:
        found = dcp.HuggingFaceStorageReader(str(checkpoint.directory)).read_metadata()
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise _unreadable(checkpoint, error) from error
    return {name: value.size for name, value in found.state_dict_metadata.items()}


def _read(checkpoint: Checkpoint, wanted: dict[str, torch.Tensor]) -> None:
    """Fill tensors, of which each rank may have a slice, with those of the same names."""
    saved = {
        name: size for name, size in _saved(checkpoint).items() if name in wanted or name.startswith("model.")
    }
    sizes = {name: value.shape for name, value in wanted.items()}
    if differing := sorted(name for name in saved | sizes if saved.get(name) != sizes.get(name)):
        name = differing[0]
        raise ModelError(
            f"{checkpoint.directory}: weights do not fit the model ({name} is {_shape(saved.get(name))} and should be"
            f" {_shape(sizes.get(name))}), expected the one that was saved; give the model settings of its"
            " checkpoint.json"
        )
    _hush()
    try:
        dcp.load(
            _nested(wanted),
            storage_reader=dcp.HuggingFaceStorageReader(str(checkpoint.directory)),
            no_dist=True,
        )
    except (OSError, SafetensorError, RuntimeError, ValueError, CheckpointException) as error:
        raise _unreadable(checkpoint, error) from error


def _hush() -> None:
    """Ignore what torch says each time of a process that saves or loads by itself; its threads see filters of all."""
    warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")


def _shape(size: torch.Size | None) -> str:
    return "absent" if size is None else f"{list(size)}"


def _unreadable(checkpoint: Checkpoint, error: BaseException) -> ModelError:
    return ModelError(
        f"{checkpoint.directory}: cannot be read: {_first_cause(error)}; take an older checkpoint"
    )


def _first_cause(error: BaseException) -> str:
    """Return what went wrong on the first rank where something did."""
    if isinstance(error, CheckpointException):
        cause, _ = next(iter(error.failures.values()))
        return f"{type(cause).__name__}: {cause}"
    return f"{type(error).__name__}: {error}"


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


def export(directory: Path, out_dir: Path) -> Path:
    """Write the weights of a checkpoint, or of a run's newest, to one safetensors file; return `out_dir`.

    `load_model` takes the folder for a checkpoint; a run cannot go on from it.
    """
    checkpoint = find_checkpoint(directory)
    model, tokenizer, _ = load_model(directory, merge=False)
    make_folder(out_dir)
    save_file(
        {name: value.contiguous() for name, value in weights_of(model).items()}, out_dir / "model.safetensors"
    )
    save_tokenizer(tokenizer, out_dir / TOKENIZER)
    (out_dir / RECORD).write_bytes((checkpoint.directory / RECORD).read_bytes())
    return out_dir


def _sync(directory: Path) -> None:
    """Have every file on disk before the rename says so."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
