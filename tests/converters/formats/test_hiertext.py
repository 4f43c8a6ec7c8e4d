from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from converters.formats.hiertext import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_area

SQUARE = [[0, 0], [10, 0], [10, 5], [0, 5]]
CURVED = [[0, 0], [5, 1], [10, 0], [10, 5], [5, 6], [0, 5]]


def piece(text: str, vertices: Any = SQUARE, **more: Any) -> dict[str, Any]:
    return {"vertices": vertices, "text": text, "legible": bool(text), **more}


def line(text: str, *words: dict[str, Any]) -> dict[str, Any]:
    return piece(text, words=list(words))


def paragraph(*lines: dict[str, Any], legible: bool = True) -> dict[str, Any]:
    return {"vertices": SQUARE, "legible": legible, "lines": list(lines)}


def _root(folder: Path, *paragraphs: Any, **more: Any) -> Root:
    record = {"image_id": "ab12", "image_width": 40, "image_height": 30, "paragraphs": paragraphs, **more}
    (folder / "train.jsonl").write_text(json.dumps({"info": {"date": "x"}, "annotations": [record]}))
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**{"annotations": "train.jsonl", "images": "train", **options}), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_words_come_in_the_order_of_the_file_and_know_their_line(tmp_path: Path) -> None:
    root = _root(
        tmp_path,
        paragraph(line("Dear Sir,", piece("Dear"), piece("Sir,", CURVED)), line("I", piece("I"))),
        paragraph(line("Bye", piece("Bye", handwritten=True, vertical=True))),
    )

    (found,), rejected = _split(root)

    assert rejected == []
    assert (found.key, found.images[0].path, found.images[0].width) == ("ab12", "train/ab12.jpg", 40)
    assert [(item.text, item.attributes) for item in found.instances] == [
        ("Dear", {"line": "paragraphs[0].0"}),
        ("Sir,", {"line": "paragraphs[0].0"}),
        ("I", {"line": "paragraphs[0].1"}),
        ("Bye", {"line": "paragraphs[1].0", "handwritten": "1", "vertical": "1"}),
    ]
    first, second = found.instances[:2]
    assert (first.id, first.category, first.box) == ("paragraphs[0].lines[0].words[0]", "text", (0, 0, 10, 5))
    assert first.quad == (0, 0, 10, 0, 10, 5, 0, 5)
    assert first.mask is not None and rle_area(first.mask) == 50
    assert (second.quad, second.box) == (None, (0, 0, 10, 6))
    assert labels(Source(annotations=""), root).names == ("text",)


def test_lines_are_objects_where_the_spec_says_so(tmp_path: Path) -> None:
    root = _root(tmp_path, paragraph(line("Dear Sir,", piece("Dear"), piece("Sir,")), line("", piece("I"))))

    (found,), _ = _split(root, level="line")

    assert [(item.text, item.ignore, item.attributes) for item in found.instances] == [
        ("Dear Sir,", False, {}),
        (None, True, {}),
    ]


def test_what_nobody_can_read_is_ignored_where_it_stands(tmp_path: Path) -> None:
    root = _root(
        tmp_path,
        paragraph(line("a", piece("a"), piece(""), piece("b", legible=False))),
        paragraph(piece("torn", words=[])),
        paragraph(legible=False),
    )

    (found,), rejected = _split(root)

    assert rejected == []
    assert [(item.text, item.ignore, item.box is not None) for item in found.instances] == [
        ("a", False, True),
        (None, True, True),
        (None, True, True),
        (None, True, True),
        (None, True, True),
    ]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (7, "schema"),
        ({"vertices": [[1, 2, 3]]}, "schema"),
        ({"vertices": [[1, 2]] * 2, "text": "a"}, "polygon.invalid"),
        ({"vertices": [], "text": "a"}, "polygon.invalid"),
        ({"vertices": [[1, 2], [3, 1e20], [4, 4]], "text": "a"}, "polygon.invalid"),
        ({"vertices": SQUARE, "text": 5}, "schema"),
    ],
)
def test_a_word_that_cannot_be_used_costs_no_other(tmp_path: Path, bad: Any, reason: str) -> None:
    (found,), (rejected,) = _split(_root(tmp_path, paragraph(line("a b", bad, piece("b")))))

    assert (rejected.reason, rejected.origin.record) == (
        reason,
        "annotations[0].paragraphs[0].lines[0].words[0]",
    )
    assert [(item.text, item.ignore) for item in found.instances] == [(None, True), ("b", False)]


def test_a_line_or_paragraph_that_is_broken_costs_no_other(tmp_path: Path) -> None:
    (found,), rejected = _split(_root(tmp_path, "x", paragraph({"words": 5}, line("a", piece("a")))))

    assert [item.origin.record for item in rejected] == [
        "annotations[0].paragraphs[0]",
        "annotations[0].paragraphs[1].lines[0]",
    ]
    assert [item.text for item in found.instances] == [None, None, "a"]


def test_an_image_that_came_before_or_is_none_is_rejected(tmp_path: Path) -> None:
    records = [{"image_id": "a"}, {"image_id": "a"}, {"image_width": 5}, {"image_id": "b", "image_width": -1}]
    (tmp_path / "train.jsonl").write_text(json.dumps({"annotations": records}))

    found, rejected = _split(Root(tmp_path))

    assert [(item.key, item.instances) for item in found] == [("a", ())]
    assert [item.reason for item in rejected] == ["id.duplicate", "schema", "schema"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"annotations": {}}', '{"a": 1}\n{"a": 2}'])
def test_a_file_that_is_another_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "train.jsonl").write_text(text)

    with pytest.raises(SourceError, match=r"train\.jsonl.*HierText"):
        _split(Root(tmp_path))
