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

import msgspec
import torch
from transformers import PreTrainedTokenizerFast

from dataengine.adapt import Adapter, Memory
from dataengine.errors import ModelError
from dataengine.files import make_folder
from dataengine.state import Hole, check_budget, differences, union
from dataengine.store import locate
from trainer import checkpoint as checkpoints
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
from trainer.data import Reader, ShardReader, StepData, batches, open_shards
from trainer.inherit import inherit
from trainer.log import (
    CONFIG,
    METRICS,
    MIXTURE,
    SERVED,
    describe,
    forget_after,
    metrics,
    most_tokens,
    write_line,
)
from trainer.model.visionllm import Output, VisionLLM
from trainer.tokenizer import bank_texts, load_tokenizer, train_tokenizer
from trainer.update import update

CHECKPOINTS, INHERITED = "checkpoints", "init_from.json"

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
    the samples that it was made of, and of those left out, with the reason), where the mixture may change,
    `mixture.jsonl` (a line a decision), and with `init_from`, `init_from.json` (which modules were taken over). SIGTERM
    ends the current step, saves and returns. Without a `reader`, samples come from `config.shards`. Raises ModelError
    where the run cannot go on as it began, and BudgetBroken where more samples are bad than `max_bad_ratio` allows.
    """
    run = _begin(config, make_folder(out_dir), reader, progress)
    with (
        _stop_on_sigterm() as stop,
        computing_threads(config, run.device),
        _Journal(run, progress) as journal,
    ):
        for data in _steps(run):
            done = _step(run, data)
            journal.tell(done)
            if run.step % config.checkpoint_every == 0 or run.step == config.steps or stop.is_set():
                journal.flush()
                _save(run)
            if stop.is_set():
                break
    return Result(
        step=run.step,
        stopped=run.step < config.steps,
        checkpoint=run.saved or _save(run),
        skipped=dict(run.skipped),
        nonfinite=tuple(run.nonfinite),
    )


@dataclass(kw_only=True)
class _Run:
    """A run on its way: what it was given, what it has built, and how far it is."""

    config: TrainConfig
    out_dir: Path
    reader: Reader
    device: torch.device
    tokenizer: PreTrainedTokenizerFast
    model: VisionLLM
    rates: dict[str, float]
    optimizer: torch.optim.Optimizer
    adapter: Adapter | None
    step: int = 0
    holes: tuple[Hole, ...] = ()
    saved: Path | None = None
    skipped: Counter[str] = field(default_factory=Counter)
    nonfinite: list[int] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Done:
    """A step that was taken; no output where none of its samples could be used."""

    data: StepData
    output: Output | None
    grad_norm: float


def _begin(config: TrainConfig, out_dir: Path, reader: Reader | None, progress: Progress) -> _Run:
    """Build everything, and bring it to where the newest checkpoint stands."""
    device = _device(config.device)
    reader = reader or open_shards(locate(config.shards), recipe_of(config), render_of(config), config.store)
    found = checkpoints.newest(out_dir / CHECKPOINTS)
    tokenizer = _tokenizer(config, found)
    model = VisionLLM(model_config(config, tokenizer.get_vocab())).to(device)
    rates = learning_rates(config, model.parts())
    model.train_only(set(rates))
    run = _Run(
        config=config,
        out_dir=out_dir,
        reader=reader,
        device=device,
        tokenizer=tokenizer,
        model=model.train(),
        rates=rates,
        optimizer=_optimizer(config, model, rates),
        adapter=_adapter(config, reader, out_dir, found),
    )
    if found is not None:
        _go_on(run, found)
    elif config.init_from is not None:
        inherited = inherit(model, Path(config.init_from))
        (out_dir / INHERITED).write_bytes(msgspec.json.encode(inherited))
        progress(0, str(inherited))
    for name in (METRICS, SERVED):
        forget_after(out_dir / name, run.step)
    (out_dir / CONFIG).write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2))
    return run


def _go_on(run: _Run, found: Checkpoint) -> None:
    _check_resumable(found, run.config, run.reader)
    checkpoints.restore(found, run.model, run.optimizer)
    run.step, run.holes, run.saved = found.record.step, found.record.holes, found.directory
    run.reader.remember(run.holes)


def _steps(run: _Run) -> Iterator[StepData]:
    """Yield what is left to do."""
    config, reader = run.config, run.reader
    return batches(
        reader,
        run.tokenizer,
        encode_settings(config, run.model.config),
        seed=config.seed,
        global_batch=config.global_batch,
        first_step=run.step,
        last_step=config.steps,
        packing=config.pack,
        micro_batches=config.micro_batch,
        parts=reader.parts if isinstance(reader, ShardReader) else None,
        num_workers=config.num_workers,
        prefetch=config.prefetch,
    )


def _step(run: _Run, data: StepData) -> _Done:
    """Learn from a step's samples, and count what became of them."""
    config = run.config
    factor = rate_factor(data.step, config.steps, config.warmup_ratio)
    for group in run.optimizer.param_groups:
        group["lr"] = run.rates[group["name"]] * factor
    output, grad_norm = None, 0.0
    if any(part.batches for part in data.parts):
        output, grad_norm = update(config, run.model, run.optimizer, data.parts, data.step)
    if not math.isfinite(grad_norm):
        run.nonfinite.append(data.step)
    run.step = data.step + 1
    run.skipped.update(reason for _, reason in data.skipped)
    run.holes = union([*run.holes, *data.holes]) if data.holes else run.holes
    return _Done(data=data, output=output, grad_norm=grad_norm)


