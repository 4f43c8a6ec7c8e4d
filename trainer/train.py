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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import PreTrainedTokenizerFast

from dataengine.adapt import Adapter, Memory
from dataengine.errors import ModelError
from dataengine.files import make_folder
from dataengine.mix import key
from dataengine.state import Hole, check_budget, differences, union
from dataengine.store import locate
from trainer import checkpoint as checkpoints
from trainer.batch import Batch, Whole, counts
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
from trainer.data import PartData, Reader, ShardReader, StepData, batches, open_shards
from trainer.losses import mean_count
from trainer.model.region import region_noise
from trainer.model.visionllm import Output, VisionLLM
from trainer.tokenizer import bank_texts, load_tokenizer, train_tokenizer

CHECKPOINTS, METRICS, SERVED, CONFIG = "checkpoints", "metrics.jsonl", "served.jsonl", "config.json"
MIXTURE = "mixture.jsonl"

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

    Writes `checkpoints/`, `metrics.jsonl` (a line every `log_every` steps), `served.jsonl` (a line a step: the ids of
    the samples that it was made of, and of those left out, with the reason) and, where the mixture may change,
    `mixture.jsonl` (a line a decision). SIGTERM ends the current step, saves and returns. Without a `reader`, samples
    come from `config.shards`. Raises ModelError where the run cannot go on as it began, and BudgetBroken where more
    samples are bad than `max_bad_ratio` allows.
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
    adapter = _adapter(config, reader, out_dir, found)
    if found is not None:
        _check_resumable(found, config, reader)
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
            packing=config.pack,
            micro_batches=config.micro_batch,
            parts=reader.parts if isinstance(reader, ShardReader) else None,
            num_workers=config.num_workers,
            prefetch=config.prefetch,
        ):
            _set_rates(optimizer, rates, rate_factor(data.step, config.steps, config.warmup_ratio))
            output, grad_norm = None, 0.0
            if any(part.batches for part in data.parts):
                output, grad_norm = update(config, model, optimizer, data.parts, data.step)
                if not math.isfinite(grad_norm):
                    nonfinite.append(data.step)
            step = data.step + 1
            skipped.update(reason for _, reason in data.skipped)
            holes = union([*holes, *data.holes]) if data.holes else holes
            check_budget(holes, step * config.global_batch, config.max_bad_ratio)
            _write(served, {"step": step, "ids": data.sample_ids, "skipped": data.skipped})
            seconds, started = time.perf_counter() - started, time.perf_counter()
            logged = step % config.log_every == 0 or step == config.steps or not math.isfinite(grad_norm)
            if logged or adapter is not None:
                line = _metrics(data, output, grad_norm, optimizer, seconds, _most_tokens(config))
            if adapter is not None and adapter.after(step, line["tasks"], line["terms"]):
                reader.follow(adapter.plan)
            if logged:
                if isinstance(reader, ShardReader) and reader.stats is not None:
                    line["store"] = msgspec.to_builtins(reader.stats)
                _write(metrics, line)
                progress(step - reported, f"step {step} of {config.steps}, {_describe(line)}")
                reported = step
            if step % config.checkpoint_every == 0 or step == config.steps or stop.is_set():
                metrics.flush()
                served.flush()
                path = _save(config, out_dir, step, holes, reader, adapter, model, optimizer, tokenizer)
            if stop.is_set():
                break
    if path is None:
        path = _save(config, out_dir, step, holes, reader, adapter, model, optimizer, tokenizer)
    return Result(
        step=step,
        stopped=step < config.steps,
        checkpoint=path,
        skipped=dict(skipped),
        nonfinite=tuple(nonfinite),
    )


def update(
    config: TrainConfig,
    model: VisionLLM,
    optimizer: torch.optim.Optimizer,
    parts: Sequence[PartData],
    step: int,
) -> tuple[Output, float]:
    """Take one step on all batches of all parts, and return the sum of their outputs and the norm of the gradient.

    Where loss or gradient is not finite, the weights stay and the norm is returned as it is.
    """
    optimizer.zero_grad(set_to_none=True)
    outputs = [
        output
        for number, part in enumerate(parts)
        for output in _accumulate(config, model, part, step, f"noise:{number}" if number else "noise")
    ]
    output = _sum(outputs)
    if not torch.isfinite(output.loss):
        return output, math.nan
    trained = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    grad_norm = float(torch.nn.utils.clip_grad_norm_(trained, config.grad_clip))
    if math.isfinite(grad_norm):
        optimizer.step()
    return output, grad_norm


def _accumulate(
    config: TrainConfig, model: VisionLLM, part: PartData, step: int, noise: str
) -> Iterator[Output]:
    """Add the gradient of a part's loss, and yield what each of its batches adds to it.

    Sums are divided by the counts of the whole part, and points of regions drawn by their numbers in it: the part's
    loss is the same, however it is cut. A decoder's noise is each micro-batch's own.
    """
    device = next(model.parameters()).device
    whole = _whole(config, model, part, step, noise, device)
    for place, batch in enumerate(part.batches):
        idle = place >= len(part.counted)
        weight = 0.0 if idle else part.weight
        batch = batch.to(device)
        name = noise
        if whole is not None:
            name = f"{noise}:{batch.number}"
            region_noise_RP = whole.region_noise_RP[batch.region_numbers_R.cpu()]
            batch = replace(batch, whole=replace(whole, region_noise_RP=region_noise_RP))
        bf16 = config.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
            output = model(batch, _generator(config, name, step))
        (output.loss * weight).backward()
        yield _weighted(output, weight, 0 if idle else len(batch.sample_ids))


