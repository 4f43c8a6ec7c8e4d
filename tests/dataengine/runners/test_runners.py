from __future__ import annotations

import operator
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import xxhash

from dataengine.errors import DataEngineError, SourceError, UsageError
from dataengine.files import digest_file
from dataengine.runners import ray as on_ray
from dataengine.runners import run, tasks
from dataengine.shard import shard

if TYPE_CHECKING:
    from tests.conftest import Tiny
    from tests.dataengine.runners.conftest import Trap

    Trapped = Callable[..., list[Trap]]

# The work is done by functions of installed modules: a fresh process cannot import a test.
WAYS = [("local", 1), ("local", 2), ("ray", 2)]


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-{way[1]}")
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    runner, workers = request.param
    if runner == "ray":
        request.getfixturevalue("local_ray")
    return {"runner": runner, "workers": workers}


# In this process there is no worker to kill.
many = pytest.mark.parametrize("way", WAYS[1:], indirect=True, ids=["local-2", "ray-2"])


def test_results_come_in_the_order_of_the_items(way: dict[str, Any], tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(12)]
    for path in paths:
        path.write_bytes(path.name.encode())
    with paths[0].open("ab") as file:
        file.truncate(150 * 2**20)  # the first one takes longer than all the others
    slow = xxhash.xxh3_128_hexdigest(paths[0].read_bytes())

    found = list(run(digest_file, paths, **way))

    assert found == [slow, *(xxhash.xxh3_128_hexdigest(path.name.encode()) for path in paths[1:])]


def test_nothing_to_do_gives_nothing(way: dict[str, Any]) -> None:
    assert list(run(abs, [], **way)) == []


def test_an_error_of_ours_is_raised_at_its_items_turn_with_its_type_and_text(
    way: dict[str, Any], tmp_path: Path
) -> None:
    for number in (0, 1, 2, 4):
        (tmp_path / str(number)).touch()
    told: list[str] = []

    results = run(
        digest_file,
        [tmp_path / str(number) for number in range(5)],
        progress=lambda count, text: told.append(text),
        **way,
    )
    before = [next(results) for _ in range(3)]

    assert len(set(before)) == 1
    with pytest.raises(SourceError, match=r"/3: cannot be read: No such file or directory$"):
        next(results)
    assert not any(told)  # an error is no reason to run a task again


def test_a_bug_keeps_its_type(way: dict[str, Any]) -> None:
    with pytest.raises(ZeroDivisionError):
        list(run(partial(operator.truediv, 1), [1, 0], **way))


def test_few_items_are_taken_ahead(way: dict[str, Any]) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield -number

    results = run(abs, items(), **way)
    first = [next(results), next(results)]
    results.close()  # type: ignore[attr-defined]

    assert first == [0, 1]
    assert taken <= 2 + 3 * way["workers"] + tasks.HELD


def test_an_address_without_ray_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--address 10\.0\.0\.1:6379 is a Ray cluster's; add --runner ray"):
        run(abs, [1], runner="local", workers=2, address="10.0.0.1:6379")


def test_a_ray_worker_with_other_code_is_one_line(local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "versions", lambda packages: (("dataengine", "0123456789abcdef"),))

    with pytest.raises(
        DataEngineError,
        match=r"has dataengine [0-9a-f]{16}, expected 0123456789abcdef; install the same on every node$",
    ):
        list(run(abs, [1], runner="ray", workers=2))


def test_a_ray_worker_that_does_not_see_where_we_write_is_one_line(local_ray: None, tmp_path: Path) -> None:
    def items() -> Iterator[int]:
        (token,) = tmp_path.glob("out/.seen-*")
        token.rename(tmp_path / "elsewhere")
        yield 1

    with pytest.raises(
        DataEngineError,
        match=r"does not see /.*/out/\.seen-.*; .* storage that all nodes share, at the same path$",
    ):
        list(run(abs, items(), runner="ray", workers=2, folder=tmp_path / "out"))


def test_a_ray_worker_that_does_not_see_the_sources_is_one_line(local_ray: None, tmp_path: Path) -> None:
    with pytest.raises(DataEngineError, match=r"does not see /.*/train\.json; "):
        list(run(abs, [1], runner="ray", workers=2, needs=[tmp_path / "train.json"]))


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", r"^127\.0\.0\.1:1: no Ray cluster answers there; "),
        ("head", r"^head: is no address of a Ray cluster, expected HOST:PORT or auto$"),
        (
            "ray://head:10001",
            r"^ray://head:10001: is no address of a Ray cluster, expected HOST:PORT or auto$",
        ),
    ],
)
def test_an_address_where_no_cluster_is_is_one_line(address: str, says: str) -> None:
    with pytest.raises(DataEngineError, match=says):
        list(run(abs, [1], runner="ray", workers=2, address=address))


