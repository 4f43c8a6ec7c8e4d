"""Archives, taken for hostile: unpacked below the root alone, within limits, resumed where they stopped.

The record of an archive says which files came from it: JSON Lines, first the archive, then one line for each member,
then the account. It grows as `<name>.unpacking` and is renamed when the last file is there. A member that would leave
the root, a device or a pipe, a link to something else than a file of the same archive, and a file that would replace
another one are refused, each by name, and cost no other member. A link to a file of the archive becomes that file.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import posixpath
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, Literal, cast

import msgspec

from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root, link, make_folder, unwritable, write_atomic
from dataengine.remote import KEPT, Kind

Progress = Callable[[int, int | None], None]

MAX_MEMBERS = 20_000_000
# DEFLATE reaches 1032 to 1 and no dataset does; small archives of blank masks may come near.
MAX_RATIO = 250
ALWAYS_ALLOWED_BYTES = 2**30
MAX_HEADER_BYTES = 2**20
PIECE_BYTES = 2**20
_TEMPORARY = ".unpacking.tmp"
_BLOCK = 512
_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError,
    ValueError,
)  # fmt: skip


class Archive(msgspec.Struct, frozen=True, kw_only=True, tag_field="is", tag="archive"):
    """The first line of a record: what was unpacked, and where to."""

    archive: str
    size_bytes: int
    sha256: str
    into: str = ""
    strip: str = ""


class File(msgspec.Struct, frozen=True, kw_only=True, tag_field="is", tag="file"):
    """A file that came from a member, by its path below the root."""

    file: str
    size_bytes: int


class Left(msgspec.Struct, frozen=True, kw_only=True, tag_field="is", tag="left"):
    """A member that no file came from, and why: skipped, or refused as what no archive of a dataset should hold."""

    member: str
    reason: str
    refused: bool


class Account(msgspec.Struct, frozen=True, kw_only=True, tag_field="is", tag="account"):
    """The last line of a record: members = files + skipped + refused."""

    members: int
    files: int
    bytes: int
    skipped: dict[str, int]
    refused: dict[str, int]


Line = Archive | File | Left | Account


class _Member(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of an archive; `target` is what a link names, as a path of the archive."""

    name: str
    kind: Literal["file", "folder", "link", "other"]
    size_bytes: int = 0
    target: str = ""
    open: Callable[[], IO[bytes]] | None = None


class _Refused(Exception):
    """A member that is not unpacked, for a reason of the form `family.noun`."""


def unpack(path: Path, kind: Kind, archive: Archive, root: Root, record: Path, progress: Progress) -> Account:
    """Unpack an archive below the root; return the account, which stands in the record as well.

    Files that the record's beginning names and that are there are not written again. `progress` is told bytes and their
    number where it is known. Raises SourceError for an archive that is damaged, encrypted or beyond the limits.
    """
    make_folder(record.parent)
    growing = record.with_suffix(".unpacking")
    have = _resume(growing, record, archive, root)
    try:
        with growing.open("ab") as journal:
            work = _Work(root, archive, have, journal, progress)
            for member in _MEMBERS[kind](path, work):
                work.take(member)
            account = work.finish()
        growing.replace(record)
    except _DAMAGED as error:
        raise _damaged(path, kind, error) from error
    except OSError as error:
        if error.errno is None:  # what gzip and bz2 raise for bytes that are none of theirs
            raise _damaged(path, kind, error) from error
        raise unwritable(Path(error.filename or record), error) from error
    return account


def _damaged(path: Path, kind: Kind, error: Exception) -> SourceError:
    says = " ".join(str(error).split()) or type(error).__name__
    return SourceError(
        f"{path}: damaged, or no {kind} archive ({says}); delete it and run again to fetch it anew"
    )


def unpacked(record: Path, archive: Archive, root: Root) -> Account | None:
    """Return the account of an archive that is unpacked; None where it is not, or where one of its files is gone."""
    about, lines = _lines(record)
    if about != archive or not lines or not isinstance(lines[-1], Account):
        return None
    files = [line for line in lines if isinstance(line, File)]
    return lines[-1] if all(_there(file, root) for file in files) else None


_decode = msgspec.json.Decoder(Line).decode


def recorded(record: Path) -> Archive | None:
    """Return what a record is about, or None where there is none."""
    return _lines(record)[0]


def _lines(path: Path) -> tuple[Archive | None, list[Line]]:
    """Return what a record is about and its other lines. A torn line, and all behind it, is left out."""
    found: list[Line] = []
    # No record, or one that ends where a run was stopped, is one of what it holds.
    with suppress(OSError, msgspec.MsgspecError), path.open("rb") as file:
        found.extend(map(_decode, file))
    return (found[0], found[1:]) if found and isinstance(found[0], Archive) else (None, [])


