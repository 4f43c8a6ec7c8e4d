"""Where the record that an origin names stands in its source file: bytes, lines, a JSON path, a row or a member.

Readers name records by a few conventions: `images[3]` and other paths into JSON, `line 7`, `row 12`, the key of a tar's
sample, `object[2]` in XML, or a word such as `document` for a file that is one record. A file is looked at when
somebody asks, never before; what cannot be found is said in a note, and is no error.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.parsers import expat

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataengine import tar
from dataengine.errors import DataEngineError, Quarantine
from dataengine.files import Root, digest_file
from dataengine.json_text import BOM

SHOWN = 2000  # characters of a record
_MORE = re.compile(r" and (\d+) more$")  # a record that was grouped with others, which follow it
_LINE = re.compile(r"line (\d+)(?:: (.+))?$")
_ROW = re.compile(r"row (\d+)")
_STEP = re.compile(r"\[([^\]]*)\]|\.?([^.\[\]]+)")
_NAME = re.compile(r"[A-Za-z_]\w*")
_TABLES, _TARS = (".parquet", ".arrow"), (".tar",)


class Spot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record in its file: `at` is the way there, [start, stop) its bytes, `text` what they say, cut at 2,000
    characters.

    `parts` are other records of the file that belong to it, as a COCO picture's annotations do. `note` says what could
    not be found, or is not what it was.
    """

    file: str
    at: str = ""
    start: int | None = None
    stop: int | None = None
    text: str = ""
    parts: tuple[Spot, ...] = ()
    note: str = ""


class _Lost(Exception):
    """A record is not where its name leads."""


def find_record(root: Path | None, file: str, record: str, digest: str | None = None) -> Spot:
    """Return where a record stands in a file below a root. `digest` is the one that the file had when it was read."""
    if root is None:
        return Spot(file=file, note="where the source lies is not known here; name its folder")
    try:
        path = Root(root).inside(file)
        if not path.exists():
            return Spot(file=file, note=f"{path} is gone")
        changed = digest is not None and path.is_file() and digest_file(path) != digest
        spot = _find(path, file, record)
    except (DataEngineError, Quarantine, _Lost, OSError, zlib.error, pa.ArrowException) as error:
        return Spot(file=file, note=f"{record!r} is not found: {error}")
    except (msgspec.DecodeError, UnicodeDecodeError, expat.ExpatError, RecursionError) as error:
        return Spot(file=file, note=f"{record!r} is not found, the file cannot be read: {error}")
    if changed:
        note = "the file has changed since it was converted"
        return msgspec.structs.replace(spot, note="; ".join(filter(None, [spot.note, note])))
    return spot


def owners(root: Path | None, file: str, record: str) -> tuple[str, list[str]]:
    """Return the id of a record, and those that it belongs to, by the names that readers give them.

    That is the picture of a COCO annotation; none where the file does not say so, or is not there.
    """
    spot = find_record(root, file, record)
    found = [part.at.removeprefix("$.") for part in spot.parts if part.at.startswith("$.images[")]
    if not found or root is None:
        return "", []
    with (root / file).open("rb") as stream:
        stream.seek(spot.start or 0)
        return str(_link(stream.read((spot.stop or 0) - (spot.start or 0))).id), found


def _find(path: Path, file: str, record: str) -> Spot:
    more = _MORE.search(record)
    if more is not None:
        spot = _find(path, file, record[: more.start()])
        return msgspec.structs.replace(
            spot, note=f"with {more[1]} more of the file's records, grouped with it"
        )
    if path.is_dir() or path.suffix in _TABLES:
        return _row(path, file, record)
    if ".tfrecord" in path.name and (row := _ROW.match(record)):
        return _example(path, file, int(row[1]))
    if line := _LINE.match(record):
        return _line(path, file, int(line[1]), line[2])
    if path.suffix in _TARS:
        return _members(path, file, record)
    with path.open("rb") as stream:
        head = stream.read(64).removeprefix(BOM).lstrip()
    if head[:1] in (b"{", b"[") and path.suffix != ".xml":
        return _in_json(path, file, record)
    if head[:1] == b"<":
        return _in_xml(path, file, record)
    return _whole(path, file, record)


