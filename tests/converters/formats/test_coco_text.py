from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from converters.formats.coco_text import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_area

IMGS = {
    "a1": {"id": "a1", "width": 40, "height": 30, "set": "train", "file_name": "train/a1.jpg"},
    "b2": {"id": "b2", "width": 40, "height": 30, "set": "val", "filename": "train/b2.jpg"},
}
WORD = {
    "id": "a1_1",
    "image_id": "a1",
    "bbox": [0, 0, 20, 20],
    "points": [10.0, 0.0, 20.0, 10.0, 10.0, 20.0, 0.0, 10.0],
    "utf8_string": "Exit",
    "area": 1.5,
}


def _root(folder: Path, anns: dict[str, Any], imgs: dict[str, Any] = IMGS) -> Root:
    (folder / "text.json").write_text(json.dumps({"cats": {}, "imgs": imgs, "anns": anns, "imgToAnns": {}}))
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**{"annotations": "text.json", **options}), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_word_of_textocr_has_its_outline_text_and_pixels(tmp_path: Path) -> None:
    root = _root(tmp_path, {"a1_1": WORD})

    (first, second), rejected = _split(root, images="train_images", strip="train/")

    (item,) = first.instances
    assert rejected == []
    assert (first.key, first.images[0].path, second.images[0].path) == (
        "a1",
        "train_images/a1.jpg",
        "train_images/b2.jpg",
    )
    assert (item.id, item.category, item.text) == ("a1_1", "text", "Exit")
    assert (item.box, item.quad) == ((0, 0, 20, 20), (10, 0, 20, 10, 10, 20, 0, 10))
    assert item.mask is not None and rle_area(item.mask) == pytest.approx(200, abs=25)
    assert (second.instances, second.exhaustive) == ((), True)
    assert labels(Source(annotations=""), root).names == ("text",)


def test_a_word_of_coco_text_is_outlined_by_its_mask_or_its_box(tmp_path: Path) -> None:
    base = {"image_id": 5, "bbox": [1, 2, 10, 5], "language": "english", "legibility": "legible"}
    anns = {
        "1": {**base, "mask": [1, 2, 11, 2, 11, 7, 6, 9, 1, 7], "utf8_string": "the"},
        "2": {**base, "mask": [], "utf8_string": "cat"},
    }
    root = _root(tmp_path, anns, {"5": {"id": 5, "file_name": "x.jpg"}})

    (found,), rejected = _split(root)

    assert rejected == []
    assert [(item.text, item.box, item.quad, item.mask) for item in found.instances] == [
        ("the", (1, 2, 11, 9), None, None),
        ("cat", (1, 2, 11, 7), (1, 2, 11, 2, 11, 7, 1, 7), None),
    ]
    assert found.instances[0].attributes == {"language": "english"}


@pytest.mark.parametrize(
    "changes",
    [{"utf8_string": "."}, {"utf8_string": ""}, {"utf8_string": None}, {"legibility": "illegible"}],
)
def test_a_word_that_nobody_can_read_is_ignored_where_it_stands(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    (found, _), rejected = _split(_root(tmp_path, {"a1_1": {**WORD, **changes}}))

    (item,) = found.instances
    assert rejected == []
    assert (item.text, item.ignore, item.box) == (None, True, (0, 0, 20, 20))


def test_a_set_takes_its_images_and_leaves_the_words_of_others(tmp_path: Path) -> None:
    (found,), (left,) = _split(_root(tmp_path, {"a1_1": WORD}), set="val")

    assert (found.key, left.reason, left.origin.record) == ("b2", "split.other", "imgs.a1")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"points": [1, 2, 3, 4]}, "polygon.invalid"),
        ({"points": [1, 2, 3, 4, 5, 6, 7]}, "polygon.invalid"),
        ({"points": [1, 2, 3, 4, 5, 1e30]}, "polygon.invalid"),
        ({"points": "here"}, "schema"),
        ({"points": None, "bbox": [1, 2]}, "schema"),
        ({"points": None, "bbox": None}, "schema"),
        ({"utf8_string": 5}, "schema"),
    ],
)
def test_a_record_that_is_no_word_is_rejected_and_ignored(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    root = _root(tmp_path, {"bad": {**WORD, **changes}, "good": WORD})

    (found, _), (rejected,) = _split(root)

    assert (rejected.reason, rejected.origin.record) == (reason, "anns.bad")
    assert [(item.id, item.ignore) for item in found.instances] == [("bad", True), ("good", False)]


def test_words_without_an_image_and_images_without_a_name_are_rejected(tmp_path: Path) -> None:
    imgs = {**IMGS, "c3": {"id": "c3"}, "d4": {"id": "e5", "file_name": "d.jpg"}, "f6": []}
    root = _root(tmp_path, {"1": {**WORD, "image_id": "zz"}, "2": {"id": 2}, "3": 7}, imgs)

    found, rejected = _split(root)

    assert [item.key for item in found] == ["a1", "b2"]
    assert [(item.origin.record, item.reason) for item in rejected] == [
        ("anns.2", "schema"),
        ("anns.3", "schema"),
        ("imgs.c3", "schema"),
        ("imgs.d4", "schema"),
        ("imgs.f6", "schema"),
        ("anns.1", "id.orphan"),
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"imgs": {}}', '{"imgs": [], "anns": []}', "\xff"])
def test_a_file_that_is_another_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "text.json").write_bytes(text.encode("latin-1"))

    with pytest.raises(SourceError, match=r"text\.json.*COCO-Text"):
        _split(Root(tmp_path))


def test_a_number_that_is_none_costs_its_word_alone(tmp_path: Path) -> None:
    root = _root(tmp_path, {"1": {**WORD, "points": [float("nan")] * 8}, "2": WORD})

    (found, _), (rejected,) = _split(root)

    assert rejected.origin.record == "anns.1"
    assert [item.ignore for item in found.instances] == [True, False]
