"""What all ranks would read is told without a shard, and anything that is not the plan is found."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.shares import Mode, Recipe
from dataengine.simulate import Run, simulate
from dataengine.stream import Stream

BATCH = 8


@pytest.fixture(scope="module")
def index_only(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set whose tars are gone."""
    folder = tmp_path_factory.mktemp("index")
    for name in ("index.parquet", "shards.json"):
        shutil.copy(tiny_shards / name, folder)
    return folder


def _stream(shards: Path, mode: Mode = "mixed") -> Stream:
    return Stream(shards, Recipe(seed=2, global_batch=BATCH, policy="sqrt", mode=mode))


@settings(deadline=None, max_examples=40)
@given(
    start=st.integers(0, 40),
    lengths=st.lists(st.integers(0, 50), min_size=1, max_size=3),
    grid=st.lists(st.tuples(st.integers(1, 8), st.integers(0, 4)), min_size=3, max_size=3),
    mode=st.sampled_from(["mixed", "unmixed", "stratified"]),
)
def test_any_chain_of_worlds_and_workers_is_the_plan(
    index_only: Path, start: int, lengths: list[int], grid: list[tuple[int, int]], mode: Mode
) -> None:
    runs = []
    for length, (world, workers) in zip(lengths, grid, strict=False):
        runs.append(Run(start=start, stop=start + length, world=world, workers=workers))
        start += length

    found = simulate(_stream(index_only, mode), runs)

    assert found.findings == ()
    assert found.positions == sum(lengths)
    for run, ranks in zip(runs, found.ranks, strict=True):
        assert sum(row.positions for row in ranks) == run.stop - run.start
        assert len({row.steps for row in ranks}) == 1


def test_a_row_counts_what_the_rank_reads(tiny_shards: Path) -> None:
    stream = _stream(tiny_shards)

    (ranks,) = simulate(stream, [Run(start=0, stop=40, world=3, workers=2)]).ranks

    for row in ranks:
        positions = list(stream.positions(0, 40, rank=row.rank, world=3))
        read = [stream.read(t) for t in positions]
        rows = [stream.index.row(stream.row(t)) for t in positions]
        assert row.positions == len(positions)
        assert row.samples == len({sample.id for sample, _ in read})
        assert row.tasks == Counter(sample.task for sample, _ in read)
        assert row.bytes == sum(
            one["json_size"] + sum(map(len, pictures)) for one, (_, pictures) in zip(rows, read, strict=True)
        )
        assert row.shards == len({one["shard"] for one in rows})
        assert row.shards <= row.open_files <= 2 * row.shards


Turns = Iterator[tuple[int, range]]


def _shifted(turns: Turns, rank: int, worker: int) -> Turns:
    """A rank that takes its neighbour's first position as well."""
    for step, positions in turns:
        yield step, range(positions.start, positions.stop + (rank == 0))


def _short(turns: Turns, rank: int, worker: int) -> Turns:
    """A rank that ends a step early."""
    steps = list(turns)
    yield from steps[:-1] if rank == 1 else steps


def _turned(turns: Turns, rank: int, worker: int) -> Turns:
    """Workers that give their last step first."""
    yield from list(turns)[::-1]


@pytest.mark.parametrize(
    ("defect", "findings"),
    [
        (_shifted, ["served more than once, the first is 4"]),
        (_short, ["2 ranks take 3 to 4 steps", "4 positions missing, the first is 28"]),
        (_turned, ["rank 0 of 2: its workers do not give", "rank 1 of 2: its workers do not give"]),
    ],
)
def test_what_is_not_the_plan_is_found(
    tiny_shards: Path,
    monkeypatch: pytest.MonkeyPatch,
    defect: Callable[[Turns, int, int], Turns],
    findings: list[str],
) -> None:
    real = Stream.turns
    monkeypatch.setattr(
        Stream,
        "turns",
        lambda self, start, stop, **who: defect(real(self, start, stop, **who), who["rank"], who["worker"]),
    )

    found = simulate(_stream(tiny_shards), [Run(start=0, stop=4 * BATCH, world=2)]).findings

    assert len(found) == len(findings)
    assert all(expected in line for expected, line in zip(findings, found, strict=True))


def test_another_sample_than_the_plans_is_found(tiny_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _stream(tiny_shards)
    real = stream.row
    monkeypatch.setattr(stream, "row", lambda position: real(position + (position == 5)))

    found = simulate(stream, [Run(start=0, stop=16, world=2)]).findings

    assert found == ("1 positions served another sample than the plan's, the first is 5",)