class _Journal:
    """The open logs of a run."""

    def __init__(self, run: _Run, progress: Progress) -> None:
        self.run, self.progress = run, progress
        self.started, self.reported = time.perf_counter(), run.step

    def __enter__(self) -> _Journal:
        self.metrics, self.served = ((self.run.out_dir / name).open("ab") for name in (METRICS, SERVED))
        return self

    def __exit__(self, *_: object) -> None:
        self.metrics.close()
        self.served.close()

    def flush(self) -> None:
        """Have every line on disk before a checkpoint says that its step was done."""
        self.metrics.flush()
        self.served.flush()

    def tell(self, done: _Done) -> None:
        """Log a step, and have it decide on the mixture. Raises BudgetBroken where too many samples are bad."""
        run, config, data = self.run, self.run.config, done.data
        check_budget(run.holes, run.step * config.global_batch, config.max_bad_ratio)
        write_line(self.served, {"step": run.step, "ids": data.sample_ids, "skipped": data.skipped})
        seconds, self.started = time.perf_counter() - self.started, time.perf_counter()
        line = metrics(data, done.output, done.grad_norm, run.optimizer, seconds, most_tokens(config))
        if run.adapter is not None and run.adapter.after(run.step, line["tasks"], line["terms"]):
            run.reader.follow(run.adapter.plan)
        if run.step % config.log_every == 0 or run.step == config.steps or not math.isfinite(done.grad_norm):
            if isinstance(run.reader, ShardReader) and run.reader.stats is not None:
                line["store"] = msgspec.to_builtins(run.reader.stats)
            write_line(self.metrics, line)
            self.progress(run.step - self.reported, f"step {run.step} of {config.steps}, {describe(line)}")
            self.reported = run.step


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
    """Return the checkpoint's tokenizer, so that no edit of a prompt bank changes an id in the middle of a run, or that
    of the run whose weights this one starts with."""
    if found is not None:
        return load_tokenizer(found.directory / checkpoints.TOKENIZER)
    if config.init_from is not None:
        return load_tokenizer(
            checkpoints.find_checkpoint(Path(config.init_from)).directory / checkpoints.TOKENIZER
        )
    return load_tokenizer(config.tokenizer) if config.tokenizer else train_tokenizer(bank_texts())


def _optimizer(config: TrainConfig, model: VisionLLM, rates: dict[str, float]) -> torch.optim.AdamW:
    parts = model.parts()
    groups = [
        {"name": part, "lr": rate, "params": [p for p in parts[part] if p.requires_grad]}
        for part, rate in rates.items()
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=config.weight_decay)


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
    run.saved = checkpoints.save(
        run.out_dir / CHECKPOINTS, record, run.model, run.optimizer, run.tokenizer, run.config.keep
    )
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
