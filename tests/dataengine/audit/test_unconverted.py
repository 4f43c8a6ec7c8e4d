from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from dataengine.audit.run import audit
from dataengine.audit.state import Report
from dataengine.errors import SourceError, UsageError

if TYPE_CHECKING:
    from tests.conftest import Tiny


def _rules(report: Report, *left_out: str) -> dict[str, int]:
    found = Counter(one.rule for one in report.findings)
    return {rule: count for rule, count in found.items() if rule not in ("license.missing", *left_out)}


def _picture(seed: int, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 32, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, kind)
    return sink.getvalue()


def _webdataset(path: Path, numbers: range, **changes: Any) -> None:
    """Write a tar as the library does: a picture, a caption and a conversation each."""
    with webdataset.TarWriter(str(path)) as tar:
        for number in numbers:
            talk = [
                {"from": "human", "value": "<image>\nWhat is it?"},
                {"from": "gpt", "value": f"Noise {number}."},
            ]
            sample = {"jpg": _picture(number), "txt": f"A picture of noise, number {number}.",
                      "json": json.dumps({"conversations": talk}).encode()}  # fmt: skip
            tar.write({"__key__": f"{number:04d}", **sample, **changes.get(str(number), {})})


def _said(path: Path, **options: Any) -> tuple[list[str], Report]:
    lines: list[str] = []
    return lines, audit([path], say=lines.append, **options)


def test_a_sound_webdataset_has_no_finding_but_its_license(tmp_path: Path) -> None:
    _webdataset(tmp_path / "a-000000.tar", range(4))
    _webdataset(tmp_path / "a-000001.tar", range(4, 7))

    lines, report = _said(tmp_path)

    (account,) = report.accounts
    assert lines == [f"{tmp_path}: tars as WebDataset reads them, without an index of ours"]
    assert _rules(report) == {}
    assert (account.records, account.images, account.checked["text"], account.checked["dialog"]) == (
        7,
        7,
        21,
        7,
    )


def test_what_is_wrong_with_a_webdataset_is_found_where_it_is(tmp_path: Path) -> None:
    wrong = {
        "1": {"jpg": _picture(1)[:300]},
        "2": {"txt": "None"},
        "3": {"jpg": _picture(0)},
        "4": {"json": json.dumps({"conversations": [{"from": "gpt", "value": "I begin."}]}).encode()},
        "5": {"json": b"{"},
    }
    _webdataset(tmp_path / "a.tar", range(6), **wrong)
    _webdataset(tmp_path / "b.tar", range(4, 8))
    with tarfile.open(tmp_path / "b.tar", "a") as tar:
        tar.addfile(tarfile.TarInfo("README"))
        tar.addfile(tarfile.TarInfo("0009.jpg"))

    one, two = audit([tmp_path]), audit([tmp_path], workers=2)

    assert list(one.findings) == list(two.findings)
    found = {rule: [hit.detail for hit in one.findings if hit.rule == rule] for rule in _rules(one)}
    assert set(found) == {
        "image.corrupt", "text.placeholder", "image.duplicate_exact", "turn.structure", "schema", "id.duplicate",
        "sample.left_out", "sample.incomplete",
    }  # fmt: skip
    # 4 stands in both tars with the same picture; 5 is rejected in the first.
    assert found["id.duplicate"] == ["key '0004'"]
    assert found["image.duplicate_exact"] == [
        "a.tar/0003.jpg: has the bytes of a.tar/0000.jpg",
        "b.tar/0004.jpg: has the bytes of a.tar/0004.jpg",
    ]
    assert found["sample.incomplete"][0].startswith("b.tar: offset ")
    assert "'0009' is half" in found["sample.incomplete"][0]
    assert "'README' is in no sample" in found["sample.left_out"][0]
    assert one.accounts[0].quarantined == {"schema": 1}


def test_a_damaged_tar_is_named_with_the_offset_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    _webdataset(tmp_path / "a.tar", range(3))
    data = bytearray((tmp_path / "a.tar").read_bytes())
    data[100] ^= 255
    (tmp_path / "a.tar").write_bytes(data)
    (tmp_path / "b.tar").write_bytes(bytes(data[:9000]))
    (tmp_path / "c.tar.gz").write_bytes(b"")

    report = audit([tmp_path])

    damaged = [hit.detail for hit in report.findings if hit.rule == "shard.damaged"]
    assert any(line.startswith("a.tar: offset 0: header is damaged") for line in damaged)
    assert any("b.tar: offset" in line and "cut off" in line for line in damaged)
    assert any("c.tar.gz: is compressed" in line for line in damaged)
    assert report.accounts[0].records >= 4


def test_a_key_that_comes_again_in_one_tar_is_told_of_once(tmp_path: Path) -> None:
    _webdataset(tmp_path / "a.tar", range(3))
    _webdataset(tmp_path / "b.tar", range(1))
    with tarfile.open(tmp_path / "a.tar", "a") as tar, tarfile.open(tmp_path / "b.tar") as other:
        for member in other:
            tar.addfile(member, other.extractfile(member))
    (tmp_path / "b.tar").unlink()

    assert _rules(audit([tmp_path])) == {"id.duplicate": 1, "image.duplicate_exact": 1}


