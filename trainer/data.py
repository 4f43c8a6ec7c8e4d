"""From positions of the stream to batches: the one adapter between the data engine and torch.

A batch is a function of the reader's plan, the seed and the step; threads decide when it is ready, never what it is.
Where samples are packed or a step is cut into micro-batches, every rank first reads the text of all samples of the
step, lays them out in the same way, and then decodes the pictures of its own.
"""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from dataengine.errors import Quarantine, Skip
from dataengine.mix import Plan, Recipe, StepPart, part_slots, slots
from dataengine.render import RenderOptions
from dataengine.sample import Sample
from dataengine.state import Hole
from dataengine.store import Stats, StoreSettings, Url
from dataengine.stream import Stream
from trainer.batch import Batch
from trainer.collate import collate
from trainer.config import MicroBatches, Packing
from trainer.encode import Encoded, Measured, encode_files, fill_files, measure
from trainer.layout import MicroBatch, lay_out, share
from trainer.settings import TEXT, EncodeSettings

T = TypeVar("T")


class Reader(Protocol):
    """Samples by position. `digest` names the plan: another digest means other samples at the same positions."""

    @property
    def digest(self) -> str: ...

    @property
    def plan(self) -> Plan | None:
        """The mixture, where the samples are those of one."""
        ...

    def follow(self, plan: Plan) -> None:
        """Go on by another plan, which is the same at every position that was read."""
        ...

    def read(self, position: int) -> tuple[Sample, list[bytes]] | Hole:
        """Return the sample at a position and its pictures' bytes, in the order of its images, or why there is none."""
        ...

    def describe(self, position: int) -> Sample | Hole:
        """Return the sample at a position without its pictures, whether they are good or not."""
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

    @property
    def plan(self) -> Plan:
        """Return the stream's plan."""
        return self.stream.plan

    def follow(self, plan: Plan) -> None:
        """Go on by another plan of the same sources."""
        self.stream.follow(plan)

    @property
    def stats(self) -> Stats | None:
        """Return what reading from a store has cost so far; None for a folder."""
        store = self.stream.index.store
        return None if store is None else store.stats

    def read(self, position: int) -> tuple[Sample, list[bytes]] | Hole:
        """Return the sample at a position, or the hole that damage left there."""
        return self.stream.serve(position)

    def describe(self, position: int) -> Sample | Hole:
        """Return the sample at a position without its pictures."""
        return self.stream.describe(position)

    def hole(self, position: int, reason: str, detail: str, *, lasts: bool) -> Hole:
        """Return the hole that the sample at a position leaves."""
        return self.stream.hole(position, reason, detail, lasts=lasts)

    def remember(self, holes: Iterable[Hole]) -> None:
        """Never read the samples of holes that were found before. Raises PlanError where there are none such."""
        self.stream.remember(holes)

    def parts(self, step: int) -> tuple[StepPart, ...]:
        """Return the parts of a step, by the mixture's mode."""
        return self.stream.plan.parts(step)


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
class PartData:
    """What one rank computes of a part of a step: the sum of its batches' losses, times `weight`, is the part's.

    There is no batch where every sample of the part was skipped. The last `num_idle` batches only keep this rank in
    step with the others: their losses count nothing.
    """

    batches: tuple[Batch, ...]
    weight: float = 1.0
    num_idle: int = 0

    @property
    def counted(self) -> tuple[Batch, ...]:
        """Return the batches whose losses count."""
        return self.batches[: len(self.batches) - self.num_idle]


@dataclass(frozen=True, kw_only=True)
class StepData:
    """What one rank computes in one step, of positions [start, stop): its own, or where it shares them out with the
    other ranks by length, the step's.

    `holes` are the positions that gave nothing, `shortened` counts what length control took away; `wait_s` is how long
    the caller waited for it, in seconds.
    """

    step: int
    start: int
    stop: int
    parts: tuple[PartData, ...]
    holes: tuple[Hole, ...]
    shortened: dict[str, int]
    wait_s: float

    @property
    def batches(self) -> tuple[Batch, ...]:
        """Return the batches whose losses count, of all parts."""
        return tuple(batch for part in self.parts for batch in part.counted)

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Return the samples that this rank learns from."""
        return tuple(sample_id for batch in self.batches for sample_id in batch.sample_ids)

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Return (id, reason) of each sample that is in no batch."""
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
    packing: Packing | None = None,
    micro_batches: MicroBatches | None = None,
    parts: Callable[[int], Sequence[StepPart]] | None = None,
    num_workers: int = 0,
    prefetch: int = 4,
) -> Generator[StepData, None, None]:
    """Yield the batches of steps [first_step, last_step) of one rank, in order.

    Samples are read, decoded and encoded by `num_workers` threads (0: by the caller), at most `prefetch` steps ahead.
    A sample that is damaged or cannot be used (Skip, Quarantine) is left out and listed, never replaced. `parts` gives
    the parts of a step; without it, a step is one. Without `packing` and `micro_batches`, a rank has one batch of each
    part, that of its own positions; else batches are the same whatever the number of ranks, which share them out.
    """
    loading = _Loading(
        reader=reader,
        tokenizer=tokenizer,
        settings=settings,
        seed=seed,
        rank=rank,
        world=world,
        packing=packing,
        micro_batches=micro_batches,
    )
    executor = ThreadPoolExecutor(num_workers, "data") if num_workers else None
    waiting: deque[_Step] = deque()
    upcoming = iter(range(first_step, last_step))
    try:
        while True:
            started = time.perf_counter()
            while len(waiting) < (prefetch if executor else 1) and (step := next(upcoming, None)) is not None:
                whole = StepPart(
                    family="", start=step * global_batch, stop=(step + 1) * global_batch, weight=1.0
                )
                waiting.append(
                    _Step(loading, executor, step, global_batch, parts(step) if parts else [whole])
                )
            for unfinished in waiting:
                unfinished.go_on()
            if not waiting:
                return
            yield waiting.popleft().collect(started)
    finally:
        if executor is not None:
            executor.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, kw_only=True)
