from __future__ import annotations

import random
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from converters import mat_files
from dataengine.errors import SourceError
from dataengine.files import Root


def _load(folder: Path, content: dict[str, Any], compress: bool = False) -> dict[str, Any]:
    scipy.io.savemat(folder / "m.mat", content, do_compression=compress)
    return mat_files.load("m.mat", Root(folder), "annotations")


@pytest.mark.parametrize("compress", [False, True])
def test_values_come_back_plain(tmp_path: Path, compress: bool) -> None:
    cells = np.empty((1, 2), dtype=object)
    cells[0, 0], cells[0, 1] = "one", np.array([[1.5, 2.5]])

    found = _load(tmp_path, {"s": {"x": 5, "name": "a b"}, "c": cells, "e": np.zeros((0, 0))}, compress)

    assert found["s"] == {"x": 5, "name": "a b"}
    assert found["c"][0] == "one"
    assert found["c"][1].tolist() == [1.5, 2.5]
    assert found["e"] is None


def test_arrays_run_down_their_columns_as_lists() -> None:
    assert mat_files.as_list(np.array([[1, 2], [3, 4]])) == [1, 3, 2, 4]
    assert mat_files.as_list("a") == ["a"]
    assert mat_files.as_list(None) == []


def test_the_newest_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))

    with pytest.raises(SourceError, match=r"7\.3 \(HDF5\)"):
        mat_files.load("m.mat", Root(tmp_path), "annotations")


def test_what_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    value: Any = 1
    for _ in range(60):
        outer = np.empty((1, 1), dtype=object)
        outer[0, 0] = value
        value = outer

    with pytest.raises(SourceError, match="nested too deep"):
        _load(tmp_path, {"a": value})


def test_rows_of_text_are_a_list(tmp_path: Path) -> None:
    assert _load(tmp_path, {"names": np.array(["rose", "lily of"])})["names"] == ["rose", "lily of"]


@pytest.mark.parametrize("kind", ["i1", "u2", "i4", "f4", "f8", "u8"])
def test_all_kinds_of_numbers_are_read_with_their_sides(tmp_path: Path, kind: str) -> None:
    found = _load(
        tmp_path, {"a": np.array([[1, 2, 3], [4, 5, 6]], dtype=kind), "one": np.array([7], dtype=kind)}
    )

    assert found["a"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert mat_files.as_list(found["a"]) == [1, 4, 2, 5, 3, 6]
    assert found["one"] == 7


def test_what_no_annotation_is_made_of_is_none(tmp_path: Path) -> None:
    found = _load(tmp_path, {"c": np.array([1 + 2j]), "s": scipy.sparse.eye(3).tocsc(), "n": 5})

    assert found == {"c": None, "s": None, "n": 5}


def test_an_array_that_states_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    cells = np.empty((1, 2), dtype=object)
    cells[:] = 1
    scipy.io.savemat(tmp_path / "m.mat", {"c": cells})
    data = (tmp_path / "m.mat").read_bytes()
    sides = np.array([1, 2], dtype="<i4").tobytes()
    assert data.count(sides) == 1

    (tmp_path / "m.mat").write_bytes(data.replace(sides, np.array([2**30, 2], dtype="<i4").tobytes()))

    with pytest.raises(SourceError, match="states 2147483648 elements"):
        mat_files.load("m.mat", Root(tmp_path), "annotations")


def test_damaged_files_raise_nothing_but_the_error_of_a_source(tmp_path: Path) -> None:
    chance = random.Random(3)
    person = np.zeros((1, 3), dtype=[("x", object), ("name", object)])
    person[:] = (np.arange(5), "abc")
    scipy.io.savemat(tmp_path / "m.mat", {"p": person, "t": "text"})
    whole = (tmp_path / "m.mat").read_bytes()

    for _ in range(600):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(124, len(data))] = chance.randrange(256)
        (tmp_path / "m.mat").write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
        with suppress(SourceError):
            mat_files.load("m.mat", Root(tmp_path), "annotations")


def test_a_small_file_that_unpacks_to_anything_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mat_files, "MAX_BYTES", 1 << 20)
    _load(tmp_path, {"a": np.zeros(1000)}, compress=True)

    with pytest.raises(SourceError, match="unpacks to more than"):
        _load(tmp_path, {"a": np.zeros(1 << 18)}, compress=True)


def test_a_damaged_compressed_part_is_an_error(tmp_path: Path) -> None:
    part = bytearray(zlib.compress(bytes(1000)))
    part[4] ^= 0xFF
    head = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + (15).to_bytes(4, "little")
    (tmp_path / "m.mat").write_bytes(head + len(part).to_bytes(4, "little") + part)

    with pytest.raises(SourceError, match="is it whole"):
        mat_files.load("m.mat", Root(tmp_path), "annotations")
