"""Pictures that stand inside a table, and maps that are arrays, written out as files: annotations name files.

A cell is bytes, what Hugging Face `datasets` stores for a picture (`{bytes, path}`), or base64 text (also as a `data:`
address). A cell without a picture and a file without a map are passed over: whoever names the file that would have
been written finds none, and says so.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import xxhash

from dataengine.annotation import Rejected
from dataengine.errors import DataEngineError, Quarantine, SourceError
from dataengine.files import Root, write_atomic
from dataengine.images import probe
from dataengine.records import arrays, values
from dataengine.records.facts import Fact
from dataengine.records.fields import made
from dataengine.records.paths import fill, parse_template
from dataengine.records.steps import Stream
from dataengine.records.values import Scope, Source

_ENDING = re.compile(r"[.]\w+$")
_DATA_ADDRESS = re.compile(r"data:[\w.+-]*/[\w.+-]*;base64,")


class Unpack(Fact, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`picture` is the value that holds a picture, `to` a template of its file, in a folder inside the root.

    Instead of a picture, `array` is a template of a file that holds a map of numbers: a 16-bit picture of them is made,
    each `round(number * scale)`, 0 for what has none (there, `mask`, an array too, is 0).
    """

    picture: Source | None = None
    array: str | None = None
    mask: str | None = None
    scale: float | None = None
    to: str

    def __post_init__(self) -> None:
        super().__post_init__()
        values.check_sources(self.picture)
        if (self.picture is None) == (self.array is None):
            raise ValueError("unpack needs either 'picture' or 'array'")
        if (self.array is None) != (self.scale is None) or not (self.scale is None or self.scale > 0):
            raise ValueError(f"scale: {self.scale}, expected a factor above 0 beside 'array', and only there")
        if self.mask is not None and self.array is None:
            raise ValueError("mask: stands beside no 'array'")
        for template in (self.array, self.mask):
            if template is not None:
                parse_template(template)
                ending = _ENDING.search(template)
                if ending is not None and ending[0].lower() not in arrays.ENDINGS:
                    raise ValueError(f"{template!r}: expected an array of {', '.join(arrays.ENDINGS)}")
        first = parse_template(self.to)[0]
        if first.steps or "/" not in first.text:
            raise ValueError(f"to: {self.to!r}, expected a folder of its own first: 'unpacked/{{id}}.jpg'")


def unpack(facts: tuple[Unpack, ...], items: Stream, root: Root) -> int:
    """Write the pictures that are not there yet; return how many were written.

    Raises SourceError where two different pictures have one name: one of them would be shown for the other.
    """
    seen: dict[str, int] = {}
    written = 0
    for place, name, data in _pictures(facts, items, root):
        digest = xxhash.xxh3_64_intdigest(data)
        if seen.setdefault(name, digest) != digest:
            raise SourceError(
                f"{place}: another picture is called {name!r} too; expected unpack.to to tell them apart"
            )
        try:
            path = root.inside(name)
        except Quarantine:
            continue  # The annotation that names this file is rejected for it.
        there = path.stat().st_size if path.is_file() else None
        if there not in (None, len(data)):
            raise SourceError(
                f"{path}: is there already and is not the picture of {place}; move one of them away"
            )
        if there is None:
            try:
                write_atomic(path, data)
            except DataEngineError as error:
                raise SourceError(f"{error}; unpack writes pictures below --root") from error
            written += 1
    return written


def _pictures(facts: tuple[Unpack, ...], items: Stream, root: Root) -> Iterator[tuple[str, str, bytes]]:
    """Yield place, name and bytes of the cells that hold a picture."""
    for item in items:
        if isinstance(item, Rejected):
            continue
        place = f"{item.file}: {item.place}"
        for fact in facts:
            # What is wrong with a row is told when it is read as an annotation; here it has no picture.
            try:
                found = [
                    (fill(fact.to, scope), _made(fact, scope, name, root))
                    for fact, scope, name in made(fact, item.scope, "unpack")
                ]
            except Quarantine:
                continue
            for name, data in found:
                if data is not None:
                    yield place, name, data


def _made(fact: Unpack, scope: Scope, name: str, root: Root) -> bytes | None:
    """Return the bytes of a picture file, or None where there is none. Raises Quarantine."""
    if fact.picture is not None:
        return decoded(values.get(fact.picture, scope, name))
    assert fact.array is not None and fact.scale is not None
    mask = fill(fact.mask, scope) if fact.mask is not None else None
    return arrays.picture(root, fill(fact.array, scope), mask, fact.scale)


def decoded(cell: Any) -> bytes | None:
    """Return the bytes of the picture in a cell, or None where there is none."""
    match cell:
        case bytes():
            data = cell
        case {"bytes": bytes(inside)}:
            data = inside
        case str():
            try:
                data = base64.b64decode(_DATA_ADDRESS.sub("", cell.strip(), count=1), validate=True)
            except (binascii.Error, ValueError):
                return None
        case _:
            return None
    try:
        probe(data)
    except Quarantine:
        return None
    return data


def without(source: Any) -> Any:
    """Return what a spec says apart from its pictures, so that reading does not fetch them again."""
    return {key: value for key, value in msgspec.to_builtins(source).items() if key != "unpack"}
