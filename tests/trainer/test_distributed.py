"""Several processes train as one does: the same samples, losses and weights, whatever each of them has to do.

Two processes are started once, and do all of their runs; the tests look at what these left. In micro-batches a run's
numbers do not depend on the number of ranks, so that runs of one process are their oracle.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from dataengine.errors import ModelError
from tests.trainer.several import TINIER, Job, run
from trainer.checkpoint import find_all, load_model
from trainer.distributed import bereaved
from trainer.model.decoders import DECODERS

pytestmark = pytest.mark.slow

CUT: dict[str, Any] = {"global_batch": 4, "micro_batch": {"max_rows": 1}, "checkpoint_every": 9}
# Of the second step, two samples are bad, of the third all.
SAMPLES = Job(name="samples", changes={"steps": 5, **CUT, "checkpoint_every": 2}, broken=(5, 7, 8, 9, 10, 11))
KINDS = Job(name="kinds", changes={"steps": 3, **CUT}, kinds=True, broken=(6,))
# The third step is of text, which nothing learns from.
FROZEN = Job(name="frozen", changes={"steps": 4, **CUT, "stage": "3", "checkpoint_every": 3})
# A part of text, and one for each of the four decoders.
PARTS = Job(
    name="parts",
    changes={
        "shards": "scenes",
        "steps": 1,
        **CUT,
        "global_batch": 5,
        "model": TINIER | {"decoders": list(DECODERS), "pose": {"encoder_layers": 1, "decoder_layers": 3}},
        "mixture": {"policy": "uniform", "mode": "accumulate", "loss_weights": {"detection": 0.25}},
    },
)
# Of text and of boxes; nothing learns from the first.
FROZEN_PARTS = Job(
    name="frozen-parts",
    changes={
        "shards": "two",
        "steps": 2,
        **CUT,
        "stage": "3",
        "mixture": {"policy": "uniform", "mode": "accumulate"},
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
ALIKE = (SAMPLES, KINDS, FROZEN, PARTS, FROZEN_PARTS, ADAPTED)
DDP = tuple(
    msgspec.structs.replace(job, name=f"ddp-{job.name}", changes={**job.changes, "parallel": "ddp"})
    for job in (KINDS, FROZEN, PARTS, FROZEN_PARTS)
)
# Goes on from the fourth step of a process that was alone.
GROWN = msgspec.structs.replace(SAMPLES, name="grown")
# Each rank pads its own positions into one batch: first those of rank 1 are bad, then those of both.
PLAIN = Job(name="plain", changes={"steps": 3, "global_batch": 4}, broken=(2, 3, 4, 5, 6, 7))
POISONED = Job(
    name="poisoned", changes={"steps": 2, **CUT, "checkpoint_every": 1}, poison="toy/train/6#detection"
)
TERMINATED = Job(name="terminated", changes={"steps": 6, **CUT}, terminated_at=8)


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
def shards(tmp_path_factory: pytest.TempPathFactory, two_task_shards: Path, scene_shards: Path) -> Path:
    """The sets that runs may name, in one folder."""
    folder = tmp_path_factory.mktemp("shards")
    shutil.copytree(two_task_shards, folder / "two")
    shutil.copytree(scene_shards, folder / "scenes")
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> Path:
    """The runs of a process that is alone."""
    folder = tmp_path_factory.mktemp("one")
    for job in ALIKE:
        run(job, folder / job.name, shards)
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that were killed in their fifth step, after their checkpoint of the fourth."""
    folder = tmp_path_factory.mktemp("killed")
    process = torchrun(folder, (msgspec.structs.replace(SAMPLES, stalled_at=16),))
    deadline = time.monotonic() + 300
    while not (folder / "samples/checkpoints/step-00000004").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for one in children(process.pid):
        os.kill(one, signal.SIGKILL)
    process.kill()
    process.communicate()
    return folder / "samples"


def test_a_rank_tells_in_one_line_that_another_one_ended() -> None:
    peer = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:38039"
    for error in (RuntimeError(peer), torch.distributed.DistNetworkError("timed out")):
        with pytest.raises(ModelError, match="rank 3: another rank cannot be reached any more"), bereaved(3):
            raise error
    with pytest.raises(RuntimeError, match="ours"), bereaved(3):
        raise RuntimeError("ours")


