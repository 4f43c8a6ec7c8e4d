"""Files that hold whole records: tars in the WebDataset convention, and TFRecord files of `tf.train.Example`.

Both are read piece by piece, with code of this project alone. A record is its name or position and its cells, or what
is wrong with it.
"""

from __future__ import annotations

import gzip
import io
import re
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from dataengine.errors import SourceError
from dataengine.files import MAX_ANNOTATION_BYTES
from dataengine.images import MAX_BYTES

# Columns that are text; a JSON member is what it says, and everything else is bytes.
TEXTS = frozenset({"txt", "text", "caption", "cls", "transcript", "html", "md", "xml", "csv", "tsv"})
# WebDataset: the key is all before the first dot of the name, the column all behind it.
_MEMBER = re.compile(r"(?P<key>(?:.*/)?[^./][^./]*)\.(?P<column>[^/]+)")


UNPACKING = (OSError, EOFError, zlib.error)


def unpacked(data: bytes) -> bytes:
    """Return what a file in gzip holds, or the data of any other file. Raises one of UNPACKING."""
    if data[:2] != b"\x1f\x8b":
        return data
    pieces, size = [], 0
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        # Asked for all at once, it sets aside as much memory as it is allowed to fill.
        while piece := stream.read(1 << 20):
            size += len(piece)
            if size > MAX_ANNOTATION_BYTES:
                raise OSError("unpacks to more than an annotation file may have")
            pieces.append(piece)
    return b"".join(pieces)


class Record(NamedTuple):
    """A record: its name or number, and its cells, or why it has none."""

    name: str | int
    cells: dict[str, Any]
    wrong: str = ""


def tar_records(path: Path, words: frozenset[str]) -> Iterator[Record]:
    """Yield the records of a tar: members that follow each other and agree up to the first dot of their names.

    Members whose column no word names are passed over. Raises SourceError for a file that is cut off or no tar.
    """
    try:
        with tarfile.open(path, "r:*") as archive:
            key, cells, wrong = "", dict[str, Any](), ""
            for member in archive:
                if not member.isfile():
                    continue
                name = _MEMBER.fullmatch(member.name.removeprefix("./"))
                if name is None:
                    yield Record(
                        member.name, {}, f"{member.name!r} has no key and column, expected 'key.column'"
                    )
                    continue
                if name["key"] != key:
                    if key:
                        yield Record(key, cells, wrong)
                    key, cells, wrong = name["key"], {}, ""
                column = name["column"].lower()
                try:
                    if column in cells:
                        raise ValueError("stands twice")
                    if column in words:
                        cells[column] = _member(archive, member, column)
                except ValueError as error:
                    wrong = wrong or f"{member.name}: {error}"
            if key:
                yield Record(key, cells, wrong)
    except (tarfile.TarError, *UNPACKING) as error:
        raise SourceError(f"{path}: {error}; expected a tar, or one in gzip, bzip2 or xz") from error


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo, column: str) -> Any:
    """Return a member's content. Raises ValueError where it is too large, or not what its column says."""
    if member.size > MAX_BYTES:
        raise ValueError(f"{member.size} bytes, expected at most {MAX_BYTES}")
    file = archive.extractfile(member)
    data = file.read() if file else b""
    if column in TEXTS:
        return data.decode("utf-8-sig")
    if column == "json" or column.endswith(".json"):
        return msgspec.json.decode(data)
    return data


def tfrecord_records(path: Path, words: frozenset[str]) -> Iterator[Record]:
    """Yield the examples of a TFRecord file, plain or in gzip: each feature is a list of numbers, texts or bytes.

    Bytes that are UTF-8 are text. Source: tensorflow/core/lib/io/record_writer.h and tensorflow/core/example. The
    checksum of each record's length is tested, and with it that a record follows where one is looked for; that of its
    content is not, which would take longer than all the rest. Raises SourceError for a file that is cut off, or no
    TFRecord file.
    """
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            stream: IO[bytes] = gzip.GzipFile(fileobj=plain) if packed else plain  # type: ignore[assignment]
            for number, data in enumerate(_framed(stream, path)):
                try:
                    yield Record(number, _example(data, words))
                except (ValueError, IndexError, struct.error) as error:
                    yield Record(number, {}, f"no tf.train.Example: {error}")
    except UNPACKING as error:
        raise SourceError(f"{path}: {error}; expected a TFRecord file") from error


def _framed(stream: IO[bytes], path: Path) -> Iterator[bytes]:
    """Yield the content of each record: length, its checksum, content, its checksum. Raises SourceError."""
    place = 0
    while head := stream.read(12):
        if len(head) == 12 and struct.unpack("<I", head[8:])[0] == _masked_crc32c(head[:8]):
            size = struct.unpack("<Q", head[:8])[0]
            data = stream.read(size + 4) if size <= MAX_BYTES else b""
            if len(data) == size + 4:
                yield data[:-4]
                place += 16 + size
                continue
        raise SourceError(f"{path}: no whole record at byte {place}; expected a TFRecord file, not cut off")


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC_TABLE = _crc_table()


def _masked_crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes, turned and moved as TFRecord wants it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _example(data: bytes, words: frozenset[str]) -> dict[str, Any]:
    """Return the features of an Example that a word names. Raises ValueError."""
    cells: dict[str, Any] = {}
    for number, features in _fields(data):
        if number != 1:
            raise ValueError(f"it has a field {number}, as a SequenceExample has")
        for _, entry in _fields(features):
            parts = dict(_fields(entry))
            name = parts.get(1, b"")
            if not isinstance(name, bytes):
                raise ValueError(f"a feature is called {name!r:.40}")
            name = name.decode()
            if name in words:
                cells[name] = [
                    value for kind, part in _fields(parts.get(2, b"")) for value in _values(kind, part)
                ]
    return cells


def _values(kind: int, data: bytes) -> Iterator[Any]:
    """Yield the values of a BytesList (1), FloatList (2) or Int64List (3)."""
    for _, value in _fields(data):
        match kind, value:
            case 1, bytes():
                try:
                    yield value.decode()
                except UnicodeDecodeError:
                    yield value
            case 2, bytes():
                yield from (number for (number,) in struct.iter_unpack("<f", value))
            case 3, bytes():
                place = 0
                while place < len(value):
                    number, place = _varint(value, place)
                    yield _signed(number)
            case 3, int():
                yield _signed(value)
            case _:
                raise ValueError(f"a list of kind {kind} holds {value!r:.40}")


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _fields(data: Any) -> Iterator[tuple[int, Any]]:
    """Yield number and content of a message's fields: bytes, or an integer. Raises ValueError, IndexError."""
    if not isinstance(data, bytes):
        raise ValueError(f"{data!r:.40} stands where a message is expected")
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        take = _TAKERS.get(tag & 7)
        if take is None:
            raise ValueError(f"a field of wire type {tag & 7}")
        value, place = take(data, place)
        yield tag >> 3, value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number & (2**64 - 1), place
        if shift > 63:
            raise ValueError("a number of more than ten bytes")


def _sized(data: bytes, place: int) -> tuple[bytes, int]:
    size, place = _varint(data, place)
    return _fixed(size)(data, place)


def _fixed(size: int) -> Callable[[bytes, int], tuple[bytes, int]]:
    def take(data: bytes, place: int) -> tuple[bytes, int]:
        if place + size > len(data):
            raise ValueError("it ends early")
        return data[place : place + size], place + size

    return take


_TAKERS: dict[int, Callable[[bytes, int], tuple[Any, int]]] = {
    0: _varint,
    1: _fixed(8),
    2: _sized,
    5: _fixed(4),
}