def _there(file: File, root: Root) -> bool:
    try:
        path = root.inside(file.file)
        return path.is_file() and path.stat().st_size == file.size_bytes
    except (Quarantine, OSError):
        return False


def _resume(growing: Path, record: Path, archive: Archive, root: Root) -> dict[str, int]:
    """Begin a record, or go on with one; return the sizes of the files that are there, by name."""
    files: list[File] = []
    for path in (growing, record):
        about, lines = _lines(path)
        if about == archive:
            files = [line for line in lines if isinstance(line, File) and _there(line, root)]
            break
    write_atomic(growing, b"".join(msgspec.json.encode(one) + b"\n" for one in (archive, *files)))
    record.unlink(missing_ok=True)
    return {file.file: file.size_bytes for file in files}


class _Work:
    """One archive while it is unpacked: what came, what did not, and how much of it."""

    def __init__(
        self, root: Root, archive: Archive, have: dict[str, int], journal: BinaryIO, progress: Progress
    ) -> None:
        self.root = root
        self.archive = archive
        self.most_bytes = max(MAX_RATIO * archive.size_bytes, ALWAYS_ALLOWED_BYTES)
        self.total: int | None = None
        self._have = have
        self._journal = journal
        self._progress = progress
        self._seen: set[str] = set()
        self._links: list[_Member] = []
        self._members = self._bytes = 0
        self._skipped: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def take(self, member: _Member) -> None:
        """Unpack one member, or write down why not."""
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise SourceError(
                f"{self.archive.archive}: more than {MAX_MEMBERS} members, which no dataset has"
            )
        if member.kind == "folder":
            self._skipped["archive.folder"] += 1
        elif member.name.startswith("__MACOSX/") or member.name.endswith(("/.DS_Store", "/._.DS_Store")):
            self._leave(member, "archive.finder", refused=False)
        elif member.kind == "link":
            self._links.append(member)  # what it names may come later
        else:
            self._try(member)

    def finish(self) -> Account:
        """Make the links and write the account."""
        for member in self._links:
            self._try(member)
        account = Account(
            members=self._members,
            files=len(self._seen),
            bytes=self._bytes,
            skipped=dict(self._skipped),
            refused=dict(self._refused),
        )
        self._write(account)
        return account

    def check_bytes(self, count: int) -> None:
        """Raise SourceError where an archive becomes larger than any of its size would."""
        if count > self.most_bytes:
            raise SourceError(
                f"{self.archive.archive}: unpacks to over {self.most_bytes} bytes, out of {self.archive.size_bytes}, "
                "as only a bomb does; unpack it by hand if you trust it"
            )

    def check_room(self) -> None:
        """Raise SourceError where the disk has no room for what is still to come."""
        missing = (self.total or 0) - sum(self._have.values())
        free = shutil.disk_usage(self.root.directory).free
        if missing > free:
            raise SourceError(
                f"{self.archive.archive}: unpacks to {missing} bytes more, {free} are free; make room and run again"
            )

    def _try(self, member: _Member) -> None:
        try:
            name = self._place(member.name)
            if name in self._seen:
                raise _Refused("archive.duplicate")
            if name in self._have:
                size = self._have[name]
            else:
                size = self._file(member, name)
                self._write(File(file=name, size_bytes=size))
            self._seen.add(name)
            self._bytes += size
            self._progress(self._bytes, self.total)
        except _Refused as error:
            self._leave(member, str(error), refused=True)

    def _leave(self, member: _Member, reason: str, *, refused: bool) -> None:
        (self._refused if refused else self._skipped)[reason] += 1
        self._write(Left(member=member.name, reason=reason, refused=refused))

    def _write(self, line: Line) -> None:
        self._journal.write(msgspec.json.encode(line) + b"\n")
        self._journal.flush()

    def _place(self, member: str) -> str:
        """Return where a member comes to lie, relative to the root. Raises _Refused for one that leaves the folder."""
        name = member.replace("\\", "/")
        try:
            if name.startswith("/") or name[1:2] == ":":
                raise Quarantine("path.outside", name)
            name = posixpath.normpath(name)
            if self.archive.strip:
                name = name.removeprefix(f"{self.archive.strip}/")
            name = posixpath.join(self.archive.into, name)
            self.root.inside(name)
        except Quarantine as error:
            raise _Refused(error.reason) from error
        if name.split("/")[0] == KEPT:
            raise _Refused("path.reserved")
        return name

    def _file(self, member: _Member, name: str) -> int:
        """Write one file, or find it there already with the same bytes. Returns its size."""
        target = self.root.inside(name)
        if member.kind == "link":
            source = self._place(member.target)
            if source not in self._seen:
                raise _Refused("archive.link")
            if target.exists() or target.is_symlink():
                raise _Refused("archive.conflict")
            link(self.root.inside(source), target)
            return target.stat().st_size
        if member.open is None:
            raise _Refused("archive.special")
        if target.is_symlink() or (target.exists() and not target.is_file()):
            raise _Refused("archive.conflict")
        _check_folder(target.parent, self.root)
        with member.open() as file:
            if target.exists():
                return self._same(file, target)
            return self._copy(file, target)

    def _copy(self, file: IO[bytes], target: Path) -> int:
        make_folder(target.parent)
        temporary = target.with_name(_TEMPORARY)
        size = 0
        with temporary.open("wb") as out:
            while piece := file.read(PIECE_BYTES):
                size += len(piece)
                out.write(piece)
                self._progress(self._bytes + size, self.total)
        temporary.replace(target)
        return size

    def _same(self, file: IO[bytes], target: Path) -> int:
        """Return the size of a file that is there and equals the member. Raises _Refused where it differs."""
        with target.open("rb") as there:
            while True:
                piece = file.read(PIECE_BYTES)
                if piece != there.read(len(piece) or 1):
                    raise _Refused("archive.conflict")
                if not piece:
                    return target.stat().st_size


