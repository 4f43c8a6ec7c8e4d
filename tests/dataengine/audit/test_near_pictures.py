"""Near pictures inside and across splits, datasets and shard sets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dataengine.audit.run import audit, broken
from dataengine.audit.state import Report
from dataengine.shard import shard
from tests.dataengine.blobs import SPEC, Blobs, scene


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    made = Blobs(tmp_path, "blobs")
    for seed in range(6):
        made.save(scene(seed), f"{seed}.png")
    made.save(scene(1), "small/1.jpg", quality=60)
    made.save(scene(1).resize((200, 150)), "small/1b.jpg", quality=80)
    return made


def _told(report: Report) -> list[tuple[str, str, str, str, str]]:
    return [
        (one.rule, one.subject, one.image, one.other_subject, one.other_image)
        for one in report.findings
        if one.rule not in ("license.missing", "label.imbalance")
    ]


def test_near_pictures_of_a_split_are_told_once_each_with_the_first_of_them(
    blobs: Blobs, tmp_path: Path
) -> None:
    blobs.convert(tmp_path / "m", "train", "0.png", "small/1.jpg", "1.png", "2.png", "small/1b.jpg", "1.png")
    shard([tmp_path / "m"], tmp_path / "s")

    for path, subject in ((tmp_path / "m", "blobs/vqa/train"), (tmp_path / "s", str(tmp_path / "s"))):
        report = audit([path])
        assert _told(report) == [
            ("image.duplicate_near", subject, "1.png", subject, "small/1.jpg"),
            ("image.duplicate_near", subject, "small/1b.jpg", subject, "small/1.jpg"),
        ]
        assert next(iter(report.findings)).detail.endswith(
            "one of 3 that are near to each other, from small/1.jpg on"
        )
        assert not broken(report)


def test_near_pictures_are_found_across_datasets_whatever_the_workers(blobs: Blobs, tmp_path: Path) -> None:
    other = Blobs(tmp_path, "other")
    other.save(scene(3), "a.jpg", quality=70)
    other.save(scene(9), "b.jpg")
    shutil.copy(blobs.root / "2.png", other.root / "c.png")
    blobs.convert(tmp_path / "m", "train", "2.png", "3.png")
    other.convert(tmp_path / "m", "train", "a.jpg", "b.jpg", "c.png")

    report = audit([tmp_path / "m"])

    # The same file in another folder is the same picture: no news.
    assert _told(report) == [("image.duplicate_near", "other/vqa/train", "a.jpg", "blobs/vqa/train", "3.png")]
    assert next(iter(report.findings)).detail.endswith("of 128 bits from 3.png of blobs/vqa/train")
    assert list(audit([tmp_path / "m"], workers=2).findings) == list(report.findings)


def test_an_overlap_is_told_of_the_split_to_evaluate_on_and_a_near_one_says_so(
    blobs: Blobs, tmp_path: Path
) -> None:
    blobs.convert(tmp_path / "m", "train", "0.png", "small/1.jpg", "2.png")
    blobs.convert(tmp_path / "m", "test", "0.png", "1.png", "4.png")
    shard([tmp_path / "m"], tmp_path / "s")

    for path, names in (
        (tmp_path / "m", ("blobs/vqa/test", "blobs/vqa/train")),
        (tmp_path / "s", (str(tmp_path / "s"),) * 2),
    ):
        report = audit([path])
        assert _told(report) == [
            ("split.overlap", names[0], "0.png", names[1], "0.png"),
            ("split.overlap", names[0], "1.png", names[1], "small/1.jpg"),
        ]
        near = list(report.findings)[1].detail
        assert near.startswith("1.png: a near picture, ") and near.endswith(
            "small/1.jpg is in blobs/vqa/train"
        )
        assert [one.rule for one in broken(report)] == ["split.overlap"]


def test_a_leak_across_datasets_is_told_of_the_split_to_train_on_by_id_and_by_look(
    blobs: Blobs, tmp_path: Path
) -> None:
    other = Blobs(tmp_path, "other")
    other.save(scene(20), "train2014/COCO_train2014_000000581857.jpg")
    other.save(scene(5).resize((300, 225)), "5.jpg", quality=70)
    other.save(scene(21), "6.jpg")
    blobs.save(scene(22), "val2017/000000581857.jpg")
    blobs.convert(tmp_path / "m", "test", "val2017/000000581857.jpg", "5.png")
    other.convert(tmp_path / "m", "train", "train2014/COCO_train2014_000000581857.jpg", "5.jpg", "6.jpg")

    report = audit([tmp_path / "m"])

    eval_, train = "blobs/vqa/test", "other/vqa/train"
    assert _told(report) == [
        ("leak.image", train, "train2014/COCO_train2014_000000581857.jpg", eval_, "val2017/000000581857.jpg"),
        ("leak.near", train, "5.jpg", eval_, "5.png"),
    ]
    assert [one.rule for one in broken(report)] == ["leak.image"]


def test_pictures_of_one_sample_are_no_near_pictures_of_each_other(blobs: Blobs, tmp_path: Path) -> None:
    pair = '["{images}.png", "small/{images}.jpg"]'
    text = SPEC.format(name="blobs", images=pair)
    text = text.replace("questions: {text: question, answers: answer}", "captions: {text: answer}")
    blobs.spec.write_text(text.replace("vqa: {}", "change_caption: {}"))
    blobs.convert(tmp_path / "m", "train", "1")
    shard([tmp_path / "m"], tmp_path / "s")

    for path in (tmp_path / "m", tmp_path / "s"):
        assert _told(audit([path])) == []


def test_a_file_of_links_that_is_none_is_a_finding_and_ends_no_audit(blobs: Blobs, tmp_path: Path) -> None:
    (blobs.root / "image_data.json").write_text("{}")
    blobs.convert(tmp_path / "m", "train", "0.png")

    (found,) = (one for one in audit([tmp_path / "m"]).findings if one.rule == "schema")

    assert "image_data.json: cannot be read" in found.detail


def test_near_pictures_are_found_where_nobody_has_converted_anything(blobs: Blobs, tmp_path: Path) -> None:
    """A split to evaluate on is held against the one to train on, and frames of one sample are no news."""
    for split, rows in (("train", ["0.png", "1.png", "small/1.jpg"]), ("val", ["small/1b.jpg", "2.png"])):
        (blobs.root / split).mkdir()
        for name in rows:
            shutil.copy(blobs.root / name, blobs.root / split / Path(name).name)
        table = [{"file_name": Path(name).name, "text": f"blobs {name}"} for name in rows]
        lines = "".join(f"{json.dumps(row)}\n" for row in table)
        (blobs.root / split / "metadata.jsonl").write_text(lines)
    for name in ("0.png", "1.png", "2.png", "3.png", "4.png", "5.png", "small/1.jpg", "small/1b.jpg"):
        (blobs.root / name).unlink()
    train, val = f"{blobs.root}/train", f"{blobs.root}/val"

    assert _told(audit([blobs.root])) == [
        ("image.duplicate_near", train, "train/1.jpg", train, "train/1.png"),
        ("split.overlap", val, "val/1b.jpg", train, "train/1.jpg"),
    ]
    folders = audit([blobs.root], format_name="imagefolder", root=blobs.root, options={"class_in": "folder"})
    assert [(one.image, one.other_image) for one in folders.findings if one.rule == "image.duplicate_near"] == [
        ("train/1.png", "train/1.jpg"), ("val/1b.jpg", "train/1.jpg"),
    ]  # fmt: skip
