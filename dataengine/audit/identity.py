"""One line of an account: two counts that must be one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Literal

import msgspec

Stage = Literal["source", "samples", "objects", "shards", "tars", "plan", "served"]
STAGES: tuple[Stage, ...] = ("source", "samples", "objects", "shards", "tars", "plan", "served")
Verdict = Literal["proven", "not proven", "differs"]
COLUMNS = ("place", "left", "right", "difference", "verdict", "detail")
# What is held against what in each stage, as people read it.
SAYS: dict[Stage, str] = {
    "source": "source: records of the account = records that samples, skipped and quarantined units name",
    "samples": "samples: units = samples + skipped + quarantined, reason by reason",
    "objects": "objects: read = in samples + dropped from them",
    "shards": "shards: samples of a manifest = rows of the index + dropped, id by id",
    "tars": "tars: what the index promises = what their headers show, member by member",
    "plan": "plan: samples of the shards = samples that the run's mixture draws from + kept to evaluate",
    "served": "served: positions of the plan = samples served + skipped, step by step",
}


class Count(msgspec.Struct, frozen=True, gc=False):
    """A number, and what was counted where: `6`, `rows of samples.parquet`."""

    number: int
    what: str

    def __str__(self) -> str:
        return f"{self.number} {self.what}"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Two counts that must be one, each from a file of its own.

    `difference` counts the single things that are on one side alone, which equal totals can hide. Where the verdict is
    `not proven` it is 0 and `detail` says what is missing for a proof; else `detail` names things.
    """

    stage: Stage
    place: str
    left: Count
    right: Count
    difference: int
    verdict: Verdict
    detail: str = ""

    @property
    def cells(self) -> tuple[str, str, str, int, str, str]:
        """The line as COLUMNS."""
        return self.place, str(self.left), str(self.right), self.difference, self.verdict, self.detail


def equal(
    stage: Stage, place: str, left: Count, right: Count, difference: int | None = None, detail: str = ""
) -> Identity:
    """Return the line of two counts that must be one; `difference` where it is not that of their numbers."""
    found = abs(left.number - right.number) if difference is None else difference
    verdict: Verdict = "differs" if found else "proven"
    return Identity(
        stage=stage, place=place, left=left, right=right, difference=found, verdict=verdict, detail=detail
    )


def unproven(stage: Stage, place: str, left: Count, right: Count, why: str) -> Identity:
    """Return the line of counts that nothing proves, with the reason."""
    return msgspec.structs.replace(equal(stage, place, left, right, 0, why), verdict="not proven")


def by_stage(lines: Iterable[Identity]) -> Iterator[tuple[str, list[Identity]]]:
    """Yield the lines of each stage, with what it says."""
    for stage, some in groupby(lines, key=lambda line: line.stage):
        yield SAYS[stage], [*some]


def by_reason(counts: Mapping[str, int]) -> str:
    """Return counts as a line, sorted by reason."""
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()) if count)


def unlike(left: Mapping[str, int], right: Mapping[str, int]) -> tuple[int, str]:
    """Return by how much two counts by reason differ, added up, and where."""
    more, fewer = Counter(left), Counter(right)
    found = {name: (more[name], fewer[name]) for name in more.keys() | fewer.keys()}
    lines = [f"{name} {a} against {b}" for name, (a, b) in sorted(found.items()) if a != b]
    return sum(abs(a - b) for a, b in found.values()), ", ".join(lines)


def shortened(names: Iterable[str], total: int) -> str:
    """Return some names as a line that says how many more there are."""
    shown = list(names)
    more = total - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 and shown else "")
