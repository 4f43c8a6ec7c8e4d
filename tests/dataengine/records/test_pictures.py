from __future__ import annotations

import base64
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from converters.formats.records import Source, prepare, read
from dataengine.annotation import Annotation
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.records.pictures import decoded


def _png(color: str, side: int = 4) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), color).save(file, "PNG")
    return file.getvalue()


RED, BLUE = _png("red"), _png("blue", 5)


def _source(**more: Any) -> Source:
    declared = {
        "table": {"path": "t.parquet", "kind": "parquet"},
        "unpack": {"picture": "image", "to": "unpacked/{id}.png"},
        "key": "{id}",
        "fields": {"images": "unpacked/{id}.png", "captions": "say"},
        **more,
    }
    return msgspec.convert(declared, Source, strict=True)


def _jsonl(folder: Path, *rows: dict[str, Any]) -> dict[str, Any]:
    (folder / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return {"table": {"path": "t.jsonl", "kind": "jsonl"}}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_bytes_of_a_table_become_files_that_the_annotations_name(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 1, "say": "red", "image": {"bytes": RED, "path": None}},
        {"id": 2, "say": "none", "image": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")

    prepare(_source(), tmp_path)

    found = [item for item in read(_source(), Root(tmp_path)) if isinstance(item, Annotation)]
    assert [item.images[0].path for item in found] == ["unpacked/1.png", "unpacked/2.png"]
    assert (tmp_path / "unpacked" / "1.png").read_bytes() == RED
    assert [path.name for path in (tmp_path / "unpacked").iterdir()] == ["1.png"]


def test_base64_text_and_lists_of_pictures_are_unpacked(tmp_path: Path) -> None:
    row = {"id": 7, "say": "x", "pictures": [_base64(RED), f"data:image/png;base64,{_base64(BLUE)}"]}
    fact = {"each": "pictures", "picture": "it", "to": "unpacked/{id}_{$it}.png"}

    prepare(_source(**_jsonl(tmp_path, row), unpack=fact), tmp_path)

    assert (tmp_path / "unpacked" / "7_0.png").read_bytes() == RED
    assert (tmp_path / "unpacked" / "7_1.png").read_bytes() == BLUE


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    source = _source(**_jsonl(tmp_path, {"id": 1, "say": "x", "image": _base64(RED)}))
    prepare(source, tmp_path)
    before = (tmp_path / "unpacked" / "1.png").stat()

    prepare(source, tmp_path)

    after = (tmp_path / "unpacked" / "1.png").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_one_name_may_stand_for_one_picture_many_times_and_never_for_two(tmp_path: Path) -> None:
    same = {"id": 1, "say": "x", "image": _base64(RED)}
    prepare(_source(**_jsonl(tmp_path, same, same)), tmp_path)

    with pytest.raises(SourceError, match=r"t.jsonl: line 2: another picture is called 'unpacked/1.png' too"):
        prepare(_source(**_jsonl(tmp_path, same, {**same, "image": _base64(BLUE)})), tmp_path)


def test_a_file_of_the_same_name_that_is_another_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "unpacked" / "1.png").write_bytes(b"mine")

    with pytest.raises(SourceError, match=r"is there already and is not the picture of t\.jsonl: line 1"):
        prepare(_source(**_jsonl(tmp_path, {"id": 1, "say": "x", "image": _base64(RED)})), tmp_path)

    assert (tmp_path / "unpacked" / "1.png").read_bytes() == b"mine"


def test_rows_and_cells_without_a_picture_are_passed_over(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 1, "image": "17"},
        {"say": "no id", "image": _base64(RED)},
        {"id": 3},
        {"id": 4, "image": [1]},
    ]

    prepare(_source(**_jsonl(tmp_path, *rows)), tmp_path)

    assert not (tmp_path / "unpacked").exists()


@pytest.mark.parametrize(
    "cell", [None, 3, "", "not base64!", _base64(b"no picture"), b"no picture", {"bytes": None}]
)
def test_a_cell_that_is_no_picture_gives_none(cell: Any) -> None:
    assert decoded(cell) is None


@pytest.mark.parametrize("name", ["../../out", "a\0b", "link/out", "x" * 300])
def test_no_picture_is_written_outside_the_root(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    (root / "unpacked").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (root / "unpacked" / "link").symlink_to(tmp_path / "other")
    row = {"id": name, "say": "x", "image": _base64(RED)}

    prepare(_source(**_jsonl(root, row, {"id": 2, "say": "y", "image": _base64(BLUE)})), root)

    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["2.png"]


@pytest.mark.parametrize("to", ["{id}.png", "unpacked.png", "{folder}/a.png"])
def test_pictures_get_a_folder_of_their_own(to: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="expected a folder of its own first"):
        _source(unpack={"picture": "image", "to": to})


def test_a_source_without_unpack_writes_nothing_and_makes_no_folder(tmp_path: Path) -> None:
    prepare(_source(unpack=[]), tmp_path / "missing")

    assert not (tmp_path / "missing").exists()


def test_a_tar_of_pictures_and_texts_needs_no_reader_of_its_own(tmp_path: Path) -> None:
    members = {"7.png": RED, "7.txt": b" a red one ", "8.txt": b"none", "9.png": b"no picture", "9.txt": b"x"}
    for shard in ("00000", "00001"):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    source = _source(
        table={"path": "*.tar", "kind": "tar"},
        unpack={"picture": "png", "to": "unpacked/{$stem}/{$key}.png"},
        key="{$stem}/{$key}",
        fields={
            "images": "unpacked/{$stem}/{$key}.png",
            "captions": {"text": {"from": "txt", "ops": ["strip"]}},
        },
    )

    prepare(source, tmp_path)

    found = [item for item in read(source, Root(tmp_path)) if isinstance(item, Annotation)]
    # A key is unique in its tar alone.
    assert [item.key for item in found] == [f"{tar}/{key}" for tar in ("00000", "00001") for key in "789"]
    assert found[0].captions[0].text == "a red one"
    assert found[0].origin.record == "7"
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("unpacked/*/*")) == [
        "unpacked/00000/7.png",
        "unpacked/00001/7.png",
    ]
