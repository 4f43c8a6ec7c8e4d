from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import array_pickle
from dataengine.errors import SourceError


class _Called:
    """Asks, when it is read, for a call that makes a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.place,)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["u1", "i8", "f4", ">i2", "b1"])
def test_arrays_of_numbers_come_back_with_their_sides(protocol: int, kind: str) -> None:
    stored = np.arange(6).reshape(2, 3).astype(kind)

    found: Any = array_pickle.load("a.pkl", pickle.dumps({"data": stored, "labels": [1, "b"]}, protocol))

    assert found["labels"] == [1, "b"]
    assert found["data"].tolist() == stored.tolist()
    assert found["data"].shape == (2, 3)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_numpy_numbers_and_text_of_any_script_are_plain_values(protocol: int) -> None:
    stored = {"count": np.float64(1.5), "empty": np.zeros((0, 3), bool), "problem": "如图", "bytes": b""}

    found: Any = array_pickle.load("a.pkl", pickle.dumps(stored, protocol))

    assert (found["count"], found["problem"], found["bytes"]) == (1.5, "如图", b"")
    assert found["empty"].shape == (0, 3)


@pytest.mark.parametrize("numbers", [[65, 66], [0xC3, 0xA9], [0xFF, 0xFE]])
def test_bytes_that_python_2_wrote_as_text_are_the_same_bytes(numbers: list[int]) -> None:
    content = bytes(numbers)
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    kind = b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
    data = head + b"(I1\n(I2\nt" + kind + b"I00\nU" + bytes([len(content)]) + content + b"tb."

    found: Any = array_pickle.load("a.pkl", data)

    assert found.tolist() == numbers


def test_an_array_stored_by_columns_is_the_same_array() -> None:
    stored = np.asfortranarray(np.arange(6).reshape(2, 3))

    found: Any = array_pickle.load("a.pkl", pickle.dumps(stored, 2))

    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_an_array_may_hold_arrays_of_any_size() -> None:
    stored = np.empty(2, dtype=object)
    stored[0], stored[1] = np.arange(3, dtype="u1"), np.arange(5, dtype="u1")

    found: Any = array_pickle.load("a.pkl", pickle.dumps([stored], 3))

    assert [row.tolist() for row in found[0]] == [[0, 1, 2], [0, 1, 2, 3, 4]]


def test_nothing_is_called(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"asks for .*touch; refused"):
        array_pickle.load("a.pkl", pickle.dumps([np.arange(2), _Called(tmp_path / "made")], 4))

    assert not (tmp_path / "made").exists()


def test_a_list_that_is_named_a_billion_times_is_made_once() -> None:
    value: list[Any] = []
    for _ in range(40):
        value = [value, value]

    found: Any = array_pickle.load("a.pkl", pickle.dumps(value, 2))

    assert found[0] is found[1]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02",
        pickle.dumps(np.arange(3), 2)[:-8],
        pickle.dumps(np.arange(3), 2).replace(b"i8", b"i7"),
        pickle.dumps(np.zeros(2, dtype=[("a", "i4")]), 2),
        b"cnumpy.core.multiarray\n_reconstruct\n.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR.",
        b"cnumpy\ndtype\n(S'u1'\ntR(I1\nI2\nI3\ntb.",
        b"\x80\x02cnumpy\nndarray\n)R.",
        b"\x80\x02]}b.",
        b"\x80\x02](K\x01tR.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}X\x01\x00\x00\x00aK\x01sb.",
        pickle.dumps(np.array(["text"]), 4),
    ],
)
def test_what_is_no_plain_pickle_is_refused(data: bytes) -> None:
    with pytest.raises(SourceError, match=r"a\.pkl"):
        array_pickle.load("a.pkl", data)


def test_a_name_without_end_is_not_told_whole() -> None:
    with pytest.raises(SourceError, match="refused") as caught:
        array_pickle.load("a.pkl", b"c" + b"x" * 5000 + b"\n" + b"y" * 5000 + b"\n.")

    assert len(str(caught.value)) < 300
