"""A few open files that all threads of a process read from, by offset."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from dataengine.errors import ShardError

MAX_OPEN_FILES = 32

Span = tuple[int, int]  # offset and size of a piece, in bytes


class _File:
    """An open file, and how many threads read from it now."""

    __slots__ = ("descriptor", "users")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.users = 0


class Pool:
    """A few open files shared by all threads of a process; reads never move a file position.

    At most `max_open` are open, or as many as are being read at that moment if that is more.
    """

    def __init__(self, directory: Path, max_open: int = MAX_OPEN_FILES) -> None:
        self.directory = directory
        self.max_open = max_open
        self._open: OrderedDict[str, _File] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return `size` bytes of a file. Raises ShardError where it is missing or ends early."""
        file = self._taken(name)
        try:
            data = os.pread(file.descriptor, size, offset)
            length = os.fstat(file.descriptor).st_size if len(data) != size else 0
        except OSError as error:
            raise ShardError(f"{self.directory / name}: offset {offset}: {error.strerror}") from error
        finally:
            self._give_back(file)
        if len(data) != size:
            raise ShardError(
                f"{self.directory / name}: has {length} bytes, expected at least {offset + size}; {self.mend(name)}"
            )
        return data

    def read_pieces(self, name: str, spans: Sequence[Span]) -> list[bytes]:
        """Return pieces of a file that is looked up once; those behind its end are short.

        Raises ShardError where it cannot be read.
        """
        file = self._taken(name)
        descriptor, pieces = file.descriptor, []
        try:
            for offset, size in spans:
                pieces.append(os.pread(descriptor, size, offset))
        except OSError as error:
            raise ShardError(f"{self.directory / name}: {error.strerror}") from error
        finally:
            self._give_back(file)
        return pieces

    def _taken(self, name: str) -> _File:
        with self._lock:
            file = self._open.get(name) or self._opened(name)
            file.users += 1
            self._open.move_to_end(name)
        return file

    def _give_back(self, file: _File) -> None:
        with self._lock:
            file.users -= 1
            if len(self._open) > self.max_open:
                self._close_idle(self.max_open)

    def mend(self, name: str) -> str:
        """Return what helps against a file with wrong bytes."""
        return f"rebuild it with 'dataengine shard {self.directory} --rebuild --only {name}'"

    def _opened(self, name: str) -> _File:
        self._close_idle(self.max_open - 1)
        try:
            file = self._open[name] = _File(os.open(self.directory / name, os.O_RDONLY))
        except OSError as error:
            raise ShardError(f"{self.directory / name}: {error.strerror}; {self.mend(name)}") from error
        return file

    def _close_idle(self, most: int) -> None:
        """Close the files that nobody reads, the longest unused first, until at most so many are open."""
        excess = len(self._open) - most
        if excess <= 0:
            return
        idle = [other for other, file in self._open.items() if not file.users]
        for other in idle[:excess]:
            os.close(self._open.pop(other).descriptor)

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for file in self._open.values():
                os.close(file.descriptor)
            self._open.clear()
