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
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from dataengine.adapt import Adapter, Memory
from dataengine.errors import ModelError
from dataengine.files import make_folder
from dataengine.state import Hole, check_budget, differences, union
from dataengine.store import locate
from trainer import checkpoint as checkpoints
from trainer.checkpoint import Checkpoint, Record, Saver
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
from trainer.data import Reader, ShardReader, StepData, batches, open_shards
from trainer.distributed import Ranks, compile_layers, joined, level, share_model, sliced, spread
from trainer.flops import Flops, peak_flops
from trainer.inherit import inherit
from trainer.log import (
    CONFIG,
    METRICS,
    MIXTURE,
    SERVED,
    Told,
    describe,
    forget_after,
    loggers,
    merged,
    metrics,
    report,
    scalars,
    write_line,
)
from trainer.model.config import ModelConfig
from trainer.model.visionllm import VisionLLM, hollow_model
from trainer.text import plain_texts
from trainer.tokenizer import bank_texts, load_tokenizer, train_tokenizer
from trainer.update import update

CHECKPOINTS, INHERITED = "checkpoints", "init_from.json"

# So many of the first samples are what a run's own tokenizer is trained on, beside the prompt banks.
_HEARD = 1000

Progress = Callable[[int, str], None]


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a call of `train` ended: steps done in all, whether a signal stopped it, its last checkpoint.

    `skipped` counts the samples left out in this call, by reason; `nonfinite` lists the steps without an update. All
    ranks have the same; `rank` says which one this is.
    """

    step: int
    stopped: bool
    checkpoint: Path
    skipped: dict[str, int]
    nonfinite: tuple[int, ...]
    rank: int = 0


def train(
    config: TrainConfig,
    out_dir: Path,
    *,
    reader: Reader | None = None,
    progress: Progress = lambda count, text: None,
) -> Result:
    """Train until `config.steps`, from the newest checkpoint in `out_dir` if there is one.

    Writes `checkpoints/`, `metrics.jsonl` (a line every `log_every` steps), `served.jsonl` (a line a step: the ids of
    the samples that it was made of, and of those left out, with the reason), where the mixture may change,
    `mixture.jsonl` (a line a decision), and with `init_from`, `init_from.json` (which modules were taken over). SIGTERM
    ends the current step, saves and returns. Without a `reader`, samples come from `config.shards`. Where `torchrun`
    started several processes, all of them call this, and `out_dir` is one folder for all. Raises ModelError where the
    run cannot go on as it began, and BudgetBroken where more samples are bad than `max_bad_ratio` allows.
    """
    with joined(config.device) as ranks, _stop_on_sigterm() as stop:
        run = _begin(config, make_folder(out_dir), reader, ranks, progress)
        with computing_threads(config, ranks.device), run.saver, _Journal(run, progress) as journal:
            for data in _steps(run):
                journal.tell(*_step(run, data))
                stopping = ranks.any(stop.is_set())
                if run.step % config.checkpoint_every == 0 or run.step == config.steps or stopping:
                    journal.flush()
                    _save(run)
                if stopping:
                    break
            path = run.saved or _save(run)
    return Result(
        step=run.step,
        stopped=run.step < config.steps,
        checkpoint=path,
        skipped=dict(run.skipped),
        nonfinite=tuple(run.nonfinite),
        rank=ranks.rank,
    )


@dataclass(kw_only=True)
class _Run:
    """A run on its way: what it was given, what it has built, and how far it is. `shared` is what computes a batch."""

    config: TrainConfig
    out_dir: Path
    reader: Reader
    ranks: Ranks
    tokenizer: PreTrainedTokenizerFast
    model: VisionLLM
    shared: nn.Module
    flops: Flops
    rates: dict[str, float]
    optimizer: torch.optim.Optimizer
    adapter: Adapter | None
    saver: Saver
    step: int = 0
    holes: tuple[Hole, ...] = ()
    saved: Path | None = None
    skipped: Counter[str] = field(default_factory=Counter)
    nonfinite: list[int] = field(default_factory=list)


def _begin(
    config: TrainConfig, out_dir: Path, reader: Reader | None, ranks: Ranks, progress: Progress
) -> _Run:
    """Build everything, and bring it to where the newest checkpoint stands."""
    reader = reader or open_shards(locate(config.shards), recipe_of(config), render_of(config), config.store)
    saver = Saver(out_dir / CHECKPOINTS, ranks, config.keep, config.keep_every_hours)
    found = checkpoints.newest(saver.directory)
    tokenizer = _tokenizer(config, found, reader)
    described = model_config(config, tokenizer.get_vocab())
    whole = _whole_model(config, described, out_dir, found, ranks, progress)
    model = hollow_model(described) if whole is None or sliced(ranks, config.parallel) else whole
    rates = learning_rates(config, model.parts())
    model.train_only(set(rates))
    flops = Flops(model)
    if config.compile is not None:
        compile_layers(model, config.compile)
    shared = share_model(model.train(), ranks, config.parallel, config.precision)
    if found is None and sliced(ranks, config.parallel):
        spread(checkpoints.weights_of(model), None if whole is None else checkpoints.weights_of(whole), ranks)
    run = _Run(
        config=config,
        out_dir=out_dir,
        reader=reader,
        ranks=ranks,
        tokenizer=tokenizer,
        model=model,
        shared=shared,
        flops=flops,
        rates=rates,
        optimizer=_optimizer(config, model, rates),
        adapter=_adapter(config, reader, out_dir, found, ranks),
        saver=saver,
    )
    if found is not None:
        _go_on(run, found)
    if ranks.leads:
        saver.clear()
        for name in (METRICS, SERVED):
            forget_after(out_dir / name, run.step)
        (out_dir / CONFIG).write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2))
    return run


def _whole_model(
    config: TrainConfig,
    described: ModelConfig,
    out_dir: Path,
    found: Checkpoint | None,
    ranks: Ranks,
    progress: Progress,
) -> VisionLLM | None:
    """Return the model with the weights that a run starts with; None where this rank needs no more than a slice of
    them, which is rank 0's or a checkpoint's."""
    if sliced(ranks, config.parallel) and (found is not None or not ranks.leads):
        return None
    model = VisionLLM(described)
    if found is None and config.init_from is not None:
        inherited = inherit(model, Path(config.init_from))
        if ranks.leads:
            (out_dir / INHERITED).write_bytes(msgspec.json.encode(inherited))
            progress(0, str(inherited))
    return model


def _go_on(run: _Run, found: Checkpoint) -> None:
    _check_resumable(found, run.config, run.reader)
    checkpoints.restore(found, run.model, run.optimizer)
    run.step, run.holes, run.saved = found.record.step, found.record.holes, found.directory
    run.reader.remember(run.holes)


def _steps(run: _Run) -> Iterator[StepData]:
    """Yield this rank's share of what is left to do."""
    config, reader = run.config, run.reader
    return batches(
        reader,
        run.tokenizer,
        encode_settings(config, run.model.config),
        seed=config.seed,
        global_batch=config.global_batch,
        first_step=run.step,
        last_step=config.steps,
        rank=run.ranks.rank,
        world=run.ranks.world,
        packing=config.pack,
        micro_batches=config.micro_batch,
        parts=reader.parts if isinstance(reader, ShardReader) else None,
        num_workers=config.num_workers,
        prefetch=config.prefetch,
    )


