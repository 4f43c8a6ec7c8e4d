"""JSON source files: a whole document, or a list and JSON Lines as one stream of records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.json_text import BOM, without_nan
from dataengine.spill import Counts

T = TypeVar("T")
# What decoding a record can raise: wrong types, wrong syntax, wrong UTF-8, or brackets nested without end.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BYTE = re.compile(r" \(byte (?P<byte>\d+)\)$")


def load(file: str, root: Root, needed_as: str, kind: type[T], expected: str) -> T:
    """Return a JSON document as `kind`. Raises SourceError with the line of a mistake, or what was `expected`."""
    return parse(root.read(file, needed_as), file, kind, expected)


def parse(data: bytes, file: str, kind: type[T], expected: str) -> T:
    """Return the bytes of a JSON document as `kind`. Raises SourceError like `load`."""
    text = data.removeprefix(BOM)
    try:
        return msgspec.json.decode(text, type=kind)
    except UNREADABLE as error:
        if (mended := without_nan(text)) is not None:
            return parse(mended, file, kind, expected)
        place = file
        if match := _BYTE.search(str(error)):
            line = text.count(b"\n", 0, int(match["byte"])) + 1
            place = f"{file}: line {line}"
        raise SourceError(f"{place}: {error} ({len(data)} bytes read); expected {expected}") from error


def records(file: str, root: Root, needed_as: str) -> Iterator[tuple[str, Any]]:
    """Yield (place, raw JSON) of each record: `[3]` in a JSON list, `line 4` in JSON Lines (blank lines left out).

    A record of a list is known to be JSON, a line is not. Raises SourceError where a list is cut off or is no list.
    """
    path = root.annotation(file, needed_as)
    try:
        with path.open("rb") as stream:
            start = stream.read(4096).removeprefix(BOM).lstrip()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    if start.startswith(b"["):
        rows = load(file, root, needed_as, list[msgspec.Raw], "a JSON list of records")
        yield from ((f"[{number}]", row) for number, row in enumerate(rows))
        return
    for number, line in root.lines(file, needed_as):
        text = (line.removeprefix(BOM) if number == 1 else line).strip()
        if text:
            yield f"line {number}", text


def decode(data: Any, decoder: msgspec.json.Decoder[T]) -> T:
    """Return one record, decoded. Raises Quarantine `schema` where it is not what the decoder wants."""
    try:
        return decoder.decode(data)
    except UNREADABLE as error:
        raise Quarantine("schema", str(error)) from error


def unique(name: str, seen: dict[str, int] | Counts) -> str:
    """Return the name, or `name~2`, `name~3`, … where it came before; `seen` remembers."""
    key = name
    while key in seen:
        seen[name] += 1
        key = f"{name}~{seen[name]}"
    seen[key] = 1
    return key
