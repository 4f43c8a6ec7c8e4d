"""Several processes train as one does: the same samples, losses and weights, whatever each of them has to do.

Two processes are started once, and do all of their runs; the tests look at what these left. In micro-batches a run's
numbers do not depend on the number of ranks, so that runs of one process are their oracle.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from tests.trainer.several import Job, run
from trainer.checkpoint import load_model

pytestmark = pytest.mark.slow

CUT: dict[str, Any] = {"global_batch": 4, "micro_batch": {"max_rows": 1}, "checkpoint_every": 2}
# Of the second and third step, two samples and all are bad.
SAMPLES = Job(name="samples", changes={"steps": 4, **CUT}, broken=(5, 7, 8, 9, 10, 11))
KINDS = Job(name="kinds", changes={"steps": 3, **CUT, "stage": "joint"}, kinds=True, broken=(6,))
FROZEN = Job(name="frozen", changes={"steps": 2, **CUT, "stage": "3"})
PARTS = Job(
    name="parts",
    changes={
        "shards": "two",
        "steps": 2,
        **CUT,
        "mixture": {"policy": "uniform", "mode": "accumulate", "loss_weights": {"detection": 0.25}},
    },
)
ADAPTED = Job(
    name="adapted",
    changes={
        "shards": "two",
        "steps": 5,
        **CUT,
        "mixture": {"policy": "uniform"},
        "prefetch": 2,
        "adapt": {"function": "tests.trainer.test_train:losses_as_weights", "every": 2, "delay": 2},
    },
)
ALIKE = (SAMPLES, KINDS, FROZEN, PARTS, ADAPTED)
DDP = tuple(
    msgspec.structs.replace(job, name=f"ddp-{job.name}", changes={**job.changes, "parallel": "ddp"})
    for job in (KINDS, PARTS)
)
# Each rank pads its own positions into one batch: two of rank 1's are bad, then all of both.
PLAIN = Job(name="plain", changes={"steps": 3, "global_batch": 4}, broken=(2, 3, 4, 5, 6, 7))
POISONED = Job(
    name="poisoned", changes={"steps": 2, **CUT, "checkpoint_every": 1}, poison="toy/train/6#detection"
)
TERMINATED = Job(name="terminated", changes={"steps": 6, **CUT, "checkpoint_every": 6}, terminated_at=8)
# Begun by one process, to be gone on with by two.
GROWN = Job(name="grown", changes={"steps": 4, **CUT}, broken=(5, 7, 8, 9, 10, 11))


def lines(path: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / name).read_text().splitlines()]


def torchrun(folder: Path, jobs: tuple[Job, ...]) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    (folder / "jobs.json").write_bytes(msgspec.json.encode(jobs))
    root = Path(__file__).parents[2]
    # A rendezvous of its own, at a port that is free.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*command, str(root / "tests/trainer/several.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, two_task_shards: Path) -> Path:
    """The runs of a process that is alone."""
    folder = tmp_path_factory.mktemp("one")
    for job in ALIKE:
        run(job, folder / job.name, two_task_shards)
    return folder


@pytest.fixture(scope="module")
def two(one: Path, tmp_path_factory: pytest.TempPathFactory, two_task_shards: Path) -> Path:
    """The runs of two processes."""
    folder = tmp_path_factory.mktemp("two")
    shutil.copytree(two_task_shards, folder / "shards")
    run(
        msgspec.structs.replace(GROWN, changes={**GROWN.changes, "steps": 4}),
        folder / "whole",
        two_task_shards,
    )
    shutil.copytree(folder / "whole", folder / "grown")
    shutil.rmtree(folder / "grown/checkpoints/step-00000004")
    process = torchrun(folder, (*ALIKE, *DDP, PLAIN, POISONED, TERMINATED, GROWN))
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert "Warning" not in told, told
    return folder


@pytest.mark.parametrize("job", [*ALIKE, *DDP], ids=lambda job: job.name)
def test_two_processes_learn_what_one_does(one: Path, two: Path, job: Job) -> None:
    alone, shared = lines(one / job.name.removeprefix("ddp-")), lines(two / job.name)

    for name in ("step", "ids", "skipped", "shortened", "positions", "family"):
        assert [line[name] for line in shared] == [line[name] for line in alone], name
    for line, other in zip(alone, shared, strict=True):
        assert other["loss"] == pytest.approx(line["loss"], rel=1e-5)
        assert other["terms"] == pytest.approx(line["terms"], rel=1e-4, abs=1e-6)
        assert other["tasks"] == pytest.approx(line["tasks"], rel=1e-4)
        assert other["grad_norm"] == pytest.approx(line["grad_norm"], rel=1e-4)
        assert (line["ranks"], other["ranks"]) == (1, 2)


def test_two_processes_have_the_weights_of_one(one: Path, two: Path) -> None:
    for job in (SAMPLES, KINDS, FROZEN):
        alone, shared = (load_model(folder / job.name)[0].state_dict() for folder in (one, two))
        for name, value in alone.items():
            # Adam divides by the size of a gradient: where that is nearly nothing, rounding decides on its sign.
            torch.testing.assert_close(shared[name], value, rtol=1e-3, atol=3e-3, msg=f"{job.name}: {name}")
