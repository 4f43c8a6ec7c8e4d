"""Traps for workers: pictures that are not opened, so that a test finds a worker in the middle of a shard."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dataengine.shard import shard

if TYPE_CHECKING:
    from tests.conftest import Tiny

LIMIT_S = 30.0  # for whoever should fall into a trap


class Trap:
    """A picture with a lease on it (fcntl(2)): the kernel lets whoever opens it wait, to be killed or let go.

    A lease that is asked for ends by itself after /proc/sys/fs/lease-break-time, 45 seconds where nobody changed it.
    """

    def __init__(self, picture: Path, over: threading.Event) -> None:
        self.picture = picture
        self.over = over
        self.held = os.open(picture, os.O_RDONLY)
        self._until(self._leased)

    def _leased(self) -> bool:
        try:
            fcntl.fcntl(self.held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except BlockingIOError:
            return False  # somebody has it open at this moment
        return True

    def catch(self) -> None:
        """Wait until a process waits for the picture; `victim` is its number."""
        self._until(lambda: fcntl.fcntl(self.held, fcntl.F_GETLEASE) != fcntl.F_WRLCK)
        self.victim: int = self._until(self._reader)

    def kill(self) -> None:
        """Kill who was caught, before it can read anything; the next one is caught, too."""
        os.kill(self.victim, signal.SIGKILL)
        self._until(partial(_is, self.victim, "ZX"))
        fcntl.fcntl(self.held, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        self._until(self._leased)

    def disarm(self) -> None:
        """Put a picture there that can be read, for all who come from now on."""
        # By the descriptor that is there: whoever opens the file waits, this process too.
        content = os.pread(self.held, os.fstat(self.held).st_size, 0)
        self.picture.with_suffix(".new").write_bytes(content)
        self.picture.with_suffix(".new").replace(self.picture)

    def free(self) -> None:
        """Give who was caught the picture."""
        os.close(self.held)

    def _until(self, look: Callable[[], Any]) -> Any:
        end = time.monotonic() + LIMIT_S
        while not (found := look()):
            if self.over.wait(0.005) or time.monotonic() > end:
                raise RuntimeError("the test is over, or nobody came")
        return found

    def _reader(self) -> int | None:
        for task in Path("/proc").glob("[0-9]*/task/[0-9]*"):
            try:
                if "break_lease" in (task / "wchan").read_text() and self._asks(task):
                    return int(task.parts[2])
            except OSError:
                continue  # ended meanwhile, or somebody else's
        return None

    def _asks(self, task: Path) -> bool:
        """Say whether the call that a task waits in, openat, is about the picture."""
        place = int((task / "syscall").read_text().split()[2], 16)
        with (task / "mem").open("rb") as memory:
            memory.seek(place)
            name = os.fsencode(self.picture) + b"\0"
            return memory.read(len(name)) == name


def _is(process: int, states: str) -> bool:
    """Say whether a process is in one of the states of proc(5): stopped is t or T, dead is Z or X."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in states
    except OSError:
        return "X" in states


@pytest.fixture
def trapped(tiny: Tiny) -> Iterator[Callable[..., list[Trap]]]:
    """Return a function that makes 300 samples, converts them, and makes traps of the pictures of some.

    The shards, 50 samples each, that must come out lie in `expected` beside the manifests.
    """
    over = threading.Event()
    # What tells the holder of a lease that somebody waits would end this process.
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)

    def make(*numbers: int) -> list[Trap]:
        tiny.repeat(300)
        document = tiny.document()
        pictures = [tiny.root / f"images/trap-{number}.png" for number in numbers]
        for number, picture in zip(numbers, pictures, strict=True):
            document["images"][number]["file_name"] = picture.name
            shutil.copyfile(tiny.root / "images/004.png", picture)
        tiny.write(document)
        tiny.convert()
        shard([tiny.out], tiny.out.parent / "expected", samples_per_shard=50)
        return [Trap(picture, over) for picture in pictures]

    yield make
    over.set()
    signal.signal(signal.SIGIO, before)
