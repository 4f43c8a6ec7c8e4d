"""Results are only appended; the page of tables is made of the newest of each contestant."""

# mypy: disable-error-code="import-not-found, no-any-return, unused-ignore"
from __future__ import annotations

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


def append(line: dict[str, Any]) -> None:
    """Add a result to the file of results, with what it was measured on."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    line = line | {
        "revision": git.stdout.strip(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "kernel": platform.release(),
        "nproc": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(f"{line['benchmark']:>20}  {line['contestant']}: {_short(line)}", flush=True)


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


def compare(title: str, measured: dict[str, list[dict[str, Any]]], about: dict[str, Any],
            facts: Sequence[str] = ()) -> None:  # fmt: skip
    """Append a line for each contestant: its median time and CPU time relative to ours, and some facts of it."""
    # Without ours, the first that ran is what others are held to.
    reference = OURS if measured.get(OURS) else next((name for name, runs in measured.items() if runs), OURS)
    held_to = measured.get(reference) or []
    wall = statistics.median([one["seconds"] for one in held_to]) if held_to else None
    cpu = statistics.median([one["cpu_s"] for one in held_to]) if held_to else None
    for name, runs in measured.items():
        if not runs:
            continue
        seconds = [one["seconds"] for one in runs]
        median = statistics.median(seconds)
        line = {"benchmark": title, "contestant": name, "repeats": len(runs), "reference": reference}
        if wall and cpu:
            line |= {
                "ratio": median / wall,
                "spread": [min(seconds) / median, max(seconds) / median],
            }
            if None not in (used := [one["cpu_s"] for one in runs]):
                line["cpu_ratio"] = statistics.median(used) / cpu
        found = {
            fact: rounded(statistics.median([one[fact] for one in runs])) for fact in facts if fact in runs[0]
        }
        append(line | {"facts": found, "versions": runs[0].get("versions", {})} | about)


def rounded(value: float) -> float | int:
    return round(value) if abs(value) >= 10 or value == round(value) else float(f"{value:.2g}")


def newest() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the newest result of each contestant of each benchmark."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for text in RESULTS.read_text().splitlines():
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
