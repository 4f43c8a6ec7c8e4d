from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.formats.vcr import Source, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

RECORD = {
    "annot_id": "val-1",
    "img_fn": "film/1@0.jpg",
    "metadata_fn": "film/1@0.json",
    "objects": ["person", "person", "car"],
    "question": ["Does", "n't", [1], "like", [0, 2], "?"],
    "answer_choices": [
        ["No", ",", [1], "is", "tired", "."],
        ["Yes", "."],
        [[0, 1, 2], "do", "."],
        ["Maybe", "."],
    ],
    "answer_label": 0,
    "rationale_choices": [[[0], "'s", "car", "."], [[2], "is", "red", "."]],
    "rationale_label": 1,
}
METADATA = {
    "names": ["person", "person", "car"],
    "boxes": [[0, 0, 4, 4, 0.9], [4, 0, 8, 4, 0.8], [0, 4, 8, 8, 0.7]],
    "segms": [[[[0, 0], [4, 0], [4, 4], [0, 4]]], [], [[[0, 4], [8, 4], [8, 8]], [[1, 1], [2, 2]]]],
    "width": 8,
    "height": 8,
}


def _read(
    folder: Path, *records: Any, objects: Literal["regions", "names"] = "regions"
) -> list[Annotation | Rejected]:
    (folder / "val.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return list(read(Source(annotations="val.jsonl", images="vcr1images", objects=objects), Root(folder)))


def _metadata(folder: Path, content: Any = METADATA) -> None:
    path = folder / "vcr1images" / "film" / "1@0.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))


def _one(found: list[Annotation | Rejected]) -> Annotation:
    (item,) = found
    assert isinstance(item, Annotation), item
    return item


def _reasons(found: list[Annotation | Rejected]) -> list[str]:
    return [item.reason for item in found if isinstance(item, Rejected)]


def test_objects_that_words_point_at_become_regions_in_the_order_of_their_mention(tmp_path: Path) -> None:
    _metadata(tmp_path)

    item = _one(_read(tmp_path, RECORD))

    asked = item.questions[0]
    assert asked.text == "Doesn't <region1> like <region2> and <region3>?"
    assert asked.instances == (1, 0, 2)
    assert asked.choices == (
        "No, <region1> is tired.",
        "Yes.",
        "<region2>, <region1> and <region3> do.",
        "Maybe.",
    )
    assert (asked.answer_index, asked.answers) == (0, ("No, <region1> is tired.",))
    assert item.images[0].path == "vcr1images/film/1@0.jpg"
    assert (item.images[0].width, item.images[0].height) == (8, 8)


def test_the_second_question_asks_why_the_right_answer_holds(tmp_path: Path) -> None:
    _metadata(tmp_path)

    why = _one(_read(tmp_path, RECORD)).questions[1]

    assert why.text == "Doesn't <region1> like <region2> and <region3>? No, <region1> is tired. Why?"
    assert why.choices == ("<region2>'s car.", "<region3> is red.")
    assert why.answers == ("<region3> is red.",)


def test_boxes_lose_their_score_and_outlines_become_masks(tmp_path: Path) -> None:
    _metadata(tmp_path)

    first, second, third = _one(_read(tmp_path, RECORD)).instances

    assert (first.box, first.category) == ((0, 0, 4, 4), "person")
    assert first.mask is not None
    assert first.mask.size == (8, 8)
    assert second.mask is None
    assert third.mask is not None  # its second ring has two points and is none


def test_names_count_people_as_the_source_does_and_need_no_metadata(tmp_path: Path) -> None:
    item = _one(_read(tmp_path, RECORD, objects="names"))

    assert item.questions[0].text == "Doesn't person 2 like person 1 and car 3?"
    assert item.questions[0].choices[2] == "person 1, person 2 and car 3 do."
    assert item.questions[0].instances == ()
    assert item.instances == ()


def test_a_record_of_the_test_split_has_choices_and_no_answer(tmp_path: Path) -> None:
    record = {key: value for key, value in RECORD.items() if not key.endswith("_label")}

    (asked,) = _one(_read(tmp_path, record, objects="names")).questions

    assert (asked.answer_index, asked.answers, len(asked.choices)) == (None, (), 4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": [[3], "?"]}, "qa.format"),
        ({"question": [[-1], "?"]}, "qa.format"),
        ({"question": [[], "?"]}, "qa.format"),
        ({"question": []}, "text.empty"),
        ({"answer_label": 4}, "qa.format"),
        ({"rationale_label": -1}, "qa.format"),
        ({"question": ["Is", {"it": 1}]}, "schema"),
        ({"objects": None}, "schema"),
    ],
)
def test_a_defective_record_is_rejected_and_costs_no_other(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    found = _read(tmp_path, {**RECORD, **change, "annot_id": "val-0"}, RECORD, objects="names")

    assert _reasons(found) == [reason]
    assert isinstance(found[1], Annotation)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({**METADATA, "boxes": METADATA["boxes"][:2]}, "schema"),  # type: ignore[index]
        ({**METADATA, "boxes": [[0, 0, 4, 4]] * 3}, "schema"),
        ({**METADATA, "width": 0}, "polygon.invalid"),
        ({**METADATA, "height": 10**12}, "schema"),
        ({**METADATA, "width": 10**30}, "schema"),
        ({**METADATA, "segms": [[[[0, 0], [1e300, 0], [4, 4]]], [], []]}, "polygon.invalid"),
        ([], "schema"),
    ],
)
def test_defective_metadata_costs_the_questions_of_its_picture(
    tmp_path: Path, content: Any, reason: str
) -> None:
    _metadata(tmp_path, content)

    assert _reasons(_read(tmp_path, RECORD)) == [reason]


def test_missing_metadata_and_names_that_leave_the_root_are_rejected(tmp_path: Path) -> None:
    climbing = {**RECORD, "annot_id": "val-2", "metadata_fn": "../../../etc/passwd"}

    assert _reasons(_read(tmp_path, RECORD, climbing)) == ["annotation.missing", "annotation.missing"]


def test_a_question_that_comes_twice_is_rejected(tmp_path: Path) -> None:
    assert _reasons(_read(tmp_path, RECORD, RECORD, objects="names")) == ["id.duplicate"]


def test_a_missing_file_is_an_error_of_the_source(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        list(read(Source(annotations="none.jsonl", images="x"), Root(tmp_path)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(sorted(RECORD)), JSON, max_size=3), min_size=1, max_size=4))
def test_any_line_ends_as_one_annotation_or_one_rejection(
    tmp_path: Path, changes: list[dict[str, Any]]
) -> None:
    found = _read(tmp_path, *({**RECORD, **change} for change in changes), objects="names")

    assert len(found) == len(changes)
    keys = [item.key for item in found if isinstance(item, Annotation)]
    assert len(set(keys)) == len(keys)


def test_a_real_record_reads_as_people_wrote_it(samples: Callable[[str], Root]) -> None:
    source = Source(annotations="val.jsonl", images="vcr1images", objects="names")

    (item,) = read(source, samples("vcr"))

    assert isinstance(item, Annotation)
    assert item.questions[0].text == "Does person 1 live in this house?"
    assert item.questions[0].answers == ("No, person 1 is a visitor.",)
    assert item.questions[1].answers == (
        "person 1 is wearing outerwear, holding an umbrella, and there is a car outside.",
    )
