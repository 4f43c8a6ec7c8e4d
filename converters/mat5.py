"""Numbers, text and cell arrays of MATLAB version 5 files, read without native code.

scipy's reader, written in C, takes the whole process down on some damaged files, which this one refuses.
Layout: "MAT-File Format", The MathWorks, chapter 1. A file is a header of 128 bytes and data elements, each a tag (kind
and size in bytes) and its data, padded to 8 bytes; a tag of up to 4 bytes holds its data itself. Arrays are stored in
column-major order.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from dataengine.errors import Quarantine

MAX_UNPACKED_BYTES = 2**26
MAX_DEPTH = 8
HEADER_BYTES = 128
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _CHAR = 1, 4
_NUMERIC = range(6, 16)


class Cells(NamedTuple):
    """A cell array: its shape, and its elements in column-major order."""

    shape: tuple[int, ...]
    items: list[Any]

    def rows(self) -> list[list[Any]]:
        """Return the rows of a table. Raises Quarantine `mat.malformed` where it is none."""
        if len(self.shape) != 2:
            raise Quarantine("mat.malformed", f"a cell array of {len(self.shape)} dimensions, expected 2")
        return [self.items[start :: self.shape[0]] for start in range(self.shape[0])]


def variables(data: bytes) -> dict[str, Any]:
    """Return the variables by name: numbers as a flat array, text, or Cells; what is none of these is left out.

    Raises Quarantine `mat.malformed` where the file is damaged or of another version.
    """
    if len(data) < HEADER_BYTES or data[126:128] not in (b"IM", b"MI"):
        raise Quarantine("mat.malformed", "no MATLAB file of version 5")
    order: Literal["<", ">"] = "<" if data[126:128] == b"IM" else ">"
    found = {}
    for kind, part in _elements(data[HEADER_BYTES:], order):
        if kind == _COMPRESSED:
            kind, part = next(_elements(_unpack(part), order), (0, b""))
        if kind == _MATRIX:
            name, value = _matrix(part, order, 0)
            if value is not None:
                found[name] = value
    return found


def _unpack(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        whole = unpacker.decompress(data, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise Quarantine("mat.malformed", f"a packed part is damaged: {error}") from error
    if unpacker.unconsumed_tail:
        raise Quarantine("mat.malformed", f"a packed part has more than {MAX_UNPACKED_BYTES} bytes")
    return whole


def _elements(data: bytes, order: Literal["<", ">"]) -> Iterator[tuple[int, bytes]]:
    """Yield (kind, data) of each element. Raises Quarantine where one ends beyond the data."""
    endian: Literal["little", "big"] = "little" if order == "<" else "big"
    place = 0
    while place + 8 <= len(data):
        kind = int.from_bytes(data[place : place + 4], endian)
        size = int.from_bytes(data[place + 4 : place + 8], endian)
        start = place + 8
        if kind >> 16:
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
            if size > 4:
                raise Quarantine("mat.malformed", f"a small element of {size} bytes at byte {place}")
        if start + size > len(data):
            raise Quarantine("mat.malformed", f"an element ends at byte {start + size} of {len(data)}")
        yield kind, data[start : start + size]
        end = start + size
        place = end if kind == _COMPRESSED else end + -end % 8


def _matrix(data: bytes, order: Literal["<", ">"], depth: int) -> tuple[str, Any]:
    """Return the name and the value of an array; None for kinds that are left out."""
    if depth > MAX_DEPTH:
        raise Quarantine("mat.malformed", "cells are nested too deep")
    parts = _elements(data, order)
    flags = _array(*next(parts, (0, b"")), order)
    if not len(flags):
        return "", None  # an empty matrix has not even flags
    kind = int(flags[0]) & 0xFF
    shape = tuple(int(side) for side in _array(*next(parts, (0, b"")), order))
    name = next(parts, (0, b""))[1].decode("latin-1")
    if kind == _CELL:
        count = math.prod(shape)
        if min(shape, default=0) < 0 or count > len(data) // 8:
            raise Quarantine("mat.malformed", f"a cell array of shape {list(shape)} in {len(data)} bytes")
        items = [_matrix(part, order, depth + 1)[1] for inner, part in parts if inner == _MATRIX]
        if len(items) != count:
            raise Quarantine("mat.malformed", f"{len(items)} cells, expected {count}")
        return name, Cells(shape, items)
    inner, part = next(parts, (0, b""))
    if kind == _CHAR:
        return name, _text(inner, part, order)
    return name, _array(inner, part, order) if kind in _NUMERIC else None


def _array(kind: int, data: bytes, order: str) -> Any:
    if kind not in _NUMBERS:
        if not data:
            return np.zeros(0)
        raise Quarantine("mat.malformed", f"an element of kind {kind} where numbers were expected")
    dtype = np.dtype(order + _NUMBERS[kind])
    return np.frombuffer(data[: len(data) - len(data) % dtype.itemsize], dtype)


def _text(kind: int, data: bytes, order: str) -> str:
    if kind not in _TEXTS:
        if not data:
            return ""
        raise Quarantine("mat.malformed", f"an element of kind {kind} where text was expected")
    encoding = _TEXTS[kind]
    if encoding in ("utf-16", "utf-32"):
        encoding += "-le" if order == "<" else "-be"
    return data.decode(encoding, "replace")
