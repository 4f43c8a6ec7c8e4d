"""What a run tells of its steps: lines of JSON, and one for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import torch

from trainer.batch import Batch
from trainer.config import TrainConfig
from trainer.data import StepData
from trainer.model.visionllm import Output

METRICS, SERVED, CONFIG, MIXTURE = "metrics.jsonl", "served.jsonl", "config.json", "mixture.jsonl"


def metrics(
    data: StepData,
    output: Output | None,
    grad_norm: float,
    optimizer: torch.optim.Optimizer,
    seconds: float,
    most_tokens: int | None,
) -> dict[str, Any]:
    """Return a line of metrics.jsonl: `terms` times the weights of their parts, which add up to `loss`; `tasks`, mean
    text losses without them, since a decoder's terms belong to the whole batch."""
    terms, tasks = {}, {}
    if output is not None:
        terms = {name: float(value) for name, value in output.losses.items()}
        task_B = [task for batch in data.batches for task in batch.tasks]
        for task in sorted(set(task_B)):
            rows = [row for row, other in enumerate(task_B) if other == task]
            tasks[task] = float(output.text_loss_B[rows].mean())
    families = dict.fromkeys(batch.family for batch in data.batches)
    return {
        "step": data.step + 1,
        "loss": float(output.loss) if output is not None else None,
        "family": "+".join(families) or None,
        "terms": terms,
        "tasks": tasks,
        "ids": list(data.sample_ids),
        "positions": [data.start, data.stop],
        "skipped": dict(Counter(reason for _, reason in data.skipped)),
        "shortened": data.shortened,
        "lr": max(group["lr"] for group in optimizer.param_groups),
        "grad_norm": grad_norm,
        "updated": output is not None and math.isfinite(grad_norm),
        "samples_per_s": len(data.sample_ids) / seconds,
        "stall_share": min(data.wait_s / seconds, 1.0),
        **_extent(data.batches, most_tokens),
    }


def most_tokens(config: TrainConfig) -> int | None:
    return None if config.pack is None else config.pack.max_tokens or config.max_length


def _extent(batches: Sequence[Batch], most_tokens: int | None) -> dict[str, Any]:
    """Return how large a step was: micro-batches, sequences (rows), tokens, tiles, and the share of padding in its
    positions. Where samples are packed, `fill` is the share of tokens in what its sequences could hold."""
    positions = sum(batch.input_ids_BL.numel() for batch in batches)
    tokens = sum(int(batch.attention_mask_BL.sum()) for batch in batches)
    found: dict[str, Any] = {
        "micro_batches": len(batches),
        "sequences": sum(len(batch.input_ids_BL) for batch in batches),
        "tokens": tokens,
        "tiles": sum(len(batch.tiles_T3SS) for batch in batches),
        "padding": 1 - tokens / positions if positions else 0.0,
    }
    packed = [batch for batch in batches if batch.packed is not None]
    if packed and most_tokens is not None:
        held = sum(int(batch.attention_mask_BL.sum()) for batch in packed)
        found["fill"] = held / (most_tokens * sum(len(batch.input_ids_BL) for batch in packed))
    return found


def describe(line: dict[str, Any]) -> str:
    loss = "no samples" if line["loss"] is None else f"loss {line['loss']:.4f}"
    note = (
        ""
        if line["updated"] or line["loss"] is None
        else f", not finite, no update: {', '.join(line['ids'])}"
    )
    fill = f", fill {line['fill']:.0%}" if "fill" in line else ""
    rates = f"{line['samples_per_s']:.1f} samples/s, padding {line['padding']:.0%}{fill}"
    return f"{loss}, {rates}, data stall {line['stall_share']:.0%}{note}"


def write_line(file: BinaryIO, line: dict[str, Any]) -> None:
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
