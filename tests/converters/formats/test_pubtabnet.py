from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.pubtabnet import QUESTION, Source, read
from dataengine.annotation import Annotation, Rejected
from dataengine.files import Root

Samples = Callable[[str], Root]
STRUCTURE = ["<thead>", "<tr>", "<td", ' colspan="2"', ">", "</td>", "<td>", "</td>", "</tr>", "</thead>"]
CELLS = [{"tokens": ["<b>", "A", " ", "≤", "</b>"], "bbox": [1, 4, 27, 13]}, {"tokens": []}]


def table(name: str = "a.png", **changes: Any) -> dict[str, Any]:
    html = {"structure": {"tokens": STRUCTURE}, "cells": CELLS, **changes}
    return {"filename": name, "split": "train", "imgid": 0, "html": html}


def _split(folder: Path, *rows: Any, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    (folder / "t.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = list(read(Source(annotations="t.jsonl", images="train", **options), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_cells_go_where_the_structure_closes_them(tmp_path: Path) -> None:
    (found,), rejected = _split(tmp_path, table())

    (question,) = found.questions
    assert rejected == []
    assert (found.key, found.images[0].path, found.origin.record) == ("a.png", "train/a.png", "line 1")
    assert question.text == QUESTION
    assert question.answers == (
        '<table><thead><tr><td colspan="2"><b>A ≤</b></td><td></td></tr></thead></table>',
    )
    assert [(item.category, item.box, item.text) for item in found.instances] == [
        ("cell", (1, 4, 27, 13), "A ≤")
    ]


def test_a_split_takes_its_records_alone(tmp_path: Path) -> None:
    (found,), (left,) = _split(tmp_path, table(), {**table("b.png"), "split": "val"}, split="val")

    assert (found.key, left.reason, left.origin.record) == ("b.png", "split.other", "line 1")


def test_a_cell_of_tags_alone_holds_no_text(tmp_path: Path) -> None:
    cells = [
        {"tokens": ["<i>", " ", "</i>"], "bbox": [1, 2, 3, 4]},
        {"tokens": ["a", "<", "b"], "bbox": [1, 2, 3, 4]},
    ]

    (found,), _ = _split(tmp_path, table(cells=cells))

    assert [(item.text, item.ignore) for item in found.instances] == [(None, True), ("a<b", False)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (table("b.png", cells=CELLS[:1]), "schema"),
        (table("b.png", cells=[{"tokens": [5]}, {}]), "schema"),
        (table("b.png", cells=[{"bbox": [1, 2]}, {}]), "schema"),
        ({"filename": "c.png"}, "schema"),
        (7, "schema"),
        (table(""), "schema"),
        (table(), "id.duplicate"),
    ],
)
def test_a_record_that_is_no_table_is_rejected(tmp_path: Path, row: Any, reason: str) -> None:
    (found,), (rejected,) = _split(tmp_path, table(), row)

    assert (found.key, rejected.reason, rejected.origin.record) == ("a.png", reason, "line 2")


def test_real_tables(samples: Samples) -> None:
    found = list(read(Source(annotations="PubTabNet_Examples.jsonl"), samples("pubtabnet")))

    assert len(found) == 6
    first = found[0]
    assert isinstance(first, Annotation)
    assert (
        first.questions[0]
        .answers[0]
        .startswith(
            "<table><thead><tr><td><b>Variable</b></td><td><b>Hazard ratio</b></td><td><b>95 % CI</b></td>"
        )
    )
    assert (first.instances[0].text, first.instances[0].box) == ("Variable", (1, 4, 27, 13))
