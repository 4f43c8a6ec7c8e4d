"""MATLAB files as plain values: structs are dictionaries, arrays of them and cells are lists, the rest arrays and text.

Files of version 5 to 7 are read, whose layout is stated in MathWorks' "MAT-File Format", chapter 1; 7.3 is HDF5, which
needs a library of its own. It is an own reader because scipy's compiled one ends the process on some damaged files.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from dataengine.errors import SourceError
from dataengine.files import Root

# A compressed file of a few bytes may unpack to any size.
MAX_BYTES = 2**31
_MAX_DEPTH = 40
_MAX_DIMS = 32
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR, _FIRST_NUMBER, _LAST_NUMBER = 1, 2, 4, 6, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_COMPLEX = 0x0800


def load(file: str, root: Root, needed_as: str) -> dict[str, Any]:
    """Return the variables of a MATLAB file by name, an array of one element as that element, an empty one as None.

    A row or a column of numbers is an array of one dimension, a larger one has its own. Raises SourceError.
    """
    data = root.read(file, needed_as)
    if data.startswith(b"MATLAB 7.3"):
        raise SourceError(f"{file}: version 7.3 (HDF5), expected 5 to 7; save it with -v7")
    try:
        return variables(data, MAX_BYTES)
    except ValueError as error:
        raise SourceError(
            f"{file}: {error}; expected a MATLAB file of version 5 to 7, is it whole?"
        ) from error


def variables(data: bytes, max_bytes: int) -> dict[str, Any]:
    """Return the variables of a MATLAB file as `load` does, unpacking at most `max_bytes`. Raises ValueError."""
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise ValueError(f"no MATLAB file of version 5 to 7 ({len(data)} bytes)")
    try:
        return dict(_variables(memoryview(data)[128:], order, max_bytes))
    except (OverflowError, zlib.error) as error:
        raise ValueError(str(error)) from error


def _variables(data: memoryview, order: str, max_bytes: int) -> Iterator[tuple[str, Any]]:
    left = max_bytes
    for kind, part in _elements(data, order):
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            unpacked = unpacker.decompress(part, left)
            if unpacker.unconsumed_tail or not unpacker.eof:
                more = f"unpacks to more than {max_bytes} bytes"
                raise ValueError(more if unpacker.unconsumed_tail else "a compressed part is cut off")
            left -= len(unpacked)
            inner = [*_elements(memoryview(unpacked), order)]
        else:
            inner = [(kind, part)]
        for found, matrix in inner:
            if found == _MATRIX:
                yield _matrix(matrix, order, 0)


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield (type, bytes) of each element. Raises ValueError where one is cut off."""
    place, end = 0, len(data)
    byteorder = "little" if order == "<" else "big"
    while place < end:
        if end - place < 8:
            raise ValueError("an element is cut off")
        tag = int.from_bytes(data[place : place + 4], byteorder)  # type: ignore[arg-type]
        if tag >> 16:
            kind, size, start = tag & 0xFFFF, tag >> 16, place + 4
            if size > 4:
                raise ValueError(f"a small element has {size} bytes")
            place += 8
        else:
            kind, start = tag, place + 8
            size = int.from_bytes(data[place + 4 : place + 8], byteorder)  # type: ignore[arg-type]
            # Everything but compressed parts is filled up to eight bytes.
            place = start + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if start + size > end:
            raise ValueError("an element is cut off")
        yield kind, data[start : start + size]


def _matrix(data: memoryview, order: str, depth: int) -> tuple[str, Any]:
    """Return the name and the value of an array. Raises ValueError."""
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deep")
    if not len(data):
        return "", None
    parts = _elements(data, order)
    flags = int(_numbers(*_next(parts), order)[0])
    dims = [int(one) for one in _numbers(*_next(parts), order)]
    name = _text(*_next(parts), order)
    if len(dims) > _MAX_DIMS or any(one < 0 for one in dims):
        raise ValueError(f"an array has the sides {dims[:8]}")
    count, kind = math.prod(dims), flags & 0xFF
    # Each element takes at least a byte of the file, whatever the sides say.
    if count > len(data) and kind in (_CELL, _STRUCT):
        raise ValueError(f"an array states {count} elements in {len(data)} bytes")
    if kind == _CELL:
        return name, _single([_child(parts, order, depth) for _ in range(count)])
    if kind == _STRUCT:
        return name, _single(_structs(parts, count, order, depth))
    if kind == _CHAR:
        return name, _rows(_text(*_next(parts), order) if count else "", dims)
    if _FIRST_NUMBER <= kind <= _LAST_NUMBER and not flags & _COMPLEX:
        values = _numbers(*_next(parts), order) if count else np.zeros(0)
        if values.size != count:
            raise ValueError(f"an array has {values.size} numbers, its sides say {count}")
        if count < 2:
            return name, values.item() if count else None
        return name, values.reshape(dims, order="F") if sorted(dims)[-2:][0] > 1 else values
    return name, None  # sparse, complex, an object or a function: nothing that annotations are made of


def _structs(
    parts: Iterator[tuple[int, memoryview]], count: int, order: str, depth: int
) -> list[dict[str, Any]]:
    length = int(_numbers(*_next(parts), order)[0])
    names = bytes(_next(parts)[1])
    if not 0 < length <= 1 << 16:
        raise ValueError(f"a field's name has {length} bytes")
    fields = [
        names[place : place + length].split(b"\0")[0].decode("latin-1")
        for place in range(0, len(names), length)
    ]
    return [{field: _child(parts, order, depth) for field in fields} for _ in range(count)]


def _child(parts: Iterator[tuple[int, memoryview]], order: str, depth: int) -> Any:
    kind, data = _next(parts)
    if kind != _MATRIX:
        raise ValueError(f"an element of type {kind} stands where an array is expected")
    return _matrix(data, order, depth + 1)[1]


def _next(parts: Iterator[tuple[int, memoryview]]) -> tuple[int, memoryview]:
    found = next(parts, None)
    if found is None:
        raise ValueError("an array is cut off")
    return found


def _numbers(kind: int, data: memoryview, order: str) -> np.ndarray[tuple[int, ...], np.dtype[Any]]:
    if kind not in _NUMBERS or not len(data):
        raise ValueError(f"an element of type {kind} and {len(data)} bytes, expected numbers")
    return np.frombuffer(data, order + _NUMBERS[kind])


def _text(kind: int, data: memoryview, order: str) -> str:
    if kind not in _TEXT:
        raise ValueError(f"an element of type {kind} stands where text is expected")
    ending = {"<": "-le", ">": "-be"}[order] if _TEXT[kind] in ("utf-16", "utf-32") else ""
    return bytes(data).decode(f"{_TEXT[kind]}{ending}")


def _rows(text: str, dims: list[int]) -> Any:
    """Return a text of one row as it is, and one of several as their list: letters stand down the columns."""
    rows = dims[0] if dims else 0
    if rows <= 1:
        return text or None
    return [text[row::rows].rstrip() for row in range(min(rows, len(text)))]


def _single(values: list[Any]) -> Any:
    return None if not values else values[0] if len(values) == 1 else values


def as_list(value: Any) -> list[Any]:
    """Return what may be one value, several or none as a list."""
    if value is None:
        return []
    if isinstance(value, np.ndarray):
        return list(value.ravel(order="F").tolist())
    return value if isinstance(value, list) else [value]
