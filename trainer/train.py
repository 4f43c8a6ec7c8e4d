"""Training, top to bottom: build, resume, step, log, checkpoint.

Whatever a step does follows from the configuration, the plan and the step's number: its samples, their augmentation,
the noise of the losses and the learning rate. So a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import PreTrainedTokenizerFast

from dataengine.errors import ModelError
from dataengine.files import make_folder
from dataengine.mix import key
from dataengine.state import Hole, check_budget, union
from dataengine.store import locate
from trainer import checkpoint as checkpoints
from trainer.batch import Batch
from trainer.checkpoint import Checkpoint, Record
from trainer.config import (
    FREE_TO_CHANGE,
    TrainConfig,
    encode_settings,
    learning_rates,
    model_config,
    rate_factor,
    recipe_of,
    render_of,
)
from trainer.data import Reader, StepData, batches, open_shards
from trainer.model.visionllm import Output, VisionLLM
from trainer.tokenizer import bank_texts, load_tokenizer, train_tokenizer

CHECKPOINTS, METRICS, SERVED, CONFIG = "checkpoints", "metrics.jsonl", "served.jsonl", "config.json"

Progress = Callable[[int, str], None]


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a call of `train` ended: steps done in all, whether a signal stopped it, its last checkpoint.

    `skipped` counts the samples left out in this call, by reason; `nonfinite` lists the steps without an update.
    """

    step: int
    stopped: bool
    checkpoint: Path
    skipped: dict[str, int]
    nonfinite: tuple[int, ...]


def train(
    config: TrainConfig,
    out_dir: Path,
    *,
    reader: Reader | None = None,
    progress: Progress = lambda count, text: None,
) -> Result:
    """Train until `config.steps`, from the newest checkpoint in `out_dir` if there is one.

    Writes `checkpoints/`, `metrics.jsonl` (a line every `log_every` steps) and `served.jsonl` (a line a step: the
    sample ids it was made of). SIGTERM ends the current step, saves and returns. Without a `reader`, samples come
    from `config.shards`. Raises ModelError where the run cannot go on as it began, and BudgetBroken where more samples
    are bad than `max_bad_ratio` allows.
    """
    make_folder(out_dir)
    device = _device(config.device)
    reader = reader or open_shards(locate(config.shards), recipe_of(config), render_of(config), config.store)
    found = checkpoints.newest(out_dir / CHECKPOINTS)
    tokenizer = _tokenizer(config, found)
    model = VisionLLM(model_config(config, tokenizer.get_vocab())).to(device)
    rates = learning_rates(config, model.parts())
    model.train_only(set(rates))
    optimizer = _optimizer(config, model, rates)
    first_step, holes = 0, ()
    if found is not None:
        _check_resumable(found, config, reader.digest)
        checkpoints.restore(found, model, optimizer)
        first_step, holes = found.record.step, found.record.holes
        reader.remember(holes)
    for name in (METRICS, SERVED):
        _forget_after(out_dir / name, first_step)
    (out_dir / CONFIG).write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2))

    model.train()
    step, skipped, nonfinite, path = (
        first_step,
        Counter[str](),
        list[int](),
        found.directory if found else None,
    )
    with (
        _stop_on_sigterm() as stop,
        computing_threads(config, device),
        (out_dir / METRICS).open("ab") as metrics,
        (out_dir / SERVED).open("ab") as served,
    ):
        started, reported = time.perf_counter(), first_step
        for data in batches(
            reader,
            tokenizer,
            encode_settings(config, model.config),
            seed=config.seed,
            global_batch=config.global_batch,
            first_step=first_step,
            last_step=config.steps,
            num_workers=config.num_workers,
            prefetch=config.prefetch,
        ):
            _set_rates(optimizer, rates, rate_factor(data.step, config.steps, config.warmup_ratio))
            output, grad_norm = None, 0.0
            if data.batch is not None:
                output, grad_norm = update(config, model, optimizer, data.batch.to(device), data.step)
                if not math.isfinite(grad_norm):
                    nonfinite.append(data.step)
            step = data.step + 1
            skipped.update(reason for _, reason in data.skipped)
            holes = union([*holes, *data.holes]) if data.holes else holes
            check_budget(holes, step * config.global_batch, config.max_bad_ratio)
            _write(served, {"step": step, "ids": _ids(data), "skipped": dict(data.skipped)})
            seconds, started = time.perf_counter() - started, time.perf_counter()
            if step % config.log_every == 0 or step == config.steps or not math.isfinite(grad_norm):
                line = _metrics(data, output, grad_norm, optimizer, seconds)
                _write(metrics, line)
                progress(step - reported, f"step {step} of {config.steps}, {_describe(line)}")
                reported = step
            if step % config.checkpoint_every == 0 or step == config.steps or stop.is_set():
                metrics.flush()
                served.flush()
                path = _save(config, out_dir, step, holes, reader, model, optimizer, tokenizer)
            if stop.is_set():
                break
    if path is None:
        path = _save(config, out_dir, step, holes, reader, model, optimizer, tokenizer)
    return Result(
        step=step,
        stopped=step < config.steps,
        checkpoint=path,
        skipped=dict(skipped),
        nonfinite=tuple(nonfinite),
    )


def update(
    config: TrainConfig, model: VisionLLM, optimizer: torch.optim.Optimizer, batch: Batch, step: int
) -> tuple[Output, float]:
    """Take one step. Where loss or gradient is not finite, the weights stay and the norm is returned as it is."""
    generator = torch.Generator().manual_seed(key(config.seed, "noise", step) >> 1)
    bf16 = config.precision == "bf16"
    with torch.autocast(batch.input_ids_BL.device.type, torch.bfloat16) if bf16 else nullcontext():
        output = model(batch, generator)
    optimizer.zero_grad(set_to_none=True)
    if not torch.isfinite(output.loss):
        return output, math.nan
    output.loss.backward()
    trained = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    grad_norm = float(torch.nn.utils.clip_grad_norm_(trained, config.grad_clip))
    if math.isfinite(grad_norm):
        optimizer.step()
    return output, grad_norm


