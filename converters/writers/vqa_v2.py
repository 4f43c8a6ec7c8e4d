"""VQA v2: a file of questions and one of annotations with ten answers each, as the reader of that name states it.

A picture goes by its path (`image_id`). Answers stand as often as people gave them. Where nobody knows, the ten are the
accepted ones, as often each as ten allow and the best most often, so that the official evaluation counts them; of more
than ten, each stands once. `question_type` is the
question's first two words, `answer_type` follows from the best answer: that evaluation groups by them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from converters.export_tables import LeftOut
from dataengine.annotation import Annotation, LabelSpace, Question
from dataengine.files import write_atomic
from dataengine.modules import Written

QUESTIONS, ANSWERS = "questions.json", "annotations.json"
NUM_ANSWERS = 10


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `questions.json`, and `annotations.json` if any question has an answer; choices are left out."""
    left_out = LeftOut()
    questions: list[dict[str, Any]] = []
    answered: list[dict[str, Any]] = []
    for item in annotations:
        left_out.unplaced(item, questions=True)
        for question in item.questions:
            if len(item.images) != 1 or not question.text.strip():
                left_out.add("question without text or of several pictures")
                continue
            left_out.add("choices of a question", bool(question.choices))
            left_out.add("rationale of a question", question.rationale is not None)
            left_out.add("regions of a question", bool(question.instances))
            link = {"image_id": item.images[0].path, "question_id": len(questions) + 1}
            questions.append({**link, "question": question.text})
            answered.append({**link, **_annotation(question)})
    # All keys that the official evaluation copies from one file to the next.
    head = {"info": {}, "license": {}, "task_type": "Open-Ended", "data_type": "images", "data_subtype": ""}
    write_atomic(folder / QUESTIONS, msgspec.json.encode({**head, "questions": questions}))
    source = {"questions": QUESTIONS, "media": "{image_id}"}
    if any(record["answers"] for record in answered):
        write_atomic(folder / ANSWERS, msgspec.json.encode({**head, "annotations": answered}))
        source["annotations"] = ANSWERS
    return Written(source, left_out.counts)


def _annotation(question: Question) -> dict[str, Any]:
    accepted = question.answers
    given = [answer for answer, count in zip(accepted, question.votes, strict=False) for _ in range(count)]
    if not accepted and question.answer_index is not None:
        accepted = (question.choices[question.answer_index],)
    answers = given or ten([*dict.fromkeys(answer.strip() for answer in accepted if answer.strip())])
    best = answers[0] if answers else ""
    return {
        "question_type": " ".join(question.text.lower().split()[:2]),
        "answer_type": _kind(best),
        "multiple_choice_answer": best,
        "answers": [
            {"answer": answer, "answer_confidence": "yes", "answer_id": number}
            for number, answer in enumerate(answers, 1)
        ],
    }


def ten(accepted: list[str]) -> list[str]:
    """Return ten answers (none of none, all of more than ten), in order, none more often than one before it."""
    if not accepted:
        return []
    each, more = divmod(NUM_ANSWERS, len(accepted)) if len(accepted) <= NUM_ANSWERS else (1, 0)
    return [answer for place, answer in enumerate(accepted) for _ in range(each + (place < more))]


def _kind(answer: str) -> str:
    if answer.lower() in ("yes", "no"):
        return "yes/no"
    return "number" if answer.replace(".", "", 1).isdecimal() else "other"