def _step(run: _Run, data: StepData) -> tuple[Told, float]:
    """Learn from a step's samples; return what all ranks say of it, and the norm of the gradient."""
    config, ranks = run.config, run.ranks
    factor = rate_factor(data.step, config.steps, config.warmup_ratio)
    for group in run.optimizer.param_groups:
        group["lr"] = run.rates[group["name"]] * factor
    computed, grad_norm = [], 0.0
    parts = level(ranks, data.parts)
    if any(part.batches for part in parts):
        computed, grad_norm = update(config, run.shared, run.optimizer, parts, data.step, ranks)
    if not math.isfinite(grad_norm):
        run.nonfinite.append(data.step)
    told = merged(ranks.gather(report(data, computed, run.flops, ranks.device)))
    run.step = data.step + 1
    run.skipped.update(reason for _, reason in told.skipped)
    run.holes = union([*run.holes, *told.holes]) if told.holes else run.holes
    return told, grad_norm


class _Journal:
    """What is told of a run's steps. Every rank decides on the mixture, alike; one writes."""

    def __init__(self, run: _Run, progress: Progress) -> None:
        self.run, self.progress = run, progress
        self.started, self.reported = time.perf_counter(), run.step
        self.samples: Counter[str] = Counter()
        peak = peak_flops(run.ranks.device, run.config.precision, run.config.peak_tflops)
        self.peak = None if peak is None else peak * run.ranks.world

    def __enter__(self) -> _Journal:
        if self.run.ranks.leads:
            self.metrics, self.served = ((self.run.out_dir / name).open("ab") for name in (METRICS, SERVED))
            self.loggers = loggers(self.run.config, self.run.out_dir, self.run.step)
        return self

    def __exit__(self, *_: object) -> None:
        if self.run.ranks.leads:
            for one in (self.metrics, self.served, *self.loggers):
                one.close()

    def flush(self) -> None:
        """Have every line written before a checkpoint says that its step was done."""
        if self.run.ranks.leads:
            self.metrics.flush()
            self.served.flush()

    def tell(self, told: Told, grad_norm: float) -> None:
        """Log a step, and have it decide on the mixture. Raises BudgetBroken where too many samples are bad."""
        run, config = self.run, self.run.config
        check_budget(run.holes, run.step * config.global_batch, config.max_bad_ratio)
        seconds, self.started = time.perf_counter() - self.started, time.perf_counter()
        rate = max(group["lr"] for group in run.optimizer.param_groups)
        line = {"step": run.step, **metrics(told, grad_norm, rate, seconds, config, self.peak)}
        if run.adapter is not None and run.adapter.after(run.step, line["tasks"], line["terms"]):
            run.reader.follow(run.adapter.plan)
        self.samples.update(task for batch in told.batches for task in batch.tasks)
        if run.ranks.leads:
            write_line(self.served, {"step": run.step, "ids": told.ids, "skipped": told.skipped})
            if (
                run.step % config.log_every == 0
                or run.step == config.steps
                or line["suspects"]
                or not line["ids"]
            ):
                self._write(line)

    def _write(self, line: dict[str, Any]) -> None:
        run = self.run
        line["samples"] = dict(sorted(self.samples.items()))
        self.samples.clear()
        if isinstance(run.reader, ShardReader) and run.reader.stats is not None:
            line["store"] = msgspec.to_builtins(run.reader.stats)
        write_line(self.metrics, line)
        for one in self.loggers:
            one.log(run.step, scalars(line))
        self.progress(run.step - self.reported, f"step {run.step} of {run.config.steps}, {describe(line)}")
        self.reported = run.step


