"""Archives, taken for hostile: unpacked below the root alone, within limits, resumed where they stopped.

The record of an archive says which files came from it: JSON Lines, first the archive, then one line for each member,
then the account. It grows as `<name>.unpacking` and is renamed when the last file is there. A member that would leave
the root, a device or a pipe, a link to something else than a file of the same archive, and a file that would replace
another one are refused, each by name, and cost no other member. A link to a file of the archive becomes that file.
"""

from __future__ import annotations

import posixpath
import shutil
import stat
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO

import msgspec

from dataengine import archive as archives
from dataengine.archive import PIECE_BYTES, Limit, Member
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root, link, make_folder, unwritable, write_atomic
from dataengine.remote import KEPT, Kind

Progress = Callable[[int, int | None], None]

_TEMPORARY = ".unpacking.tmp"


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
            for member in archives.members(path, kind, work.limit, work.expect):
                work.take(member)
            account = work.finish()
        growing.replace(record)
    except archives.DAMAGED as error:
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
        self.limit = Limit(archive.archive, archive.size_bytes)
        self._total: int | None = None
        self._have = have
        self._journal = journal
        self._progress = progress
        self._seen: set[str] = set()
        self._folders: set[Path] = set()  # made, and known to be folders
        self._links: list[Member] = []
        self._members = self._bytes = 0
        self._skipped: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def take(self, member: Member) -> None:
        """Unpack one member, or write down why not."""
        self._members += 1
        self.limit.check_members(self._members)
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

    def expect(self, total: int) -> None:
        """Take note of how many bytes an archive states. Raises SourceError where the disk has no room for them."""
        self._total = total
        missing = total - sum(self._have.values())
        free = shutil.disk_usage(self.root.directory).free
        if missing > free:
            raise SourceError(
                f"{self.archive.archive}: unpacks to {missing} bytes more, {free} are free; make room and run again"
            )

    def _try(self, member: Member) -> None:
        try:
            name, target = self._place(member.name)
            if name in self._seen:
                raise _Refused("archive.duplicate")
            if name in self._have:
                size = self._have[name]
            else:
                size = self._file(member, target)
                self._write(File(file=name, size_bytes=size))
            self._seen.add(name)
            self._bytes += size
            self._progress(self._bytes, self._total)
        except _Refused as error:
            self._leave(member, str(error), refused=True)

    def _leave(self, member: Member, reason: str, *, refused: bool) -> None:
        (self._refused if refused else self._skipped)[reason] += 1
        name = member.name.encode(errors="surrogateescape").decode(errors="replace")
        self._write(Left(member=name, reason=reason, refused=refused))

    def _write(self, line: Line) -> None:
        self._journal.write(msgspec.json.encode(line) + b"\n")
        self._journal.flush()

    def _place(self, member: str) -> tuple[str, Path]:
        """Return a member's place, relative to the root and on disk. Raises _Refused for one that leaves the folder."""
        name = member.replace("\\", "/")
        try:
            if name.startswith("/") or name[1:2] == ":":
                raise Quarantine("path.outside", name)
            name = posixpath.normpath(name)
            if self.archive.strip:
                name = name.removeprefix(f"{self.archive.strip}/")
            name = posixpath.join(self.archive.into, name)
            path = self.root.inside(name)
        except Quarantine as error:
            raise _Refused(error.reason) from error
        if name.split("/")[0] == KEPT:
            raise _Refused("path.reserved")
        return name, path

    def _file(self, member: Member, target: Path) -> int:
        """Write one file, or find it there already with the same bytes. Returns its size."""
        if member.kind == "link":
            return self._link(member, target)
        if member.open is None:
            raise _Refused("archive.special")
        if target.parent not in self._folders:
            _check_folder(target.parent, self.root)
            self._folders.add(make_folder(target.parent))
        try:
            mode = target.lstat().st_mode
        except FileNotFoundError:
            with member.open() as file:
                return self._copy(file, target)
        if not stat.S_ISREG(mode):
            raise _Refused("archive.conflict")
        with member.open() as file:
            return self._same(file, target)

    def _link(self, member: Member, target: Path) -> int:
        """Put a file of the archive at a second place. Returns its size."""
        source, path = self._place(member.target)
        if source not in self._seen:
            raise _Refused("archive.link")
        if target.exists() or target.is_symlink():
            raise _Refused("archive.conflict")
        _check_folder(target.parent, self.root)
        link(path, target)
        return target.stat().st_size

    def _copy(self, file: IO[bytes], target: Path) -> int:
        temporary = target.with_name(_TEMPORARY)
        size = 0
        with temporary.open("wb") as out:
            while piece := file.read(PIECE_BYTES):
                size += len(piece)
                out.write(piece)
                self._progress(self._bytes + size, self._total)
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