class _Loading:
    """What a rank makes its batches from, and how they are laid out."""

    reader: Reader
    tokenizer: PreTrainedTokenizerFast
    settings: EncodeSettings
    seed: int
    rank: int
    world: int
    packing: Packing | None
    micro_batches: MicroBatches | None

    @property
    def lays_out(self) -> bool:
        """Return whether ranks share a step out by length, in micro-batches."""
        return self.packing is not None or self.micro_batches is not None

    def load(self, position: int) -> Encoded | Hole:
        """Return the sample at a position as tensors, or its hole; its augmentation is drawn from (seed, position)."""
        found = self.reader.read(position)
        if isinstance(found, Hole):
            return found
        return self._or_hole(
            position, encode_files, *found, self.tokenizer, self.settings, self._chance(position)
        )

    def measure(self, position: int) -> Measured | Hole:
        """Return the sample at a position without its pictures, or its hole, the same on every rank."""
        sample = self.reader.describe(position)
        if isinstance(sample, Hole):
            return sample
        found = self._or_hole(
            position, measure, sample, self.tokenizer, self.settings, self._chance(position)
        )
        most = None if self.packing is None else self.packing.max_tiles
        if isinstance(found, Hole) or found.family != TEXT or most is None or found.num_tiles <= most:
            return found
        detail = f"{found.num_tiles} tiles, at most {most} fit"
        return self.reader.hole(position, "image.too_many_tiles", detail, lasts=False)

    def finish(self, position: int, measured: Measured) -> Encoded | Hole:
        """Return a measured sample as tensors, or its hole."""
        found = self.reader.read(position)
        if isinstance(found, Hole):
            return found
        return self._or_hole(position, fill_files, measured, found[1], self.settings)

    def _chance(self, position: int) -> random.Random:
        return random.Random(f"{self.seed}:{position}")

    def _or_hole(self, position: int, make: Callable[..., T], *args: Any) -> T | Hole:
        try:
            return make(*args)
        except (Skip, Quarantine) as error:
            return self.reader.hole(position, error.reason, error.detail, lasts=isinstance(error, Quarantine))


class _Step:
    """A step in the making."""

    def __init__(
        self,
        loading: _Loading,
        executor: ThreadPoolExecutor | None,
        step: int,
        global_batch: int,
        parts: Sequence[StepPart],
    ) -> None:
        self.step = step
        # A wrong rank is refused here.
        self.positions = slots(step, loading.rank, loading.world, global_batch)
        if loading.lays_out or len(parts) > 1:
            self.positions = range(parts[0].start, parts[-1].stop)
        self.parts = [_Part(loading, executor, part) for part in parts]

    def go_on(self) -> None:
        """Lay out what can be, so that pictures are decoded while the caller computes."""
        for part in self.parts:
            part.go_on()

    def collect(self, started: float) -> StepData:
        """Return the step, after waiting for all of it."""
        for part in self.parts:
            part.lay_out()
        parts = tuple(part.collect() for part in self.parts)
        holes = sorted((hole for part in self.parts for hole in part.holes), key=lambda hole: hole.position)
        return StepData(
            step=self.step,
            start=self.positions.start,
            stop=self.positions.stop,
            parts=parts,
            holes=tuple(holes),
            shortened=dict(sum((part.shortened for part in self.parts), Counter[str]())),
            wait_s=time.perf_counter() - started,
        )


