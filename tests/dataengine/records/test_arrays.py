from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from converters.formats.records import Source, prepare, read
from dataengine.annotation import Annotation
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.images import numbers
from dataengine.records.arrays import picture

DEPTH = np.array([[0.5, 1.0, np.inf], [-1.0, 400.0, 2.004]])


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _pfm(order: str = "<", rows: Any = DEPTH[::-1]) -> bytes:
    sign = "-" if order == "<" else ""
    return f"Pf\n3 2\n{sign}1.0\n".encode() + np.asarray(rows).astype(f"{order}f4").tobytes()


def _dpt() -> bytes:
    size = (3).to_bytes(4, "little") + (2).to_bytes(4, "little")
    return np.float32(202021.25).tobytes() + size + DEPTH.astype("<f4").tobytes()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.npy", _npy(DEPTH.astype(np.float32))),
        ("a.npy", _npy(DEPTH[..., None])),
        ("a.npy", _npy(DEPTH.astype(">f8"))),
        ("a.PFM", _pfm()),
        ("a.pfm", _pfm(">")),
        ("a.dpt", _dpt()),
    ],
)
def test_an_array_becomes_a_picture_of_its_values_and_0_where_there_is_none(
    tmp_path: Path, name: str, data: bytes
) -> None:
    (tmp_path / name).write_bytes(data)

    made = picture(Root(tmp_path), name, None, 200)

    assert numbers(made).tolist() == [[100, 200, 0], [0, 0, 401]]
    assert made == picture(Root(tmp_path), name, None, 200)


def test_what_the_mask_leaves_out_has_no_value(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(_npy(np.ones((2, 2))))
    (tmp_path / "m.npy").write_bytes(_npy(np.array([[1.0, 0.0], [True, False]])))

    assert numbers(picture(Root(tmp_path), "a.npy", "m.npy", 10)).tolist() == [[10, 0], [10, 0]]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.npy", None, "map.missing"),
        ("a.npy", b"\x93NUMPY", "map.corrupt"),
        ("a.npy", _npy(DEPTH)[:-8], "map.corrupt"),
        ("a.npy", _npy(np.array([["a"]])), "map.format"),
        ("a.npy", _npy(np.zeros((2, 2, 3))), "map.format"),
        ("a.npy", _npy(np.zeros((0, 2))), "map.format"),
        ("a.pfm", _pfm()[:-1], "map.corrupt"),
        ("a.pfm", _pfm().replace(b"Pf", b"PF"), "map.format"),
        ("a.dpt", _dpt()[:-1], "map.corrupt"),
        ("a.dpt", b"PIEH", "map.format"),
        ("a.h5", b"", "map.format"),
    ],
)
def test_a_file_that_holds_no_map_is_told(tmp_path: Path, name: str, data: bytes | None, reason: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)

    with pytest.raises(Quarantine) as caught:
        picture(Root(tmp_path), name, None, 1)

    assert caught.value.reason == reason


def test_code_in_an_array_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(_npy(np.array([[print]], dtype=object)))

    with pytest.raises(Quarantine, match="allow_pickle"):
        picture(Root(tmp_path), "a.npy", None, 1)


def test_a_mask_of_another_size_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(_npy(np.ones((2, 2))))
    (tmp_path / "m.npy").write_bytes(_npy(np.ones((2, 3))))

    with pytest.raises(Quarantine, match=r"m\.npy is \(2, 3\), but a\.npy \(2, 2\)"):
        picture(Root(tmp_path), "a.npy", "m.npy", 1)


def _source(**unpack: Any) -> Source:
    declared = {
        "table": {"path": "*/*_depth.npy", "kind": "files"},
        "let": {"view": {"from": "path", "ops": [{"regex_take": "^(.*)_depth"}]}},
        "unpack": {"array": "{path}", "scale": 100, "to": "depth16/{view}.png", **unpack},
        "key": "{view}",
        "fields": {"images": ["{view}.png", {"path": "depth16/{view}.png", "role": "target"}]},
    }
    return msgspec.convert(declared, Source, strict=True)


def test_maps_are_written_out_beside_the_source_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s/1_depth.npy").write_bytes(_npy(np.full((2, 2), 3.5)))
    (tmp_path / "s/2_depth.npy").write_bytes(b"broken")

    prepare(_source(), tmp_path)

    found = [item for item in read(_source(), Root(tmp_path)) if isinstance(item, Annotation)]
    assert [item.images[1].path for item in found] == ["depth16/s/1.png", "depth16/s/2.png"]
    assert numbers((tmp_path / "depth16/s/1.png").read_bytes()).tolist() == [[350, 350], [350, 350]]
    # Nothing is written of a broken array: the sample ends as image.missing.
    assert not (tmp_path / "depth16/s/2.png").exists()


@pytest.mark.parametrize(
    ("unpack", "words"),
    [
        ({"picture": "p"}, "either 'picture' or 'array'"),
        ({"scale": None}, "scale: None, expected a factor above 0"),
        ({"scale": -1}, "scale: -1.0, expected a factor above 0"),
        ({"array": "{view}.h5"}, "'{view}.h5': expected an array of .npy, .pfm, .dpt"),
        ({"array": None, "picture": "p"}, "scale: 100.0, expected a factor above 0 beside 'array'"),
        ({"array": None, "scale": None, "picture": "p", "mask": "m"}, "mask: stands beside no 'array'"),
    ],
)
def test_a_map_that_cannot_be_written_out_is_refused(unpack: dict[str, Any], words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=words):
        _source(**unpack)
