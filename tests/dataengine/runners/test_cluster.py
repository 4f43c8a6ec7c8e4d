"""A Ray cluster of two nodes on this machine, given by its address."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.conftest import Tiny
    from tests.dataengine.runners.conftest import Trap

    Trapped = Callable[..., list[Trap]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head with one CPU and a second node with another. Commands run beside it, in processes of their own."""
    from ray.cluster_utils import Cluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: Any = Cluster(
            initialize_head=True,
            shutdown_at_exit=False,
            head_node_args={"num_cpus": 1, "include_dashboard": False},
        )
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def _start(
    *arguments: object, code: str = "from dataengine.cli import main; main()"
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _shard(tiny: Tiny, out: Path, cluster: Any) -> list[object]:
    return ["shard", tiny.out, "--out", out, "--samples-per-shard", 50, "--json",
            "--runner", "ray", "--workers", 2, "--address", cluster.address]  # fmt: skip


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_node_that_is_lost_costs_its_shard_and_nothing_else(
    tiny: Tiny, tmp_path: Path, trapped: Trapped, cluster: Any
) -> None:
    traps = trapped(10, 60)
    process = _start(*_shard(tiny, tmp_path / "s", cluster))
    for trap in traps:
        trap.catch()
        trap.disarm()
    (node,) = cluster.worker_nodes
    raylet = node.all_processes["raylet"][0].process.pid
    (lost,) = [trap for trap in traps if _parent(trap.victim) == raylet]
    (other,) = [trap for trap in traps if trap is not lost]

    cluster.remove_node(node, allow_graceful=False)
    lost.kill()
    other.free()
    out, says = process.communicate(timeout=60)

    assert process.returncode == 0, says
    assert json.loads(out) == {
        "dropped": 0, "samples": 300, "shards": 6, "sources": {"tiny/detection/train": 300}
    }  # fmt: skip
    assert _files(tmp_path / "s") == _files(tmp_path / "expected")
    assert says.splitlines()[-1].endswith(" 1 run again")


def test_a_builder_that_only_the_driver_has_reaches_the_workers(
    tiny: Tiny, tmp_path: Path, cluster: Any
) -> None:
    tiny.repeat(1100)
    folder = tmp_path / "private"
    (folder / "private_words").mkdir(parents=True)
    (folder / "private_words/__init__.py").touch()
    (folder / "private_words/builder.py").write_text(
        "from converters.tasks.instances import *\nVERSION = '1'\n"
    )
    task = yaml.safe_load(Path("task_specs/tasks/detection.yaml").read_text())
    (tiny.spec.parent / "tasks").mkdir()
    (tiny.spec.parent / "tasks/mine.yaml").write_text(
        yaml.safe_dump({**task, "id": "mine", "builder": "private_words.builder"})
    )
    tiny.spec.write_text(tiny.spec.read_text().replace("detection: {}", "mine: {}"))
    code = (
        "import shutil, sys\n"
        "folder = sys.argv.pop(1)\n"
        "sys.path.insert(0, folder)\n"
        "from dataengine import convert\n"
        "from dataengine.cli import main\n"
        "real = convert.gathered_items\n"
        "def gathered(*arguments):\n"
        "    shutil.rmtree(folder)\n"  # by now it was sent
        "    yield from real(*arguments)\n"
        "convert.gathered_items = gathered\n"
        "main()\n"
    )

    process = _start(folder, "convert", tiny.spec, "--specs", tiny.spec.parent, "--root", tiny.root, "--out",
                     tiny.out, "--split", "train", "--json", "--runner", "ray", "--address", cluster.address,
                     code=code)  # fmt: skip
    out, says = process.communicate(timeout=60)

    assert process.returncode == 0, says
    assert json.loads(out)["tiny/mine/train"]["samples"] == 1100
    assert not folder.exists()
    assert says.count("\n") == 1  # the end of the progress; Ray itself says nothing


def test_a_terminated_command_leaves_the_cluster_and_finished_shards(
    tiny: Tiny, tmp_path: Path, trapped: Trapped, cluster: Any
) -> None:
    (trap,) = trapped(60)
    process = _start(*_shard(tiny, tmp_path / "s", cluster))
    trap.catch()

    process.send_signal(signal.SIGTERM)
    _, says = process.communicate(timeout=60)

    assert process.returncode == 130, says
    assert says.splitlines()[-1] == "stopped; run the same command again to resume"
    assert [path.name for path in tmp_path.glob("s/*.tar")] == ["tiny-detection-train-000000.tar"]
    assert not list(tmp_path.glob("s/.*.tmp*"))
    assert cluster.head_node.any_processes_alive()


def test_a_head_that_vanishes_is_one_line(tiny: Tiny, tmp_path: Path, trapped: Trapped, cluster: Any) -> None:
    (trap,) = trapped(10)
    address = cluster.address
    code = (
        "from dataengine.cli import main\nfrom dataengine.runners import ray\nray.HEAD_GONE_S = 1.0\nmain()\n"
    )
    process = _start(*_shard(tiny, tmp_path / "s", cluster), code=code)
    trap.catch()

    cluster.remove_node(cluster.head_node, allow_graceful=False)
    trap.kill()
    _, says = process.communicate(timeout=60)

    assert process.returncode == 2
    assert says.splitlines()[-1] == (
        f"error: {address}: the head of the Ray cluster is gone; "
        "start it, then run the same command again to resume"
    )
    assert "Traceback" not in says
