"""A few open files that all threads of a process read from, by offset."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path

from dataengine.errors import ShardError

MAX_OPEN_FILES = 32


class Pool:
    """A few open files shared by all threads of a process; reads never move a file position.

    At most `max_open` are open, or as many as are being read at that moment if that is more.
    """

    def __init__(self, directory: Path, max_open: int = MAX_OPEN_FILES) -> None:
        self.directory = directory
        self.max_open = max_open
        self._open: OrderedDict[str, int] = OrderedDict()
        self._users: dict[str, int] = {}
        self._lock = threading.Lock()

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return `size` bytes of a file. Raises ShardError where it is missing or ends early."""
        descriptor = self._take(name)
        try:
            data = os.pread(descriptor, size, offset)
            length = os.fstat(descriptor).st_size if len(data) != size else 0
        except OSError as error:
            raise ShardError(f"{self.directory / name}: offset {offset}: {error.strerror}") from error
        finally:
            self._give(name)
        if len(data) != size:
            raise ShardError(
                f"{self.directory / name}: has {length} bytes, expected at least {offset + size}; {self.mend(name)}"
            )
        return data

    def mend(self, name: str) -> str:
        """Return what helps against a file with wrong bytes."""
        return f"rebuild it with 'dataengine shard {self.directory} --rebuild --only {name}'"

    def _take(self, name: str) -> int:
        with self._lock:
            descriptor = self._open.get(name)
            if descriptor is None:
                self._close_idle(self.max_open - 1)
                try:
                    descriptor = os.open(self.directory / name, os.O_RDONLY)
                except OSError as error:
                    raise ShardError(
                        f"{self.directory / name}: {error.strerror}; {self.mend(name)}"
                    ) from error
                self._open[name] = descriptor
            self._open.move_to_end(name)
            self._users[name] = self._users.get(name, 0) + 1
            return descriptor

    def _give(self, name: str) -> None:
        with self._lock:
            self._users[name] -= 1
            self._close_idle(self.max_open)

    def _close_idle(self, most: int) -> None:
        """Close the files that nobody reads, the longest unused first, until at most so many are open."""
        excess = len(self._open) - most
        if excess <= 0:
            return
        idle = [other for other in self._open if not self._users.get(other)]
        for other in idle[:excess]:
            os.close(self._open.pop(other))
            self._users.pop(other, None)

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for descriptor in self._open.values():
                os.close(descriptor)
            self._open.clear()
            self._users.clear()
