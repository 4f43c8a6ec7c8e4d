"""A shard set as a PyTorch dataset: a rank's samples in the order of the plan, whatever reads them.

The unit that workers hand over is a step: a rank's part of one global batch. Worker w of N reads every N-th step, and
PyTorch's DataLoader takes one of each worker in turn, so the order is the plan's for any N, prefetch and number of
threads. What was read ahead is no progress: `StreamLoader` counts the steps that it handed out.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from dataengine import images
from dataengine.errors import DataEngineError, PlanError, Quarantine, Skip
from dataengine.images import Pixels
from dataengine.render import RenderOptions
from dataengine.sample import Sample, measure_of
from dataengine.shares import Recipe
from dataengine.state import Hole, State, check_budget, merge, union
from dataengine.store import StoreSettings, Url, locate
from dataengine.stream import Stream
from trainer import views

# Turns a sample, its pictures' bytes and a generator of its own into what training needs. May raise Skip (not at this
# position) or Quarantine (never). Must be importable by name where workers are spawned.
Transform = Callable[[Sample, list[bytes], random.Random], Any]
Collate = Callable[[list[Any]], Any]


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A sample and all its pictures, RGB uint8 [H, W, 3], in the order of its images."""

    sample: Sample
    pictures: tuple[Pixels, ...]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A rank's part of a global batch: positions [start, stop), of which `holes` serve nothing.

    `data` is the list of samples, or what the dataset's `collate` made of it; None where there is no sample to collate.
    """

    step: int
    start: int
    stop: int
    data: Any
    holes: tuple[Hole, ...]


def decoded(sample: Sample, pictures: list[bytes], rng: random.Random) -> Decoded:
    """Return a sample with its pictures decoded whole. Raises Quarantine where one cannot be."""
    shown = (images.show(data, measure_of(sample, number)) for number, data in enumerate(pictures))
    return Decoded(sample=sample, pictures=tuple(shown))


@dataclass(frozen=True)
class Squash:
    """A transform to squares of one side: the sample, and its pictures as uint8 [P, 3, S, S].

    JPEGs are decoded no larger than it takes, and resized by PyTorch's vectorised code: a fraction of the time that
    decoding whole with Pillow and its `resize` take.
    """

    side: int

    def __call__(
        self, sample: Sample, pictures: list[bytes], rng: random.Random
    ) -> tuple[Sample, torch.Tensor]:
        at_least = (self.side, self.side)
        shown = [
            views.squash(images.show(data, measure_of(sample, number), at_least), self.side)
            for number, data in enumerate(pictures)
        ]
        side = self.side
        return sample, torch.stack(shown) if shown else torch.zeros((0, 3, side, side), dtype=torch.uint8)


class StreamDataset(IterableDataset):
    """The steps of one rank of `world`, up to `last_step` or without end, from a state on.

    A DataLoader with `batch_size=None` and any number of workers gives them in order. Each process opens the shards
    for itself when it begins to read: the dataset is small to pickle and holds nothing that a fork could share. Within
    a process, `threads` read and transform samples (0: the caller), at most `ahead` steps in advance. `render` words
    samples anew in each pass over their source.
    """

    def __init__(
        self,
        directory: str | Path | Url,
        recipe: Recipe,
        *,
        rank: int = 0,
        world: int = 1,
        last_step: int | None = None,
        use: str = "train",
        exclusions: Mapping[str, tuple[int, ...]] | None = None,
        transform: Transform = decoded,
        collate: Collate | None = None,
        threads: int = 0,
        ahead: int = 2,
        render: RenderOptions | None = None,
        store: StoreSettings | None = None,
    ) -> None:
        self.directory, self.recipe, self.use, self.store = locate(directory), recipe, use, store
        self.rank, self.world, self.last_step = rank, world, last_step
        self.exclusions, self.render = dict(exclusions or {}), render
        self.transform, self.collate = transform, collate
        self.threads, self.ahead = threads, ahead
        self.start: State | None = None
        self._opened: tuple[int, Stream] | None = None

    def stream(self) -> Stream:
        """Return this process's own stream, opened when first asked for. Raises ShardError, StoreError or PlanError."""
        if self._opened is None or self._opened[0] != os.getpid():
            found = Stream(
                self.directory,
                self.recipe,
                use=self.use,
                exclusions=self.exclusions,
                render=self.render,
                store=self.store,
            )
            self._opened = (os.getpid(), found)
        return self._opened[1]

    def begin(self, state: State) -> None:
        """Begin where a state was saved. Raises PlanError where it is another plan's."""
        if not self.exclusions and state.exclusions:
            self.exclusions, self._opened = dict(state.exclusions), None
        self.stream().check(state)
        self.stream().remember(state.holes)
        self.start = state

    def __iter__(self) -> Iterator[Step]:
        stream = self.stream()
        if self.start is not None:
            stream.remember(self.start.holes)
        worker = get_worker_info()
        batch = self.recipe.global_batch
        turns = stream.turns(
            0 if self.start is None else self.start.position,
            None if self.last_step is None else self.last_step * batch,
            rank=self.rank,
            world=self.world,
            worker=0 if worker is None else worker.id,
            workers=1 if worker is None else worker.num_workers,
        )
        for (step, positions), results in _read(self._load, turns, self.threads, self.ahead):
            yield self._step(step, positions, results)

    def _load(self, position: int) -> Any:
        return load(self.stream(), self.transform, position)

    def _step(self, step: int, positions: range, results: list[Any]) -> Step:
        served = [result for result in results if not isinstance(result, Hole)]
        data: Any = served
        if self.collate is not None:
            data = self.collate(served) if served else None
        holes = tuple(result for result in results if isinstance(result, Hole))
        return Step(step=step, start=positions.start, stop=positions.stop, data=data, holes=holes)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def load(stream: Stream, transform: Transform, position: int) -> Any:
    """Return what `transform` makes of the sample at a position, its chance drawn from (seed, position), or a Hole."""
    found = stream.serve(position)
    if isinstance(found, Hole):
        return found
    try:
        return transform(*found, random.Random(f"{stream.plan.recipe.seed}:{position}"))
    except (Skip, Quarantine) as error:
        return stream.hole(position, error.reason, error.detail, lasts=isinstance(error, Quarantine))


