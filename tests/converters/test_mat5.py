from __future__ import annotations

import io
import random
import zlib
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.mat5 import MAX_UNPACKED_BYTES, Cells, variables
from dataengine.errors import Quarantine


def _mat(compressed: bool = False, **values: Any) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, values, do_compression=compressed)
    return file.getvalue()


def _cells(*rows: list[Any]) -> Any:
    table = np.empty((len(rows), len(rows[0])), dtype=object)
    for number, row in enumerate(rows):
        table[number, :] = row
    return table


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_numbers_of_all_kinds_are_read(compressed: bool, kind: str) -> None:
    found = variables(_mat(compressed, a=np.array([[1, 2], [3, 4]], kind), b=np.array([[7]], kind)))

    assert found["a"].tolist() == [1, 3, 2, 4]
    assert found["b"].tolist() == [7]


@pytest.mark.parametrize("text", ["a", "naughty", "", "café", "中文"])
def test_text_is_read(text: str) -> None:
    assert variables(_mat(a=text))["a"] == text


@pytest.mark.parametrize("compressed", [False, True])
def test_a_cell_array_is_a_table_of_rows(compressed: bool) -> None:
    table = _cells(["x:", np.int16([[1, 2, 3]])], ["", np.float64([[0.5]])])  # type: ignore[arg-type]

    found = variables(_mat(compressed, polygt=table, other=1.0))

    assert isinstance(found["polygt"], Cells)
    first, second = found["polygt"].rows()
    assert (first[0], first[1].tolist()) == ("x:", [1, 2, 3])
    assert (second[0], second[1].tolist()) == ("", [0.5])
    assert found["other"].tolist() == [1.0]


def test_structs_are_left_out() -> None:
    assert list(variables(_mat(a={"b": 1.0}, c=2.0))) == ["c"]


@pytest.mark.parametrize("data", [b"", b"MATLAB 5.0 MAT-file", b"\0" * 200, _mat(a=[1.0] * 9)[:-8]])
def test_another_or_a_cut_file_is_malformed(data: bytes) -> None:
    with pytest.raises(Quarantine) as error:
        variables(data)

    assert error.value.reason == "mat.malformed"


def test_a_packed_part_that_would_fill_the_memory_is_refused() -> None:
    packed = zlib.compress(b"\0" * (MAX_UNPACKED_BYTES + 1))
    tag = (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little")

    with pytest.raises(Quarantine, match="more than"):
        variables(_mat(a=1.0)[:128] + tag + packed)


@given(seed=st.integers(0, 10**6), compressed=st.booleans())
@settings(deadline=None, max_examples=200)
def test_no_damage_raises_anything_else(seed: int, compressed: bool) -> None:
    rng = random.Random(seed)
    table = _cells(["x:", np.int16([[1, 2, 3]]), _cells(["a"])])  # type: ignore[arg-type]
    data = bytearray(_mat(compressed, polygt=table, b="text"))
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] = rng.randrange(256)

    try:
        found = variables(bytes(data))
    except Quarantine as error:
        assert error.reason == "mat.malformed"
    else:
        assert isinstance(found, dict)
