from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dataengine import archive as limits
from dataengine import unpack as unpacking
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.remote import Kind
from dataengine.unpack import Account, Archive, unpack, unpacked

FILES = {"a/1.txt": b"one", "a/2.txt": b"two" * 100, "b.txt": b"", "deep/er/c.bin": os.urandom(3000)}


class Place:
    """A root with an archive in it, and what unpacking gave."""

    def __init__(self, folder: Path) -> None:
        self.outside = folder
        (folder / "root").mkdir()
        self.root = Root(folder / "root")
        self.path = folder / "root" / "x.archive"
        self.record = folder / "root" / ".fetch" / "x.archive.unpacked"
        self.kind: Kind = "zip"

    @property
    def archive(self) -> Archive:
        return Archive(archive="x.archive", size_bytes=self.path.stat().st_size, sha256="0" * 64, into="to")

    def unpack(self) -> Account:
        return unpack(self.path, self.kind, self.archive, self.root, self.record, lambda done, total: None)

    def there(self) -> dict[str, bytes]:
        top = self.root.directory / "to"
        return {
            path.relative_to(top).as_posix(): path.read_bytes()
            for path in sorted(top.rglob("*"))
            if path.is_file()
        }

    def left(self) -> dict[str, str]:
        """Return the members that the record says no file came from, with the reasons."""
        lines = [msgspec.json.decode(line) for line in self.record.read_bytes().splitlines()]
        return {line["member"]: line["reason"] for line in lines if line["is"] == "left"}

    def zip(self, files: dict[str, bytes | zipfile.ZipInfo]) -> None:
        self.kind = "zip"
        with zipfile.ZipFile(self.path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                if isinstance(data, zipfile.ZipInfo):
                    archive.writestr(data, data.comment)
                else:
                    archive.writestr(name, data)

    def tar(self, files: dict[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> None:
        self.kind = "tar"
        with tarfile.open(self.path, mode) as archive:  # type: ignore[call-overload]
            for name, data in files.items():
                if isinstance(data, bytes):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
                else:
                    archive.addfile(data)

    def write(self, kind: str, files: dict[str, Any]) -> None:
        if kind == "zip":
            self.zip(files)
        else:
            self.tar(files, kind)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


KINDS = ["zip", "w", "w:gz", "w:bz2", "w:xz"]


def entry(kind: bytes, name: str, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_link(name: str, link: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    info.comment = link.encode()
    return info


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_there_and_the_record_says_where_it_came_from(place: Place, kind: str) -> None:
    place.write(kind, FILES)

    account = place.unpack()

    assert place.there() == FILES
    assert (account.files, account.bytes) == (4, sum(map(len, FILES.values())))
    assert account.members == account.files + sum(account.skipped.values()) + sum(account.refused.values())
    first, *lines, last = (msgspec.json.decode(line) for line in place.record.read_bytes().splitlines())
    assert first["archive"] == "x.archive"
    assert {line["file"] for line in lines} == {f"to/{name}" for name in FILES}
    assert last["is"] == "account"
    assert unpacked(place.record, place.archive, place.root) == account


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["../evil", "a/../../../evil", "/tmp/evil", "..\\evil", "C:\\evil", "c:evil"]
)
def test_a_member_that_leaves_the_folder_is_refused_and_costs_no_other(
    place: Place, kind: str, name: str
) -> None:
    place.write(kind, {"a": b"good", name: b"evil", "z": b"good"})

    account = place.unpack()

    assert place.there() == {"a": b"good", "z": b"good"}
    assert account.refused == {"path.outside": 1}
    assert list(place.left().values()) == ["path.outside"]
    assert not list(place.outside.rglob("*evil*"))


def test_a_folder_that_leads_out_of_the_root_gets_no_file(place: Place) -> None:
    place.zip({"a/b": b"evil", "c": b"good"})
    (place.outside / "elsewhere").mkdir()
    (place.root.directory / "to").mkdir()
    (place.root.directory / "to" / "a").symlink_to(place.outside / "elsewhere")

    assert place.unpack().refused == {"path.outside": 1}
    assert list((place.outside / "elsewhere").iterdir()) == []


def test_a_member_among_the_records_is_refused(place: Place) -> None:
    place.zip({".fetch/x": b"evil"})
    archive = msgspec.structs.replace(place.archive, into="")

    account = unpack(place.path, "zip", archive, place.root, place.record, lambda done, total: None)

    assert account.refused == {"path.reserved": 1}
    assert not (place.root.directory / ".fetch" / "x").exists()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret", "none", "sub", "../x.archive"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, b"zip"])
def test_a_link_to_what_is_no_file_of_the_archive_is_refused(place: Place, kind: bytes, target: str) -> None:
    (place.outside / "secret").write_text("secret")
    if kind == b"zip":
        place.zip({"link": zip_link("link", target), "sub/a": b"a"})
    else:
        place.tar({"link": entry(kind, "link", target), "sub/a": b"a"})

    account = place.unpack()

    assert place.there() == {"sub/a": b"a"}
    assert sum(account.refused.values()) == 1
    assert not (place.root.directory / "to" / "link").is_symlink()


def test_nothing_is_written_through_a_link_of_the_archive(place: Place) -> None:
    place.tar({"out": entry(tarfile.SYMTYPE, "out", "../.."), "out/evil": b"evil"})

    account = place.unpack()

    assert place.there() == {"out/evil": b"evil"}
    assert not (place.outside / "evil").exists()
    assert sum(account.refused.values()) == 1


def test_a_link_to_a_file_of_the_archive_becomes_that_file(place: Place) -> None:
    place.tar(
        {
            "d/before": entry(tarfile.SYMTYPE, "d/before", "../a"),
            "a": b"text",
            "d/hard": entry(tarfile.LNKTYPE, "d/hard", "a"),
        }
    )

    account = place.unpack()

    assert place.there() == {"a": b"text", "d/before": b"text", "d/hard": b"text"}
    assert account.refused == {}
    assert not (place.root.directory / "to/d/before").is_symlink()


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_refused(place: Place, kind: bytes) -> None:
    place.tar({"device": entry(kind, "device"), "a": b"a"})

    account = place.unpack()

    assert account.refused == {"archive.special": 1}
    assert place.there() == {"a": b"a"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_is_stopped_before_it_fills_the_disk(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ALWAYS_ALLOWED_BYTES", 100_000)
    monkeypatch.setattr(limits, "MAX_RATIO", 2)
    place.write(kind, {"a": b"a", "bomb": bytes(3_000_000)})
    if kind == "w":  # what is not compressed is no bomb
        assert place.unpack().files == 2
        return

    with pytest.raises(SourceError, match="as only a bomb does"):
        place.unpack()

    assert sum(path.stat().st_size for path in (place.root.directory / "to").rglob("*")) < 150_000
    assert not place.record.exists()


def test_a_name_of_megabytes_is_not_read_into_memory(place: Place) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 3_000_000
    place.kind = "tar"
    place.path.write_bytes(gzip.compress(info.tobuf() + bytes(3_000_000)))

    with pytest.raises(SourceError, match="a header of 3000320 bytes, which no file's name needs"):
        place.unpack()


def test_what_is_passed_over_counts_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ALWAYS_ALLOWED_BYTES", 100_000)
    monkeypatch.setattr(limits, "MAX_RATIO", 2)
    info = tarfile.TarInfo("../refused")
    info.size = 3_000_000
    place.kind = "tar"
    place.path.write_bytes(gzip.compress(info.tobuf() + bytes(3_000_320) + bytes(1024)))
    places: list[int] = []

    class Watched(gzip.GzipFile):
        def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
            places.append(offset)
            return super().seek(offset, whence)

    monkeypatch.setattr(limits, "_decompressed", Watched)

    with pytest.raises(SourceError, match="as only a bomb does"):
        place.unpack()

    assert max(places) < 10_000  # what is passed over is not decompressed first


def test_too_many_members_are_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_MEMBERS", 3)
    place.zip(dict(FILES))

    with pytest.raises(SourceError, match="more than 3 members"):
        place.unpack()


def test_an_archive_that_has_no_room_is_told_before_it_is_unpacked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    place.zip(dict(FILES))
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr("dataengine.unpack.shutil.disk_usage", lambda _: usage)

    with pytest.raises(SourceError, match="unpacks to 3303 bytes more, 10 are free"):
        place.unpack()

    assert not (place.root.directory / "to").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_archive_is_one_line_and_no_record(place: Place, kind: str) -> None:
    place.write(kind, {f"{number}": os.urandom(2000) for number in range(20)})
    data = bytearray(place.path.read_bytes())
    damaged: list[Callable[[], bytes | bytearray]] = [
        lambda: data[: len(data) // 2],
        lambda: b"not an archive",
        bytes,
    ]
    if kind == "zip":
        damaged.append(lambda: data[:500] + b"\0" * 50 + data[550:])

    for make in damaged:
        place.path.write_bytes(make())
        with pytest.raises(SourceError, match=r"damaged, or no (zip|tar) archive") as caught:
            place.unpack()
        assert "\n" not in str(caught.value)
        assert not place.record.exists()


def test_a_tar_that_ends_between_two_members_is_damaged(place: Place) -> None:
    place.tar({"a": b"x" * 512, "b": b"y" * 512}, "w")
    place.path.write_bytes(place.path.read_bytes()[:1024])

    with pytest.raises(SourceError, match="it stops before its end"):
        place.unpack()


def test_an_encrypted_zip_says_what_to_do(place: Place) -> None:
    place.zip({"a": b"text"})
    data = bytearray(place.path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    place.path.write_bytes(data)

    with pytest.raises(SourceError, match="'a' is encrypted; unpack it by hand"):
        place.unpack()


def test_a_file_of_somebody_else_is_not_replaced(place: Place) -> None:
    place.zip(dict(FILES))
    mine = place.root.directory / "to" / "a"
    mine.mkdir(parents=True)
    (mine / "1.txt").write_bytes(b"own")
    (mine / "2.txt").write_bytes(FILES["a/2.txt"])
    (place.root.directory / "to" / "deep").write_bytes(b"a file where a folder should be")

    account = place.unpack()

    assert account.refused == {"archive.conflict": 2}
    assert place.left() == {"a/1.txt": "archive.conflict", "deep/er/c.bin": "archive.conflict"}
    assert (mine / "1.txt").read_bytes() == b"own"


def test_two_members_of_one_name_are_not_one_file(place: Place) -> None:
    place.tar({"a": b"first", "./a": b"second"})

    assert place.unpack().refused == {"archive.duplicate": 1}
    assert place.there() == {"a": b"first"}


def test_a_name_that_is_no_utf8_is_refused_and_costs_no_other(place: Place) -> None:
    place.tar({"a\udce9": b"latin-1", "b": b"good"})

    assert place.unpack().refused == {"path.invalid": 1}
    assert place.there() == {"b": b"good"}
    assert place.left() == {"a\ufffd": "path.invalid"}


def test_what_a_mac_puts_into_archives_is_left_out(place: Place) -> None:
    place.zip({"a.jpg": b"a", "__MACOSX/._a.jpg": b"x", "sub/.DS_Store": b"x"})

    account = place.unpack()

    assert place.there() == {"a.jpg": b"a"}
    assert account.skipped == {"archive.finder": 2}


def test_a_name_that_is_utf8_without_saying_so_is_read_as_utf8(place: Place) -> None:
    place.zip({"a.txt": b"a"})
    data = place.path.read_bytes().replace(b"a.txt", "é.tx".encode())
    place.path.write_bytes(data)

    place.unpack()

    assert set(place.there()) == {"é.tx"}


@pytest.mark.parametrize("kind", ["zip", "w:gz"])
def test_a_stopped_run_goes_on_with_the_files_that_are_missing(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write(kind, FILES)
    copy, written = unpacking._Work._copy, list[str]()

    def stops_after_two(self: Any, file: Any, target: Path) -> int:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(target.name)
        return copy(self, file, target)

    with monkeypatch.context() as patch:
        patch.setattr(unpacking._Work, "_copy", stops_after_two)
        with pytest.raises(KeyboardInterrupt):
            place.unpack()
    assert unpacked(place.record, place.archive, place.root) is None
    monkeypatch.setattr(unpacking._Work, "_same", None)  # what is there is not read again
    growing = place.record.with_suffix(".unpacking")
    growing.write_bytes(growing.read_bytes() + b'{"is":"file","file":"to/b.t')
    times = {name: (place.root.directory / "to" / name).stat().st_mtime_ns for name in ("a/1.txt", "a/2.txt")}

    account = place.unpack()

    assert place.there() == FILES
    assert account.files == 4
    assert {name: (place.root.directory / "to" / name).stat().st_mtime_ns for name in times} == times
    assert unpacked(place.record, place.archive, place.root) == account


def test_a_file_that_is_gone_is_missed_and_brought_back_alone(place: Place) -> None:
    place.zip(dict(FILES))
    place.unpack()
    before = (place.root.directory / "to/a/1.txt").stat().st_ino
    (place.root.directory / "to/a/2.txt").unlink()

    assert unpacked(place.record, place.archive, place.root) is None
    place.unpack()

    assert place.there() == FILES
    assert (place.root.directory / "to/a/1.txt").stat().st_ino == before
