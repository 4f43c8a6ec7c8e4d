"""What every rank of any world would read, told from the index alone, and proof that together it is the plan."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from dataengine.columns import as_numpy
from dataengine.index import Index
from dataengine.pool import MAX_OPEN_FILES, Pool
from dataengine.stream import Stream

_CHUNK = 1 << 16

Ints = npt.NDArray[np.int64]


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job from one start to its stop: positions [start, stop), its ranks and the worker processes of each."""

    start: int
    stop: int
    world: int
    workers: int = 0


class RankRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one rank reads in a run: `samples` are distinct ones, `open_files` the most at a time in its processes."""

    rank: int
    steps: int
    positions: int
    samples: int
    tasks: dict[str, int]
    bytes: int
    shards: int
    open_files: int


class Simulation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The runs, the rows of each, and `findings`: a line for whatever differs from the plan; empty is the proof."""

    plan: str
    positions: int
    runs: tuple[Run, ...]
    ranks: tuple[tuple[RankRow, ...], ...]
    findings: tuple[str, ...]


def simulate(stream: Stream, runs: Sequence[Run]) -> Simulation:
    """Serve the positions of some runs, one after the other, without reading a shard.

    Every rank's workers take their turns and look up their samples as in training. What they got is laid side by side
    and compared with the plan: no position missing, none twice, the sample at each the plan's, steps equal.
    """
    first, last = min(run.start for run in runs), max(run.stop for run in runs)
    served, times = np.full(last - first, -1, np.int64), np.zeros(last - first, np.int64)
    # Ranges of a store need no file.
    facts = _Facts(stream.index, most_open=MAX_OPEN_FILES if isinstance(stream.pool, Pool) else 0)
    accounts: list[tuple[RankRow, ...]] = []
    findings: list[str] = []
    for run in runs:
        rows = []
        for rank in range(run.world):
            workers = [_turns(stream, run, rank, worker) for worker in range(max(run.workers, 1))]
            read = [_rows(stream, turns) for turns in workers]
            for positions, numbers in read:
                served[positions - first] = numbers
                np.add.at(times, positions - first, 1)
            findings += _disorder(run, rank, workers)
            rows.append(facts.account(rank, sum(map(len, workers)), [numbers for _, numbers in read]))
        if len(steps := {row.steps for row in rows}) > 1:
            findings.append(
                f"{run.world} ranks take {min(steps)} to {max(steps)} steps, expected equally many"
            )
        accounts.append(tuple(rows))
    findings += _differences(first, served, times, _planned(stream, first, last))
    return Simulation(
        plan=stream.plan.digest,
        positions=last - first,
        runs=tuple(runs),
        ranks=tuple(accounts),
        findings=tuple(findings),
    )


def _turns(stream: Stream, run: Run, rank: int, worker: int) -> list[tuple[int, range]]:
    turns = stream.turns(
        run.start, run.stop, rank=rank, world=run.world, worker=worker, workers=max(run.workers, 1)
    )
    return list(turns)


def _rows(stream: Stream, turns: Sequence[tuple[int, range]]) -> tuple[Ints, Ints]:
    """Return the positions of a worker and the index rows that it finds there, one by one as in training."""
    positions = np.array([position for _, here in turns for position in here], np.int64)
    return positions, np.array([stream.row(position) for position in positions.tolist()], np.int64)


def _disorder(run: Run, rank: int, workers: Sequence[Sequence[tuple[int, range]]]) -> list[str]:
    """Say where a step of each worker in turn is not the rank's positions in ascending order."""
    taken = [turn for turns in zip_longest(*workers) for turn in turns if turn is not None]
    positions = [position for _, here in taken for position in here]
    if positions == sorted(positions):
        return []
    return [f"rank {rank} of {run.world}: its workers do not give its positions in order"]


def _planned(stream: Stream, start: int, stop: int) -> Ints:
    """Return the rows that the plan says stand at positions [start, stop)."""
    plan, found = stream.plan, []
    rows = [stream.index.rows_by_source[source.name] for source in plan.sources]
    firsts = np.cumsum([0, *[len(one) for one in rows]])
    together = np.concatenate(rows)
    for low in range(start, stop, _CHUNK):
        draws = plan.slice(low, min(low + _CHUNK, stop))
        found.append(together[firsts[draws.source] + draws.index])
    return np.concatenate([np.zeros(0, np.int64), *found])


def _differences(first: int, served: Ints, times: Ints, planned: Ints) -> list[str]:
    """Say how often, and where first, positions are missing, served twice, or served another sample."""
    kinds = (
        ("missing", times == 0),
        ("served more than once", times > 1),
        ("served another sample than the plan's", (times > 0) & (served != planned)),
    )
    return [
        f"{np.count_nonzero(wrong)} positions {kind}, the first is {first + int(np.flatnonzero(wrong)[0])}"
        for kind, wrong in kinds
        if wrong.any()
    ]


class _Facts:
    """Columns of the index by which reads are counted; `bytes` are those of a sample's JSON and pictures."""

    def __init__(self, index: Index, most_open: int) -> None:
        self.most_open = most_open

        def column(name: str) -> Any:
            return index.table.column(name).combine_chunks()

        sizes = column("image_sizes")
        before = np.concatenate([[0], np.cumsum(as_numpy(sizes.values), dtype=np.int64)])
        bounds = as_numpy(sizes.offsets)
        self.bytes = as_numpy(column("json_size")) + before[bounds[1:]] - before[bounds[:-1]]
        self.shard = as_numpy(column("shard").indices)
        self.task = as_numpy(column("task").indices)
        self.tasks: list[str] = column("task").dictionary.to_pylist()

    def account(self, rank: int, steps: int, workers: Sequence[Ints]) -> RankRow:
        """Return the row of a rank whose workers read these rows of the index."""
        rows = np.concatenate(workers)
        counts = np.bincount(self.task[rows], minlength=len(self.tasks)).tolist()
        return RankRow(
            rank=rank,
            steps=steps,
            positions=len(rows),
            samples=len(np.unique(rows)),
            tasks={task: count for task, count in sorted(zip(self.tasks, counts, strict=True)) if count},
            bytes=int(self.bytes[rows].sum()),
            shards=len(np.unique(self.shard[rows])),
            open_files=sum(min(len(np.unique(self.shard[one])), self.most_open) for one in workers),
        )
