from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataengine.errors import SourceError
from dataengine.records import containers
from dataengine.records.containers import Record, tar_records, tfrecord_records

ALL = frozenset({"jpg", "json", "txt", "cls", "seg.png", "a", "b", "x/y"})


def _tar(path: Path, members: list[tuple[str, bytes]], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_members_that_agree_up_to_the_first_dot_are_a_record(tmp_path: Path, mode: str) -> None:
    path = _tar(
        tmp_path / "a.tar",
        [
            ("./p/1.jpg", b"\xff\xd8"),
            ("./p/1.json", b'{"n": 1}'),
            ("./p/1.seg.png", b"\x89"),
            ("p/2.TXT", b"zwei\xc3\xa4"),
            ("p.q/3.cls", b"7"),
        ],
        mode,
    )

    found = list(tar_records(path, ALL))

    assert found == [
        Record("p/1", {"jpg": b"\xff\xd8", "json": {"n": 1}, "seg.png": b"\x89"}),
        Record("p/2", {"txt": "zweiä"}),
        Record("p.q/3", {"cls": "7"}),
    ]


def test_members_that_no_word_names_are_passed_over(tmp_path: Path) -> None:
    path = _tar(tmp_path / "a.tar", [("1.jpg", b"x"), ("1.txt", b"y")])

    assert list(tar_records(path, frozenset({"txt"}))) == [Record("1", {"txt": "y"})]


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([("1.txt", b"\xff"), ("1.jpg", b"x")], "utf-8"),
        ([("1.json", b"{"), ("1.jpg", b"x")], "1.json"),
        ([("1.jpg", b"x"), ("1.jpg", b"y")], "stands twice"),
        ([("README", b"x")], "has no key and column"),
        ([("a/.hidden", b"x")], "has no key and column"),
    ],
)
def test_a_record_that_cannot_be_read_costs_itself_alone(
    tmp_path: Path, members: list[tuple[str, bytes]], says: str
) -> None:
    path = _tar(tmp_path / "a.tar", [*members, ("2.txt", b"good")])

    wrong, good = tar_records(path, ALL)

    assert says in wrong.wrong
    assert good == Record("2", {"txt": "good"})


def test_what_is_no_file_is_no_member(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in (("d.d", tarfile.DIRTYPE), ("1.jpg", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/hostname"
            archive.addfile(info)

    assert list(tar_records(path, ALL)) == []


@pytest.mark.parametrize("cut", [700, 100])
def test_a_tar_that_is_cut_off_stops(tmp_path: Path, cut: int) -> None:
    path = _tar(tmp_path / "a.tar", [("1.txt", b"x" * 600), ("2.txt", b"y")])
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(SourceError, match="expected a tar"):
        list(tar_records(path, ALL))


def _message(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, *_varint(len(content))]) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _example(**features: tuple[int, bytes]) -> bytes:
    """Return an Example whose features are lists (1: bytes, 2: floats, 3: integers), their content given as bytes."""
    entries = b"".join(
        _message(1, _message(1, name.encode()) + _message(2, _message(kind, content)))
        for name, (kind, content) in features.items()
    )
    return _message(1, entries)


def _framed(*records: bytes) -> bytes:
    made = b""
    for data in records:
        head = struct.pack("<Q", len(data))
        made += head + struct.pack("<I", containers._masked_crc32c(head)) + data + bytes(4)
    return made


def _read(folder: Path, data: bytes, words: frozenset[str] = ALL) -> list[Record]:
    (folder / "a.tfrecord").write_bytes(data)
    return list(tfrecord_records(folder / "a.tfrecord", words))


def test_the_checksum_is_that_of_the_format() -> None:
    # RFC 3720, B.4: CRC-32C of 32 zeros is 8a9136aa; TFRecord turns it by 15 bits and adds a constant.
    plain = 0x8A9136AA

    assert containers._masked_crc32c(bytes(32)) == (((plain >> 15) | (plain << 17)) + 0xA282EAD8) % 2**32


@pytest.mark.parametrize("packed", [False, True])
def test_features_are_lists_of_numbers_texts_and_bytes(tmp_path: Path, packed: bool) -> None:
    floats = _message(1, struct.pack("<2f", 0.5, -2))
    integers = _message(1, _varint(300) + _varint(2**64 - 1))
    data = _framed(
        _example(a=(1, _message(1, b"w\xc3\xb6rt") + _message(1, b"\xff\xd8")), b=(2, floats)),
        _example(**{"x/y": (3, integers), "unasked": (1, _message(1, b"x"))}),
    )

    found = _read(tmp_path, gzip.compress(data) if packed else data)

    assert found == [
        Record(0, {"a": ["wört", b"\xff\xd8"], "b": [0.5, -2]}),
        Record(1, {"x/y": [300, -1]}),
    ]


def test_numbers_that_are_not_packed_are_read_too(tmp_path: Path) -> None:
    single = bytes([1 << 3 | 0, 5]) + bytes([1 << 3 | 0, 6])
    floats = bytes([1 << 3 | 5]) + struct.pack("<f", 1.5)

    (found,) = _read(tmp_path, _framed(_example(a=(3, single), b=(2, floats))))

    assert found.cells == {"a": [5, 6], "b": [1.5]}


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a\x05ab",
        b"\x0b",
        b"\x08\x07",
        b"\xff" * 12,
        _message(2, b""),
        _message(1, b"\x08\x07"),
        _message(1, _message(1, b"\x08\x07")),
        _message(1, _message(1, _message(1, b"\xff"))),
        _example(a=(1, b"\x0a\x09x")),
    ],
)
def test_an_example_that_is_none_costs_itself_alone(tmp_path: Path, data: bytes) -> None:
    wrong, good = _read(tmp_path, _framed(data, _example(a=(1, _message(1, b"x")))))

    assert "no tf.train.Example" in wrong.wrong
    assert good.cells == {"a": ["x"]}


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-3],
        lambda data: data[:6],
        lambda data: b"\x01" + data[1:],
        lambda data: data[:8] + b"\0\0\0\0" + data[12:],
        lambda data: b"\x1f\x8b" + data,
    ],
)
def test_a_file_that_is_cut_off_or_another_stops(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(SourceError, match="expected a TFRecord file"):
        _read(tmp_path, damage(_framed(_example(a=(1, _message(1, b"x"))))))


def test_a_length_that_nobody_has_memory_for_is_refused(tmp_path: Path) -> None:
    head = struct.pack("<Q", 2**40)

    with pytest.raises(SourceError, match="no whole record at byte 0"):
        _read(tmp_path, head + struct.pack("<I", containers._masked_crc32c(head)) + b"x")


def test_gzip_is_unpacked_and_anything_else_left_alone() -> None:
    data = json.dumps([1, 2]).encode()

    assert containers.unpacked(gzip.compress(data)) == containers.unpacked(data) == data


def test_gzip_that_is_cut_off_is_an_error() -> None:
    with pytest.raises(containers.UNPACKING):
        containers.unpacked(gzip.compress(bytes(1000))[:-9])


def test_gzip_that_unpacks_to_too_much_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "MAX_ANNOTATION_BYTES", 1000)

    with pytest.raises(OSError, match="unpacks to more"):
        containers.unpacked(gzip.compress(bytes(2000)))