def test_a_result_that_cannot_be_sent_is_an_error_and_not_a_dead_worker(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(TypeError, match="cannot pickle"):
        list(run(Path.open, [tmp_path / "file"], runner="local", workers=2))


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("layout", ["by_task", "mixed"])
@many
def test_shards_are_the_same_bytes_as_from_this_process(
    tiny: Tiny, tmp_path: Path, layout: Any, way: dict[str, Any]
) -> None:
    tiny.convert("train")
    tiny.convert("val")

    shard([tiny.out], tmp_path / "a", layout=layout, samples_per_shard=2)
    shard([tiny.out], tmp_path / "b", layout=layout, samples_per_shard=2, **way)

    assert len(list(tmp_path.glob("b/*.tar"))) == 5
    assert _files(tmp_path / "b") == _files(tmp_path / "a")


@many
def test_manifests_are_the_same_bytes_as_from_this_process(
    tiny: Tiny, tmp_path: Path, way: dict[str, Any]
) -> None:
    tiny.repeat(1100)
    told: list[int] = []

    one, _ = tiny.convert(out=tmp_path / "one")
    many, _ = tiny.convert(out=tmp_path / "many", progress=lambda count, text: told.append(count), **way)

    assert sorted(told) == [1100 - 2 * 512, 512, 512]
    assert _files(many) == _files(one)


def _finished(folder: Path) -> dict[Path, int]:
    """Return the tars that a stopped run finished, and when each was written."""
    tars = [folder / f"{part.stem}.tar" for part in folder.glob(".parts/*.msgpack")]
    return {tar: tar.stat().st_mtime_ns for tar in tars}


@many
def test_a_killed_worker_costs_its_shard_and_nothing_else(
    tiny: Tiny, tmp_path: Path, trapped: Trapped, way: dict[str, Any]
) -> None:
    (trap,) = trapped(141)
    told: list[tuple[int, str]] = []
    caught: list[list[Path]] = []

    def kill_two() -> None:
        for kill in range(2):
            trap.catch()
            caught.append(list(tmp_path.glob("s/.tiny-detection-train-000002.tar.tmp*")))
            if kill == 1:
                trap.disarm()
            trap.kill()

    killer = threading.Thread(target=kill_two, daemon=True)
    killer.start()
    shard([tiny.out], tmp_path / "s", samples_per_shard=50, progress=lambda *one: told.append(one), **way)
    killer.join(60)
    assert not killer.is_alive()

    assert [len(files) for files in caught] == [1, 2]  # the dead one's was there as well
    assert _files(tmp_path / "s") == _files(tmp_path / "expected")
    assert sum(count for count, _ in told) == 300
    assert told[-1][1] == "2 run again"


@many
def test_a_shard_that_kills_its_worker_every_time_is_named_and_the_others_stay(
    tiny: Tiny, tmp_path: Path, trapped: Trapped, way: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "RETRIES", 1)
    (trap,) = trapped(141)

    def kill_two() -> None:
        for _ in range(2):
            trap.catch()
            trap.kill()
        trap.disarm()

    killer = threading.Thread(target=kill_two, daemon=True)
    killer.start()
    with pytest.raises(
        DataEngineError, match=r"^tiny-detection-train-000002: its worker died 2 times \(.*\); .* to resume$"
    ):
        shard([tiny.out], tmp_path / "s", samples_per_shard=50, **way)
    killer.join(60)
    assert not killer.is_alive()

    assert not list(tmp_path.glob("s/.*.tmp*"))
    done = _finished(tmp_path / "s")
    assert {path.stem[-1] for path in done} >= {"0", "1"}
    shard([tiny.out], tmp_path / "s", samples_per_shard=50, **way)
    assert _files(tmp_path / "s") == _files(tmp_path / "expected")
    assert {path: path.stat().st_mtime_ns for path in done} == done


def _start(tiny: Tiny, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dataengine", "shard", str(tiny.out), "--out", str(out),
               "--samples-per-shard", "50", "--workers", "2"]  # fmt: skip

    def as_in_a_terminal() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # who was started in the background ignores it

    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=as_in_a_terminal,
    )


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_removes_what_is_half_written_and_resumes(
    tiny: Tiny, tmp_path: Path, trapped: Trapped, end: signal.Signals
) -> None:
    (trap,) = trapped(141)
    process = _start(tiny, tmp_path / "s")
    trap.catch()
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("s/.parts/*.msgpack"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    if end == signal.SIGINT:
        os.killpg(process.pid, end)  # Ctrl-C in a terminal reaches every process
    else:
        process.send_signal(end)
    _, says = process.communicate(timeout=60)

    trap.disarm()
    done = _finished(tmp_path / "s")
    assert process.returncode == 130, says
    assert says.strip() == "stopped; run the same command again to resume"
    assert not list(tmp_path.glob("s/.*.tmp*"))
    assert not (tmp_path / "s/shards.json").exists()
    shard([tiny.out], tmp_path / "s", samples_per_shard=50)
    assert _files(tmp_path / "s") == _files(tmp_path / "expected")
    assert {path: path.stat().st_mtime_ns for path in done} == done
