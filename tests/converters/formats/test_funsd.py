from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from converters.formats.funsd import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_area

ASKED = {
    "id": 0,
    "text": "Registration No.",
    "box": [4, 9, 30, 16],
    "label": "question",
    "linking": [[0, 1]],
    "words": [{"text": "Registration", "box": [4, 9, 20, 16]}, {"text": "No.", "box": [21, 9, 30, 16]}],
}
FILLED = {"id": 1, "text": "533", "box": [31, 9, 38, 14], "label": "answer", "linking": [[0, 1]],
          "words": [{"text": "533", "box": [31, 9, 38, 14]}]}  # fmt: skip


def _folder(folder: Path, *form: Any) -> Root:
    for name in ("annotations", "images"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "annotations" / "a.json").write_text(json.dumps({"form": form}))
    Image.new("L", (40, 30)).save(folder / "images" / "a.png")
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**{"annotations": "annotations", "images": "images", **options}), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_entities_have_labels_text_and_one_relation_a_link(tmp_path: Path) -> None:
    root = _folder(tmp_path, ASKED, FILLED)

    (found,), rejected = _split(root)

    assert rejected == []
    assert (found.key, found.images[0].path) == ("a", "images/a.png")
    assert [(item.category, item.text, item.box) for item in found.instances] == [
        ("question", "Registration No.", (4, 9, 30, 16)),
        ("answer", "533", (31, 9, 38, 14)),
    ]
    assert found.relations == ((0, "linked to", 1),)
    assert found.instances[1].mask is not None and rle_area(found.instances[1].mask) == 7 * 5
    assert labels(Source(annotations=""), root).names == ("header", "question", "answer", "other")


def test_words_know_their_entity(tmp_path: Path) -> None:
    root = _folder(tmp_path, ASKED, FILLED)

    (found,), rejected = _split(root, level="word")

    assert rejected == []
    assert [(item.category, item.text, item.attributes) for item in found.instances] == [
        ("text", "Registration", {"line": "0"}),
        ("text", "No.", {"line": "0"}),
        ("text", "533", {"line": "1"}),
    ]
    assert found.relations == ()
    assert labels(Source(annotations="", level="word"), root).names == ("text",)


def test_a_field_that_is_not_filled_in_is_ignored(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, ASKED, {**FILLED, "text": ""}))

    assert rejected == []
    assert [(item.text, item.ignore) for item in found.instances] == [
        ("Registration No.", False),
        (None, True),
    ]


def test_a_link_to_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, {**ASKED, "linking": [[0, 7], [0, 1], [0, 1]]}, FILLED))

    assert (found.relations, rejected) == (((0, "linked to", 1),), [])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": "total"}, "category.unknown"),
        ({"box": [1, 2, 3]}, "schema"),
        ({"box": [1, 2, 3, float("nan")]}, "schema"),
        ({"box": [1, 2, 3, 1e30]}, "polygon.invalid"),
        ({"linking": [[1]]}, "schema"),
        ({"text": None}, "schema"),
    ],
)
def test_a_defective_entity_is_rejected_and_ignored(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, {**ASKED, **changes}, FILLED))

    assert (rejected.key, rejected.reason) == ("a.form[0]", reason)
    assert [(item.category, item.ignore) for item in found.instances] == [(None, True), ("answer", False)]
    assert (found.relations, found.exhaustive) == ((), False)


def test_a_defective_word_costs_no_other(tmp_path: Path) -> None:
    words = [{"text": "a", "box": [1, 2]}, 7, {"text": "b", "box": [1, 2, 3, 4]}]
    root = _folder(tmp_path, {**ASKED, "words": words}, 7)

    (found,), rejected = _split(root, level="word")

    assert [(item.origin.record, item.reason) for item in rejected] == [
        ("form[0].words[0]", "schema"),
        ("form[0].words[1]", "schema"),
        ("form[1]", "schema"),
    ]
    assert [item.text for item in found.instances] == [None, None, "b", None]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"form": {}}', "\xff"])
def test_a_file_that_is_another_costs_no_other(tmp_path: Path, text: str) -> None:
    root = _folder(tmp_path, ASKED)
    (tmp_path / "annotations" / "0.json").write_bytes(text.encode("latin-1"))

    (found,), (rejected,) = _split(root)

    assert (found.key, rejected.key, rejected.reason) == ("a", "0", "schema")


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.annotations"):
        _split(Root(tmp_path))
