"""Pictures whose pixels are numbers: decoded without loss, and cut into one run-length mask a number.

Readers of label maps share this. A number is what the file stores: a palette index (never the palette's colour), a grey
value of 8 or 16 bits, or the three channels of a colour put together.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from glob import escape
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from dataengine.annotation import Instance, Rle
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import rle_box, rle_from_counts
from dataengine.images import MAX_BYTES, probe

Array = npt.NDArray[np.integer]
# What a number means: an instance without its mask, or background.
Meanings = dict[int, Instance | None]

# Pixels that are neither object nor background.
IGNORED = Instance(id="ignored", ignore=True)

# Each costs some hundred bytes of memory.
MAX_RUNS = 4_000_000
_PNG = b"\x89PNG\r\n\x1a\n"
# Pillow spreads grey values of 2 and 4 bits over 0..255.
_SPREAD = {2: 85, 4: 17}


class Runs(NamedTuple):
    """A map as runs of equal numbers in column-major order: where each starts, and its number."""

    shape: tuple[int, int]
    starts: npt.NDArray[np.int64]
    values: npt.NDArray[np.int64]


def load(file: str, root: Root, needed_as: str) -> bytes:
    """Return the bytes of a map, and remember their digest, or that the file was not there.

    Raises Quarantine `map.missing`, `map.too_large` and `path.*`.
    """
    path = root.inside(file)
    if not path.is_file():
        root.glob(escape(file))  # a file that comes later is a change
        raise Quarantine("map.missing", f"no such file: {file}")
    if path.stat().st_size > MAX_BYTES:
        raise Quarantine("map.too_large", f"{file} has more than {MAX_BYTES} bytes")
    return root.read(file, needed_as)


def decode(data: bytes) -> Array:
    """Return the numbers of a map as stored: [height, width], or [height, width, 3] for a colour picture.

    Transparency is left out. Raises Quarantine `map.corrupt`, `map.too_large` or `map.format`.
    """
    return _read(data, _stored)


def colors(data: bytes) -> Array:
    """Return the colour of each pixel as 65536 R + 256 G + B, that of the palette where there is one.

    Raises Quarantine like `decode`.
    """
    wide = _read(data, lambda picture, _: np.asarray(picture.convert("RGB"))).astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def brightness(data: bytes) -> Array:
    """Return the brightness of each pixel, 0 to 255, transparency left out. Raises Quarantine like `decode`."""
    return _read(data, _brightness)


def _read(data: bytes, take: Callable[[Image.Image, bytes], Array]) -> Array:
    try:
        probe(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as picture:
                picture.load()
                return take(picture, data)
    except Quarantine as error:
        raise Quarantine(error.reason.replace("image.", "map."), error.detail) from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error) as error:
        raise Quarantine("map.corrupt", f"pixels cannot be decoded: {error}") from error


def _stored(picture: Image.Image, data: bytes) -> Array:
    if picture.mode == "RGBA":
        return np.asarray(picture)[..., :3]
    if picture.mode in ("LA", "PA"):
        return np.asarray(picture)[..., 0]
    if picture.mode == "1":
        return np.asarray(picture).astype(np.uint8)
    if picture.mode in ("L", "P", "RGB", "I") or picture.mode.startswith("I;16"):
        values = np.asarray(picture)
        # Bytes 24 and 25 of a PNG are its bit depth and its colour type (0: grey).
        if picture.mode == "L" and data.startswith(_PNG) and data[25] == 0 and data[24] in _SPREAD:
            values = values // _SPREAD[data[24]]
        return values
    raise Quarantine("map.format", f"pixels are {picture.mode}, expected grey, palette or RGB")


def _brightness(picture: Image.Image, data: bytes) -> Array:
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return _stored(picture, data) >> 8
    if picture.mode in ("RGBA", "LA", "PA"):
        picture = picture.convert("RGBA").convert("RGB")
    return np.asarray(picture.convert("L"))


def grey(values: Array) -> Array:
    """Return [height, width] of a map of one number a pixel; a colour picture may only repeat it in each channel.

    Raises Quarantine `map.encoding`.
    """
    if values.ndim == 2:
        return values
    first = values[..., 0]
    if not ((first == values[..., 1]).all() and (first == values[..., 2]).all()):
        raise Quarantine("map.encoding", "pixels have colours, expected one number a pixel")
    return first


def little_endian(values: Array) -> Array:
    """Return R + 256 G + 65536 B of each pixel, the id of panoptic maps. Raises Quarantine `map.encoding`."""
    if values.ndim != 3:
        raise Quarantine("map.encoding", "pixels have one channel, expected ids in red, green and blue")
    wide = values.astype(np.int32)
    return wide[..., 0] | (wide[..., 1] << 8) | (wide[..., 2] << 16)


def runs(values: Array) -> Runs:
    """Return the runs of a map [height, width]. Raises Quarantine `map.noise` where hardly a pixel equals the next."""
    height, width = values.shape
    flat = values.ravel(order="F")
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    if len(starts) > MAX_RUNS:
        raise Quarantine("map.noise", f"{len(starts)} runs of equal pixels, more than a map of objects has")
    return Runs((height, width), starts, flat[starts].astype(np.int64))


def numbers(found: Runs) -> list[int]:
    """Return the numbers that occur, ascending."""
    return [int(value) for value in np.unique(found.values)]


def cut(found: Runs, meanings: Meanings) -> tuple[Instance, ...]:
    """Return the instances that a map shows, with mask and box, in the order of `meanings`.

    Numbers that mean instances of one id are one instance. Raises Quarantine `category.unknown` for a number without
    a meaning.
    """
    strange = [number for number in numbers(found) if number not in meanings]
    if strange:
        detail = f"{count(found, strange[0])} pixels are {strange[0]}, which is no class"
        raise Quarantine("category.unknown", f"{detail}; {len(strange)} such numbers")
    items = {item.id: item for item in meanings.values() if item is not None}
    place = {name: position for position, name in enumerate(items)}
    table = {number: place[item.id] for number, item in meanings.items() if item is not None}
    order = list(items.values())
    return tuple(
        msgspec.structs.replace(order[position], mask=mask, box=rle_box(mask))
        for position, mask in masks(relabel(found, table)).items()
    )


def relabel(found: Runs, table: dict[int, int]) -> Runs:
    """Return the runs with other numbers; those that the table lacks become -1, and equal neighbours one run."""
    known, where = np.unique(found.values, return_inverse=True)
    changed = np.array([table.get(int(value), -1) for value in known], np.int64)[where]
    keep = np.concatenate(([True], changed[1:] != changed[:-1]))
    return Runs(found.shape, found.starts[keep], changed[keep])


def count(found: Runs, number: int) -> int:
    """Return how many pixels have a number."""
    ends = np.append(found.starts[1:], found.shape[0] * found.shape[1])
    return int((ends - found.starts)[found.values == number].sum())


def masks(found: Runs) -> dict[int, Rle]:
    """Return the mask of each number from 0, by number, ascending. Negative numbers have none."""
    height, width = found.shape
    ends = np.append(found.starts[1:], height * width)
    order = np.argsort(found.values, kind="stable")
    values = found.values[order]
    cuts = [*np.flatnonzero(np.diff(values)) + 1, len(values)]
    made, start = {}, 0
    for cut in cuts:
        number, chosen = int(values[start]), order[start:cut]
        start = int(cut)
        if number < 0:
            continue
        begins, stops = found.starts[chosen], ends[chosen]
        gaps = begins - np.concatenate(([0], stops[:-1]))
        counts = np.stack((gaps, stops - begins), axis=1).ravel().tolist()
        tail = height * width - int(stops[-1])
        made[number] = rle_from_counts([*counts, tail] if tail else counts, (height, width))
    return made
