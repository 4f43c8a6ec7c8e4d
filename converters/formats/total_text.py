"""Total-Text: curved words as polygons, one text or MATLAB file a picture.

Conventions (cs-chan/Total-Text-Dataset, Groundtruth/Text): a record is `x: [[…]], y: [[…]], ornt: [u'c'],
transcriptions: [u'…']`, numbers in pixels from 0 with blanks between, sometimes broken over lines, text as Python 2
prints it. The MATLAB file holds the same as rows of a cell array `polygt`: 'x:', numbers, 'y:', numbers, text,
orientation. Orientations are c (curved), h (horizontal), m (slanted); `#` stands for text that nobody can read.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np

from converters import mat_files
from converters.file_pairs import Pair, pairs, sized
from converters.outlines import TEXT, TEXT_LABELS, Size, numbers, word
from dataengine.annotation import Annotation, Image, Instance, LabelSpace, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.json_text import BOM

VERSION = "1"

# A picture's words are a few kilobytes.
MAX_MAT_BYTES = 2**26
MAT_COLUMNS = 6

_MAX_BYTES = 8 << 20
_RECORD = re.compile(r"(?m)^\s*x\s*:")
_NUMBERS = re.compile(r"\s*\[\[([^\[\]]*)\]\]\s*,\s*y\s*:\s*\[\[([^\[\]]*)\]\]\s*")
_QUOTED = r"""\[\s*(?:(u?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"))\s*)?\]"""
_ORIENTATION = re.compile(rf",\s*ornt\s*:\s*{_QUOTED}\s*")
_TEXT = re.compile(rf",\s*transcriptions\s*:\s*{_QUOTED}\s*")


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the folder of the files PREFIX + name + SUFFIX, `images` that of the pictures of these names.

    A suffix that ends in `.mat` says that the files are MATLAB's. `unreadable` are the texts that stand for a word that
    nobody can read.
    """

    annotations: str
    images: str = ""
    prefix: str = "poly_gt_"
    suffix: str = ".txt"
    extensions: tuple[str, ...] = ("jpg",)
    unreadable: tuple[str, ...] = ("#",)


class _Record(NamedTuple):
    """A word as its file states it."""

    xs: list[float]
    ys: list[float]
    orientation: str
    text: str


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the one category that there is: text."""
    return TEXT_LABELS


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a file, and a rejection a record that is no word."""
    found = pairs(
        root,
        source.annotations,
        source.images,
        prefix=source.prefix,
        suffix=source.suffix,
        extensions=source.extensions,
    )
    for item in sized(found, root):
        if isinstance(item, Rejected):
            yield item
            continue
        pair, size = item
        data = root.read(pair.file, "annotations")
        try:
            if len(data) > _MAX_BYTES:
                raise Quarantine("schema", f"more than {_MAX_BYTES} bytes, which no picture's words have")
            records = _mat_rows(data) if source.suffix.endswith(".mat") else _txt_records(data)
        except Quarantine as error:
            yield Rejected(
                key=pair.stem, reason=error.reason, detail=error.detail, origin=pair.origin("file")
            )
            continue
        yield from _annotate(source, pair, size, records)


def _annotate(
    source: Source, pair: Pair, size: Size | None, records: list[Any]
) -> Iterator[Annotation | Rejected]:
    words, rejected = list[Instance](), list[Rejected]()
    for number, raw in enumerate(records):
        try:
            record = _parse(raw) if isinstance(raw, str) else _row(raw)
            words.append(_word(source, record, str(number), size))
        except Quarantine as error:
            rejected.append(pair.reject(f"record {number}", error))
            words.append(Instance(id=str(number), category=TEXT, ignore=True))
    yield Annotation(
        key=pair.stem,
        images=(Image(path=pair.image),),
        instances=tuple(words),
        origin=pair.origin("file"),
    )
    yield from rejected


def _word(source: Source, record: _Record, number: str, size: Size | None) -> Instance:
    if len(record.xs) != len(record.ys):
        raise Quarantine("polygon.invalid", f"{len(record.xs)} x and {len(record.ys)} y")
    points = [value for point in zip(record.xs, record.ys, strict=True) for value in point]
    attributes = {"orientation": record.orientation} if record.orientation not in ("", "#") else None
    text = "" if record.text in source.unreadable else record.text
    return word(number, points, text, size, attributes)


def _txt_records(data: bytes) -> list[str]:
    try:
        text = data.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        raise Quarantine("schema", f"{error}, expected text in UTF-8") from error
    before, *records = _RECORD.split(text)
    # What stands before the first record is a record that lacks its beginning.
    return ([before] if before.strip() else []) + records


def _parse(record: str) -> _Record:
    """Return a record of a text file. Raises Quarantine `schema`."""
    places = _NUMBERS.match(record)
    if places is None:
        raise Quarantine("schema", f"{record.strip()[:80]!r}, expected x: [[…]], y: [[…]], …")
    rest = record[places.end() :]
    orientation = _ORIENTATION.match(rest)
    rest = rest[orientation.end() :] if orientation else rest
    text = _TEXT.fullmatch(rest)
    if text is None:
        raise Quarantine("schema", f"{rest.strip()[:80]!r}, expected transcriptions: [u'…']")
    return _Record(
        numbers(places[1].split()),
        numbers(places[2].split()),
        _literal(orientation[1] if orientation else None),
        _literal(text[1]),
    )


def _literal(text: str | None) -> str:
    """Return a text as Python prints it. Raises Quarantine `schema`."""
    if text is None:
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape stands for itself
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise Quarantine("schema", f"{text[:80]!r} is no text: {error}") from error
    return str(value).encode("utf-8", "replace").decode()


def _mat_rows(data: bytes) -> list[Any]:
    """Return the rows of `polygt`. Raises Quarantine `mat.malformed` or `schema`."""
    try:
        cells = mat_files.variables(data, MAX_MAT_BYTES).get("polygt")
    except ValueError as error:
        raise Quarantine("mat.malformed", str(error)) from error
    if not isinstance(cells, list) or len(cells) % MAT_COLUMNS:
        raise Quarantine("schema", f"no cell array polygt with {MAT_COLUMNS} columns")
    count = len(cells) // MAT_COLUMNS
    return [cells[row::count] for row in range(count)]


def _row(cells: list[Any]) -> _Record:
    """Return a row of a MATLAB file. Raises Quarantine `schema`."""
    xs, ys, text, orientation = cells[1], cells[3], cells[4], cells[5]
    if not isinstance(xs, np.ndarray | int | float) or not isinstance(ys, np.ndarray | int | float):
        raise Quarantine("schema", "columns 1 and 3 hold no numbers")
    if not isinstance(text or "", str) or not isinstance(orientation or "", str):
        raise Quarantine("schema", "columns 4 and 5 hold no text")
    return _Record(
        np.atleast_1d(xs).astype(float).tolist(),
        np.atleast_1d(ys).astype(float).tolist(),
        orientation or "",
        text or "",
    )
