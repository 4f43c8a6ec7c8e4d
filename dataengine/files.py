"""The only door to source files: no path leaves the root, and every annotation file read is remembered by digest."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import xxhash

from dataengine.errors import DataEngineError, Quarantine, SourceError

MAX_ANNOTATION_BYTES = 64 * 2**30
MAX_LINE_BYTES = 64 * 2**20
MAX_NAME_BYTES = 255  # what file systems take; asking for a longer name is an error of its own
# What a folder listed is remembered as well: a file more or less is a change.
_LISTING = "glob:"
# Stands for the digest of a file that was begun and not read to its end (`refresh_unfinished` takes it); equal to none.
_UNFINISHED = "unfinished"
_NO_FILE = "is a pipe or a device, expected a file"
_WILD = re.compile(r"(?<!\[)[*?]")  # not one that stands for itself
_PLAIN_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,200}", re.ASCII | re.IGNORECASE)


class Root:
    """A folder of source files. Remembers the digest of each annotation file that was read through it."""

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise SourceError(f"{directory}: no such folder; --root needs the dataset's folder")
        self.directory = directory
        self._real = os.path.realpath(directory)
        self._prefix = self._real.rstrip(os.sep) + os.sep
        self.digests: dict[str, str] = {}
        # What was listed and cannot be read: (reason, detail) by name, for whoever reads a source to tell.
        self.left_out: dict[str, tuple[str, str]] = {}
        self._folder = ("", "")  # the folder that was asked for last, and where it really is
        self._opened = ("", "")  # the folder, relative and real, of the file that was opened last

    def inside(self, relative: str) -> Path:
        """Return the path of a file inside the root, which need not exist.

        Raises Quarantine `path.outside` for an absolute path, one that climbs out, or a link that leads out, and
        `path.invalid` for a name that no file can have, or that is not UTF-8: no manifest could state it; and for a
        pipe or a device, which would block whoever reads it, or never end.
        """
        name = relative.replace("\\", "/")
        parts = name.split("/")
        # No character takes more than 4 bytes.
        too_long = 4 * len(name) > MAX_NAME_BYTES and (
            len(name) > 1024 or any(len(part.encode(errors="replace")) > MAX_NAME_BYTES for part in parts)
        )
        if not name or "\0" in name or too_long:
            raise Quarantine("path.invalid", f"{relative[:80]!r} is no file name")
        if not name.isascii() and any("\ud800" <= char <= "\udfff" for char in name):
            raise Quarantine("path.invalid", f"{ascii(relative)[:80]} is not UTF-8")
        if name.startswith("/") or ".." in parts or name[1:3] == ":/":
            raise Quarantine("path.outside", f"{relative!r} leaves the root")
        joined = f"{self._prefix}{name}"
        real = self._resolved(joined)
        if real != self._real and not real.startswith(self._prefix):
            raise Quarantine("path.outside", f"{relative!r} leads out of the root through a link")
        return Path(joined)

    def open(self, relative: str) -> int:
        """Return a descriptor of a file inside the root, to read it. Raises Quarantine as `inside` does, or OSError.

        What lies in the folder of the file before it, has a plain name and is no link needs no look at its path.
        """
        folder, _, name = relative.rpartition("/")
        if folder == self._opened[0] and self._opened[1] and _PLAIN_NAME.fullmatch(name):
            with suppress(OSError):  # a link, or what `open` says again below
                return _opened(f"{self._opened[1]}/{name}", os.O_NOFOLLOW)
        path = self.inside(relative)
        descriptor = _opened(str(path))
        real = os.path.realpath(path.parent)
        if f"{real}/".startswith(self._prefix) and "\\" not in relative:
            self._opened = (folder, real)
        return descriptor

    def _resolved(self, joined: str) -> str:
        """Return a path with all links followed: those of its folder once for all files of it that come together."""
        folder, _, last = joined.rpartition("/")
        if last in ("", "."):
            return os.path.realpath(joined)
        known = self._folder
        if known[0] != folder:
            known = self._folder = (folder, os.path.realpath(folder))
        real = f"{known[1].rstrip(os.sep)}/{last}"
        mode = _mode(real)
        if stat.S_ISLNK(mode):
            real = os.path.realpath(real)
            mode = _mode(real)
        if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and f"{real}/".startswith(self._prefix):
            raise Quarantine("path.invalid", f"{last!r} {_NO_FILE}")
        return real

    def annotation(self, relative: str, needed_as: str) -> Path:
        """Return the path of an annotation file that must exist. Raises SourceError, naming the spec's key for it."""
        try:
            path = self.inside(relative)
        except Quarantine as error:
            if error.detail.endswith(_NO_FILE):
                raise SourceError(f"{relative}: {_NO_FILE}; source.{needed_as} names it") from error
            raise SourceError(
                f"{relative}: {error.detail}; source.{needed_as} must stay inside --root"
            ) from error
        # os.path's answer for a name that no file can have is False, where Path's is an OSError.
        if not os.path.exists(path):  # noqa: PTH110
            raise SourceError(f"{path}: no such file; the spec needs it as source.{needed_as}")
        return path

    def read(self, relative: str, needed_as: str) -> bytes:
        """Return the bytes of an annotation file and remember their digest. Raises SourceError."""
        path = self.annotation(relative, needed_as)
        try:
            size = path.stat().st_size
            if size > MAX_ANNOTATION_BYTES:
                raise SourceError(f"{path}: {size} bytes, more than an annotation file may have")
            data = path.read_bytes()
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
        self.digests[relative] = xxhash.xxh3_128_hexdigest(data)
        return data

    def lines(self, relative: str, needed_as: str) -> Iterator[tuple[int, bytes]]:
        """Yield (line number from 1, line without its end) of an annotation file; remembers its digest at the end.

        A line of more than 64 MiB raises SourceError: it would be read into memory whole.
        """
        path = self.annotation(relative, needed_as)
        digest = xxhash.xxh3_128()
        self.digests[relative] = _UNFINISHED
        try:
            with path.open("rb") as file:
                number = 0
                while line := file.readline(MAX_LINE_BYTES):
                    number += 1
                    if len(line) == MAX_LINE_BYTES:
                        raise SourceError(f"{path}: line {number} is longer than {MAX_LINE_BYTES} bytes")
                    digest.update(line)
                    yield number, line.rstrip(b"\r\n")
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
        self.digests[relative] = digest.hexdigest()

    def glob(self, pattern: str) -> list[str]:
        """Return the files that match a pattern, as sorted paths relative to the root.

        Links that lead out, links to nothing, pipes and devices go to `left_out` instead; so do links to folders whose
        files a `**` would miss. Raises SourceError for a pattern that is empty or absolute, and where nothing is left.
        """
        if not pattern or Path(pattern).is_absolute():
            raise SourceError(f"{pattern!r}: no pattern of files inside --root; write a relative one")
        found, left_out = list[str](), list[str]()
        for path in self.directory.glob(pattern):
            relative = path.relative_to(self.directory).as_posix()
            if path.is_file() and os.path.realpath(path).startswith(self._prefix):
                found.append(relative)
            elif (path.is_symlink() or not path.is_dir()) and self._leave_out(relative):
                left_out.append(relative)
        left_out += self._linked_folders(pattern)
        if left_out and not found and _WILD.search(pattern):
            _, why = self.left_out[min(left_out)]
            raise SourceError(
                f"{self.directory}: no file of {len(left_out)} that match {pattern!r} can be read: {why}"
            )
        found.sort()
        self.digests[f"{_LISTING}{pattern}"] = xxhash.xxh3_128_hexdigest(
            "\n".join(found).encode(errors="surrogateescape")
        )
        return found

    def _linked_folders(self, pattern: str) -> list[str]:
        """Leave out the folders that `**` of a pattern does not follow, and return them: it would never end."""
        start, any_depth, _ = pattern.partition("**")
        left_out = list[str]()
        if not any_depth:
            return left_out
        for top in self.directory.glob(start) if Path(start).parts else [self.directory]:
            for folder, inner, _ in os.walk(top):
                for path in (Path(folder, name) for name in inner):
                    relative = path.relative_to(self.directory).as_posix()
                    if path.is_symlink() and self._leave_out(relative, beside=top):
                        left_out.append(relative)
        return left_out

    def _leave_out(self, relative: str, beside: Path | None = None) -> bool:
        """Remember why a listed name gives no file, and say so.

        What leads to a place inside the folder `beside` is left out of nothing: its files are listed there.
        """
        path = self.directory / relative
        try:
            self.inside(relative)
            if not path.exists():
                raise Quarantine("path.invalid", f"{relative!r} is a link to nothing")
            if beside is not None and not path.resolve().is_relative_to(beside.resolve()):
                raise Quarantine(
                    "path.invalid", f"{relative!r} is a link to a folder, expected the folder itself"
                )
        except Quarantine as error:
            self.left_out[relative] = (error.reason, error.detail)
            return True
        return False

    def refresh_unfinished(self) -> None:
        """Take the digests of files whose reading stopped before their end. Raises SourceError."""
        self.refresh([name for name, digest in self.digests.items() if digest == _UNFINISHED])

    def refresh(self, names: Iterable[str]) -> None:
        """Take the digests of what was read before, by name, as it is now. Raises SourceError where a file is gone."""
        for name in names:
            if name.startswith(_LISTING):
                self.glob(name.removeprefix(_LISTING))
            else:
                self.digests[name] = digest_file(self.annotation(name, "annotations"))


