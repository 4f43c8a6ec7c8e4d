"""What a run tells of its steps: lines of JSON, one for people, and the same numbers for TensorBoard and others.

Every rank reports on its own batches; all reports together make a line, the same on every rank.
"""

from __future__ import annotations

import importlib
import math
import resource
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec
import torch

from dataengine.state import Hole, union
from trainer.batch import Batch
from trainer.config import TrainConfig
from trainer.data import StepData
from trainer.flops import Flops
from trainer.update import Computed

METRICS, SERVED, CONFIG, MIXTURE = "metrics.jsonl", "served.jsonl", "config.json", "mixture.jsonl"
TENSORBOARD = "tensorboard"


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """A batch whose loss counts: `number` within `part`, `weight` of that part, `terms` without it, the text loss of
    each sample, whether anything learnt from it, how much it was, and the floating point operations of its two passes.
    """

    part: int
    number: int
    family: str
    weight: float
    ids: tuple[str, ...]
    tasks: tuple[str, ...]
    terms: dict[str, float]
    text_losses: tuple[float, ...]
    finite: bool
    learnt: bool
    extent: Counter[str]
    flops: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one rank says of a step."""

    batches: tuple[BatchReport, ...]
    holes: tuple[Hole, ...]
    shortened: dict[str, int]
    positions: tuple[int, int]
    wait_s: float
    memory_bytes: int


def report(data: StepData, computed: Iterable[Computed], flops: Flops, device: torch.device) -> Report:
    """Return what this rank has to say of a step, as plain values."""
    return Report(
        batches=tuple(_report(found, flops) for found in computed if found.weight),
        holes=data.holes,
        shortened=data.shortened,
        positions=(data.start, data.stop),
        wait_s=data.wait_s,
        memory_bytes=memory_bytes(device),
    )


def _report(found: Computed, flops: Flops) -> BatchReport:
    batch = found.batch
    return BatchReport(
        part=found.number,
        number=batch.number,
        family=batch.family,
        weight=found.weight,
        ids=batch.sample_ids,
        tasks=batch.tasks,
        terms={name: float(value) for name, value in found.output.losses.items()},
        text_losses=tuple(found.output.text_loss_B.tolist()),
        finite=found.finite,
        learnt=found.learnt,
        extent=_extent(batch),
        flops=flops.of(batch),
    )


def _extent(batch: Batch) -> Counter[str]:
    """Return how large a batch is: sequences (rows), their positions with and without padding, tiles, pictures."""
    tokens = int(batch.attention_mask_BL.sum())
    packed = batch.packed is not None
    return Counter(
        sequences=len(batch.input_ids_BL),
        positions=batch.input_ids_BL.numel(),
        tokens=tokens,
        tiles=len(batch.tiles_T3SS),
        images=sum(map(len, batch.tiles_per_image)),
        packed_sequences=len(batch.input_ids_BL) if packed else 0,
        packed_tokens=tokens if packed else 0,
    )


def memory_bytes(device: torch.device) -> int:
    """Return the most memory that was in use so far: of the GPU, or else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What all ranks say of a step: batches in the order of their numbers, whatever the number of ranks."""

    world: int
    batches: tuple[BatchReport, ...]
    holes: tuple[Hole, ...]
    shortened: dict[str, int]
    positions: tuple[int, int]
    wait_s: float
    memory_bytes: int

    @property
    def ids(self) -> list[str]:
        """Return the samples that the step learnt from."""
        return [one for batch in self.batches for one in batch.ids]

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Return (id, reason) of each sample that is in no batch, by position."""
        return [(hole.id, hole.reason) for hole in self.holes]

    @property
    def suspects(self) -> list[str]:
        """Return the samples of the batches whose loss is not finite; all of them where it is only the gradient."""
        return [one for batch in self.batches if not batch.finite for one in batch.ids] or self.ids


def merged(reports: Sequence[Report]) -> Told:
    """Return what the reports of all ranks, in their order, say together."""
    placed = [(one.part, one.number, rank, one) for rank, each in enumerate(reports) for one in each.batches]
    return Told(
        world=len(reports),
        batches=tuple(one for *_, one in sorted(placed, key=lambda found: found[:3])),
        holes=union([hole for each in reports for hole in each.holes]),
        shortened=dict(sum((Counter(each.shortened) for each in reports), Counter[str]())),
        positions=(min(each.positions[0] for each in reports), max(each.positions[1] for each in reports)),
        wait_s=max(each.wait_s for each in reports),
        memory_bytes=max(each.memory_bytes for each in reports),
    )


def metrics(
    told: Told, grad_norm: float, rate: float, seconds: float, config: TrainConfig, peak: float | None
) -> dict[str, Any]:
    """Return a line of metrics.jsonl: `terms` times the weights of their parts, which add up to `loss`; `parts` and
    `tasks` (mean text losses) without them, since a decoder's terms belong to the whole batch.

    Each rank's losses are its sums over the mean counts of all ranks, so that their mean is that of the step. `peak`
    are the operations a second that all devices together can do.
    """
    terms = _sum_terms(told.batches, told.world, weighted=True)
    extent = sum((batch.extent for batch in told.batches), Counter[str]())
    flops = sum(batch.flops for batch in told.batches)
    return {
        "loss": sum(terms.values()) if told.batches else None,
        "family": "+".join(dict.fromkeys(batch.family for batch in told.batches)) or None,
        "terms": terms,
        "parts": _parts(told),
        "tasks": _task_losses(told.batches),
        "ids": told.ids,
        "positions": list(told.positions),
        "skipped": dict(Counter(reason for _, reason in told.skipped)),
        "shortened": told.shortened,
        "lr": rate,
        "grad_norm": grad_norm,
        "updated": math.isfinite(grad_norm) and any(batch.learnt for batch in told.batches),
        "suspects": [] if math.isfinite(grad_norm) else told.suspects,
        "ranks": told.world,
        "step_s": seconds,
        "samples_per_s": len(told.ids) / seconds,
        "tokens_per_s": extent["tokens"] / seconds,
        "images_per_s": extent["images"] / seconds,
        "stall_share": min(told.wait_s / seconds, 1.0),
        "tflops": flops / seconds / 1e12,
        "mfu": None if peak is None else flops / seconds / peak,
        "memory_bytes": told.memory_bytes,
        **_extents(told.batches, extent, config),
    }


