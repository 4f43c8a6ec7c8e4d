"""Whole shards of a store in a folder of this machine, never more than it may hold: the longest unused goes first.

A shard is named by its digest, so another set's shards never stand for it, and two sets share what they have in
common. It gets its name when it is whole and its digest is right. Until then its bytes, all of which count from the
start, lie in a `.part` file that whoever fetches it holds locked. The kernel takes locks from a process that dies:
a part that nobody holds is of no use, and the next who needs room removes it. Readers lock a shard while they read, so
that what is thrown away is gone at once. Every process on the machine may use the folder, with threads of any number.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import xxhash

from dataengine.errors import ShardError, StoreError
from dataengine.files import make_folder, unwritable
from dataengine.pool import Span
from dataengine.store import Store

TRIES = 2  # what comes with a wrong digest is fetched once more
USED_S = 1.0  # a shard in use is marked as used this often at most
_OURS = re.compile(r"[0-9a-f]{32}\.(?P<kind>tar|part)")


class Whole(msgspec.Struct, frozen=True):
    """A shard as shards.json states it: its name, its bytes, and the xxh3-128 of them."""

    name: str
    size: int
    digest: str


class _Entry(msgspec.Struct, frozen=True):
    path: Path
    kind: str
    size: int
    used_ns: int


class Cache:
    """Reads shards of a store as `Pool` reads files: from whole copies in `directory`, fetched when first asked for."""

    def __init__(self, store: Store, shards: Iterable[Whole], directory: Path, most_bytes: int) -> None:
        self.store = store
        self.files = {shard.name: shard for shard in shards}
        self.directory = directory
        self.most_bytes = most_bytes
        # Made once: a path costs as much as reading a small sample.
        self._copies = {name: str(self._path(shard)) for name, shard in self.files.items()}
        self._refused: dict[str, ShardError] = {}
        largest = max(self.files.values(), key=lambda file: file.size, default=None)
        if largest is not None and largest.size > most_bytes:
            raise StoreError(
                f"{directory}: cache_bytes is {most_bytes}, and {largest.name} alone has {largest.size};"
                " raise it, or leave cache_dir out to read by ranges"
            )
        make_folder(directory)

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return `size` bytes of a shard. Raises ShardError or StoreError, naming URL or file."""
        (data,) = self.read_pieces(name, [(offset, size)])
        if len(data) != size:
            raise ShardError(
                f"{self._path(self.files[name])}: has fewer bytes than {offset + size}, as {name} should;"
                f" {self.mend(name)}"
            )
        return data

    def read_pieces(self, name: str, spans: Sequence[Span]) -> list[bytes]:
        """Return pieces of a shard whose copy is opened once, (offset, size) each; those behind its end are short.

        Raises ShardError or StoreError, naming URL or file.
        """
        file = self.files[name]
        try:
            descriptor = self._open(file)
            self.store.count("hits", len(spans) - (descriptor is None))
            if descriptor is None:
                descriptor = self._fetch(file)
        except OSError as error:
            raise unwritable(self.directory, error) from error
        try:
            return [os.pread(descriptor, size, offset) for offset, size in spans]
        except OSError as error:
            where = f"{self._path(file)}: offset {spans[0][0]}"
            raise ShardError(f"{where}: {error.strerror}; {self.mend(name)}") from error
        finally:
            os.close(descriptor)

    def mend(self, name: str) -> str:
        """Return what helps against a copy with wrong bytes."""
        return f"remove {self._path(self.files[name])} to fetch {self.store.url / name} again"

    def close(self) -> None:
        """Nothing stays open between reads: a file that is held could not be thrown away."""

    def _path(self, file: Whole) -> Path:
        return self.directory / f"{file.digest}.tar"

    def _open(self, file: Whole) -> int | None:
        """Return the descriptor of a shard that is there, locked against being thrown away; None where it is not."""
        try:
            descriptor = os.open(self._copies[file.name], os.O_RDONLY)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        state = os.fstat(descriptor)
        if not state.st_nlink:  # thrown away between the two lines above
            os.close(descriptor)
            return None
        if time.time() - state.st_mtime > USED_S:
            os.utime(descriptor)
        return descriptor

    def _fetch(self, file: Whole) -> int:
        """Return the descriptor of a shard, which this process or another one fetches."""
        if file.name in self._refused:
            # Its other samples would fetch it again, each for itself.
            raise ShardError(str(self._refused[file.name]))
        try:
            return self._wait(lambda: self._try(file), f"room for {file.size} bytes of {file.name}")
        except ShardError as error:
            self._refused[file.name] = error
            raise

    def _try(self, file: Whole) -> int | None:
        """Return the descriptor of a shard; None where another one fetches it now, or has all the room."""
        with self._alone():
            if (descriptor := self._open(file)) is not None:
                return descriptor
            part = self._path(file).with_suffix(".part")
            descriptor = self._reserve(part, file.size)
        if descriptor is None:
            return None
        try:
            self._fill(descriptor, file)
            with self._alone():  # who looks for room must not miss it
                part.replace(self._path(file))
        except BaseException:
            part.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        self.store.count("fetched")
        return descriptor

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep every other thread and process from looking for room or making it, for a moment."""
        descriptor = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _reserve(self, part: Path, size: int) -> int | None:
        """Return the locked descriptor of a part that already has its whole size; None where that cannot be now."""
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT, 0o666)
        mine = False
        try:
            if not _lock(descriptor, part):
                return None  # another one is at it
            if not self._make_room(size, part):
                part.unlink()
                return None
            os.ftruncate(descriptor, 0)  # a dead one's bytes
            os.ftruncate(descriptor, size)
            mine = True
            return descriptor
        finally:
            if not mine:
                os.close(descriptor)

    def _make_room(self, size: int, part: Path) -> bool:
        """Throw away what nobody uses until there is room for so many bytes beside those that another one fetches."""
        entries = [entry for entry in self._entries() if entry.path != part]
        parts = [entry for entry in entries if entry.kind == "part" and not _remove(entry.path)]
        whole = sorted((entry for entry in entries if entry.kind == "tar"), key=lambda entry: entry.used_ns)
        room = self.most_bytes - size - sum(entry.size for entry in parts)
        used = sum(entry.size for entry in whole)
        for entry in whole if room >= 0 else ():
            if used > room and _remove(entry.path):
                used -= entry.size
                self.store.count("evicted")
        return used <= room

    def _entries(self) -> list[_Entry]:
        found = []
        for item in os.scandir(self.directory):
            if match := _OURS.fullmatch(item.name):
                with suppress(FileNotFoundError):  # a part got its name, or failed, in between
                    state = item.stat()
                    found.append(_Entry(Path(item.path), match["kind"], state.st_size, state.st_mtime_ns))
        return found

    def _fill(self, descriptor: int, file: Whole) -> None:
        """Fetch a shard into its part. Raises ShardError where it does not come with its digest."""
        for _ in range(TRIES):
            digest, offset = xxhash.xxh3_128(), 0
            for piece in self.store.pieces(file.name, file.size):
                digest.update(piece)
                offset += _write(descriptor, piece, offset)
            if digest.hexdigest() == file.digest:
                os.fsync(descriptor)  # its name must not outlive its bytes in a power cut
                return
            self.store.note("digest")
        raise ShardError(
            f"{self.store.url / file.name}: digest is {digest.hexdigest()}, {TRIES} times, and {file.digest} in"
            " shards.json; it is not the shard that was written, upload it again"
        )

    def _wait(self, attempt: Callable[[], int | None], what: str) -> int:
        """Try until there is an answer. Raises StoreError where nothing moved in the folder for too long."""
        pause, seen, since = 0.002, self._entries(), time.monotonic()
        while (found := attempt()) is None:
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)
            if (now := self._entries()) != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > self.store.settings.patience_s:
                raise StoreError(
                    f"{self.directory}: waits for {what}, and nothing has moved for"
                    f" {self.store.settings.patience_s:g} s; end the process that fetches, or raise cache_bytes"
                )
        return found


def _lock(descriptor: int, path: Path) -> bool:
    """Lock a file alone without waiting; False where it is locked, or not the one that has the name any more."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _remove(path: Path) -> bool:
    """Remove a file that nobody holds locked; False where somebody does, or it is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        if not _lock(descriptor, path):
            return False
        path.unlink()
        return True
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes, offset: int) -> int:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written
    return len(data)
