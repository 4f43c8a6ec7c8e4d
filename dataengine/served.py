"""What a training run was served, held against its plan: sample by sample, step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np

from dataengine.adapt import Memory, follow_log, read_log
from dataengine.errors import SourceError
from dataengine.index import Index
from dataengine.mix import Plan, plan
from dataengine.sample import source_of
from dataengine.shares import Recipe
from dataengine.state import Hole, SourceMark
from dataengine.state import differences as source_differences
from dataengine.stream import recipe, sources

SERVED, MIXTURE, CONFIG, METRICS = "served.jsonl", "mixture.jsonl", "config.json", "metrics.jsonl"
# Folders of checkpoints end in their step.
CHECKPOINTS, RECORD = "checkpoints/step-*", "checkpoint.json"
# Steps whose planned samples are looked up at once: an Arrow column gives many values nearly as fast as one.
_STEPS = 256


class ServedRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A source of the plan: its samples as planned, as served and as skipped, and tokens and epochs of the served."""

    source: str
    task: str
    dataset: str
    family: str
    planned: int
    samples: int
    skipped: int
    tokens: int
    epochs: float
    size: int


class Account(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run against its plan: `differences` has a line for each sample too few, too many or out of place.

    `reasons` counts why samples were skipped, "" where a run of an earlier version does not say.
    """

    steps: int
    plan: str
    rows: tuple[ServedRow, ...]
    differences: tuple[str, ...]
    reasons: dict[str, int] = {}


class RunConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's config.json says of its shards, its mixture, and how its samples were worded."""

    seed: int
    global_batch: int
    shards: str = ""
    mixture: dict[str, Any] = {}
    adapt: dict[str, Any] | None = None
    render: str = "stored"
    render_options: dict[str, Any] = {}


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint says of the plan that it followed, its sources, and the holes found until then."""

    name: str = ""
    plan: str = ""
    sources: tuple[SourceMark, ...] = ()
    holes: tuple[Hole, ...] = ()
    adapt: Memory = Memory()


class _Step(msgspec.Struct):
    """A line of metrics.jsonl."""

    step: int


class _Line(_Step):
    """A line of served.jsonl; runs of earlier versions wrote what was skipped as a mapping."""

    ids: list[str]
    skipped: list[tuple[str, str]] | dict[str, str] = []

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """The (id, reason) of each sample that is in no batch."""
        return [*self.skipped.items()] if isinstance(self.skipped, dict) else self.skipped


_Numbered = TypeVar("_Numbered", bound=_Step)


def read_config(run: Path) -> RunConfig:
    """Read the config.json of a run. Raises SourceError."""
    try:
        return msgspec.json.decode((run / CONFIG).read_bytes(), type=RunConfig)
    except (OSError, msgspec.DecodeError) as error:
        raise SourceError(
            f"{run / CONFIG}: cannot be read: {error}; expected the folder of a training run"
        ) from error


def recipe_of(run: Path) -> Recipe:
    """Return the recipe of a run, with which its mixture begins. Raises SourceError and PlanError."""
    found = read_config(run)
    # Where it says nothing else, a run trains one family a step.
    return recipe(
        **{"mode": "unmixed", **found.mixture, "seed": found.seed, "global_batch": found.global_batch}
    )


def newest_checkpoint(run: Path) -> Checkpoint | None:
    """Return what the newest checkpoint of a run says, None where there is none. Raises SourceError."""
    found = sorted(run.glob(f"{CHECKPOINTS}/{RECORD}"))
    return _read_checkpoint(found[-1]) if found else None


def _read_checkpoint(path: Path) -> Checkpoint:
    try:
        made = msgspec.json.decode(path.read_bytes(), type=Checkpoint)
    except (OSError, msgspec.DecodeError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    return msgspec.structs.replace(made, name=path.parent.name)


def run_plan(index: Index, run: Path) -> Plan:
    """Return the plan of a run on a shard set, with what it decided on the way. Raises SourceError and PlanError."""
    found = read_config(run)
    made = plan(sources(index), recipe_of(run))
    return made if found.adapt is None else follow_log(made, read_log(run / MIXTURE), str(run / MIXTURE))


def account(index: Index, made: Plan, run: Path) -> Account:
    """Hold a run's served.jsonl against its plan, up to the last step that the run is known to have taken.

    Raises SourceError where it cannot be read.
    """
    differences: list[str] = []
    served, skipped, reasons = Counter[int](), Counter[int](), Counter[str]()
    last = 0
    planned = _Planned(index, made)
    for step, lines in groupby(_lines(run / SERVED, _Line), key=lambda line: line.step):
        ids, left_out = Counter[str](), Counter[str]()
        for line in lines:
            ids.update(line.ids)
            left_out.update(one for one, _ in line.left_out)
            reasons.update(reason for _, reason in line.left_out)
        if step <= last:
            differences += [
                f"step {step}: {one} is there again after step {last}" for one in (ids + left_out).elements()
            ]
            continue
        for absent in range(last + 1, step):
            differences += [f"step {absent}: {one} is missing" for one in planned.of(absent).elements()]
        wanted = planned.of(step)
        differences += _compare(step, wanted, ids + left_out)
        for counts, total in ((ids, served), (left_out, skipped)):
            for one, count in counts.items():
                # What is no sample of the plan is told by its line alone.
                if (number := planned.source_of(one)) is not None:
                    total[number] += count
        last = step
    for absent in range(last + 1, (taken := _taken(run)) + 1):
        differences += [f"step {absent}: {one} is missing" for one in planned.of(absent).elements()]
    last = max(last, taken)
    if differences and (changed := _changed_sources(run, made)):
        differences.insert(0, f"the shards are not those of the run: {changed}")
    rows = _rows(made, last, served, skipped)
    return Account(
        steps=last,
        plan=made.digest,
        rows=rows,
        differences=tuple(differences),
        reasons=dict(sorted(reasons.items())),
    )


def _taken(run: Path) -> int:
    """Return the step of a run's newest checkpoint, else the last one of its metrics; 0 where there is neither.

    What a killed run did after its checkpoint is done again, so its metrics say nothing of that.
    """
    steps = [path.name.rpartition("-")[2] for path in run.glob(CHECKPOINTS)]
    if known := [int(step) for step in steps if step.isdecimal()]:
        return max(known)
    path = run / METRICS
    return max((line.step for line in _lines(path, _Step)), default=0) if path.is_file() else 0


def _changed_sources(run: Path, made: Plan) -> str:
    """Return which sources are others than those of the run's checkpoints, in words; "" where none is, or none was
    noted."""
    for path in sorted(run.glob(f"{CHECKPOINTS}/{RECORD}")):
        try:
            return source_differences(_read_checkpoint(path).sources, made.marks)
        except SourceError as error:
            return str(error)
    return ""


class _Planned:
    """The samples that a plan has at each step: ids and how often, looked up for many steps at a time."""

    def __init__(self, index: Index, made: Plan) -> None:
        self._plan = made
        self._column = index.table.column("id").combine_chunks()
        # The rows of all sources, and where those of each begin.
        rows = [index.rows_by_source[source.name] for source in made.sources]
        self._rows = np.concatenate(rows)
        self._firsts = np.cumsum([0, *map(len, rows[:-1])])
        self._first, self._steps = 0, list[Counter[str]]()
        self._numbers = {source.name: number for number, source in enumerate(made.sources)}

    def source_of(self, sample_id: str) -> int | None:
        """Return the number of the source that a sample is of, by its id; None where the plan has no such source."""
        return self._numbers.get(source_of(sample_id))

    def of(self, step: int) -> Counter[str]:
        """Return the ids of a step, counted from 1."""
        if not self._first <= step < self._first + len(self._steps):
            batch = self._plan.recipe.global_batch
            drawn = self._plan.slice((step - 1) * batch, (step - 1 + _STEPS) * batch)
            ids = self._column.take(self._rows[self._firsts[drawn.source] + drawn.index]).to_pylist()
            self._first = step
            self._steps = [Counter(ids[i : i + batch]) for i in range(0, len(ids), batch)]
        return self._steps[step - self._first]


def _lines(path: Path, kind: type[_Numbered]) -> Iterator[_Numbered]:
    decode = msgspec.json.Decoder(kind).decode
    try:
        with path.open("rb") as file:
            yield from map(decode, file)
    except (OSError, msgspec.DecodeError) as error:
        raise SourceError(
            f"{path}: cannot be read: {error}; expected the folder of a training run, resumed or ended"
        ) from error


def _compare(step: int, wanted: Counter[str], found: Counter[str]) -> Iterator[str]:
    for one in sorted(wanted | found):
        if found[one] < wanted[one]:
            times = f" {wanted[one] - found[one]} times" if wanted[one] - found[one] > 1 else ""
            yield f"step {step}: {one} is missing{times}"
        elif not wanted[one]:
            yield f"step {step}: {one} is not in the plan of this step"
        elif found[one] > wanted[one]:
            yield f"step {step}: {one} is there {found[one]} times, planned {wanted[one]}"


def _rows(made: Plan, steps: int, served: Counter[int], skipped: Counter[int]) -> tuple[ServedRow, ...]:
    return tuple(
        ServedRow(
            source=row.source,
            task=row.task,
            dataset=row.dataset,
            family=row.family,
            planned=row.samples,
            samples=served[number],
            skipped=skipped[number],
            tokens=served[number] * source.num_tokens // source.num_samples,
            epochs=served[number] / row.size,
            size=row.size,
        )
        for number, (row, source) in enumerate(zip(made.table(steps), made.sources, strict=True))
    )


def served_totals(
    rows: Sequence[ServedRow], by: Literal["task", "dataset"]
) -> list[tuple[str, int, int, int, int, float]]:
    """Return name, planned, served, skipped, tokens and mean epochs of each task or dataset, in the order of names."""
    groups: dict[str, list[ServedRow]] = {}
    for row in rows:
        groups.setdefault(getattr(row, by), []).append(row)
    return [
        (
            name,
            sum(row.planned for row in some),
            sum(row.samples for row in some),
            sum(row.skipped for row in some),
            sum(row.tokens for row in some),
            sum(row.samples for row in some) / sum(row.size for row in some),
        )
        for name, some in sorted(groups.items())
    ]
