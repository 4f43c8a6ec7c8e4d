"""What archives hold, member by member, read as if somebody had made them to do harm.

Zip (APPNOTE 6.3.10) states its members and their sizes at its end; tar (POSIX.1-2001 pax, GNU) is read from its
beginning, through gzip, bzip2 or xz. Nothing is written here, and nothing is read into memory that an archive can
make large.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Literal, cast

import msgspec

from dataengine.errors import SourceError
from dataengine.remote import Kind

MAX_MEMBERS = 20_000_000
# DEFLATE reaches 1032 to 1 and no dataset does; small archives of blank masks may come near.
MAX_RATIO = 250
ALWAYS_ALLOWED_BYTES = 2**30
MAX_HEADER_BYTES = 2**20
PIECE_BYTES = 2**20
_BLOCK = 512
# What the standard library raises for bytes that are no archive, or the ruins of one.
DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError,
    ValueError,
)  # fmt: skip


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of an archive; `target` is what a link names, as a path of the archive."""

    name: str
    kind: Literal["file", "folder", "link", "other"]
    target: str = ""
    open: Callable[[], IO[bytes]] | None = None


class Limit:
    """How large an archive may become, by its own size."""

    def __init__(self, archive: str, size_bytes: int) -> None:
        self.archive = archive
        self._size = size_bytes
        self._most = max(MAX_RATIO * size_bytes, ALWAYS_ALLOWED_BYTES)

    def check_bytes(self, count: int) -> None:
        """Raise SourceError where an archive becomes larger than any of its size would."""
        if count > self._most:
            raise SourceError(
                f"{self.archive}: unpacks to more than {self._most} bytes out of {self._size}, as only a bomb does; "
                "unpack it by hand if you trust it"
            )

    def check_members(self, count: int) -> None:
        """Raise SourceError where an archive has more members than any dataset."""
        if count > MAX_MEMBERS:
            raise SourceError(f"{self.archive}: more than {MAX_MEMBERS} members, which no dataset has")


def members(path: Path, kind: Kind, limit: Limit, expect: Callable[[int], None]) -> Iterator[Member]:
    """Yield the members of an archive in its order; each can be opened until the next one is asked for.

    `expect` is told the bytes of all files first, where the archive states them. Raises one of DAMAGED, or OSError
    without a number, for what is no archive, and SourceError for one that is encrypted or beyond the limits.
    """
    yield from (_zip_members if kind == "zip" else _tar_members)(path, limit, expect)


def _zip_members(path: Path, limit: Limit, expect: Callable[[int], None]) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        total = sum(entry.file_size for entry in entries)
        limit.check_bytes(total)
        expect(total)
        for entry in entries:
            name = _zip_name(entry)
            mode = entry.external_attr >> 16
            if entry.flag_bits & 1:
                raise SourceError(
                    f"{path}: {name!r} is encrypted; unpack it by hand with the publisher's password"
                )
            if name.endswith("/"):
                yield Member(name=name, kind="folder")
            elif stat.S_ISLNK(mode):
                yield Member(name=name, kind="link", target=_link_of(name, archive, entry))
            elif mode and stat.S_IFMT(mode) and not stat.S_ISREG(mode):
                yield Member(name=name, kind="other")
            else:
                yield Member(name=name, kind="file", open=partial(archive.open, entry))


def _link_of(name: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    """Return what a symbolic link in a zip names: its content is the path."""
    with archive.open(entry) as file:
        return _from(name, file.read(4096).decode("utf-8", "surrogateescape"))


def _from(name: str, target: str) -> str:
    """Return what a symbolic link names, as a path of the archive; one that begins with / stays as it is."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def _zip_name(entry: zipfile.ZipInfo) -> str:
    """Return a member's name; one that is UTF-8 without saying so is read as UTF-8 (APPNOTE 6.3.10, appendix D)."""
    if entry.flag_bits & 0x800:
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return entry.filename


class _Measured:
    """A tar's bytes after decompression, so many and no more: what is passed over counts too."""

    def __init__(self, file: IO[bytes], limit: Limit) -> None:
        self._file = file
        self._limit = limit
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        # tarfile reads names of any length into memory whole.
        if not 0 <= size <= max(MAX_HEADER_BYTES, PIECE_BYTES):
            raise SourceError(f"{self._limit.archive}: a header of {size} bytes, which no file's name needs")
        self.last = data = self._file.read(size)
        self._limit.check_bytes(self._file.tell())
        return data

    def seek(self, place: int, whence: int = 0) -> int:
        self._limit.check_bytes(place)
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()


def _tar_members(path: Path, limit: Limit, expect: Callable[[int], None]) -> Iterator[Member]:
    with _decompressed(path) as file:
        measured = _Measured(file, limit)
        archive = tarfile.TarFile(fileobj=cast(IO[bytes], measured), mode="r", errorlevel=2)
        while (entry := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # one object a member would stay otherwise
            if entry.isdir():
                yield Member(name=entry.name, kind="folder")
            elif entry.issym():
                yield Member(name=entry.name, kind="link", target=_from(entry.name, entry.linkname))
            elif entry.islnk():
                yield Member(name=entry.name, kind="link", target=entry.linkname)
            elif entry.isreg():
                yield Member(name=entry.name, kind="file", open=partial(_opened, archive, entry))
            else:
                yield Member(name=entry.name, kind="other")
        # tarfile takes damage for the end; an archive ends with blocks of zeros.
        if measured.last != b"\0" * _BLOCK:
            raise tarfile.ReadError("it stops before its end")


def _opened(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    return cast(IO[bytes], archive.extractfile(entry))


def _decompressed(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        head = file.read(6)
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(path))
    if head.startswith(b"BZh"):
        return cast(IO[bytes], bz2.open(path))
    if head.startswith(b"\xfd7zXZ\x00"):
        return cast(IO[bytes], lzma.open(path))
    return path.open("rb")