def _whole(
    config: TrainConfig, model: VisionLLM, part: PartData, step: int, noise: str, device: torch.device
) -> Whole | None:
    """Return what batches must know of the part that they are cut from; None where its one batch is all of it."""
    if not part.cut:
        return None
    numbers = [batch.region_numbers_R for batch in part.batches]
    counted = sum((counts(batch) for batch in part.counted), torch.zeros(5, dtype=torch.int64))
    num_regions = max(int(numbers_R.max()) + 1 if len(numbers_R) else 0 for numbers_R in numbers)
    num_pixels = model.config.vision.image_size**2
    return Whole(
        counts_5=mean_count(counted.to(device)),
        region_noise_RP=region_noise(num_regions, num_pixels, _generator(config, noise, step)),
    )


def _generator(config: TrainConfig, name: str, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(key(config.seed, name, step) >> 1)


def _weighted(output: Output, weight: float, num_samples: int) -> Output:
    """Return an output for the log, without its graph: losses times their weight in the step's, and the samples that
    count."""
    return Output(
        loss=output.loss.detach() * weight,
        losses={name: value * weight for name, value in output.losses.items()},
        detail={name: value * weight for name, value in output.detail.items()},
        text_loss_B=output.text_loss_B.detach()[:num_samples],
        text_tokens_B=output.text_tokens_B[:num_samples],
    )


def _sum(outputs: Sequence[Output]) -> Output:
    """Return the sum of the losses, and the samples' one after another."""

    def summed(tables: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        names = dict.fromkeys(name for table in tables for name in table)
        return {name: sum(table[name] for table in tables if name in table) for name in names}

    return Output(
        loss=torch.stack([output.loss for output in outputs]).sum(),
        losses=summed([output.losses for output in outputs]),
        detail=summed([output.detail for output in outputs]),
        text_loss_B=torch.cat([output.text_loss_B for output in outputs]),
        text_tokens_B=torch.cat([output.text_tokens_B for output in outputs]),
    )


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


def _adapter(config: TrainConfig, reader: Reader, out_dir: Path, found: Checkpoint | None) -> Adapter | None:
    """Return who changes the mixture, and bring the reader to the plan that was decided on before."""
    if config.adapt is None:
        return None
    if reader.plan is None:
        raise ModelError("adapt: the samples have no mixture, expected shards; remove adapt")
    memory = found.record.adapt if found is not None else Memory()
    adapter = Adapter(config.adapt, reader.plan, out_dir / MIXTURE, memory)
    reader.follow(adapter.plan)
    return adapter


def _check_resumable(found: Checkpoint, config: TrainConfig, reader: Reader) -> None:
    """Raise ModelError where a run would not go on as it began: for changed samples first, since settings cannot mend
    them, then for a changed setting, then for a plan that is another for a reason that nobody noted."""
    changed_sources = differences(found.record.sources, () if reader.plan is None else reader.plan.marks)
    then, now = msgspec.to_builtins(found.record.config), msgspec.to_builtins(config)
    changed = sorted(name for name in now if name not in FREE_TO_CHANGE and then[name] != now[name])
    if changed and not changed_sources:
        name = changed[0]
        raise ModelError(
            f"{found.directory}: {name} was {then[name]!r} and is now {now[name]!r}, expected the same run; set it"
            " back, or train into another folder"
        )
    if changed_sources or found.record.plan != reader.digest:
        raise ModelError(
            f"{found.directory}: its plan {found.record.plan!r} is not the stream's {reader.digest!r}"
            f" ({changed_sources or 'no source changed that is known'}), expected the same samples at the same"
            " positions; restore the shards and the mixture, or train into another folder"
        )


def _save(
    config: TrainConfig,
    out_dir: Path,
    step: int,
    holes: tuple[Hole, ...],
    reader: Reader,
    adapter: Adapter | None,
    model: VisionLLM,
    optimizer: torch.optim.Optimizer,
    tokenizer: PreTrainedTokenizerFast,
) -> Path:
    record = Record(
        step=step,
        position=step * config.global_batch,
        plan=reader.digest,
        holes=holes,
        sources=() if reader.plan is None else reader.plan.marks,
        adapt=Memory() if adapter is None else adapter.memory,
        config=config,
        model=model.config.to_dict(),
        torch=str(torch.__version__),
    )
    return checkpoints.save(out_dir / CHECKPOINTS, record, model, optimizer, tokenizer, config.keep)


# What is logged


def _metrics(
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


def _most_tokens(config: TrainConfig) -> int | None:
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


def _describe(line: dict[str, Any]) -> str:
    loss = "no samples" if line["loss"] is None else f"loss {line['loss']:.4f}"
    note = (
        ""
        if line["updated"] or line["loss"] is None
        else f", not finite, no update: {', '.join(line['ids'])}"
    )
    fill = f", fill {line['fill']:.0%}" if "fill" in line else ""
    rates = f"{line['samples_per_s']:.1f} samples/s, padding {line['padding']:.0%}{fill}"
    return f"{loss}, {rates}, data stall {line['stall_share']:.0%}{note}"


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
