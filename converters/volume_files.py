"""Volumes of numbers, such as CT and MR scans: NIfTI-1 files and NumPy arrays, and the pictures that lie in them.

Conventions (NIfTI-1, nifti1.h of the NIH; Python's numpy.lib.format): a NIfTI header of 348 bytes states the axes,
the type, `value * scl_slope + scl_inter`, and by `sform`, or else `qform`, where each axis points: x to the patient's
right, y to the front, z to the head. An array in a NumPy file says nothing of that, and its last three axes are taken
as x, y and z.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import warnings
import zlib
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dataengine.errors import Quarantine

Array = npt.NDArray[Any]
Plane = Literal["axial", "coronal", "sagittal"]

MAX_VOLUME_BYTES = 2**30
_HEADER = 352
_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_UNREADABLE = (OSError, EOFError, zlib.error, struct.error, ValueError, OverflowError, MemoryError)


class Header(NamedTuple):
    """What a NIfTI file says of its numbers: axes, type, first byte, and how they are meant."""

    shape: tuple[int, ...]
    kind: np.dtype[Any]
    start: int
    slope: float
    shift: float
    directions: Array


def load(data: bytes, name: str, channel: int = 0) -> Array:
    """Return a volume [x, y, z], x to the right, y to the front, z to the head as far as the file says so.

    `channel` chooses one of several volumes in a file. Raises Quarantine `volume.corrupt`, `.too_large` or `.format`.
    """
    try:
        if name.endswith(".npy"):
            return _of_array(_array(data, name), name, channel)
        packed = data[:2] == b"\x1f\x8b"
        with gzip.GzipFile(fileobj=io.BytesIO(data)) if packed else io.BytesIO(data) as stream:
            return _of_nifti(stream, name, channel)
    except _UNREADABLE as error:
        raise Quarantine("volume.corrupt", f"{name}: {error or 'ends early'}") from error


def picture(volume: Array, plane: Plane, number: int) -> Array:
    """Return a plane [height, width]: head or front above, the patient's right (or front) on the left."""
    match plane:
        case "axial":
            flat = volume[::-1, ::-1, number]
        case "coronal":
            flat = volume[::-1, number, ::-1]
        case "sagittal":
            flat = volume[number, ::-1, ::-1]
    return np.ascontiguousarray(flat.T)


def count(volume: Array, plane: Plane) -> int:
    """Return how many planes a volume has."""
    return int(volume.shape[("sagittal", "coronal", "axial").index(plane)])


def _of_nifti(stream: Any, name: str, channel: int) -> Array:
    header = _header(stream.read(_HEADER), name)
    size = math.prod(header.shape) * header.kind.itemsize
    if size > MAX_VOLUME_BYTES:
        raise Quarantine("volume.too_large", f"{name}: {header.shape} of {header.kind} are {size} bytes")
    stream.read(header.start - _HEADER)
    data = stream.read(size)
    if len(data) != size:
        raise Quarantine("volume.corrupt", f"{name}: {len(data)} bytes of numbers, expected {size}")
    values = np.frombuffer(data, header.kind).reshape(header.shape, order="F")
    if values.ndim > 3:
        values = _chosen(values.reshape(*values.shape[:3], -1), channel, name)
    values = values.reshape(*values.shape, *(1,) * (3 - values.ndim))
    if header.slope and (header.slope, header.shift) != (1.0, 0.0):
        values = values * header.slope + header.shift
    return _turned(values, header.directions)


def _header(data: bytes, name: str) -> Header:
    order = "<" if data[:4] == struct.pack("<i", 348) else ">"
    if len(data) < _HEADER or data[344:347] != b"n+1" or struct.unpack(f"{order}i", data[:4]) != (348,):
        raise Quarantine("volume.format", f"{name}: no header of NIfTI-1 in one file")

    def numbers(kind: str, place: int) -> tuple[Any, ...]:
        return struct.unpack_from(order + kind, data, place)

    axes, *sizes = numbers("8h", 40)
    (code,) = numbers("h", 70)
    start, slope, shift = numbers("3f", 108)
    shape = tuple(sizes[:axes])
    if not 2 <= axes <= 7 or min(shape) < 1 or code not in _TYPES:
        raise Quarantine(
            "volume.format", f"{name}: axes {shape} of type {code}, expected numbers on 2 to 7 axes"
        )
    if not _HEADER <= start <= MAX_VOLUME_BYTES:
        raise Quarantine("volume.corrupt", f"{name}: the numbers begin at byte {start}")
    if not (math.isfinite(slope) and math.isfinite(shift)):
        slope, shift = 0.0, 0.0
    return Header(shape, np.dtype(order + _TYPES[code]), int(start), slope, shift, _directions(numbers))


def _directions(numbers: Any) -> Array:
    """Return the matrix [world, voxel] of where the axes point; the identity where the file does not say."""
    by_qform, by_sform = numbers("2h", 252)
    if by_sform > 0:
        return np.array([numbers("3f", place) for place in (280, 296, 312)], float)
    if by_qform > 0:
        b, c, d = numbers("3f", 256)
        a = math.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
        (turn,) = numbers("f", 76)
        made = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
            ]
        )
        made[:, 2] *= -1.0 if turn < 0 else 1.0
        return made
    return np.eye(3)


def _turned(values: Array, directions: Array) -> Array:
    """Return the volume with its axes in the order x, y, z, each turned to where it is said to point."""
    if not np.isfinite(directions).all():
        return values
    left, order, signs = [0, 1, 2], [0, 0, 0], [1, 1, 1]
    # The axis that points most clearly is placed first.
    for voxel in sorted(range(3), key=lambda axis: -np.abs(directions[:, axis]).max()):
        world = max(left, key=lambda place: abs(directions[place, voxel]))
        left.remove(world)
        order[world] = voxel
        signs[world] = -1 if directions[world, voxel] < 0 else 1
    turned = values.transpose(order)
    return turned[:: signs[0], :: signs[1], :: signs[2]]


def _array(data: bytes, name: str) -> Array:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers that Python 2 wrote are as good
        shape, by_column, kind = read(stream)
    start, size = stream.tell(), math.prod(shape) * kind.itemsize
    if kind.kind not in "uifb":
        raise Quarantine("volume.format", f"{name}: an array of {kind}, expected numbers")
    if len(data) - start < size:
        raise Quarantine("volume.corrupt", f"{name}: {len(data) - start} bytes of numbers, expected {size}")
    flat = np.frombuffer(data[start : start + size], kind)
    return flat.reshape(shape, order="F" if by_column else "C")


def _of_array(values: Array, name: str, channel: int) -> Array:
    if values.ndim < 3:
        return values.reshape(*values.shape, *(1,) * (3 - values.ndim))
    last = values.reshape(-1, *values.shape[-3:])
    return _chosen(np.moveaxis(last, 0, -1), channel, name)


def _chosen(values: Array, channel: int, name: str) -> Array:
    if channel >= values.shape[-1]:
        raise Quarantine("volume.format", f"{name}: {values.shape[-1]} volumes, expected number {channel}")
    chosen: Array = values[..., channel]
    return chosen
