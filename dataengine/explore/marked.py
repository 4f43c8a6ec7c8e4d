"""What people decided about samples: kept or dropped, with a note, in a selection that is saved at every mark."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from dataengine import selection
from dataengine.errors import DataEngineError
from dataengine.files import alone, make_folder
from dataengine.selection import MARKED, Choice

MOST_NOTE = 2000  # characters
PATIENCE_S = 5.0  # for another process that writes in the same folder


class Mark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is decided about a sample."""

    keep: bool
    note: str = ""


class Conflict(DataEngineError):
    """A sample's mark is no longer what whoever changes it believes; `mark` is what it is."""

    def __init__(self, message: str, mark: Mark | None) -> None:
        super().__init__(message)
        self.mark = mark


class Marks:
    """The marks of a selection file. Choices of rules in it are left as they are.

    Every change is on disk before `put` returns. Other processes may write the same file: what they wrote is taken in
    first. Raises SourceError where the file is no selection.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = 0
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._marks: dict[str, Mark] = {}
        self._others: list[Choice] = []
        self._take_in()

    def __len__(self) -> int:
        return len(self._marks)

    def all(self) -> dict[str, Mark]:
        """Return the marks by sample id, as they are on disk now."""
        with self._lock:
            self._take_in()
            return dict(self._marks)

    def of(self, sample_id: str) -> Mark | None:
        """Return what is decided about a sample."""
        with self._lock:
            self._take_in()
            return self._marks.get(sample_id)

    def ruled(self) -> int:
        """Return how many choices of the file are not a person's."""
        return len(self._others)

    def put(self, sample_id: str, mark: Mark | None, was: Mark | None) -> None:
        """Decide about a sample, or take a decision back (None), and save it.

        `was` is the mark that the caller saw: raises Conflict where it is another one by now, so that nobody's word is
        lost unseen, and DataEngineError where the file cannot be written.
        """
        if mark is not None and len(mark.note) > MOST_NOTE:
            raise DataEngineError(f"the note has {len(mark.note)} characters, expected at most {MOST_NOTE}")
        with self._lock, _at_it(make_folder(self.path.parent)):
            self._take_in()
            found = self._marks.get(sample_id)
            if found != was:
                raise Conflict(f"{sample_id}: was marked elsewhere in the meantime; look again", found)
            marks = {name: one for name, one in self._marks.items() if name != sample_id}
            if mark is not None:
                marks[sample_id] = mark
            choices = [
                Choice(id=name, keep=one.keep, reason=MARKED, note=one.note) for name, one in marks.items()
            ]
            selection.write([*choices, *self._others], self.path)
            self._marks = marks
            self._seen = _state(self.path)
            self.version += 1

    def _take_in(self) -> None:
        """Read the file anew where it is not what was written or read last."""
        state = _state(self.path)
        if state == self._seen:
            return
        choices = selection.read(self.path) if state is not None else []
        self._others = [one for one in choices if one.reason != MARKED]
        # Two marks of one sample can only come from selections that were joined: to keep is what `left_out` would do.
        found = {one.id: Mark(keep=one.keep, note=one.note) for one in choices if one.reason == MARKED}
        found.update(
            {one.id: Mark(keep=True, note=one.note) for one in choices if one.reason == MARKED and one.keep}
        )
        self._marks, self._seen = found, state
        self.version += 1


def _state(path: Path) -> tuple[int, ...] | None:
    """Return what tells a file from the one that stood there before: each is written anew and renamed."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns)


@contextmanager
def _at_it(folder: Path) -> Iterator[None]:
    """Wait for whoever writes in a folder. Raises DataEngineError where that takes too long."""
    until = time.monotonic() + PATIENCE_S
    while True:
        turn = alone(folder)
        try:
            turn.__enter__()
            break
        except DataEngineError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
    try:
        yield
    finally:
        turn.__exit__(None, None, None)
