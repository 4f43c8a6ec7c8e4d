from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataengine.errors import DataEngineError, SourceError
from dataengine.runners import tasks
from dataengine.runners.tasks import RETRIES, Job, Lost, in_order


class Stage:
    """A place where `next_end` says which running task ends next, and tasks die as often as `deaths` says."""

    def __init__(
        self, room: int, deaths: dict[int, int], next_end: Callable[[Collection[int]], int] = max
    ) -> None:
        self.room = room
        self.deaths = deaths
        self.next_end = next_end
        self.runs: list[int] = []
        self.most = 0
        self.left: list[int] = []

    def start(self, item: int) -> int:
        self.runs.append(item)
        return len(self.runs) - 1

    def wait(self, handles: Collection[int]) -> Collection[int]:
        self.most = max(self.most, len(handles))
        return [self.next_end(handles)]

    def result(self, handle: int) -> int:
        item = self.runs[handle]
        if self.runs[: handle + 1].count(item) <= self.deaths.get(item, 0):
            raise Lost("killed by SIGKILL")
        if item < 0:
            raise SourceError(f"{item} is negative")
        return item * item

    def stop(self, handles: Collection[int]) -> None:
        self.left = [self.runs[handle] for handle in handles]


def _job(items: Any, told: list[tuple[int, str]]) -> Job[int, int]:
    return Job(
        function=abs,
        items=items,
        name=lambda item: f"item {item}",
        size=lambda result: result,
        progress=lambda count, text: told.append((count, text)),
    )


@given(
    st.dictionaries(st.integers(0, 11), st.integers(0, RETRIES)),
    st.integers(0, 12),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_results_come_in_order_whatever_ends_first_or_dies(
    deaths: dict[int, int], count: int, room: int, rng: random.Random
) -> None:
    stage = Stage(room, deaths, lambda handles: rng.choice(sorted(handles)))
    told: list[tuple[int, str]] = []

    results = list(in_order(_job(range(count), told), stage))

    retries = sum(deaths.get(item, 0) for item in range(count))
    assert results == [item * item for item in range(count)]
    assert len(stage.runs) == count + retries
    assert stage.most <= room
    assert sum(size for size, _ in told) == sum(results)
    assert not count or told[-1][1] == (f"{retries} run again" if retries else "")


def test_what_ends_is_told_though_the_first_task_still_runs() -> None:
    told: list[tuple[int, str]] = []
    results = in_order(_job(range(1, 6), told), Stage(2, {}))

    first = next(results)

    assert first == 1
    assert [size for size, _ in told] == [4, 9, 16, 25, 1]  # the last started ends first


def test_a_task_that_kills_its_worker_every_time_is_named_and_those_before_it_are_given() -> None:
    told: list[tuple[int, str]] = []
    stage = Stage(2, {1: RETRIES + 1})
    results = in_order(_job([0, 1, 2, 3], told), stage)

    first = next(results)

    assert first == 0
    with pytest.raises(
        DataEngineError, match=r"^item 1: its worker died 4 times \(killed by SIGKILL\); .* to resume$"
    ):
        next(results)
    assert stage.runs.count(1) == 1 + RETRIES


def test_the_first_error_in_order_is_raised_and_nothing_more_is_started() -> None:
    stage = Stage(3, {})
    results = in_order(_job([0, -1, -2, 5, 6], []), stage)

    first = next(results)

    assert first == 0
    with pytest.raises(SourceError, match="-1 is negative"):
        next(results)
    assert stage.runs == [0, -1, -2]


def test_few_results_are_held_for_a_slow_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "HELD", 5)
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(_job(items(), []), Stage(2, {}))
    next(results)

    assert len(taken) == 5 + 1


def test_leaving_early_ends_what_runs() -> None:
    stage = Stage(3, {}, next_end=min)
    results = in_order(_job(range(9), []), stage)
    next(results)

    results.close()  # type: ignore[attr-defined]

    assert stage.left == [1, 2, 3]
