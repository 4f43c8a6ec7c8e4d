"""Arrow columns made of Python's values, and their numbers.

`pa.array` and `Array.to_numpy` import pandas wherever it is installed, a third of a second each time a command starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return values, None where there is none, as a column: strings, bytes, integers, lists of them or a dictionary.

    Raises OverflowError where one is too large, or all of them together are.
    """
    if pa.types.is_dictionary(kind):
        return column(values, kind.value_type).dictionary_encode().cast(kind)
    bitmap = None
    if None in values:
        bitmap = pa.py_buffer(np.packbits([value is not None for value in values], bitorder="little"))
        nothing = _nothing(kind)
        values = [nothing if value is None else value for value in values]
    if pa.types.is_integer(kind):
        data = pa.py_buffer(np.array(values, str(kind)))
        return pa.Array.from_buffers(kind, len(values), [bitmap, data])
    if pa.types.is_list(kind):
        inner = column([*chain.from_iterable(values)], kind.value_type)
        return pa.Array.from_buffers(kind, len(values), [bitmap, _ends(values)], children=[inner])
    if pa.types.is_string(kind):
        joined = "".join(values)
        # Where every character is a byte, the texts are as long as their bytes.
        values = values if joined.isascii() else [value.encode() for value in values]
        encoded = joined.encode()
    else:
        encoded = b"".join(values)
    return pa.Array.from_buffers(kind, len(values), [bitmap, _ends(values), pa.py_buffer(encoded)])


def _nothing(kind: pa.DataType) -> Any:
    """Return what stands below a missing value."""
    if pa.types.is_integer(kind):
        return 0
    if pa.types.is_list(kind):
        return ()
    return "" if pa.types.is_string(kind) else b""


def _ends(parts: Iterable[Any]) -> pa.Buffer:
    return pa.py_buffer(np.array([*accumulate(map(len, parts), initial=0)], np.int32))


def as_numpy(found: pa.Array) -> npt.NDArray[Any]:
    """Return a column of numbers, none of them missing, as the array that lies below it."""
    kind, data = np.dtype(str(found.type)), found.buffers()[1]
    if data is None:
        return np.zeros(0, kind)
    return np.frombuffer(data, kind)[found.offset : found.offset + len(found)]
