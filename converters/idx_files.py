"""IDX files, as MNIST is kept: a header that says how many numbers of which kind follow, then the numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from dataengine.errors import SourceError
from dataengine.records.containers import UNPACKING, unpacked

_KINDS = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def load(file: str, data: bytes, dimensions: int) -> tuple[npt.NDArray[Any], int]:
    """Return the items that a file really holds, and how many its header promises. Raises SourceError.

    The first dimension is that of the items: a file that ends early has fewer, each whole.
    """
    try:
        data = unpacked(data)
    except UNPACKING as error:
        raise SourceError(f"{file}: {error}; expected an IDX file, or one in gzip") from error
    start = 4 + 4 * dimensions
    if len(data) < start or data[:2] != b"\0\0" or data[2] not in _KINDS or data[3] != dimensions:
        raise SourceError(
            f"{file}: begins with {data[:4].hex()}; expected an IDX file of {dimensions} dimensions"
        )
    sizes = [int.from_bytes(data[place : place + 4], "big") for place in range(4, start, 4)]
    kind = np.dtype(_KINDS[data[2]])
    item_bytes = kind.itemsize * math.prod(sizes[1:])
    content = memoryview(data)[start : start + sizes[0] * item_bytes]
    whole = len(content) // item_bytes if item_bytes else 0
    values = np.frombuffer(content[: whole * item_bytes], kind)
    return values.reshape(whole, *sizes[1:]), sizes[0]