def test_a_tar_by_itself_is_audited(tmp_path: Path) -> None:
    _webdataset(tmp_path / "a.tar", range(3))

    assert audit([tmp_path / "a.tar"]).accounts[0].records == 3


def _dataset(numbers: range, **changes: list[Any]) -> datasets.Dataset:
    columns: dict[str, list[Any]] = {
        "image": [{"bytes": _picture(number), "path": f"{number}.jpg"} for number in numbers],
        "label": [number % 2 for number in numbers],
        "caption": [f"A picture of noise, number {number}." for number in numbers],
        "objects": [{"bbox": [[1, 2, 10, 12]], "category": [1]} for _ in numbers],
    }
    features = datasets.Features(
        image=datasets.Image(),
        label=datasets.ClassLabel(names=["dog", "cat"]),
        caption=datasets.Value("string"),
        objects={
            "bbox": datasets.List(datasets.List(datasets.Value("float32"), length=4)),
            "category": datasets.List(datasets.ClassLabel(names=["head", "tail"])),
        },
    )
    return datasets.Dataset.from_dict(columns | changes, features=features)


WRONG: dict[str, list[Any]] = {
    "caption": ["A picture.", "", "A picture.", "A picture."],
    "objects": [{"bbox": [[1, 2, 10, 12]], "category": [0]}] * 3
    + [{"bbox": [[1, 2, 90, 12], [3, 3, 0, 4]], "category": [0, 1]}],
}


def test_a_dataset_that_was_saved_to_disk_is_audited(tmp_path: Path) -> None:
    pair = datasets.DatasetDict(train=_dataset(range(4)), test=_dataset(range(3, 7), **WRONG))
    pair.save_to_disk(tmp_path / "saved")

    lines, report = _said(tmp_path / "saved")

    assert lines == [
        f"{tmp_path / 'saved'}: a Hugging Face dataset (dataset_dict.json: 2 splits that save_to_disk wrote)"
    ]
    assert [(one.records, one.images, one.objects) for one in report.accounts] == [(4, 4, 4), (4, 4, 5)]
    assert report.accounts[0].labels == {"tail": 4}
    assert _rules(report) == {"split.overlap": 1, "text.empty": 1, "box.outside": 1, "box.degenerate": 1}
    (overlap,) = [one for one in report.findings if one.rule == "split.overlap"]
    assert (overlap.subject, overlap.detail) == (
        f"{tmp_path / 'saved'}/test",
        f"test/row 0/image/3.jpg: a picture of the same bytes train/row 3/image/3.jpg is in {tmp_path / 'saved'}/train",
    )


def test_a_split_that_lost_rows_since_it_was_saved_is_found(tmp_path: Path) -> None:
    _dataset(range(4)).save_to_disk(tmp_path)
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    info["splits"] = {"train": {"name": "train", "num_examples": 5}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))

    report = audit([tmp_path])

    (finding,) = [one for one in report.findings if one.rule == "count.expected"]
    assert finding.detail == "4 rows, the dataset states 5"


README = """\
---
license: cc-by-4.0
dataset_info:
  features:
  - name: image
    dtype: image
  splits:
  - name: train
    num_examples: 6
  - name: validation
    num_examples: 2
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: validation
    path: data/validation-*
---
# Noise
"""


