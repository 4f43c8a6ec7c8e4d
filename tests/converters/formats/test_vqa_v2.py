from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.vqa_v2 import Source, check_media, media, read
from dataengine.annotation import Annotation, Question, Rejected
from dataengine.errors import Quarantine, SourceError, SpecError
from dataengine.files import Root

Samples = Callable[[str], Root]
RULE = "COCO_val2014_{image_id:012d}.jpg"
SOURCE = Source(questions="q.json", annotations="a.json", images="val2014", media=RULE)
TEST = Source(questions="q.json", images="val2014", media=RULE)


def _question(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {"question_id": number, "image_id": 42, "question": "Where is  it?\n", **fields}


def _answered(number: int = 1, *answers: str, **fields: Any) -> dict[str, Any]:
    rows = [{"answer": answer, "answer_id": place} for place, answer in enumerate(answers)]
    return {"question_id": number, "answers": rows, "multiple_choice_answer": "wrong", **fields}


def _root(folder: Path, questions: list[Any], annotations: list[Any]) -> Root:
    (folder / "q.json").write_text(json.dumps({"questions": questions}))
    (folder / "a.json").write_text(json.dumps({"annotations": annotations}))
    return Root(folder)


def _split(root: Root, source: Source = SOURCE) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(source, root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_question_meets_its_answers(tmp_path: Path) -> None:
    root = _root(tmp_path, [_question(1), _question(2)], [_answered(2, "yes"), _answered(1, "down")])

    (first, second), rejected = _split(root)

    assert rejected == []
    assert first.key == "1"
    assert first.images[0].path == "val2014/COCO_val2014_000000000042.jpg"
    asked = Question(id="", text="Where is it?", answers=("down",), votes=(1,), stated="wrong")
    assert first.questions == (asked,)
    assert second.questions[0].answers == ("yes",)
    assert (first.origin.file, first.origin.record) == ("q.json", "questions[0]")
    assert not first.exhaustive


def test_the_most_frequent_answer_comes_first_and_ties_keep_their_order(tmp_path: Path) -> None:
    answers = ("table", "down ", "skateboard", "down", "", "skateboard", "floor")
    root = _root(tmp_path, [_question()], [_answered(1, *answers)])

    (found,), _ = _split(root)

    assert found.questions[0].answers == ("down", "skateboard", "table", "floor")


def test_answers_may_be_plain_text(tmp_path: Path) -> None:
    root = _root(tmp_path, [_question()], [{"question_id": 1, "answers": ["a", "b", "b"]}])

    (found,), _ = _split(root)

    assert found.questions[0].answers == ("b", "a")


def test_without_annotations_questions_have_no_answer(tmp_path: Path) -> None:
    (found,), rejected = _split(_root(tmp_path, [_question()], []), TEST)

    assert found.questions[0].answers == ()
    assert rejected == []


def test_ids_as_numbers_and_as_text_are_the_same(tmp_path: Path) -> None:
    root = _root(tmp_path, [_question(1)], [_answered(1, "yes", question_id="1")])

    (found,), rejected = _split(root)

    assert found.questions[0].answers == ("yes",)
    assert rejected == []


@pytest.mark.parametrize(
    ("question", "annotation", "reason", "place"),
    [
        (_question(3), None, "id.orphan", "questions[0]"),
        (None, _answered(3, "x"), "id.orphan", "annotations[0]"),
        (_question(2), None, "id.duplicate", "questions[1]"),
        (None, _answered(2, "x"), "id.duplicate", "annotations[1]"),
        (_question(3, question=" "), _answered(3, "x"), "text.empty", "questions[0]"),
        (_question(3, question=5), None, "schema", "questions[0]"),
        (_question(3, image_id="abc"), _answered(3, "x"), "schema", "questions[0]"),
    ],
)
def test_a_defective_record_is_rejected_alone(
    tmp_path: Path, question: Any, annotation: Any, reason: str, place: str
) -> None:
    questions = [item for item in (question, _question(2)) if item]
    annotations = [item for item in (annotation, _answered(2, "yes")) if item]

    (found,), (rejected,) = _split(_root(tmp_path, questions, annotations))

    assert found.key == "2"
    assert (rejected.reason, rejected.origin.record) == (reason, place)
    assert rejected.detail


def test_a_broken_annotation_costs_its_own_question_alone(tmp_path: Path) -> None:
    annotations = [{"question_id": 1, "answers": [{"answer": 5}]}, _answered(2, "yes")]

    (found,), rejected = _split(_root(tmp_path, [_question(1), _question(2)], annotations))

    assert found.key == "2"
    assert [(item.reason, item.origin.file) for item in rejected] == [
        ("schema", "a.json"),
        ("id.orphan", "q.json"),
    ]


@pytest.mark.parametrize(
    ("rule", "image_id", "name"),
    [
        (RULE, 262148, "COCO_val2014_000000262148.jpg"),
        (RULE, "262148", "COCO_val2014_000000262148.jpg"),
        ("{image_id}.jpg", 5, "5.jpg"),
        ("{image_id}.jpg", "0005", "0005.jpg"),
        ("{image_id}", "VizWiz_val_00000000.jpg", "VizWiz_val_00000000.jpg"),
        ("{{x}}/{image_id:06}.png", 7, "{x}/000007.png"),
    ],
)
def test_a_picture_is_named_by_the_rule(rule: str, image_id: int | str, name: str) -> None:
    check_media(rule)

    assert media(rule, image_id) == name


@pytest.mark.parametrize(
    "rule",
    [
        "{image_id.__class__}.jpg",
        "{image_id[0]}.jpg",
        "{image_id!r}.jpg",
        "{0}.jpg",
        "{}.jpg",
        "{question_id}.jpg",
        "{image_id:>99999999}",
        "{image_id:{image_id}}",
        "{image_id:.3f}",
        "{image_id",
        "one.jpg",
    ],
)
def test_a_rule_that_could_say_more_is_refused(tmp_path: Path, rule: str) -> None:
    root = _root(tmp_path, [_question()], [_answered(1, "yes")])

    with pytest.raises(SpecError, match=r"^source\.media: "):
        _split(root, Source(questions="q.json", annotations="a.json", media=rule))


def test_a_word_where_the_rule_wants_a_number_is_a_defect_of_the_record() -> None:
    with pytest.raises(Quarantine, match="schema"):
        media(RULE, "abc")


@pytest.mark.parametrize("text", ["[]", '{"questions": {}}', '{"questions": [', "{}"])
def test_another_layout_is_an_error(tmp_path: Path, text: str) -> None:
    root = _root(tmp_path, [], [])
    (tmp_path / "q.json").write_text(text)

    with pytest.raises(SourceError, match=r"^q\.json: .*'questions'"):
        _split(root)


def test_real_vqa_v2_joins(samples: Samples) -> None:
    source = Source(
        questions="v2_OpenEnded_mscoco_val2014_questions.json",
        annotations="v2_mscoco_val2014_annotations.json",
        images="val2014",
        media=RULE,
    )

    (found,), rejected = _split(samples("vqav2"), source)

    assert rejected == []
    assert found.key == "262148000"
    assert found.images[0].path == "val2014/COCO_val2014_000000262148.jpg"
    assert found.questions[0].text == "Where is he looking?"
    assert found.questions[0].answers[:2] == ("down", "at table")


def test_real_textvqa_conversion_joins(samples: Samples) -> None:
    source = Source(
        questions="val_questions_vqa_format.json",
        annotations="val_annotations_vqa_format.json",
        media="{image_id}.jpg",
    )

    found, rejected = _split(samples("textvqa"), source)

    assert rejected == []
    assert len(found) == 25
    assert all(item.questions[0].answers for item in found)
