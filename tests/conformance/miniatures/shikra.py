"""Shikra's referential dialogues: a question and an answer whose phrases point to boxes."""

from __future__ import annotations

import json
from pathlib import Path

from converters.formats.shikra import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, box_of, draw, write

ANSWER = "<ph_st>The dog<ph_ed> runs after <ph_st>a ball<ph_ed>, so it plays. The answer is yes."


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures with a question each."""
    rows = []
    for number in (1, 2):
        draw(root / source.images / f"{number}.jpg")
        rows.append({
            "img_path": f"{number}.jpg", "question": "Does <ph_st>the dog<ph_ed> play?", "answer": "Yes.",
            "cot_with_ans": ANSWER, "boxes": [box_of(0), box_of(1)], "question_boxes_seq": [[0]],
            "answer_boxes_seq": [[0], [1]],
        })  # fmt: skip
    write(root / source.annotations, "".join(f"{json.dumps(row)}\n" for row in rows))
    said = "<p>The dog</p><region1> runs after <p>a ball</p><region2>, so it plays. The answer is yes."
    return Made(2, frozenset({said if source.answer == "cot_with_ans" else "Yes."}))
