from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from converters.formats.shikra import Source, read
from dataengine.annotation import Annotation, Rejected
from dataengine.files import Root

ITEM: dict[str, Any] = {
    "img_path": "123.jpg",
    "boxes": [[1, 2, 30, 40], [5, 5, 9, 9.5]],
    "question": "Why does <ph_st>the man<ph_ed> wave?",
    "question_boxes_seq": [[0]],
    "cot_with_ans": "<ph_st> The man <ph_ed> sees <ph_st>a dog<ph_ed>  and <boxes>.",
    "answer_boxes_seq": [[0], [1], [1, 0]],
    "answer": "He greets <ph_st>a dog<ph_ed>.",
}


def _split(folder: Path, *items: Any, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    lines = [item if isinstance(item, str) else json.dumps(item) for item in items]
    (folder / "a.jsonl").write_text("\n".join(lines))
    found = list(read(Source(annotations="a.jsonl", **options), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_phrases_and_bare_boxes_become_marks(tmp_path: Path) -> None:
    (found,), rejected = _split(tmp_path, ITEM, images="flickr30k")

    assert rejected == []
    assert (found.key, found.images[0].path) == ("123", "flickr30k/123.jpg")
    assert [item.box for item in found.instances] == [(1, 2, 30, 40), (5, 5, 9, 9.5)]
    assert [(turn.role, turn.text) for turn in found.dialogs[0].turns] == [
        ("user", "Why does <p>the man</p><region1> wave?"),
        ("assistant", "<p>The man</p><region1> sees <p>a dog</p><region2> and <region2><region1>."),
    ]


def test_the_short_answer_has_no_boxes(tmp_path: Path) -> None:
    (found,), _ = _split(tmp_path, ITEM, answer="answer")

    assert found.dialogs[0].turns[1].text == "He greets <p>a dog</p>."


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer_boxes_seq": [[0]]}, "qa.format"),
        ({"question_boxes_seq": [[0], [1]]}, "qa.format"),
        ({"question_boxes_seq": [[2]]}, "id.orphan"),
        ({"question_boxes_seq": [[-1]]}, "id.orphan"),
        ({"cot_with_ans": " "}, "text.empty"),
        ({"cot_with_ans": None}, "text.empty"),
        ({"boxes": [[1, 2, 3]] * 2}, "schema"),
        ({"boxes": "many"}, "schema"),
        ({"img_path": ""}, "schema"),
    ],
)
def test_a_defective_line_is_rejected_alone(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    (found,), (rejected,) = _split(tmp_path, {**ITEM, **change}, ITEM)

    assert found.key == "123"
    assert (rejected.reason, rejected.origin.record) == (reason, "line 1")


def test_a_line_that_is_no_json_is_rejected_alone(tmp_path: Path) -> None:
    (found,), (rejected,) = _split(tmp_path, ITEM, '{"img_path": ')

    assert found.key == "123"
    assert (rejected.key, rejected.reason) == ("line 2", "schema")


def test_phrases_that_never_end_take_no_longer_than_others(tmp_path: Path) -> None:
    text = f"{'<ph_st>' * 30_000}<boxes>"
    started = time.process_time()

    (found,), rejected = _split(tmp_path, {**ITEM, "cot_with_ans": text, "answer_boxes_seq": [[1]]})

    assert rejected == []
    assert found.dialogs[0].turns[1].text == f"{'<ph_st>' * 30_000}<region2>"
    assert time.process_time() - started < 10