class _Part:
    """A part of a step in the making: its samples are loaded at once, or measured, laid out, and finished."""

    def __init__(self, loading: _Loading, executor: ThreadPoolExecutor | None, part: StepPart) -> None:
        self.loading, self.executor, self.part = loading, executor, part
        self.holes: list[Hole] = []
        self.shortened: Counter[str] = Counter()
        self.micro: list[MicroBatch] | None = None
        self.first_region: list[int] = []
        self.loaded: list[list[Future[Encoded | Hole]]] = []
        if loading.lays_out:
            self.measured = [
                self._start(loading.measure, position) for position in range(part.start, part.stop)
            ]
            return
        own = part_slots(part, loading.rank, loading.world)
        # Of a part with fewer samples than ranks, who has none runs one of another's.
        idle = not own
        own = own or range(part.start, part.start + 1)
        rows = [[place] for place in range(len(own))]
        # Its number seeds its noise, which must be another on each rank.
        self.micro = [MicroBatch(number=loading.rank, rows=rows, packed=False, idle=idle)]
        self.loaded = [[self._start(loading.load, position) for position in own]]

    def go_on(self) -> None:
        """Lay the part out if all of its samples are measured."""
        if self.micro is None and all(future.done() for future in self.measured):
            self.lay_out()

    def lay_out(self) -> None:
        """Wait until all samples are measured, lay them out and begin to finish this rank's, once."""
        if self.micro is not None:
            return
        loading = self.loading
        own = part_slots(self.part, loading.rank, loading.world)
        positions, samples = [], []
        for position, future in enumerate(self.measured, self.part.start):
            found = future.result()
            if isinstance(found, Measured):
                positions.append(position)
                samples.append(found)
            elif position in own:
                self.holes.append(found)  # every rank knows it, one tells
        self.measured = []
        micro = lay_out(
            samples, loading.packing, loading.micro_batches or MicroBatches(), loading.settings.max_length
        )
        self.micro = share(micro, samples, loading.settings, loading.rank, loading.world)
        self.first_region = [0, *np.cumsum([len(found.sample.regions) for found in samples]).tolist()]
        self.loaded = [
            [
                self._start(loading.finish, positions[place], samples[place])
                for row in one.rows
                for place in row
            ]
            for one in self.micro
        ]

    def collect(self) -> PartData:
        """Return this rank's batches, after waiting for all of their samples."""
        assert self.micro is not None
        made = [
            (self._batch(micro, [future.result() for future in futures]), micro.idle)
            for micro, futures in zip(self.micro, self.loaded, strict=True)
        ]
        counted = [batch for batch, idle in made if batch is not None and not idle]
        others = [batch for batch, idle in made if batch is not None and idle]
        if self.loading.world > 1 and made:
            # Other ranks compute as often, whatever this one lost.
            some = counted or others or self._borrowed()
            others += some[-1:] * (len(made) - len(counted) - len(others))
        return PartData(batches=(*counted, *others), weight=self.part.weight, num_idle=len(others))

    def _borrowed(self) -> list[Batch]:
        """Return a batch of the part's first sample that is good, for a rank that lost all of its own, or nothing where
        every rank did."""
        for position in range(self.part.start, self.part.stop):
            measured = self.loading.measure(position)
            found = measured if isinstance(measured, Hole) else self.loading.finish(position, measured)
            batch = self._batch(MicroBatch(number=0, rows=[[0]], packed=False, idle=True), [found])
            if batch is not None:
                return [batch]
        return []

    def _batch(self, micro: MicroBatch, results: Sequence[Encoded | Hole]) -> Batch | None:
        if not micro.idle:
            self.holes += [result for result in results if isinstance(result, Hole)]
            for result in results:
                if isinstance(result, Encoded):
                    self.shortened.update(result.shortened)
        waiting = iter(results)
        rows = [[(place, next(waiting)) for place in row] for row in micro.rows]
        kept = [[(k, found) for k, found in row if isinstance(found, Encoded)] for row in rows]
        samples = [found for row in kept for _, found in row]
        if not samples:
            return None
        batch = collate(
            samples,
            self.loading.tokenizer.pad_token_id,
            [len(row) for row in kept if row] if micro.packed else None,
        )
        return replace(batch, number=micro.number, region_numbers_R=self._region_numbers(batch, kept))

    def _region_numbers(self, batch: Batch, kept: list[list[tuple[int, Encoded]]]) -> torch.Tensor | None:
        """Return the number of each region of a batch among those of the part; None where nobody knows it, since each
        rank reads its own positions alone."""
        if self.loading.lays_out:
            numbers = [
                torch.arange(len(one.region_tile_R)) + self.first_region[k] for row in kept for k, one in row
            ]
            return torch.cat(numbers)
        return torch.arange(len(batch.regions_RSS)) if self.loading.world == 1 else None

    def _start(self, function: Callable[..., T], *args: Any) -> Future[T]:
        if self.executor is not None:
            return self.executor.submit(function, *args)
        future: Future[T] = Future()
        future.set_result(function(*args))
        return future
