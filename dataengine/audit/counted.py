"""Counting without believing: ids as 64-bit hashes in arrays, eight bytes each, compared as multisets.

Two sides of the same length that differ in one id differ in one hash, but for one case in 2**64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from dataengine.errors import SourceError

Hashes = npt.NDArray[np.uint64]
NAMED = 3  # things that a line names; all are counted
BATCH = 1 << 14  # rows that are in memory at once


def hashes(values: Iterable[str]) -> Hashes:
    """Return the xxh3-64 of each text."""
    return np.fromiter(map(_hash, values), np.uint64)


def _hash(value: str) -> int:
    return xxhash.xxh3_64_intdigest(value.encode())


def batches(path: Path, names: Sequence[str], mend: str = "convert again") -> Iterator[pa.RecordBatch]:
    """Yield columns of a Parquet file, some rows at a time. Raises SourceError, which says how to `mend` it."""
    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=BATCH, columns=list(names), use_threads=False)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise SourceError(f"{path}: cannot be read: {error}; {mend}") from error


def apart(left: Hashes, right: Hashes) -> tuple[Hashes, Hashes]:
    """Return what stands on one side alone, as often as it does: of the left, and of the right."""
    if len(left) == len(right) and np.array_equal(np.sort(left), np.sort(right)):
        return left[:0], left[:0]
    every = np.union1d(left, right)
    more = _counts(left, every) - _counts(right, every)
    return np.repeat(every, np.maximum(more, 0)), np.repeat(every, np.maximum(-more, 0))


def _counts(values: Hashes, every: Hashes) -> npt.NDArray[np.int64]:
    return np.bincount(np.searchsorted(every, values), minlength=len(every))


def distinct(*parts: Hashes) -> int:
    """Return how many different values some arrays hold together."""
    values = np.concatenate(parts)
    values.sort()
    return int(np.count_nonzero(values[1:] != values[:-1])) + min(len(values), 1)


def named(wanted: Hashes, ids: Iterable[str]) -> list[str]:
    """Return the first ids that have one of these hashes."""
    left, found = set(wanted.tolist()), list[str]()
    for one in ids if left else ():
        if (value := _hash(one)) in left:
            left.remove(value)
            found.append(one)
            if not left or len(found) == NAMED:
                break
    return found


def twice(values: Hashes) -> Hashes:
    """Return the values that stand more than once, one less often than they do."""
    ordered = np.sort(values)
    again: Hashes = ordered[1:][ordered[1:] == ordered[:-1]]
    return again