def _mode(path: str) -> int:
    """Return the kind and rights of what lies at a place, 0 where nothing does."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def _opened(path: str, flags: int = 0) -> int:
    """Return a descriptor of a file. Raises OSError, also for a pipe or a device, which are not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags)
    except BlockingIOError:
        # A file server holds a lease on it, which only files have: it is given back to whoever waits.
        descriptor = os.open(path, os.O_RDONLY | flags)
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"it {_NO_FILE}", path)
    return descriptor


def digest_file(path: Path) -> str:
    """Return the xxh3-128 of a file's bytes, read in pieces. Raises SourceError."""
    digest = xxhash.xxh3_128()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def write_atomic(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a file so that it is there whole or not at all. Raises DataEngineError where it cannot be.

    Without `sync` that holds for a killed program and not for a power cut, and small files take a fraction of the time.
    """
    with atomic(path, sync=sync) as file:
        file.write(data)


@contextmanager
def atomic(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Open a file to be written piece by piece: it is there whole after the block, or not at all.

    `sync` as in `write_atomic`. Raises DataEngineError where it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> Path:
    """Make a folder and those above it where they are not there yet, and return it. Raises DataEngineError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    return path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes of this machine from writing into a folder; the kernel lets go of it when this one dies.

    Raises DataEngineError where another one is at it. Where a file system knows no locks, nobody is kept out.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataEngineError(
                    f"{folder}: another process is writing here; wait for it, then run again, or name another folder"
                ) from None
        yield
    finally:
        os.close(descriptor)


def link(source: Path, target: Path) -> None:
    """Put a file at a second place: a hard link where the file system allows it, else a copy.

    What was there before is replaced. Raises DataEngineError where it cannot be written.
    """
    make_folder(target.parent)
    try:
        target.unlink(missing_ok=True)
        with suppress(OSError):
            os.link(source, target)
        if not target.exists():
            shutil.copyfile(source, target)
    except OSError as error:
        raise unwritable(target, error) from error


def unwritable(path: Path, error: OSError) -> DataEngineError:
    """Return the error of a file or folder that cannot be written: a full disk, a missing right."""
    says = error.strerror or str(error)
    return DataEngineError(
        f"{path}: cannot be written: {says}; free space or mend the folder, then run again to resume"
    )