def _device(name: str) -> torch.device:
    """Return the device of that name. Raises ModelError where this machine has none."""
    found = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if found else "cpu")
    if name.startswith("cuda") and not found:
        raise ModelError(f"device: {name!r} cannot be used, no GPU was found; take 'cpu' or 'auto'")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"device: {name!r} is unknown, expected 'cpu', 'cuda' or 'auto'") from error


def _tokenizer(config: TrainConfig, found: Checkpoint | None) -> PreTrainedTokenizerFast:
    """Return the checkpoint's tokenizer, so that no edit of a prompt bank changes an id in the middle of a run."""
    if found is not None:
        return load_tokenizer(found.directory / checkpoints.TOKENIZER)
    return load_tokenizer(config.tokenizer) if config.tokenizer else train_tokenizer(bank_texts())


def _optimizer(config: TrainConfig, model: VisionLLM, rates: dict[str, float]) -> torch.optim.AdamW:
    parts = model.parts()
    groups = [
        {"name": part, "lr": rate, "params": [p for p in parts[part] if p.requires_grad]}
        for part, rate in rates.items()
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=config.weight_decay)


def _set_rates(optimizer: torch.optim.Optimizer, rates: dict[str, float], factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rates[group["name"]] * factor


def _check_resumable(found: Checkpoint, config: TrainConfig, digest: str) -> None:
    if found.record.plan != digest:
        raise ModelError(
            f"{found.directory}: its plan {found.record.plan!r} is not the stream's {digest!r}, expected the same"
            " samples at the same positions; restore the shards and the mixture, or train into another folder"
        )
    then, now = msgspec.to_builtins(found.record.config), msgspec.to_builtins(config)
    changed = sorted(name for name in now if name not in FREE_TO_CHANGE and then[name] != now[name])
    if changed:
        name = changed[0]
        raise ModelError(
            f"{found.directory}: {name} was {then[name]!r} and is now {now[name]!r}, expected the same run; set it"
            " back, or train into another folder"
        )


def _save(
    config: TrainConfig,
    out_dir: Path,
    step: int,
    holes: tuple[Hole, ...],
    reader: Reader,
    model: VisionLLM,
    optimizer: torch.optim.Optimizer,
    tokenizer: PreTrainedTokenizerFast,
) -> Path:
    record = Record(
        step=step,
        position=step * config.global_batch,
        plan=reader.digest,
        holes=holes,
        config=config,
        model=model.config.to_dict(),
        torch=str(torch.__version__),
    )
    return checkpoints.save(out_dir / CHECKPOINTS, record, model, optimizer, tokenizer, config.keep)


# What is logged


def _ids(data: StepData) -> list[str]:
    return list(data.batch.sample_ids) if data.batch is not None else []


def _metrics(
    data: StepData,
    output: Output | None,
    grad_norm: float,
    optimizer: torch.optim.Optimizer,
    seconds: float,
) -> dict[str, Any]:
    """Return a line of metrics.jsonl. `tasks` are mean text losses: a decoder's terms belong to the whole batch."""
    terms, tasks = {}, {}
    if output is not None and data.batch is not None:
        terms = {name: float(value) for name, value in output.losses.items()}
        for task in sorted(set(data.batch.tasks)):
            rows = [row for row, other in enumerate(data.batch.tasks) if other == task]
            tasks[task] = float(output.text_loss_B.detach()[rows].mean())
    return {
        "step": data.step + 1,
        "loss": float(output.loss.detach()) if output is not None else None,
        "family": data.batch.family if data.batch is not None else None,
        "terms": terms,
        "tasks": tasks,
        "ids": _ids(data),
        "positions": [data.start, data.stop],
        "skipped": dict(Counter(reason for _, reason in data.skipped)),
        "shortened": data.shortened,
        "lr": max(group["lr"] for group in optimizer.param_groups),
        "grad_norm": grad_norm,
        "updated": output is not None and math.isfinite(grad_norm),
        "samples_per_s": len(_ids(data)) / seconds,
        "stall_share": min(data.wait_s / seconds, 1.0),
    }


def _describe(line: dict[str, Any]) -> str:
    loss = "no samples" if line["loss"] is None else f"loss {line['loss']:.4f}"
    note = (
        ""
        if line["updated"] or line["loss"] is None
        else f", not finite, no update: {', '.join(line['ids'])}"
    )
    return f"{loss}, {line['samples_per_s']:.1f} samples/s, data stall {line['stall_share']:.0%}{note}"


def _write(file: Any, line: dict[str, Any]) -> None:
    # msgspec writes a number that is not finite as null: the line stays JSON.
    file.write(msgspec.json.encode(line) + b"\n")


def _forget_after(path: Path, step: int) -> None:
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


@contextmanager
def _stop_on_sigterm() -> Iterator[threading.Event]:
    """Turn SIGTERM into an event while the block runs; outside the main thread, where Python has no signals, never."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def computing_threads(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Compute on so many threads while the block runs.

    PyTorch takes every core and lets its threads spin: where data threads want a core too, all of them wait for the
    slowest.
    """
    before = torch.get_num_threads()
    if config.threads or device.type == "cpu":
        torch.set_num_threads(config.threads or max(1, before - config.num_workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)
