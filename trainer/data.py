"""From positions of the stream to batches: the one adapter between the data engine and torch.

A batch is a function of the reader's plan, the seed and the step; threads decide when it is ready, never what it is.
"""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from transformers import PreTrainedTokenizerFast

from dataengine.errors import Quarantine, Skip
from dataengine.mix import Recipe, slots
from dataengine.render import RenderOptions
from dataengine.sample import Sample
from dataengine.state import Hole
from dataengine.store import StoreSettings, Url
from dataengine.stream import Stream
from trainer.batch import Batch
from trainer.collate import collate
from trainer.encode import Encoded, EncodeSettings, encode_files


class Reader(Protocol):
    """Samples by position. `digest` names the plan: another digest means other samples at the same positions."""

    @property
    def digest(self) -> str: ...

    def read(self, position: int) -> tuple[Sample, list[bytes]] | Hole:
        """Return the sample at a position and its pictures' bytes, in the order of its images, or why there is none."""
        ...

    def hole(self, position: int, reason: str, detail: str, *, lasts: bool) -> Hole:
        """Return the hole that the sample at a position leaves; one that lasts is not read again."""
        ...

    def remember(self, holes: Iterable[Hole]) -> None:
        """Never read the samples of holes that were found before."""
        ...


@dataclass(frozen=True)
class ShardReader:
    """A shard set as a reader."""

    stream: Stream

    @property
    def digest(self) -> str:
        """Return the digest of the stream's plan."""
        return self.stream.plan.digest

    def read(self, position: int) -> tuple[Sample, list[bytes]] | Hole:
        """Return the sample at a position, or the hole that damage left there."""
        return self.stream.serve(position)

    def hole(self, position: int, reason: str, detail: str, *, lasts: bool) -> Hole:
        """Return the hole that the sample at a position leaves."""
        return self.stream.hole(position, reason, detail, lasts=lasts)

    def remember(self, holes: Iterable[Hole]) -> None:
        """Never read the samples of holes that were found before. Raises PlanError where there are none such."""
        self.stream.remember(holes)


def open_shards(
    directory: Path | Url,
    recipe: Recipe,
    render: RenderOptions | None = None,
    store: StoreSettings | None = None,
) -> ShardReader:
    """Return a reader of the training sources of a shard set, whose samples `render` words anew in each pass.

    Raises ShardError, StoreError or PlanError.
    """
    return ShardReader(Stream(directory, recipe, render=render, store=store))


@dataclass(frozen=True, kw_only=True)
class StepData:
    """What one rank reads in one step, positions [start, stop).

    `batch` is None where every sample was skipped. `holes` are the positions that gave nothing to it, `shortened`
    counts what length control took away; `wait_s` is how long the caller waited for it, in seconds.
    """

    step: int
    start: int
    stop: int
    batch: Batch | None
    holes: tuple[Hole, ...]
    shortened: dict[str, int]
    wait_s: float

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Return (id, reason) of each sample that is not in the batch."""
        return tuple((hole.id, hole.reason) for hole in self.holes)


def batches(
    reader: Reader,
    tokenizer: PreTrainedTokenizerFast,
    settings: EncodeSettings,
    *,
    seed: int,
    global_batch: int,
    first_step: int,
    last_step: int,
    rank: int = 0,
    world: int = 1,
    num_workers: int = 0,
    prefetch: int = 4,
) -> Generator[StepData, None, None]:
    """Yield the batches of steps [first_step, last_step) of one rank, in order.

    Samples are read, decoded and encoded by `num_workers` threads (0: by the caller), at most `prefetch` steps ahead.
    A sample that is damaged or cannot be used (Skip, Quarantine) is left out and listed, never replaced.
    """

    def load(position: int) -> Encoded | Hole:
        return load_sample(reader, tokenizer, settings, seed, position)

    executor = ThreadPoolExecutor(num_workers, "data") if num_workers else None
    waiting: deque[tuple[int, range, list[Callable[[], Encoded | Hole]]]] = deque()
    upcoming = iter(range(first_step, last_step))
    try:
        while True:
            while len(waiting) < (prefetch if executor else 1) and (step := next(upcoming, None)) is not None:
                positions = slots(step, rank, world, global_batch)
                waiting.append(
                    (step, positions, [_start(executor, load, position) for position in positions])
                )
            if not waiting:
                return
            started = time.perf_counter()
            step, positions, results = waiting.popleft()
            yield _collect(step, positions, [result() for result in results], tokenizer, started)
    finally:
        if executor is not None:
            executor.shutdown(wait=True, cancel_futures=True)


def load_sample(
    reader: Reader, tokenizer: PreTrainedTokenizerFast, settings: EncodeSettings, seed: int, position: int
) -> Encoded | Hole:
    """Return the sample at a position as tensors, or its hole; its augmentation is drawn from (seed, position)."""
    found = reader.read(position)
    if isinstance(found, Hole):
        return found
    try:
        return encode_files(*found, tokenizer, settings, random.Random(f"{seed}:{position}"))
    except (Skip, Quarantine) as error:
        return reader.hole(position, error.reason, error.detail, lasts=isinstance(error, Quarantine))


def _start(
    executor: ThreadPoolExecutor | None, load: Callable[[int], Encoded | Hole], position: int
) -> Callable[[], Encoded | Hole]:
    if executor is None:
        return lambda: load(position)
    future: Future[Encoded | Hole] = executor.submit(load, position)
    return future.result


def _collect(
    step: int,
    positions: range,
    results: list[Encoded | Hole],
    tokenizer: PreTrainedTokenizerFast,
    started: float,
) -> StepData:
    encoded = [result for result in results if isinstance(result, Encoded)]
    shortened: Counter[str] = Counter()
    for sample in encoded:
        shortened.update(sample.shortened)
    return StepData(
        step=step,
        start=positions.start,
        stop=positions.stop,
        batch=collate(encoded, tokenizer.pad_token_id) if encoded else None,
        holes=tuple(result for result in results if isinstance(result, Hole)),
        shortened=dict(shortened),
        wait_s=time.perf_counter() - started,
    )
