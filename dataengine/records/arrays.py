"""Maps that a source keeps as plain arrays (`.npy`, `.pfm`, Sintel's `.dpt`), made into grey pictures of 16 bits.

A picture holds `round(value * scale)`; 0 says that there is no value, which is so for what the source masks out, what
is not finite, and what lies beyond the range. HDF5 is left out: its library is C code that has failed on damaged files
before, and a fault in it would end the process, which no `except` catches.
"""

from __future__ import annotations

import io
import math
import re
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.images import MAX_BYTES, MAX_PIXELS

ENDINGS = (".npy", ".pfm", ".dpt")
Floats = npt.NDArray[np.float64]

# PFM (P. Debevec): width, height, and a number whose sign tells the order of bytes; rows run from below.
_PFM = re.compile(rb"Pf\s+(\d{1,6})\s+(\d{1,6})\s+(-?[\d.]{1,20})\s")
# MPI Sintel's depth files: a float whose bytes spell a tag, width and height in 32 bits, then the rows.
_DPT = b"PIEH"


def picture(root: Root, file: str, mask: str | None, scale: float) -> bytes:
    """Return a map as a PNG of 16 bits, where `mask` names an array that is 0 at pixels without a value.

    Raises Quarantine `map.missing`, `map.corrupt`, `map.too_large`, `map.format` and `path.*`.
    """
    values = _flat(_load(root, file), file)
    known = np.isfinite(values)
    if mask is not None:
        shown = _flat(_load(root, mask), mask)
        if shown.shape != values.shape:
            raise Quarantine("map.corrupt", f"{mask} is {shown.shape}, but {file} {values.shape}")
        known &= shown != 0
    stored = np.rint(np.where(known, values, 0.0) * scale)
    stored[(stored < 0) | (stored > 65535)] = 0
    buffer = io.BytesIO()
    Image.fromarray(stored.astype(np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def _load(root: Root, file: str) -> Floats:
    path = root.inside(file)
    if not path.is_file():
        raise Quarantine("map.missing", f"no such file: {file}")
    if path.stat().st_size > MAX_BYTES:
        raise Quarantine("map.too_large", f"{file} has more than {MAX_BYTES} bytes")
    data = root.read(file, "unpack.array")
    match PurePosixPath(file).suffix.lower():
        case ".npy":
            return _npy(data, file)
        case ".pfm":
            return _pfm(data, file)
        case ".dpt":
            return _dpt(data, file)
    raise Quarantine("map.format", f"{file}: expected an array of {', '.join(ENDINGS)}")


def _npy(data: bytes, file: str) -> Floats:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, MemoryError, OverflowError, TypeError) as error:
        raise Quarantine("map.corrupt", f"{file}: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise Quarantine("map.format", f"{file}: expected an array of numbers")
    return array.astype(np.float64)


def _pfm(data: bytes, file: str) -> Floats:
    match = _PFM.match(data)
    if match is None:
        raise Quarantine("map.format", f"{file}: no header of a grey PFM file")
    order = "<" if match[3].startswith(b"-") else ">"
    return _rows(data[match.end() :], int(match[1]), int(match[2]), f"{order}f4", file)[::-1]


def _dpt(data: bytes, file: str) -> Floats:
    if data[:4] != _DPT or len(data) < 12:
        raise Quarantine("map.format", f"{file}: no header of a .dpt file")
    width, height = (int.from_bytes(data[place : place + 4], "little") for place in (4, 8))
    return _rows(data[12:], width, height, "<f4", file)


def _rows(data: bytes, width: int, height: int, kind: str, file: str) -> Floats:
    if len(data) != 4 * width * height:
        raise Quarantine("map.corrupt", f"{file}: {len(data)} bytes, expected {width} x {height} numbers")
    return np.frombuffer(data, kind).reshape(height, width).astype(np.float64)


def _flat(array: Floats, file: str) -> Floats:
    """Return [height, width] of an array that may have a last axis of one."""
    shape = array.shape[:2] if array.ndim == 3 and array.shape[2] == 1 else array.shape
    if len(shape) != 2 or not 0 < math.prod(shape) <= MAX_PIXELS:
        raise Quarantine("map.format", f"{file} is {array.shape}, expected [height, width]")
    return array.reshape(shape)
