"""IDX files, as MNIST is kept: a header that says how many numbers of which kind follow, then the numbers."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from dataengine.errors import SourceError
from dataengine.files import MAX_ANNOTATION_BYTES

_KINDS = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def load(file: str, data: bytes, dimensions: int) -> tuple[npt.NDArray[Any], int]:
    """Return the items that a file really holds, and how many its header promises. Raises SourceError.

    The first dimension is that of the items: a file that ends early has fewer, each whole.
    """
    plain = io.BytesIO(data)
    stream = gzip.GzipFile(fileobj=plain) if data[:2] == b"\x1f\x8b" else plain
    try:
        head = stream.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _KINDS or head[3] != dimensions:
            raise SourceError(
                f"{file}: begins with {head.hex()}; expected an IDX file of {dimensions} dimensions"
            )
        sizes = [int.from_bytes(stream.read(4), "big") for _ in range(dimensions)]
        kind = np.dtype(_KINDS[head[2]])
        item_bytes = kind.itemsize * math.prod(sizes[1:])
        # A header may promise more than there is, and more than memory holds.
        content = stream.read(min(sizes[0] * item_bytes, MAX_ANNOTATION_BYTES))
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{file}: {error}; expected an IDX file, or one in gzip") from error
    whole = len(content) // item_bytes if item_bytes else 0
    values = np.frombuffer(content[: whole * item_bytes], kind)
    return values.reshape(whole, *sizes[1:]), sizes[0]
