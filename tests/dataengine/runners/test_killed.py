"""A worker that writes a shard is killed in the middle of it, for real."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dataengine.errors import DataEngineError
from dataengine.runners import tasks
from dataengine.shard import shard

if TYPE_CHECKING:
    from tests.conftest import Tiny

WAYS = [("local", 2), ("ray", 2)]
TRAPPED = "tiny-detection-train-000002"


@pytest.fixture(params=WAYS, ids=lambda way: way[0])
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    runner, workers = request.param
    if runner == "ray":
        request.getfixturevalue("local_ray")
    return {"runner": runner, "workers": workers}


class Trap:
    """A picture that is a pipe. Whoever waits for its bytes is killed, so many times; then the picture is there."""

    def __init__(self, picture: Path) -> None:
        self.picture = picture
        self.whole = picture.with_name("whole.png")
        picture.rename(self.whole)
        os.mkfifo(picture)
        self.over = threading.Event()
        self.caught: list[int] = []
        self.thread = threading.Thread(target=self._kill)

    def set(self, kills: int) -> None:
        """Begin to wait for victims."""
        self.kills = kills
        self.thread.start()

    def _kill(self) -> None:
        while len(self.caught) < self.kills and (pipe := self._until(self._bait)):
            if (victim := self._until(self._victim)) is None:
                return
            os.kill(victim, signal.SIGSTOP)
            self._until(partial(_is, victim, "tT"))
            os.close(
                pipe
            )  # a reader that is not stopped would take the end of the pipe for the end of the file
            self.caught.append(victim)
            if len(self.caught) == self.kills:
                self.whole.replace(self.picture)
            os.kill(victim, signal.SIGKILL)
            self._until(partial(_is, victim, "ZX"))

    def _until(self, look: Callable[[], Any]) -> Any:
        while not (found := look()) and not self.over.wait(0.005):
            pass
        return found

    def _bait(self) -> int | None:
        try:
            return os.open(self.picture, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None  # nobody waits yet

    def _victim(self) -> int | None:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                files = {os.readlink(file) for file in (folder / "fd").iterdir()}  # noqa: PTH115
            except OSError:
                continue  # ended meanwhile, or somebody else's
            if str(self.picture) in files and int(folder.name) != os.getpid():
                return int(folder.name)
        return None


def _is(process: int, states: str) -> bool:
    """Say whether a process is in one of the states of proc(5): stopped is t or T, dead is Z or X."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in states
    except OSError:
        return "X" in states


@pytest.fixture
def trap(tiny: Tiny) -> Iterator[Trap]:
    """The tiny dataset, converted: 300 samples, of which one of the third fifty shows the picture of the trap."""
    tiny.repeat(300)
    document = tiny.document()
    document["images"][141]["file_name"] = "trap.png"
    tiny.write(document)
    shutil.copyfile(tiny.root / "images/004.png", tiny.root / "images/trap.png")
    tiny.convert()
    shard([tiny.out], tiny.out.parent / "expected", samples_per_shard=50)
    made = Trap(tiny.root / "images/trap.png")
    yield made
    made.over.set()
    if made.thread.ident:
        made.thread.join()


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_killed_worker_costs_its_shard_and_nothing_else(
    tiny: Tiny, trap: Trap, tmp_path: Path, way: dict[str, Any]
) -> None:
    told: list[tuple[int, str]] = []
    trap.set(kills=2)

    shard([tiny.out], tmp_path / "s", samples_per_shard=50, progress=lambda *one: told.append(one), **way)

    assert len(trap.caught) == 2
    assert _files(tmp_path / "s") == _files(tmp_path / "expected")
    assert sum(count for count, _ in told) == 300
    assert [text for _, text in told if text][-1] == "2 run again"


def test_a_shard_that_kills_its_worker_every_time_is_named_and_the_others_stay(
    tiny: Tiny, trap: Trap, tmp_path: Path, way: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "RETRIES", 1)
    trap.set(kills=2)

    with pytest.raises(
        DataEngineError, match=rf"^{TRAPPED}: its worker died 2 times \([^\n]*\); [^\n]*resume$"
    ):
        shard([tiny.out], tmp_path / "s", samples_per_shard=50, **way)

    assert not list(tmp_path.glob("s/.*.tmp*"))
    stopped = {path: path.stat().st_mtime_ns for path in tmp_path.glob("s/*.tar")}
    assert {"tiny-detection-train-000000.tar", "tiny-detection-train-000001.tar"} <= {
        one.name for one in stopped
    }
    shard([tiny.out], tmp_path / "s", samples_per_shard=50, **way)
    assert _files(tmp_path / "s") == _files(tmp_path / "expected")
    assert {path: path.stat().st_mtime_ns for path in stopped} == stopped