def _tokenizer(config: TrainConfig, found: Checkpoint | None, reader: Reader) -> PreTrainedTokenizerFast:
    """Return the checkpoint's tokenizer, so that no edit of a prompt bank changes an id in the middle of a run, or that
    of the run whose weights this one starts with.

    A small one of the run's own knows the words of its first samples as whole tokens: in pieces, a model of random
    weights neither copies a name from the question nor reads it where a query looks.
    """
    if found is not None:
        return load_tokenizer(found.directory / checkpoints.TOKENIZER)
    if config.init_from is not None:
        return load_tokenizer(
            checkpoints.find_checkpoint(Path(config.init_from)).directory / checkpoints.TOKENIZER
        )
    if config.tokenizer:
        return load_tokenizer(config.tokenizer)
    positions = range(min(_HEARD, config.steps * config.global_batch))
    samples = (heard for heard in map(reader.describe, positions) if not isinstance(heard, Hole))
    said = [text for sample in samples for text in plain_texts(sample.conversation)]
    return train_tokenizer([*bank_texts(), *said])


def _optimizer(config: TrainConfig, model: VisionLLM, rates: dict[str, float]) -> torch.optim.AdamW:
    parts = model.parts()
    groups = [
        {"name": part, "lr": rate, "params": [p for p in parts[part] if p.requires_grad]}
        for part, rate in rates.items()
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=config.weight_decay)


def _adapter(
    config: TrainConfig, reader: Reader, out_dir: Path, found: Checkpoint | None, ranks: Ranks
) -> Adapter | None:
    """Return who changes the mixture, and bring the reader to the plan that was decided on before."""
    if config.adapt is None:
        return None
    if reader.plan is None:
        raise ModelError("adapt: the samples have no mixture, expected shards; remove adapt")
    memory = found.record.adapt if found is not None else Memory()
    adapter = Adapter(config.adapt, reader.plan, out_dir / MIXTURE, memory, keep_log=ranks.leads)
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


def _save(run: _Run) -> Path:
    """Write a checkpoint of where the run stands."""
    record = Record(
        step=run.step,
        position=run.step * run.config.global_batch,
        plan=run.reader.digest,
        holes=run.holes,
        sources=() if run.reader.plan is None else run.reader.plan.marks,
        adapt=Memory() if run.adapter is None else run.adapter.memory,
        config=run.config,
        model=run.model.config.to_dict(),
        torch=str(torch.__version__),
    )
    run.saved = run.saver.save(record, run.model, run.optimizer, run.tokenizer)
    return run.saved


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
