from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from converters.formats.groma import Source, read
from dataengine.annotation import Annotation, Rejected
from dataengine.files import Root

ANSWER = "<p>Two dogs</p> <roi><ground_box><ground_box></roi> chase <p> a cat</p> <roi><ground_box></roi>, <p>fun</p>."
TALK: list[dict[str, Any]] = [
    {"from": "human", "value": "What happens?"},
    {"from": "gpt", "value": ANSWER, "box_inds": [2, 0, 1]},
]
ITEM = {
    "file_name": "VG_100K/9.jpg",
    "width": 50,
    "height": 40,
    "boxes": [[1, 2, 3, 4], [5, 5, 5, 5], [0, 0, 9, 9]],
    "conversation": TALK,
}


def _split(folder: Path, *items: Any) -> tuple[list[Annotation], list[Rejected]]:
    (folder / "a.json").write_text(json.dumps(items))
    found = list(read(Source(annotations="a.json", images="vg"), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_an_answer_marks_its_boxes_by_number(tmp_path: Path) -> None:
    (found,), rejected = _split(tmp_path, ITEM)

    assert rejected == []
    assert (found.key, found.images[0].path) == ("9", "vg/VG_100K/9.jpg")
    assert [item.box for item in found.instances] == [(1, 2, 4, 6), (5, 5, 10, 10), (0, 0, 9, 9)]
    assert [turn.text for turn in found.dialogs[0].turns] == [
        "What happens?",
        "<p>Two dogs</p><region3><region1> chase <p> a cat</p><region2>, <p>fun</p>.",
    ]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([TALK[0], {**TALK[1], "box_inds": [0, 1]}], "qa.format"),
        ([TALK[0], {**TALK[1], "box_inds": [0, 1, 3]}], "id.orphan"),
        ([TALK[0], {**TALK[1], "box_inds": [0, 1, -1]}], "id.orphan"),
        ([TALK[0], {**TALK[1], "box_inds": None}], "qa.format"),
        ([TALK[1]], "turn.role"),
        ([{"from": "human"}], "schema"),
    ],
)
def test_a_conversation_that_contradicts_its_boxes_is_rejected(
    tmp_path: Path, turns: list[Any], reason: str
) -> None:
    (found,), (rejected,) = _split(tmp_path, {**ITEM, "conversation": turns}, ITEM)

    assert found.key == "9"
    assert (rejected.reason, rejected.origin.record) == (reason, "[0]")


@pytest.mark.parametrize(
    "change", [{"boxes": [[1, 2]] * 3}, {"boxes": 5}, {"file_name": ""}, {"width": "wide"}]
)
def test_a_defective_item_is_rejected(tmp_path: Path, change: dict[str, Any]) -> None:
    found, (rejected,) = _split(tmp_path, {**ITEM, **change})

    assert found == []
    assert rejected.reason == "schema"