def _whole(path: Path, file: str, record: str) -> Spot:
    """Return a file that is one record, or whose records have no place that can be shown."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        data = stream.read(4 * SHOWN)
    # Pictures and other binary files have NULs in their headers.
    text = "" if b"\0" in data else data.decode(errors="replace")[:SHOWN]
    return Spot(file=file, at=f"the whole file ({record})", start=0, stop=size, text=text)


def _text(data: Any) -> str:
    return bytes(memoryview(data)[: 4 * SHOWN]).decode(errors="replace")[:SHOWN]


# Lines


def _line(path: Path, file: str, number: int, inner: str | None) -> Spot:
    """Return a line, or the lines of a row of a table whose quotes go over their ends, and what is inside it."""
    start, data = 0, b""
    quoted = path.suffix in (".csv", ".tsv")
    with path.open("rb") as stream:
        for count, line in enumerate(stream, start=1):
            if count >= number:
                data += line
                if not quoted or data.count(b'"') % 2 == 0:
                    break
            else:
                start += len(line)
    if not data:
        raise _Lost(f"it has fewer than {number} lines")
    data = data.rstrip(b"\r\n")
    if inner is None:
        return Spot(file=file, at=f"line {number}", start=start, stop=start + len(data), text=_text(data))
    text = data.removeprefix(BOM)
    begin, found = _walk(text, _steps(inner))
    begin += start + len(data) - len(text)
    at = f"line {number}: {_json_path(_steps(inner))}"
    return Spot(file=file, at=at, start=begin, stop=begin + memoryview(found).nbytes, text=_text(found))


# Rows and members


def _row(path: Path, file: str, record: str) -> Spot:
    """Return a row of a Parquet file: its row group, and its cells that are no bytes."""
    number = _ROW.match(record)
    if number is None or path.suffix != ".parquet":
        return Spot(file=file, at=record, note="what it says is shown by its format's own tools alone")
    left = int(number[1])
    with pq.ParquetFile(path) as table:
        for group in range(table.num_row_groups):
            count = table.metadata.row_group(group).num_rows
            if left < count:
                names = [field.name for field in table.schema_arrow if not _is_bytes(field.type)]
                cells = table.read_row_group(group, columns=names).slice(left, 1).to_pylist()
                text = msgspec.json.encode(cells[0] if cells else {}, enc_hook=str).decode()[:SHOWN]
                return Spot(file=file, at=f"row {number[1]} (row {left} of row group {group})", text=text)
            left -= count
    raise _Lost(f"it has fewer than {number[1]} rows")


def _example(path: Path, file: str, number: int) -> Spot:
    """Return an example of a TFRecord file: each is framed by its length (8 bytes), and a checksum of 4 for either."""
    start = 0
    with path.open("rb") as stream:
        if stream.read(2) == b"\x1f\x8b":
            return Spot(
                file=file, at=f"row {number}", note="its bytes are packed by gzip with the rest of the file"
            )
        for count in range(number + 1):
            stream.seek(start)
            frame = stream.read(8)
            if len(frame) < 8:
                raise _Lost(f"it has fewer than {number + 1} records")
            size = int.from_bytes(frame, "little")
            if count < number:
                start += 16 + size
    return Spot(file=file, at=f"row {number}", start=start + 12, stop=start + 12 + size)


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(_is_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _members(path: Path, file: str, key: str) -> Spot:
    """Return the members of a tar that make up a sample: their names up to the first dot are its key."""
    found, _ = tar.walk(path)
    parts = []
    for member in found:
        folder, slash, name = member.name.removeprefix("./").rpartition("/")
        if f"{folder}{slash}{name.partition('.')[0]}" == key:
            parts.append(Spot(file=file, at=member.name, start=member.start, stop=member.start + member.size))
    if not parts:
        raise _Lost("no member of the tar has this key")
    return Spot(
        file=file, at=f"members of {key}", start=parts[0].start, stop=parts[-1].stop, parts=tuple(parts)
    )


# JSON


def _in_json(path: Path, file: str, record: str) -> Spot:
    """Return the value that a path leads to, or the entry whose id a record's name is."""
    data = path.read_bytes()
    text = data.removeprefix(BOM)
    shift = len(data) - len(text)
    for steps in ([record], _steps(record)):
        try:
            start, found = _walk(text, steps)
        except _Lost:
            continue
        break
    else:
        steps, start, found = _by_id(text, record)
        if not steps and "[" in record:
            raise _Lost("nothing stands there")
        if not steps:
            return _whole(path, file, record)
    return Spot(
        file=file,
        at=_json_path(steps),
        start=start + shift,
        stop=start + shift + memoryview(found).nbytes,
        text=_text(found),
        parts=tuple(_belonging(text, file, shift, steps, found)),
    )


def _steps(record: str) -> list[str]:
    """Return the steps of `a.b[3].c`, `[5]`, `imgs.17` or `a[some key]`; numbers stay text."""
    if record in ("$", "."):
        return []
    record = record.removeprefix("$.").removeprefix("$")
    steps = [match[1] if match[1] is not None else match[2] for match in _STEP.finditer(record)]
    return [step.strip("'\"`") for step in steps]


def _json_path(steps: Sequence[str]) -> str:
    """Return steps as a JSONPath (RFC 9535), which begins with `$`."""
    written = "$"
    for step in steps:
        if step.isdecimal():
            written += f"[{step}]"
        else:
            written += f".{step}" if _NAME.fullmatch(step) else f"['{step}']"
    return written


def _walk(text: bytes, steps: Sequence[str]) -> tuple[int, bytes | msgspec.Raw]:
    """Return where the value that steps lead to begins, and its bytes. Raises _Lost."""
    value: bytes | msgspec.Raw = text
    for step in steps:
        whole = _opened(value)
        try:
            value = whole[int(step)] if isinstance(whole, list) else whole[step]
        except (KeyError, IndexError, ValueError) as error:
            raise _Lost(f"nothing stands at {step!r}") from error
    return _address(value) - _address(text), value


