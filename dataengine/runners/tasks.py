"""What all runners share: results in the order of the items, tasks run again when their process dies, few in flight."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from dataengine.errors import DataEngineError

T = TypeVar("T")
R = TypeVar("R")
# How often a task is run again whose process died. What kills its process every time would do so for ever.
RETRIES = 3
# Results held until those before them are there. A slow task seldom stops the others, and memory has a bound.
HELD = 256


class Lost(Exception):
    """The process that ran a task, or its machine, died before the task was done; the text says what is known."""


class Place(Protocol):
    """Where tasks run. `room` is how many are to be in flight."""

    room: int

    def start(self, item: Any) -> Any:
        """Start a task and return its handle."""
        ...

    def wait(self, handles: Collection[Any]) -> Collection[Any]:
        """Wait until a task has ended, or a while, and return the handles of those that have."""
        ...

    def result(self, handle: Any) -> Any:
        """Return the result of a task that has ended, or raise its exception. Raises Lost."""
        ...

    def stop(self, handles: Collection[Any]) -> None:
        """End what still runs."""
        ...


class Job(msgspec.Struct, Generic[T, R], frozen=True, kw_only=True):
    """What is to be done: `function(item)` for each item.

    `name` is what an error calls an item. `progress` is told the size of each result when it is there, in any order,
    and in words how often tasks were run again.
    """

    function: Callable[[T], R]
    items: Iterable[T]
    name: Callable[[T], str]
    size: Callable[[R], int]
    progress: Callable[[int, str], None]


class _Task(msgspec.Struct, Generic[T]):
    number: int
    item: T
    lost: int = 0


class _Run(Generic[T, R]):
    """Tasks on their way."""

    def __init__(self, job: Job[T, R], place: Place) -> None:
        self.job = job
        self.place = place
        self.waiting = enumerate(job.items)
        self.running: dict[Any, _Task[T]] = {}
        self.done: dict[int, R] = {}
        self.failed: dict[int, Exception] = {}
        self.retries = 0

    def fill(self) -> None:
        """Start tasks while there is room; after a failure, none."""
        while not self.failed and len(self.running) < self.place.room and len(self.done) < HELD:
            one = next(self.waiting, None)
            if one is None:
                return
            self.start(_Task(*one))

    def start(self, task: _Task[T]) -> None:
        self.running[self.place.start(task.item)] = task

    def settle(self, handle: Any) -> None:
        """Take what a task that has ended left: a result, an error, or nothing, and then it is run again."""
        task = self.running.pop(handle)
        size = 0
        try:
            result = self.place.result(handle)
        except Lost as error:
            self.lost(task, error)
        except Exception as error:
            self.failed[task.number] = error
        else:
            self.done[task.number] = result
            size = self.job.size(result)
        if task.number not in self.failed:
            self.job.progress(size, f"{self.retries} run again" if self.retries else "")

    def lost(self, task: _Task[T], error: Lost) -> None:
        task.lost += 1
        if task.lost <= RETRIES:
            self.retries += 1
            self.start(task)
            return
        hopeless = DataEngineError(
            f"{self.job.name(task.item)}: its worker died {task.lost} times ({error}); "
            "mend what kills it, then run the same command again to resume"
        )
        hopeless.__cause__ = error
        self.failed[task.number] = hopeless


def in_order(job: Job[T, R], place: Place) -> Iterator[R]:
    """Yield the results in the order of the items. One that comes before its turn is held: it must be small.

    After an error no item is taken any more. It is raised when all before it are done: a run that fails again fails
    with the same error. Raises DataEngineError for a task whose process dies every time.
    """
    run = _Run(job, place)
    turn = 0
    try:
        while True:
            run.fill()
            if turn in run.done:
                yield run.done.pop(turn)
                turn += 1
            elif turn in run.failed:
                raise run.failed[turn]
            elif run.running:
                for handle in place.wait(run.running):
                    run.settle(handle)
            else:
                return
    finally:
        place.stop(run.running)
