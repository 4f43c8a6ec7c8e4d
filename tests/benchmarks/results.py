"""Results are kept, one line a contestant of a contest; the page of tables is made of the newest of each contestant."""

# mypy: disable-error-code="import-not-found, no-any-return, unused-ignore"
from __future__ import annotations

import functools
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS, TABLE = HERE / "results.jsonl", HERE.parents[1] / "docs" / "benchmarks.md"
OURS = "dataengine"
AUDIT = "audit rules"


def put(line: dict[str, Any]) -> None:
    """Add a result to the file of results, with what it was measured on, and say it.

    A contest that goes on puts a contestant's line anew in every round: `contest` names it, and the newest stays.
    """
    line = (
        {"contest": now()}
        | line
        | {
            "revision": revision(),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cpu": _cpu_model(),
            "kernel": platform.release(),
            "nproc": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
            "when": now(),
        }
    )
    names = ("benchmark", "contestant", "contest")
    others = [
        text for text in _texts() if any(json.loads(text).get(name) != line.get(name) for name in names)
    ]
    temporary = RESULTS.with_suffix(".new")
    temporary.write_text("\n".join([*others, json.dumps(line)]) + "\n")
    temporary.replace(RESULTS)
    print(f"{line['benchmark']:>20}  {line['contestant']}: {_short(line)}", flush=True)


def now() -> str:
    """Return the time as text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@functools.cache
def revision() -> str:
    """Return the commit that is measured."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return git.stdout.strip()


def _texts() -> list[str]:
    return RESULTS.read_text().splitlines() if RESULTS.exists() else []


def is_done(title: str, name: str, size: str, repeats: int) -> bool:
    """Say whether a contestant has been measured as often at this revision, or has failed."""
    line = newest().get((title, name), {})
    whole = line.get("failure") is not None or line.get("repeats", 0) >= repeats
    return whole and line["revision"] == revision() and line.get("size") == size


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")


def _short(line: dict[str, Any]) -> str:
    if line.get("failure"):
        return f"failed: {line['failure']}"
    parts = [f"{line['ratio']:.2f}"] if "ratio" in line else []
    if "cpu_ratio" in line:
        parts.append(f"CPU {line['cpu_ratio']:.2f}")
    if "spread" in line:
        parts.append("spread {:.2f} to {:.2f}".format(*line["spread"]))
    return ", ".join([*parts, *[f"{name} {value}" for name, value in line.get("facts", {}).items()]])


class Contest:
    """Contestants side by side: a contestant's line is put as soon as it has run, and anew in every round.

    `facts` are what its line tells beside its times, which are relative to ours; `untimed` contests tell facts alone.
    `same` are what all contestants must agree on.
    """

    def __init__(
        self, title: str, about: dict[str, Any], facts: Sequence[str] = (), *, same: Sequence[str] = ("count",),
        untimed: bool = False,
    ) -> None:  # fmt: skip
        self.title, self.about, self.facts, self.same, self.untimed = title, about, facts, same, untimed
        self.measured: dict[str, list[dict[str, Any]]] = {}
        self.failed: set[str] = set()
        self.name = now()

    def add(self, name: str, found: dict[str, Any]) -> None:
        """Take what a contestant measured. One that did other work than the first has failed."""
        reference, held_to = next(((n, runs[0]) for n, runs in self.measured.items()), (name, found))
        for what in self.same:
            if found.get(what) != held_to.get(what):
                self.fail(
                    name, f"its {what} is {found.get(what)!r}, that of {reference} {held_to.get(what)!r}"
                )
                return
        self.measured.setdefault(name, []).append(found)
        runs = self.measured[name]
        line = {"repeats": len(runs), "versions": found.get("versions", {})}
        if not self.untimed:
            line |= self._times(runs)
        line["facts"] = {
            fact: rounded(statistics.median([one[fact] for one in runs]))
            if len(runs) > 1
            else told(found[fact])
            for fact in self.facts
            if fact in found
        }
        self._put(name, line)

    def fail(self, name: str, reason: str) -> None:
        """Take note that a contestant failed: it has no other result, and runs no more."""
        self.failed.add(name)
        self.measured.pop(name, None)
        self._put(name, {"failure": reason})

    def _times(self, runs: list[dict[str, Any]]) -> dict[str, Any]:
        # Without ours, the first that ran is what others are held to.
        reference = OURS if OURS in self.measured else next(iter(self.measured))
        held_to = self.measured[reference]
        seconds = [one["seconds"] for one in runs]
        median = statistics.median(seconds)
        line: dict[str, Any] = {
            "reference": reference,
            "ratio": median / statistics.median([one["seconds"] for one in held_to]),
            "spread": [min(seconds) / median, max(seconds) / median],
        }
        # Where nobody tells the time of a contestant's children, there is none.
        used, ours = (
            [one["cpu_s"] for one in some if one.get("cpu_s") is not None] for some in (runs, held_to)
        )
        if len(used) == len(runs) and ours:
            line["cpu_ratio"] = statistics.median(used) / statistics.median(ours)
        return line

    def _put(self, name: str, line: dict[str, Any]) -> None:
        put({"benchmark": self.title, "contestant": name, "contest": self.name} | line | self.about)


def told(value: Any) -> Any:
    """Return a fact as it is told: numbers are rounded, truths are not."""
    return value if isinstance(value, bool) else rounded(value)


def rounded(value: float) -> float | int:
    return round(value) if abs(value) >= 10 or value == round(value) else float(f"{value:.2g}")


def newest() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the newest result of each contestant of each benchmark."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for text in _texts():
        line = json.loads(text)
        found.pop((line["benchmark"], line["contestant"]), None)  # newest last
        found[line["benchmark"], line["contestant"]] = line
    return found


class Goal:
    """What is wanted of a benchmark: a number taken from its lines, at least or at most so much."""

    def __init__(
        self, text: str, value: Callable[[dict[str, dict[str, Any]]], float], *, least: float | None = None,
        most: float | None = None,
    ) -> None:  # fmt: skip
        self.text, self.value, self.least, self.most = text, value, least, most

    def verdict(self, lines: dict[str, dict[str, Any]]) -> str:
        """Return whether the goal is met, and by which factor it is missed."""
        try:
            value = self.value(lines)
        except KeyError as error:
            return f"* {self.text}: not measured ({error.args[0]} is absent)."
        if self.least is not None:
            factor = value / self.least
        else:
            assert self.most is not None
            factor = self.most / value if value else float("inf")
        if factor >= 1:
            return f"* {self.text}: met ({rounded(value)})."
        return f"* {self.text}: **missed**, {factor:.2f} of the goal ({rounded(value)})."