def _opened(value: bytes | msgspec.Raw) -> list[msgspec.Raw] | dict[str, msgspec.Raw]:
    """Return a list or a mapping whose values are views of the same bytes."""
    try:
        return msgspec.json.decode(value, type=list[msgspec.Raw] | dict[str, msgspec.Raw])
    except msgspec.ValidationError as error:
        raise _Lost("the way leads into a plain value") from error


def _address(data: bytes | msgspec.Raw) -> int:
    """Return where bytes lie in memory: what msgspec leaves undecoded is a view of the document."""
    return int(np.frombuffer(memoryview(data), np.uint8).__array_interface__["data"][0])


class _Link(msgspec.Struct, gc=False):
    """What ties COCO's records together: a picture's id, and the picture that an annotation is of."""

    id: Any = None
    image_id: Any = None


_link = msgspec.json.Decoder(_Link).decode


def _links(rows: Sequence[msgspec.Raw]) -> Iterator[tuple[int, msgspec.Raw, _Link]]:
    """Yield the rows of a list that are mappings, with their ids."""
    for number, row in enumerate(rows):
        try:
            yield number, row, _link(row)
        except msgspec.DecodeError:
            continue  # no record that ids could tie to another


def _by_id(text: bytes, record: str) -> tuple[list[str], int, bytes | msgspec.Raw]:
    """Return the entry of a list at the top whose `id` is this text: its steps, its start, its bytes."""
    whole = _opened(text)
    for name, value in whole.items() if isinstance(whole, dict) else [("", text)]:
        try:
            rows = _opened(value)
        except _Lost:
            continue
        for number, row, link in _links(rows) if isinstance(rows, list) else ():
            if str(link.id) == record:
                return [*([name] if name else []), str(number)], _address(row) - _address(text), row
    return [], 0, b""


def _belonging(
    text: bytes, file: str, shift: int, steps: Sequence[str], found: bytes | msgspec.Raw
) -> Iterator[Spot]:
    """Yield a COCO picture's annotations, or the picture that an annotation is of."""
    if len(steps) < 2 or steps[0] not in ("images", "annotations"):
        return
    whole = _opened(text)
    if not isinstance(whole, dict) or not {"images", "annotations"} <= whole.keys():
        return
    own = _link(found)
    other, wanted = ("annotations", own.id) if steps[0] == "images" else ("images", own.image_id)
    rows = _opened(whole[other])
    for number, row, link in _links(rows) if isinstance(rows, list) and wanted is not None else ():
        if (link.image_id if other == "annotations" else link.id) == wanted:
            start = _address(row) - _address(text) + shift
            at = _json_path([other, str(number)])
            yield Spot(file=file, at=at, start=start, stop=start + memoryview(row).nbytes, text=_text(row))


# XML


def _in_xml(path: Path, file: str, record: str) -> Spot:
    """Return the element that `image[3]` leads to, counted from 0 among those of its name, or the whole document."""
    steps = _steps(record)
    pairs = [*zip(steps[::2], steps[1::2], strict=False)]
    if not pairs or len(steps) % 2 or not all(number.isdecimal() for _, number in pairs):
        return _whole(path, file, record)
    data = path.read_bytes()
    found = _Element([(name, int(number)) for name, number in pairs]).find(data)
    if found is None:
        return _whole(path, file, record)
    start, stop = found
    at = "/*/" + "/".join(f"{name}[{int(number) + 1}]" for name, number in pairs)  # XPath counts from 1
    return Spot(file=file, at=at, start=start, stop=stop, text=_text(data[start:stop]))


class _Element:
    """Looks for an element by its names and numbers below the root."""

    def __init__(self, wanted: list[tuple[str, int]]) -> None:
        self.wanted = wanted
        self.way: list[tuple[str, int]] = []
        self.counts: list[dict[str, int]] = [{}]
        self.bounds: list[int] = []
        self.childless = True

    def find(self, data: bytes) -> tuple[int, int] | None:
        """Return where the element begins and ends, in bytes. Raises ExpatError."""
        parser = expat.ParserCreate()

        def start(name: str, _: object) -> None:
            number = self.counts[-1].get(name, 0)
            self.counts[-1][name] = number + 1
            self.way.append((name, number))
            self.counts.append({})
            self.childless = True
            if self.way[1:] == self.wanted and not self.bounds:
                self.bounds.append(parser.CurrentByteIndex)

        def end(_: str) -> None:
            if self.way[1:] == self.wanted and len(self.bounds) == 1:
                place = parser.CurrentByteIndex
                # Of an element without content, the parser stands behind its one tag.
                empty = self.childless and data[place - 2 : place] == b"/>"
                self.bounds.append(place if empty else data.index(b">", place) + 1)
            self.childless = False
            self.way.pop()
            self.counts.pop()

        parser.StartElementHandler, parser.EndElementHandler = start, end
        parser.Parse(data, True)
        return (self.bounds[0], self.bounds[1]) if len(self.bounds) == 2 else None
