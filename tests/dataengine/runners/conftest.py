"""Traps for workers: pictures whose bytes do not come, so that a test finds a worker in the middle of a shard."""

from __future__ import annotations

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

LIMIT_S = 90.0  # for whoever should fall into a trap


class Trap:
    """A picture that is a pipe. Whoever reads it is caught, and can be killed or let go."""

    def __init__(self, picture: Path, over: threading.Event) -> None:
        self.picture = picture
        self.whole = picture.with_name(f"whole-{picture.name}")
        self.over = over
        picture.rename(self.whole)
        os.mkfifo(picture)

    def catch(self) -> None:
        """Wait until a process waits for the bytes; `victim` is its number."""
        # Opening a pipe to write fails while nobody reads it. It stays open: its end would be the end of the picture.
        self.pipe: int = self._until(self._open)
        self.victim: int = self._until(self._reader)

    def kill(self) -> None:
        """Kill who was caught, before it can read anything."""
        os.kill(self.victim, signal.SIGSTOP)
        self._until(partial(_is, self.victim, "tTZX"))
        os.close(self.pipe)
        os.kill(self.victim, signal.SIGKILL)
        self._until(partial(_is, self.victim, "ZX"))

    def disarm(self) -> None:
        """Put the picture there, for all who come from now on."""
        shutil.copyfile(self.whole, self.picture.with_suffix(".new"))
        self.picture.with_suffix(".new").replace(self.picture)

    def free(self) -> None:
        """Give who was caught the picture."""
        os.write(self.pipe, self.whole.read_bytes())
        os.close(self.pipe)

    def _until(self, look: Callable[[], Any]) -> Any:
        end = time.monotonic() + LIMIT_S
        while not (found := look()):
            if self.over.wait(0.005) or time.monotonic() > end:
                raise RuntimeError("the test is over, or nobody came")
        return found

    def _open(self) -> int | None:
        try:
            return os.open(self.picture, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None

    def _reader(self) -> int | None:
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
def trapped(tiny: Tiny) -> Iterator[Callable[..., list[Trap]]]:
    """Return a function that makes 300 samples, converts them, and makes traps of the pictures of some.

    The shards, 50 samples each, that must come out lie in `expected` beside the manifests.
    """
    over = threading.Event()

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
