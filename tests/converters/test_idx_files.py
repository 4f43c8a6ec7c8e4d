from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from converters import idx_files
from dataengine.errors import SourceError


def _file(kind: int, sizes: list[int], content: bytes) -> bytes:
    return struct.pack(f">BBBB{len(sizes)}I", 0, 0, kind, len(sizes), *sizes) + content


@pytest.mark.parametrize("packed", [False, True])
def test_pictures_and_numbers_are_arrays(packed: bool) -> None:
    data = _file(8, [2, 1, 3], bytes(range(6)))

    found, promised = idx_files.load("a", gzip.compress(data) if packed else data, 3)

    assert found.tolist() == [[[0, 1, 2]], [[3, 4, 5]]]
    assert promised == 2


def test_numbers_are_big_endian() -> None:
    found, _ = idx_files.load("a", _file(12, [2], struct.pack(">2i", 7, -1)), 1)

    assert found.tolist() == [7, -1]


def test_a_file_that_ends_early_has_what_is_whole() -> None:
    found, promised = idx_files.load("a", _file(8, [4_000_000_000, 2, 2], bytes(range(9))), 3)

    assert (found.shape, promised) == ((2, 2, 2), 4_000_000_000)
    assert found.dtype == np.uint8


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "begins with"),
        (b"\x89PNG" + bytes(20), "expected an IDX file"),
        (_file(8, [1], b"a"), "3 dimensions"),
        (_file(10, [1, 1, 1], b"a"), "expected an IDX file"),
        (gzip.compress(_file(8, [1, 1, 1], b"a"))[:20], "gzip"),
        (b"\x1f\x8b" + bytes(30), "gzip"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_file_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        idx_files.load("a", data, 3)