def children(pid: int) -> list[int]:
    """Return the processes that a process started; each of torchrun's leads a session of its own."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(one) for one in found.stdout.split()]


@pytest.fixture(scope="module")
def two(one: Path, killed: Path, tmp_path_factory: pytest.TempPathFactory, shards: Path) -> Path:
    """The runs of two processes."""
    folder = tmp_path_factory.mktemp("two")
    shutil.copytree(shards, folder / "shards")
    shutil.copytree(killed, folder / "samples")
    shutil.copytree(one / "samples", folder / "grown")
    shutil.rmtree(folder / "grown/checkpoints/step-00000005")
    process = torchrun(folder, (*ALIKE, *DDP, GROWN, PLAIN, POISONED, TERMINATED))
    told, _ = process.communicate(timeout=550)
    assert process.returncode == 0, told
    # In a stage that trains decoders alone, a step of boxes leaves no trained weight out, which DDP finds worth a word.
    warned = [
        line for line in told.splitlines() if "Warning" in line and "find_unused_parameters" not in line
    ]
    assert not warned, told
    return folder


def assert_alike(alone: Path, shared: Path) -> None:
    """Hold the log of a run to that of one process: what it is made of exactly, numbers but for rounding."""
    ours, theirs = lines(shared), lines(alone)
    for name in ("step", "ids", "skipped", "shortened", "positions", "family"):
        assert [line[name] for line in ours] == [line[name] for line in theirs], name
    for line, other in zip(theirs, ours, strict=True):
        assert (other["loss"] is None) == (line["loss"] is None)
        assert other["loss"] is None or other["loss"] == pytest.approx(line["loss"], rel=1e-5)
        assert other["terms"] == pytest.approx(line["terms"], rel=1e-4, abs=1e-6)
        assert other["tasks"] == pytest.approx(line["tasks"], rel=1e-4)
        assert other["grad_norm"] == pytest.approx(line["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("job", [*ALIKE, *DDP, GROWN], ids=lambda job: job.name)
def test_two_processes_learn_what_one_does(one: Path, two: Path, job: Job) -> None:
    alone = {"grown": "samples"}.get(job.name, job.name.removeprefix("ddp-"))

    assert_alike(one / alone, two / job.name)

    assert {line["ranks"] for line in lines(two / job.name)[-1:]} == {2}
    assert lines(two / job.name, "served.jsonl") == lines(one / alone, "served.jsonl")


def test_what_two_killed_processes_left_goes_on_in_one(
    one: Path, killed: Path, shards: Path, tmp_path: Path
) -> None:
    assert [line["ranks"] for line in lines(killed)] == [2] * 4
    shutil.copytree(killed, tmp_path / "run")

    result = run(SAMPLES, tmp_path / "run", shards)

    assert (result.step, result.skipped) == (5, {})
    assert_alike(one / "samples", tmp_path / "run")
    assert [line["ranks"] for line in lines(tmp_path / "run")] == [2, 2, 2, 2, 1]


def test_each_process_writes_its_slices(two: Path) -> None:
    (*_, newest) = find_all(two / "kinds/checkpoints")

    sizes = {path.name[:11]: 0 for path in newest.glob("*.safetensors")}
    for path in newest.glob("*.safetensors"):
        sizes[path.name[:11]] += path.stat().st_size

    assert sorted(sizes) == ["shard-00001", "shard-00002"]
    assert max(sizes.values()) < 1.3 * min(sizes.values())


def test_the_queries_learn_through_a_language_model_that_is_frozen_and_shared(one: Path, two: Path) -> None:
    model, _, _ = load_model(two / "frozen")
    before = type(model)(model.config)

    moved = {
        part
        for part, parameters in model.parts().items()
        if any(not torch.equal(p, q) for p, q in zip(parameters, before.parts()[part], strict=True))
    }

    assert moved == {"superlink", "decoders.detection", "decoders.detection.backbone"}
    alone = load_model(one / "frozen")[0].superlink.table("detection")
    torch.testing.assert_close(model.superlink.table("detection"), alone, rtol=1e-3, atol=1e-5)


def test_ranks_without_a_usable_sample_take_part(two: Path) -> None:
    first, second, third = lines(two / "plain")

    assert (first["ids"], first["skipped"]) == (
        ["toy/train/0#detection", "toy/train/1#detection"],
        {"image.corrupt": 2},
    )
    assert first["updated"] and first["loss"] > 0
    assert (second["loss"], second["ids"], second["updated"]) == (None, [], False)
    assert third["updated"] and len(third["ids"]) == 4
    results = [json.loads((two / f"plain.rank{rank}.json").read_text()) for rank in range(2)]
    assert [result["skipped"] for result in results] == [{"image.corrupt": 6}] * 2


def test_a_loss_that_is_not_finite_on_one_rank_changes_no_weight_on_any(two: Path) -> None:
    first, second = lines(two / "poisoned")

    assert (first["updated"], second["updated"]) == (True, False)
    assert second["suspects"] == ["toy/train/6#detection"]
    one, other = (load_model(path)[0].state_dict() for path in find_all(two / "poisoned/checkpoints"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    results = [json.loads((two / f"poisoned.rank{rank}.json").read_text()) for rank in range(2)]
    assert [result["nonfinite"] for result in results] == [[1]] * 2


def test_a_signal_to_one_rank_stops_all_after_the_same_step(two: Path) -> None:
    results = [json.loads((two / f"terminated.rank{rank}.json").read_text()) for rank in range(2)]

    assert [(result["step"], result["stopped"]) for result in results] == [(3, True)] * 2
    assert [path.name for path in find_all(two / "terminated/checkpoints")] == ["step-00000003"]


def test_all_ranks_decide_on_a_mixture_alike_and_one_keeps_the_log(one: Path, two: Path) -> None:
    ours, theirs = (lines(folder / "adapted", "mixture.jsonl") for folder in (two, one))

    assert [(line["step"], line["start"]) for line in ours] == [(2, 4), (4, 6)]
    for line, other in zip(ours, theirs, strict=True):
        assert line["weights"] == pytest.approx(other["weights"], rel=1e-4)
