"""Contestants as processes of their own, repeats interleaved: A B C, A B C, ..."""

# mypy: disable-error-code="import-not-found, no-any-return, unused-ignore"
from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import environments
from results import Contest

HERE = Path(__file__).parent


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


def run(one: Contestant, limit_s: float) -> dict[str, Any]:
    """Run a contestant and return what it measured. Raises Failure."""
    words, variables = command(one)
    # Files, not pipes: workers that a contestant leaves behind would hold a pipe open, and us with it.
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as complaint:
        process = subprocess.Popen(
            words, env=variables, stdout=output, stderr=complaint, start_new_session=True
        )  # fmt: skip
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise Failure(f"did not end within {limit_s:.0f} s") from None
        finally:
            end_group(process)
        output.seek(0)
        complaint.seek(0)
        said, lines = output.read(), [line for line in complaint.read().splitlines() if line.strip()]
    if status:
        # An assertion says nothing but its own line of code.
        code = [line.strip() for line in lines[-3:-1] if line.strip(" ^~")]
        reason = lines[-1] if lines else f"exit status {status}"
        raise Failure((f"{reason}: {code[-1]}" if code and ":" not in reason else reason)[:300])
    try:
        found: dict[str, Any] = json.loads(said.rstrip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError) as error:
        raise Failure(f"ended without a result: {said[-200:]!r}") from error
    if "absent" in found:
        raise Failure(f"absent: {found['absent']}")
    return found


def end_group(process: subprocess.Popen[Any]) -> None:
    """Kill what is left of a contestant and its workers, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def interleaved(
    held: Contest,
    contestants: Sequence[Contestant],
    repeats: int,
    run: Callable[[Contestant], dict[str, Any]],
) -> None:
    """Let contestants run in turns, as many rounds as `repeats` says; who fails is told with its reason, and rests."""
    for number in range(repeats):
        for one in contestants:
            if one.name in held.failed:
                continue
            if sys.stdout.isatty():
                print(f"round {number + 1}: {one.name:<50}", end="\r", flush=True)
            try:
                held.add(one.name, run(one))
            except Failure as error:
                held.fail(one.name, str(error))
