"""Hostile files through every reader: no code runs, nothing outside is touched, and memory and time have a bound.

The readers are those that there are: a new one is attacked as soon as it has tests on files (see `seeds.py`).
Each attack is tried once a format; slow ones on every eighth, which round decides. `DATAENGINE_HOSTILE=N` tries all on
all, N times each. Two processes work side by side (`arena.py`), each with a limit on its address space.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from dataengine.modules import FORMATS_PACKAGE, names
from tests.hostile.arena import Outcome, attack_format
from tests.hostile.attacks import ATTACKS

LONG = int(os.environ.get("DATAENGINE_HOSTILE", "0"))
FORMATS = names(FORMATS_PACKAGE)
SLOW_EACH = 8


def _numbers(place: int) -> dict[str, tuple[int, ...]]:
    """Return how often each attack is tried on the format at a place."""
    tries = range(LONG or 1)
    return {
        attack.name: tuple(tries) if LONG or not attack.slow or (place + at) % SLOW_EACH == 0 else ()
        for at, attack in enumerate(ATTACKS)
    }


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Future[list[Outcome]]]]:
    """What came of all attacks on each format, as far as the processes are."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield {name: pool.submit(attack_format, name, _numbers(place)) for place, name in enumerate(FORMATS)}


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_hostile_files_do_nothing_but_fail(outcomes: dict[str, Future[list[Outcome]]], name: str) -> None:
    found = outcomes[name].result()

    assert found, f"nothing of {name} could be attacked"
    assert [(one.attack, one.file, one.wrong) for one in found if one.wrong] == []