def test_a_repository_of_parquet_files_is_audited(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text(README)
    _dataset(range(3)).to_parquet(tmp_path / "data/train-00000-of-00002.parquet")
    _dataset(range(3, 5)).to_parquet(tmp_path / "data/train-00001-of-00002.parquet")
    _dataset(range(5, 7)).to_parquet(tmp_path / "data/validation-00000-of-00001.parquet")

    lines, report = _said(tmp_path)

    assert lines == [f"{tmp_path}: a Hugging Face dataset (README.md: dataset_info, 3 Parquet files)"]
    assert [(one.subject, one.records) for one in report.accounts] == [
        (f"{tmp_path}/train", 5),
        (f"{tmp_path}/validation", 2),
    ]
    assert dict(Counter(one.rule for one in report.findings)) == {"count.expected": 1}


def test_pictures_with_metadata_are_audited(tmp_path: Path) -> None:
    for number in range(4):
        folder = tmp_path / ("train" if number < 2 else "test")
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(_picture(number % 3))
    (tmp_path / "train/metadata.csv").write_text("file_name,text\n0.jpg,A picture.\n1.jpg,None\n")
    (tmp_path / "test/metadata.csv").write_text("file_name,text\n2.jpg,A picture.\n9.jpg,A picture.\n")

    lines, report = _said(tmp_path)

    assert lines == [f"{tmp_path}: a Hugging Face dataset (test/metadata.csv: pictures by file_name)"]
    assert _rules(report) == {"text.placeholder": 1, "image.missing": 1, "sample.left_out": 1}
    assert [one.image for one in report.findings if one.rule == "sample.left_out"] == ["test/3.jpg"]


def test_a_picture_that_lies_outside_of_the_folder_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(_picture(0))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/README.md").write_text(README)
    cell = {"bytes": None, "path": str(tmp_path / "secret.jpg")}
    climbs = {"bytes": None, "path": "../secret.jpg"}
    pq.write_table(pa.table({"image": [cell, climbs]}), tmp_path / "data/train.parquet")

    assert _rules(audit([tmp_path / "data"]), "count.expected") == {"path.outside": 2}


def test_pictures_that_are_plain_bytes_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(README)
    rows = {
        "image_bytes": [[_picture(0), _picture(1)], [_picture(2)[:200]]],
        "other": [_picture(3), b"no picture"],
        "text": ["A picture.", "A picture."],
    }
    pq.write_table(pa.table(rows), tmp_path / "train.parquet")

    report = audit([tmp_path])

    assert report.accounts[0].images == 4
    assert _rules(report, "count.expected") == {"image.corrupt": 1}


@pytest.mark.parametrize("name", ["dataset_dict.json", "dataset_info.json", "README.md"])
def test_a_broken_description_is_one_line(tmp_path: Path, name: str) -> None:
    datasets.DatasetDict(train=_dataset(range(2))).save_to_disk(tmp_path)
    if name == "README.md":
        (tmp_path / "dataset_dict.json").unlink()
        _dataset(range(2)).to_parquet(tmp_path / "train.parquet")
    (next(tmp_path.rglob(name), tmp_path / name)).write_text("---\n[{\n---\n")

    with pytest.raises(SourceError, match=name) as caught:
        audit([tmp_path])

    assert "\n" not in str(caught.value)


def test_a_layout_is_recognised_and_read_as_its_format_would_be(tiny: Tiny) -> None:
    document = tiny.document()
    document["images"][0]["width"] = 20
    tiny.write(document)

    lines, file = _said(tiny.root / "train.json")
    named = audit([tiny.root / "train.json"], format_name="coco_instances", options={"images": "images"})
    folder = audit([tiny.root])

    assert len(lines) == 1
    assert lines[0].startswith(f"{tiny.root / 'train.json'}: format coco_instances (")
    assert (file.accounts, list(file.findings)) == (named.accounts, list(named.findings))
    assert file.checked.get("picture") is None
    # Of a folder, the pictures are there.
    pictures = [one for one in folder.findings if one.rule == "box.size_mismatch"]
    assert [one.subject for one in folder.accounts] == [f"{tiny.root}/train", f"{tiny.root}/val"]
    assert folder.checked["picture"] == 9
    assert [one.subject for one in pictures] == [f"{tiny.root}/train"]


def test_annotations_without_their_pictures_are_recognised(tiny: Tiny) -> None:
    shutil.rmtree(tiny.root / "images")

    lines, file = _said(tiny.root / "train.json")
    folder = audit([tiny.root])

    assert lines[0].endswith("without pictures)")
    # Nobody said that they are here: none is missing.
    assert not {"picture"} & (file.checked.keys() | folder.checked.keys())
    assert [one.subject for one in folder.accounts] == [f"{tiny.root}/train", f"{tiny.root}/val"]
    with pytest.raises(UsageError, match="no known layout"):
        audit([tiny.root / "train.json"], root=tiny.root)


def _nothing(folder: Path) -> None:
    (folder / "notes.txt").write_text("nothing")


def _either(folder: Path) -> None:
    """Two layouts, none of which is likelier than the other."""
    (folder / "a.json").write_text(
        json.dumps([{"image": "a.jpg", "conversations": [{"from": "human", "value": "?"}]}])
    )
    (folder / "a.jpg").write_bytes(_picture(0))
    (folder / "dog").mkdir()
    labelled = {"images": [{"id": 1, "file_name": "a.jpg", "width": 32, "height": 24}], "categories": [],
                "annotations": [{"id": 1, "image_id": 1, "bbox": [1, 1, 2, 2], "category_id": 1}]}  # fmt: skip
    (folder / "b.json").write_text(json.dumps(labelled))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_nothing, r"is no known layout; name its layout with --format"),
        (_either, r"is coco_instances \(.*\), llava_json \(.*\); name its layout with --format"),
    ],
)
def test_what_is_not_recognised_is_one_line(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    make(tmp_path)

    with pytest.raises(UsageError, match=says) as caught:
        audit([tmp_path])

    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        audit([tmp_path / "absent"])


def test_chat_parts_and_choices_are_understood(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
                      {"role": "assistant", "content": "Noise."}], "question": "Which one is it?",
         "options": ["a", "a"], "answer": "a"},
    ]  # fmt: skip
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as tar:
        for number, row in enumerate(rows):
            tar.write(
                {"__key__": str(number), "png": _picture(number, "PNG"), "json": msgspec.json.encode(row)}
            )

    assert _rules(audit([tmp_path])) == {"qa.format": 1}