def _sum_terms(batches: Iterable[BatchReport], world: int, *, weighted: bool) -> dict[str, float]:
    terms: dict[str, float] = {}
    for batch in batches:
        factor = (batch.weight if weighted else 1.0) / world
        for name, value in batch.terms.items():
            terms[name] = terms.get(name, 0.0) + factor * value
    return terms


def _parts(told: Told) -> list[dict[str, Any]]:
    """Return the losses of each part of a step by themselves: in mode `accumulate`, "text" is in every one of them."""
    numbers = sorted({batch.part for batch in told.batches})
    parts = [[batch for batch in told.batches if batch.part == number] for number in numbers]
    return [
        {
            "family": part[0].family,
            "weight": part[0].weight,
            "samples": sum(len(batch.ids) for batch in part),
            "terms": _sum_terms(part, told.world, weighted=False),
        }
        for part in parts
    ]


def _task_losses(batches: Iterable[BatchReport]) -> dict[str, float]:
    """Return the mean text loss of each task's samples."""
    losses: dict[str, list[float]] = {}
    for batch in batches:
        for task, loss in zip(batch.tasks, batch.text_losses, strict=True):
            losses.setdefault(task, []).append(loss)
    return {task: math.fsum(some) / len(some) for task, some in sorted(losses.items())}


def _extents(batches: Sequence[BatchReport], extent: Counter[str], config: TrainConfig) -> dict[str, Any]:
    """Return how large a step was, and the share of padding in its positions. Where samples are packed, `fill` is the
    share of tokens in what its sequences could hold."""
    positions = extent["positions"]
    found: dict[str, Any] = {
        "micro_batches": len(batches),
        **{name: extent[name] for name in ("sequences", "tokens", "tiles", "images")},
        "padding": 1 - extent["tokens"] / positions if positions else 0.0,
    }
    if config.pack is not None and extent["packed_sequences"]:
        most = config.pack.max_tokens or config.max_length
        found["fill"] = extent["packed_tokens"] / (most * extent["packed_sequences"])
    return found


def describe(line: dict[str, Any]) -> str:
    """Return a line for people."""
    loss = "no samples" if line["loss"] is None else f"loss {line['loss']:.4f}"
    note = "" if line["updated"] or line["loss"] is None else ", nothing that is trained is in it"
    if line["suspects"]:
        note = f", not finite, no update: {', '.join(line['suspects'])}"
    fill = f", fill {line['fill']:.0%}" if "fill" in line else ""
    rates = f"{line['samples_per_s']:.1f} samples/s, padding {line['padding']:.0%}{fill}"
    return f"{loss}, {rates}, data stall {line['stall_share']:.0%}{note}"


def write_line(file: BinaryIO, line: dict[str, Any]) -> None:
    """Add a line."""
    # msgspec writes a number that is not finite as null: the line stays JSON.
    file.write(msgspec.json.encode(line) + b"\n")


def forget_after(path: Path, step: int) -> None:
    """Remove the lines of steps that a killed run did after its last checkpoint: they are about to be done again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            number = msgspec.json.decode(line)["step"]
        except msgspec.DecodeError:
            break  # the line that was being written
        if number <= step:
            kept.append(line)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(b"".join(kept))
    temporary.replace(path)


# Others that take the same numbers


class Logger(Protocol):
    """Takes the numbers of a step by name."""

    def log(self, step: int, numbers: dict[str, float]) -> None: ...

    def close(self) -> None: ...


def loggers(config: TrainConfig, out_dir: Path, first_step: int) -> list[Logger]:
    """Return those that a run asks for. What a killed run logged after its last checkpoint is logged again."""
    found: list[Logger] = []
    if config.tensorboard:
        found.append(_TensorBoard(out_dir / TENSORBOARD, first_step))
    if config.wandb is not None:
        found.append(_WeightsAndBiases(config, out_dir))
    return found


class _TensorBoard:
    def __init__(self, directory: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second

        self.writer = SummaryWriter(str(directory), purge_step=first_step + 1 if first_step else None)

    def log(self, step: int, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class _WeightsAndBiases:
    def __init__(self, config: TrainConfig, out_dir: Path) -> None:
        wandb = importlib.import_module("wandb")  # of the one who asks for it
        self.run = wandb.init(dir=str(out_dir), config=msgspec.to_builtins(config), **(config.wandb or {}))

    def log(self, step: int, numbers: dict[str, float]) -> None:
        self.run.log(numbers, step=step)

    def close(self) -> None:
        self.run.finish()


def scalars(line: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a line by name, those within tables and parts as `table/name`."""
    found: dict[str, float] = {}
    for name, value in line.items():
        if name == "parts":
            for part in value:
                found |= {f"parts/{part['family']}/{term}": loss for term, loss in part["terms"].items()}
        elif isinstance(value, dict):
            found |= {f"{name}/{key}": float(one) for key, one in value.items() if _is_number(one)}
        elif name != "step" and _is_number(value):
            found[name] = float(value)
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