def _read(
    load: Callable[[int], Any], turns: Iterator[tuple[int, range]], threads: int, ahead: int
) -> Iterator[tuple[tuple[int, range], list[Any]]]:
    """Yield each turn with what was loaded for its positions, in order, at most `ahead` turns in advance."""
    if not threads:
        for turn in turns:
            yield turn, [load(position) for position in turn[1]]
        return
    executor = ThreadPoolExecutor(threads, "stream")
    waiting: deque[tuple[tuple[int, range], list[Future[Any]]]] = deque()
    try:
        while True:
            while len(waiting) <= ahead and (turn := next(turns, None)) is not None:
                waiting.append((turn, [executor.submit(load, position) for position in turn[1]]))
            if not waiting:
                return
            turn, futures = waiting.popleft()
            yield turn, [future.result() for future in futures]
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


class StreamLoader(IterableDataset):
    """The steps of a dataset, read by worker processes of its own, with the state of what was handed out.

    It stands where an iterable dataset with a state is asked for, in the process that trains: in a worker of another
    DataLoader its state would be lost, which is refused.
    `state_dict` is one small object. After the same step it differs between ranks only in the holes that each found:
    `dataengine.state.merge` makes one of all, from which any number of ranks and workers goes on. Iterating again
    goes on, too. Raises BudgetBroken where more than `max_bad_ratio` of the positions are bad; see `check_budget`.
    """

    def __init__(
        self,
        dataset: StreamDataset,
        *,
        num_workers: int = 0,
        prefetch_factor: int = 2,
        multiprocessing_context: str | None = None,
        max_bad_ratio: float = 0.01,
    ) -> None:
        self.dataset = dataset
        self.max_bad_ratio = max_bad_ratio
        self._options: dict[str, Any] = {"num_workers": num_workers}
        if num_workers:
            self._options |= {
                "prefetch_factor": prefetch_factor,
                "multiprocessing_context": multiprocessing_context,
            }
        self._enter(dataset.start or dataset.stream().state(0))

    def _enter(self, state: State) -> None:
        self._position = self._passed = state.position
        self._holes = state.holes
        check_budget(state.holes, state.position, self.max_bad_ratio)

    def __iter__(self) -> Iterator[Step]:
        if get_worker_info() is not None:
            raise PlanError(
                "StreamLoader: iterated in a worker of a DataLoader, where its state is lost, expected the process that"
                " trains; give it num_workers of its own, and the DataLoader none"
            )
        self.dataset.begin(self.state())
        # A generator of its own: the loader must not draw from the one that training draws from.
        loader = DataLoader(self.dataset, batch_size=None, generator=torch.Generator(), **self._options)
        steps = iter(loader)
        while (step := _next(steps)) is not None:
            self._count(step)
            yield step

    def _count(self, step: Step) -> None:
        """Take note of a step that is about to be handed out, unless it breaks the budget."""
        passed = self._passed + step.stop - step.start
        if any(hole.lasts for hole in step.holes):
            self._holes = union([*self._holes, *step.holes])
            check_budget(self._holes, passed, self.max_bad_ratio)
        self._position, self._passed = (step.step + 1) * self.dataset.recipe.global_batch, passed

    def state(self) -> State:
        """Return where to go on: behind the last step that was handed out."""
        return self.dataset.stream().state(self._position, self._holes)

    def state_dict(self) -> dict[str, Any]:
        """Return `state` as plain values."""
        found: dict[str, Any] = msgspec.to_builtins(self.state())
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state. Raises PlanError where it is none, or another plan's, and BudgetBroken."""
        found = _state(state)
        self.dataset.begin(found)
        self._enter(found)


def _next(steps: Iterator[Step]) -> Step | None:
    """Return the next step, None behind the last; errors of ours come from workers as the line that they are."""
    try:
        return next(steps, None)
    except DataEngineError as error:
        # PyTorch puts a worker's traceback into the text, whose last line names the class before the message.
        lines = str(error).strip().splitlines()
        if len(lines) == 1:
            raise
        raise type(error)(lines[-1].partition(": ")[2]) from error


def merge_state_dicts(states: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the one state of all ranks' `state_dict`s, in any order. Raises PlanError as `merge` does."""
    found: dict[str, Any] = msgspec.to_builtins(merge([_state(state) for state in states]))
    return found


def _state(values: Mapping[str, Any]) -> State:
    try:
        return msgspec.convert(values, State)
    except msgspec.ValidationError as error:
        raise PlanError(
            f"state of a stream: {error}, expected what state_dict gave; take an older checkpoint"
        ) from error
