"""VQA v2: questions beside annotations with several answers."""

from __future__ import annotations

import json
from pathlib import Path

from converters.formats.vqa_v2 import Source, media
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, draw, write

SAID = (("What is red?", "wall"), ("How many are there?", "2"), ("Is it day?", "yes"))


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write three questions of as many pictures."""
    questions, annotations = [], []
    for number, (question, answer) in enumerate(SAID, start=1):
        draw(root / source.images / media(source.media, number))
        questions.append({"question_id": 10 * number, "image_id": number, "question": question})
        answers = [
            {"answer_id": one, "answer": text} for one, text in enumerate((answer, "who knows", answer))
        ]
        annotations.append({"question_id": 10 * number, "image_id": number, "answers": answers})
    write(root / source.questions, json.dumps({"questions": questions}))
    words = {question for question, _ in SAID}
    if source.annotations is not None:
        write(root / source.annotations, json.dumps({"annotations": annotations}))
        words |= {answer for _, answer in SAID}
    return Made(len(SAID), frozenset(words))
