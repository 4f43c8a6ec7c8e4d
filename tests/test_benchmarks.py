"""The harness of the benchmarks runs; what it measures is asserted nowhere."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent / "benchmarks"
PACKING = HERE / "contestants" / "packing.py"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of results, with a file of its own."""
    monkeypatch.syspath_prepend(str(HERE))
    module = importlib.import_module("results")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results.jsonl")
    return module


@pytest.fixture
def contest(results: Any) -> Any:
    """The module that runs contestants."""
    return importlib.import_module("contest")


def _contestant(contest: Any, folder: Path, code: str) -> Any:
    (folder / "made.py").write_text(code)
    return contest.Contestant(name="made", script=str(folder / "made"), task="x")


def test_a_contestant_tells_what_it_did_as_a_line_of_json() -> None:
    arguments = {"buffer": 64, "limit": 4096, "images": 18, "count": 100}
    command = [sys.executable, str(PACKING), "best_fit", json.dumps(arguments)]

    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    found = json.loads(output.splitlines()[-1])
    assert found["count"] == 100
    assert 0.5 < found["fill"] <= 1
    assert {"seconds", "cpu_s", "peak_mb", "versions", "bytes"} <= found.keys()


def test_who_leaves_workers_behind_is_not_waited_for(contest: Any, tmp_path: Path) -> None:
    code = "import os, time\nif os.fork() == 0: time.sleep(300)\nprint('{\"count\": 3}', flush=True)\nos._exit(0)\n"
    began = time.monotonic()

    assert contest.run(_contestant(contest, tmp_path, code), 60) == {"count": 3}

    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import time\ntime.sleep(300)", "did not end within 1 s"),
        ("raise ValueError('no such data')", "ValueError: no such data"),
        ("count = 1\nassert count == 2", "AssertionError: assert count == 2"),
        ("print('so much')", "ended without a result: 'so much"),
        ('print(\'{"absent": "not built"}\')', "absent: not built"),
    ],
)
def test_who_fails_is_told_with_the_reason(contest: Any, tmp_path: Path, code: str, reason: str) -> None:
    with pytest.raises(contest.Failure) as caught:
        contest.run(_contestant(contest, tmp_path, code), 1 if "sleep" in code else 60)

    assert str(caught.value).startswith(reason)


def test_results_are_kept_as_they_come_and_a_failure_costs_no_other(results: Any, contest: Any) -> None:
    seconds = {
        "dataengine": iter([2.0, 4.0]),
        "slow": iter([6.0, 9.0]),
        "other": iter([1.0]),
        "late": iter([3.0]),
    }
    kept = []

    def run(one: Any) -> dict[str, Any]:
        kept.append(len(results.RESULTS.read_text().splitlines()) if results.RESULTS.exists() else 0)
        if one.name == "late" and len(kept) > 4:
            raise contest.Failure("hung")
        taken = next(seconds[one.name])
        return {"count": 5 + (one.name == "other"), "seconds": taken, "cpu_s": taken, "fill": taken}

    names = ("dataengine", "slow", "other", "late")
    contestants = [contest.Contestant(name=name, script="", task="") for name in names]
    contest.interleaved(results.Contest("C0", {"size": "tiny"}, ("fill",)), contestants, 2, run)

    lines = {name: line for (_, name), line in results.newest().items()}
    assert kept == [0, 1, 2, 3, 4, 4, 4]
    assert (lines["slow"]["ratio"], lines["slow"]["repeats"], lines["slow"]["facts"]) == (
        2.5,
        2,
        {"fill": 7.5},
    )
    assert lines["other"]["failure"] == "its count is 6, that of dataengine 5"
    assert lines["late"]["failure"] == "hung"
    assert all(results.is_done("C0", name, "tiny", 2) for name in names)
    assert not results.is_done("C0", "slow", "tiny", 3)
    assert not results.is_done("C0", "slow", "small", 2)
    assert not results.is_done("C0", "absent", "tiny", 1)