def _check_folder(folder: Path, root: Root) -> None:
    """Raise _Refused where a file stands in the place of a folder that a member needs."""
    while folder != root.directory and folder != folder.parent:
        if folder.exists():
            if not folder.is_dir():
                raise _Refused("archive.conflict")
            return
        folder = folder.parent


def _zip_members(path: Path, work: _Work) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        work.total = sum(entry.file_size for entry in entries)
        work.check_bytes(work.total)
        work.check_room()
        for entry in entries:
            name = _zip_name(entry)
            mode = entry.external_attr >> 16
            if entry.flag_bits & 1:
                raise SourceError(
                    f"{path}: {name!r} is encrypted; unpack it by hand with the publisher's password"
                )
            if name.endswith("/"):
                yield _Member(name=name, kind="folder")
            elif stat.S_ISLNK(mode):
                yield _Member(name=name, kind="link", target=_link_of(name, archive, entry))
            elif mode and stat.S_IFMT(mode) and not stat.S_ISREG(mode):
                yield _Member(name=name, kind="other")
            else:
                yield _Member(
                    name=name,
                    kind="file",
                    size_bytes=entry.file_size,
                    open=partial(archive.open, entry),
                )


def _link_of(name: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    """Return what a symbolic link in a zip names: its content is the path, from the folder that it stands in."""
    with archive.open(entry) as file:
        target = file.read(4096).decode("utf-8", "surrogateescape")
    return (
        target
        if target.startswith("/")
        else posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    )


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

    def __init__(self, file: IO[bytes], work: _Work) -> None:
        self._file = file
        self._work = work
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        # tarfile reads names of any length into memory whole.
        if not 0 <= size <= max(MAX_HEADER_BYTES, PIECE_BYTES):
            raise SourceError(
                f"{self._work.archive.archive}: a header of {size} bytes, which no file's name needs"
            )
        self.last = data = self._file.read(size)
        self._work.check_bytes(self._file.tell())
        return data

    def seek(self, place: int, whence: int = 0) -> int:
        self._work.check_bytes(place)
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()


def _tar_members(path: Path, work: _Work) -> Iterator[_Member]:
    with _decompressed(path) as file:
        measured = _Measured(file, work)
        archive = tarfile.TarFile(fileobj=cast(IO[bytes], measured), mode="r", errorlevel=2)
        while (entry := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # one object a member would stay otherwise
            if entry.isdir():
                yield _Member(name=entry.name, kind="folder")
            elif entry.issym():
                parent = posixpath.dirname(entry.name)
                target = entry.linkname
                if not target.startswith("/"):
                    target = posixpath.normpath(posixpath.join(parent, target))
                yield _Member(name=entry.name, kind="link", target=target)
            elif entry.islnk():
                yield _Member(name=entry.name, kind="link", target=entry.linkname)
            elif entry.isreg():
                yield _Member(
                    name=entry.name, kind="file", size_bytes=entry.size,
                    open=partial(_opened, archive, entry),
                )  # fmt: skip
            else:
                yield _Member(name=entry.name, kind="other")
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


_MEMBERS: dict[Kind, Callable[[Path, _Work], Iterator[_Member]]] = {"zip": _zip_members, "tar": _tar_members}
