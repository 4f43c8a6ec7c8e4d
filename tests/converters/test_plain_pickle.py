from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from converters.plain_pickle import Array, load
from dataengine.errors import SourceError


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


ARRAYS = [
    np.arange(6, dtype=np.uint8).reshape(2, 3),
    np.arange(6, dtype=">i4").reshape(3, 2),
    np.asfortranarray(np.linspace(0, 1, 6).reshape(2, 3)),
    np.zeros((0, 3), bool),
]


@pytest.mark.parametrize("protocol", [1, 2, 3, 4])
@pytest.mark.parametrize("values", ARRAYS, ids=lambda values: values.dtype.str)
def test_arrays_of_numbers_are_read_without_numpy_being_asked(values: Any, protocol: int) -> None:
    data = pickle.dumps([{"image": values, "count": np.float64(1.5), "id": 7}], protocol)

    content: Any = load("a.pk", data, arrays=True)

    (found,) = content
    assert isinstance(found["image"], Array)
    assert np.array_equal(found["image"].values, values)
    assert found["image"].values.dtype == values.dtype
    assert (found["count"], found["id"]) == (1.5, 7)


def test_arrays_are_no_plain_values_unless_they_are_asked_for() -> None:
    with pytest.raises(SourceError, match=r"multiarray\._reconstruct; refused"):
        load("a.pk", pickle.dumps(ARRAYS[0], 4))


@pytest.mark.parametrize(
    "value",
    [
        Call(eval, "1"),
        Call(np.fromfile, "a.bin"),
        np.array([{"a": 1}], object),
        np.array(["text"]),
        np.zeros(2, [("x", "u1")]),
        Call(np.dtype, "O"),
    ],
    ids=["eval", "fromfile", "objects", "text", "records", "object kind"],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_but_arrays_of_numbers_can_be_made(value: Any, protocol: int) -> None:
    with pytest.raises(SourceError):
        load("a.pk", pickle.dumps([value], protocol), arrays=True)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"\x80\x02cnumpy\nndarray\n)R.", "an array without its numbers"),
        (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R}b.", "no whole pickle|asks for code"),
        (b"\x80\x02]}b.", "changes what is no array"),
        (b"\x80\x02](K\x01tR.", "calls what is no array"),
        (pickle.dumps(ARRAYS[0], 4)[:-20], "exhausted before end of frame"),
    ],
    ids=["bare", "kind", "change", "call", "cut off"],
)
def test_a_hostile_or_torn_pickle_is_an_error_of_one_line(data: bytes, match: str) -> None:
    with pytest.raises(SourceError, match=match) as caught:
        load("a.pk", data, arrays=True)

    assert "\n" not in str(caught.value)


def test_the_words_of_an_array_cannot_be_changed_from_a_pickle() -> None:
    before = dict(vars(Array))

    with pytest.raises(SourceError):
        load(
            "a.pk", b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}X\x01\x00\x00\x00aK\x01sb.", arrays=True
        )

    assert dict(vars(Array)) == before
