"""Contestants as processes of their own, repeats interleaved: A B C, A B C, ..."""

# mypy: disable-error-code="import-not-found, no-any-return, unused-ignore"
from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import environments

HERE = Path(__file__).parent
LIMIT_S = 180


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """Who runs which task with what; `environment` names a peer, or our own where it is none of them."""

    name: str
    script: str
    task: str
    arguments: dict[str, Any] = field(default_factory=dict)
    environment: str = "ours"


class Failure(Exception):
    """A contestant that is absent, failed or did not end; the text is one line."""


def command(one: Contestant) -> tuple[list[str], dict[str, str]]:
    """Return the command line and environment of a contestant. Raises Failure where its peer is absent."""
    python = environments.python_of(one.environment)
    if python is None:
        raise Failure("absent: it cannot be installed here")
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    variables |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    variables |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if one.environment == "ours":
        variables["PYTHONPATH"] = str(HERE.parents[1])
    script = HERE / "contestants" / f"{one.script}.py"
    return [str(python), "-W", "ignore", str(script), one.task, json.dumps(one.arguments)], variables


def run(one: Contestant, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Run a contestant and return what it measured. Raises Failure."""
    words, variables = command(one)
    process = subprocess.Popen(
        words,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, complaint = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise Failure(f"did not end within {limit_s:.0f} s") from None
    finally:
        end_group(process)
    if process.returncode:
        lines = [line for line in complaint.splitlines() if line.strip()]
        raise Failure(lines[-1][:300] if lines else f"exit status {process.returncode}")
    found: dict[str, Any] = json.loads(output.rstrip().splitlines()[-1])
    if "absent" in found:
        raise Failure(f"absent: {found['absent']}")
    return found


def end_group(process: subprocess.Popen[str]) -> None:
    """Kill what is left of a contestant and its workers, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def interleaved(
    contestants: Sequence[Contestant], repeats: int, same_bytes: bool = True
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Return what each contestant measured in each repeat, and the failures of those that have one.

    Exits where two of them disagree on how many samples there are, or how many bytes, unless each draws its own.
    """
    measured: dict[str, list[dict[str, Any]]] = {one.name: [] for one in contestants}
    failures: dict[str, str] = {}
    for _ in range(repeats):
        for one in contestants:
            if one.name in failures:
                continue
            print(f"\r{one.name:<50}", end="", flush=True)
            try:
                measured[one.name].append(run(one))
            except Failure as error:
                failures[one.name] = str(error)
                measured[one.name] = []
    print("\r", end="")
    work = {
        (name, one["count"], one.get("bytes") if same_bytes else None)
        for name, runs in measured.items()
        for one in runs
    }
    if len({each[1:] for each in work}) > 1:
        raise SystemExit(f"contestants disagree on the work: {sorted(work, key=str)}")
    return measured, failures
