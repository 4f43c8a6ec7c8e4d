"""Pictures in arrays: IDX, CIFAR's pickles, npz and tables of pixels, with two pictures of each of three classes."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np

from converters.formats.pixel_arrays import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import CLASSES, Made, write

SIDE = {"idx": 28, "cifar": 32, "npz": 28, "csv": 28}
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write six pictures to each file."""
    names = CLASSES if isinstance(source.classes, str) else source.classes
    answers = [source.first + number for number in range(min(3, len(names)))] * 2
    for file in source.files():
        write(root / file, _WRITERS[source.layout](source, len(names), answers, root))
    if isinstance(source.classes, str):
        write(root / source.classes, pickle.dumps({source.names_of: list(names)}, protocol=2))
    return Made(len(answers) * len(source.files()), frozenset(names[:3]))


def _pixels(count: int, *shape: int) -> Pixels:
    return np.arange(count, dtype=np.uint8).repeat(int(np.prod(shape))).reshape(count, *shape)


def _idx(source: Source, count: int, answers: list[int], root: Path) -> bytes:
    side = SIDE["idx"]
    numbers = struct.pack(">II", 0x801, len(answers)) + bytes(answers)
    answered = str(source.answers)
    write(root / answered, gzip.compress(numbers) if answered.endswith(".gz") else numbers)
    pixels = struct.pack(">IIII", 0x803, len(answers), side, side)
    pixels += _pixels(len(answers), side, side).tobytes()
    return gzip.compress(pixels) if source.files()[0].endswith(".gz") else pixels


def _cifar(source: Source, count: int, answers: list[int], root: Path) -> bytes:
    batch = {source.pixels or "data": _pixels(len(answers), 3 * 32 * 32), source.answers: answers}
    return pickle.dumps(batch, protocol=2)


def _npz(source: Source, count: int, answers: list[int], root: Path) -> bytes:
    side = SIDE["npz"]
    several = "chest" in source.files()[0]
    told = np.array([[int(one == place) for place in range(count)] for one in answers] if several
                    else [[one] for one in answers], np.uint8)  # fmt: skip
    data = io.BytesIO()
    arrays: dict[str, Any] = {
        str(source.pixels): _pixels(len(answers), side, side),
        str(source.answers): told,
    }
    np.savez(data, **arrays)
    return data.getvalue()


def _csv(source: Source, count: int, answers: list[int], root: Path) -> bytes:
    pixels = [[str(number)] * SIDE["csv"] ** 2 for number in range(len(answers))]
    if source.pixels is None:
        return "".join(
            f"{','.join([str(one), *row])}\n" for one, row in zip(answers, pixels, strict=True)
        ).encode()
    header = [str(source.answers), source.pixels, *source.where]
    lines = [
        [str(one), " ".join(row), *source.where.values()] for one, row in zip(answers, pixels, strict=True)
    ]
    return "".join(f"{','.join(cells)}\n" for cells in (header, *lines)).encode()


_WRITERS = {"idx": _idx, "cifar": _cifar, "npz": _npz, "csv": _csv}
