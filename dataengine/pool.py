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
    """An open file, which is closed when neither the pool nor a thread that reads from it refers to it any more."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class Pool:
    """A few open files shared by all threads of a process; reads never move a file position.

    At most `max_open` are open, and beside them those that other threads are reading from at that moment. A file that
    is open already is read without a lock.
    """

    def __init__(self, directory: Path, max_open: int = MAX_OPEN_FILES) -> None:
        self.directory = directory
        self.max_open = max_open
        self._open: OrderedDict[str, _File] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return `size` bytes of a file. Raises ShardError where it is missing or ends early."""
        file = self._open.get(name) or self._opened(name)
        try:
            data = os.pread(file.descriptor, size, offset)
            length = os.fstat(file.descriptor).st_size if len(data) != size else 0
        except OSError as error:
            raise ShardError(f"{self.directory / name}: offset {offset}: {error.strerror}") from error
        if len(data) != size:
            raise ShardError(
                f"{self.directory / name}: has {length} bytes, expected at least {offset + size}; {self.mend(name)}"
            )
        return data

    def read_pieces(self, name: str, spans: Sequence[Span]) -> list[bytes]:
        """Return pieces of a file that is looked up once; those behind its end are short.

        Raises ShardError where it cannot be read.
        """
        # While `file` is a name here, its descriptor stays open, whatever else is opened meanwhile.
        file = self._open.get(name) or self._opened(name)
        descriptor, pieces = file.descriptor, []
        try:
            for offset, size in spans:
                pieces.append(os.pread(descriptor, size, offset))
        except OSError as error:
            raise ShardError(f"{self.directory / name}: {error.strerror}") from error
        return pieces

    def mend(self, name: str) -> str:
        """Return what helps against a file with wrong bytes."""
        return f"rebuild it with 'dataengine shard {self.directory} --rebuild --only {name}'"

    def _opened(self, name: str) -> _File:
        """Return a file that was not open, in place of the one that has been open for longest."""
        with self._lock:
            if (file := self._open.get(name)) is not None:
                return file
            while len(self._open) >= self.max_open:
                self._open.popitem(last=False)
            try:
                file = self._open[name] = _File(os.open(self.directory / name, os.O_RDONLY))
            except OSError as error:
                raise ShardError(f"{self.directory / name}: {error.strerror}; {self.mend(name)}") from error
            return file

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            self._open.clear()
