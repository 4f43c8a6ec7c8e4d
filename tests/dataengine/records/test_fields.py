from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from dataengine.annotation import Annotation, Box, Caption, Edit, Image, Instance, Measure, Origin, Turn
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import mask_from_rle, rle_from_mask
from dataengine.records.facts import Fields
from dataengine.records.fields import Context, annotate, evenly

LABELS = ("cat", "dog")


def _annotate(
    row: dict[str, Any], root: Path, names: tuple[str, ...] | None = None, key: str = "k", **fields: Any
) -> Annotation:
    declared = msgspec.convert(fields, Fields, strict=True)
    context = Context(
        images=declared.image_facts(), captions=declared.caption_facts(), names=names, root=Root(root)
    )
    return annotate(declared, row, key, Origin(file="t", record="r"), context)


def _reason(row: dict[str, Any], root: Path, **fields: Any) -> tuple[str, str]:
    with pytest.raises(Quarantine) as caught:
        _annotate(row, root, **fields)
    return caught.value.reason, caught.value.detail


def test_pictures_are_named_by_templates_with_what_the_row_says_of_them(tmp_path: Path) -> None:
    row = {"id": 7, "w": "640", "h": 480, "by": "CC0-1.0", "more": [{"p": "./b.jpg"}, {"p": "c.jpg"}]}

    made = _annotate(
        row,
        tmp_path,
        images=[
            {"path": "a/{id:03d}.jpg", "width": "w", "height": "h", "license": "by"},
            {"each": "more", "path": "{it.p}", "role": "target"},
            {"path": {"from": "more[1].p", "ops": [{"prefix": "x/"}]}, "when": "id == 7"},
            {"path": "never", "when": "id != 7"},
        ],
    )

    assert made.images == (
        Image(path="a/007.jpg", width=640, height=480, license="CC0-1.0"),
        Image(path="b.jpg", role="target"),
        Image(path="c.jpg", role="target"),
        Image(path="x/c.jpg"),
    )


def test_frames_are_evenly_spaced_numbers_of_pictures(tmp_path: Path) -> None:
    row = {"film": "a", "from": "11", "to": 20, "clips": [7, 8, 9, 10, 11]}

    made = _annotate(
        row,
        tmp_path,
        images=[
            {"path": "{film}/{$frame:03d}.jpg", "frames": {"count": 2, "first": "from", "last": "to"}},
            {"path": "all/{$frame}.jpg", "frames": {"count": 3}},
            {"path": "{it}.jpg", "each": "clips", "most": 2},
            {"path": "x{it}.jpg", "each": "clips", "most": 9},
        ],
    )

    assert [image.path for image in made.images] == [
        "a/013.jpg", "a/018.jpg",
        "all/0.jpg", "all/1.jpg", "all/2.jpg",
        "8.jpg", "10.jpg",
        "x7.jpg", "x8.jpg", "x9.jpg", "x10.jpg", "x11.jpg",
    ]  # fmt: skip


@given(first=st.integers(0, 50), total=st.integers(1, 200), count=st.integers(1, 20))
def test_evenly_spaced_numbers_rise_stay_inside_and_leave_like_gaps(
    first: int, total: int, count: int
) -> None:
    found = evenly(first, first + total - 1, count)

    gaps = {after - before for before, after in pairwise(found)}
    assert len(found) == min(count, total) == len(set(found))
    assert found == sorted(found) and first <= found[0] and found[-1] < first + total
    assert not gaps or max(gaps) - min(gaps) <= 1
    # As much is left out before the first as after the last.
    assert abs((found[0] - first) - (first + total - 1 - found[-1])) <= 1


def test_frames_that_end_before_they_begin_reject_the_item(tmp_path: Path) -> None:
    image = {"path": "{$frame}.jpg", "frames": {"count": 2, "first": 5, "last": "to"}}

    assert _reason({"to": 4}, tmp_path, images=image) == (
        "schema",
        "images.frames: from 5 to 4, expected at least one",
    )


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ({"path": "a", "most": 3}, "most: 3 of what 'each' names"),
        ({"path": "a", "each": "b", "most": 0}, "expected at least one of a list"),
        ({"path": "a", "frames": {"count": 0}}, "count 0, expected at least one frame"),
        (
            {"path": "a", "measure": {"quantity": "depth", "unit": "m", "scale": 0}},
            "expected a scale above 0",
        ),
        ({"path": "a", "measure": {"quantity": "deep", "unit": "m"}}, "Invalid enum value 'deep'"),
        ({"path": "a", "measure": {"quantity": "depth", "unit": "m", "rotated": 16}}, "0 to 15 bits"),
    ],
)
def test_a_picture_that_cannot_be_is_refused(image: dict[str, Any], words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.convert({"images": image}, Fields, strict=True)


def test_what_a_picture_measures_is_stated_and_its_scale_may_stand_in_the_row(tmp_path: Path) -> None:
    fact = {"path": "d.png", "role": "target", "measure": {"quantity": "depth", "unit": "m", "invalid": [0]}}
    fact["measure"]["scale"] = "scale"  # type: ignore[index]

    (image,) = _annotate({"scale": "256"}, tmp_path, images=fact).images

    assert image.measure == Measure(quantity="depth", unit="m", scale=256.0, invalid=(0,))
    for bad in ("0", "nan", None):
        reason, detail = _reason({"scale": bad}, tmp_path, images=fact)
        assert reason == "schema" and detail.startswith("images.measure: scale")


def test_a_run_length_code_is_a_mask_and_an_empty_one_no_object(tmp_path: Path) -> None:
    shown = np.array([[0, 1], [1, 1]], np.uint8)
    code = rle_from_mask(shown)
    row = {"masks": [{"size": [2, 2], "counts": code.counts}, None, {"size": [2, 2], "counts": [1, 3]}]}

    made = _annotate(row, tmp_path, images="a", instances={"each": "masks", "id": "$it", "rle": "it"})

    assert [item.id for item in made.instances] == ["0", "2"]
    for item in made.instances:
        assert item.mask is not None and np.array_equal(mask_from_rle(item.mask), shown)
    for bad, reason in (("text", "schema"), ({"size": [2, 2], "counts": [1, 9]}, "rle.invalid")):
        assert _reason({"m": bad}, tmp_path, images="a", instances={"rle": "m"})[0] == reason


def test_a_mask_is_stated_once() -> None:
    with pytest.raises(msgspec.ValidationError, match="rle: stands beside polygon"):
        msgspec.convert({"instances": {"rle": "a", "polygon": {"from": "b"}}}, Fields, strict=True)


def test_captions_come_from_text_and_from_lists(tmp_path: Path) -> None:
    row = {"one": "a cat", "many": [" x ", "y"], "zh": "猫", "none": None}

    made = _annotate(
        row,
        tmp_path,
        captions=[
            "one",
            {"text": {"from": "many", "ops": ["strip"]}},
            {"text": "zh", "lang": "zh"},
            "none",
            {"text": {"from": "absent", "default": None}},
        ],
    )

    assert made.captions == (
        Caption(id="c0", text="a cat"),
        Caption(id="c1", text="x"),
        Caption(id="c2", text="y"),
        Caption(id="c3", text="猫", lang="zh"),
    )


def test_objects_have_all_that_an_instance_can_say(tmp_path: Path) -> None:
    row = {
        "objects": {
            "a": {"class": 1, "box": [1, 2, 3, 4], "say": "EXIT", "color": "red", "crowd": 0},
            "b": {"class": 0, "box": None, "say": None, "color": None, "crowd": 1},
        }
    }

    made = _annotate(
        row,
        tmp_path,
        names=LABELS,
        instances={
            "each": "objects",
            "id": "$it",
            "category": "it.class",
            "names": 0,
            "box": {"from": "it.box", "format": "xywh"},
            "text": "it.say",
            "attributes": {"color": "it.color"},
            "crowd": "it.crowd == 1",
            "difficult": "it.`class` == 1",
        },
    )

    assert made.instances == (
        Instance(
            id="a", category="dog", box=(1, 2, 4, 6), text="EXIT", attributes={"color": "red"}, difficult=True
        ),
        Instance(id="b", category="cat", crowd=True),
    )


boxes = st.tuples(*[st.integers(0, 400)] * 4).map(
    lambda n: (float(n[0]), float(n[1]), float(n[0] + n[2] + 1), float(n[1] + n[3] + 1))
)


@settings(deadline=None, max_examples=150)
@given(
    box=boxes,
    layout=st.sampled_from(["xywh", "xyxy", "cxcywh", "yxyx", "xxyy"]),
    origin=st.sampled_from([0, 1]),
    end=st.sampled_from(["exclusive", "inclusive"]),
    unit=st.sampled_from(["px", "norm", "thousandth"]),
    scale=st.sampled_from([1.0, 2.0]),
    as_text=st.booleans(),
)
def test_a_box_means_the_same_however_it_is_written(
    box: Box, layout: str, origin: int, end: str, unit: str, scale: float, as_text: bool
) -> None:
    width, height = 1000, 800
    if unit != "px":
        origin = 0
    if unit != "px" or layout in ("xywh", "cxcywh"):
        end = "exclusive"
    last = 1 if end == "inclusive" else 0
    x0, y0, x1, y1 = box[0] + origin, box[1] + origin, box[2] + origin - last, box[3] + origin - last
    fx, fy = {"px": (1, 1), "norm": (width, height), "thousandth": (width / 1000, height / 1000)}[unit]
    x0, x1, y0, y1 = x0 / fx, x1 / fx, y0 / fy, y1 / fy
    written = {
        "xywh": [x0, y0, x1 - x0, y1 - y0],
        "xyxy": [x0, y0, x1, y1],
        "cxcywh": [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0],
        "yxyx": [y0, x0, y1, x1],
        "xxyy": [x0, x1, y0, y1],
    }[layout]
    written = [number / scale for number in written]
    row = {"box": [repr(number) for number in written] if as_text else written, "w": width, "h": height}

    made = _annotate(
        row,
        Path(),
        images={"path": "a.jpg", "width": "w", "height": "h"},
        instances={
            "box": {
                "from": "box",
                "format": layout,
                "origin": origin,
                "end": end,
                "unit": unit,
                "scale": scale,
            }
        },
    )

    assert made.instances[0].box == pytest.approx(box, abs=1e-6)


def test_a_share_of_the_side_needs_a_size_and_the_picture_has_one(tmp_path: Path) -> None:
    Picture.new("RGB", (40, 20)).save(tmp_path / "a.png")
    fields: dict[str, Any] = {"instances": {"box": {"from": "box", "format": "xyxy", "unit": "norm"}}}
    row = {"box": [0.25, 0.5, 1, 1]}

    made = _annotate(row, tmp_path, images="a.png", **fields)

    assert made.instances[0].box == (10.0, 10.0, 40.0, 20.0)
    assert _reason(row, tmp_path, images="b.png", **fields)[0] == "image.missing"
    assert _reason(row, tmp_path, **fields)[0] == "schema"


def test_four_corners_make_an_upright_box_too(tmp_path: Path) -> None:
    row = {"flat": [10, 2, 4, 2, 4, 8, 10, 8], "points": [[11, 3], [5, 3], [5, 9], [11, 9]]}

    made = _annotate(
        row, tmp_path, instances=[{"quad": {"from": "flat"}}, {"quad": {"from": "points", "origin": 1}}]
    )

    assert made.instances[0].quad == made.instances[1].quad == (10, 2, 4, 2, 4, 8, 10, 8)
    assert made.instances[0].box == (4, 2, 10, 8)


@pytest.mark.parametrize(
    "polygon",
    [
        [2, 1, 6, 1, 6, 4, 2, 4],
        [[2, 1], [6, 1], [6, 4], [2, 4]],
        [[2, 1, 6, 1, 6, 4, 2, 4]],
        [[[2, 1], [6, 1], [6, 4], [2, 4]]],
    ],
)
def test_a_polygon_stays_an_outline_however_it_is_written(tmp_path: Path, polygon: list[Any]) -> None:
    row = {"polygon": polygon, "w": 10, "h": 8}

    made = _annotate(
        row,
        tmp_path,
        images={"path": "a.jpg", "width": "w", "height": "h"},
        instances={"polygon": {"from": "polygon"}},
    )

    (one,) = made.instances
    assert (one.mask, one.polygons) == (None, ((2, 1, 6, 1, 6, 4, 2, 4),))


def test_an_expression_names_its_own_box_or_objects_by_their_ids(tmp_path: Path) -> None:
    row = {"objects": [{"id": 4}, {"id": 9}], "box": [0, 0, 2, 2], "refs": [{"say": "both", "ids": [9, 4]}]}

    made = _annotate(
        row,
        tmp_path,
        instances={"each": "objects", "id": "it.id"},
        expressions=[
            {"each": "refs", "text": "it.say", "instances": "it.ids"},
            {"text": {"template": "the corner"}, "box": {"from": "box", "format": "xyxy"}},
            {"text": {"template": "nothing"}, "instances": {"from": "none", "default": None}},
        ],
    )

    assert [(one.text, one.instances) for one in made.expressions] == [
        ("both", (1, 0)),
        ("the corner", (2,)),
        ("nothing", ()),
    ]
    assert made.instances[2].box == (0, 0, 2, 2)


@pytest.mark.parametrize(
    ("answer", "index", "answers"),
    [
        ({"answer_index": "n"}, 1, ("b",)),
        ({"answer_index": "n", "index_origin": 1}, 0, ("a",)),
        ({"answer_letter": "letter"}, 1, ("b",)),
        ({"answers": "free"}, None, ("b", "B")),
        ({"answers": "free", "answer_letter": "letter"}, 1, ("b", "B")),
        ({}, None, ()),
    ],
)
def test_a_question_knows_its_right_choice(
    tmp_path: Path, answer: dict[str, Any], index: int | None, answers: tuple[str, ...]
) -> None:
    row = {
        "q": "Which?",
        "A": "a",
        "B": "b",
        "C": None,
        "n": 1,
        "letter": " (B).",
        "free": ["b", "B"],
        "why": None,
    }
    choices = {"from": ["A", "B", "C"], "ops": ["present"]}

    made = _annotate(row, tmp_path, questions={"text": "q", "choices": choices, "rationale": "why", **answer})

    (question,) = made.questions
    assert (question.choices, question.answer_index, question.answers) == (("a", "b"), index, answers)
    assert question.rationale is None


def test_choices_are_shuffled_by_the_key_alone(tmp_path: Path) -> None:
    row = {"right": "r", "wrong": "w", "n": 0}
    declared = {
        "text": {"template": "Which?"},
        "choices": {"from": ["right", "wrong"]},
        "answer_index": "n",
        "shuffle_choices": True,
    }

    made = [_annotate(row, tmp_path, key=str(n), questions=declared).questions[0] for n in range(64)]
    again = [_annotate(row, tmp_path, key=str(n), questions=declared).questions[0] for n in range(64)]

    assert made == again
    assert all(one.answer_index is not None and one.choices[one.answer_index] == "r" for one in made)
    assert 16 < sum(one.answer_index == 0 for one in made) < 48


def test_a_dialog_is_read_from_turns_in_any_dress(tmp_path: Path) -> None:
    row = {
        "conversations": [
            {"from": "system", "value": "Be kind."},
            {"from": "human", "value": "<ImageHere>What?"},
            {"from": "teacher", "value": [{"type": "text", "text": "A cat"}, {"type": "image"}]},
        ],
        "q": "Why?",
        "a": "So.",
    }

    made = _annotate(
        row,
        tmp_path,
        dialogs=[
            {
                "turns": "conversations",
                "role": "turn.from",
                "text": "turn.value",
                "roles": {"teacher": "assistant"},
                "image_tokens": ["<ImageHere>"],
            },
            {"question": "q", "answer": "a"},
        ],
    )

    assert [dialog.turns for dialog in made.dialogs] == [
        (Turn("system", "Be kind."), Turn("user", "<image>What?"), Turn("assistant", "A cat\n<image>")),
        (Turn("user", "Why?"), Turn("assistant", "So.")),
    ]


def test_labels_negatives_maps_and_edits_are_facts_too(tmp_path: Path) -> None:
    row = {"y": 2, "no": "bird", "there": False, "d": "depth/1.png", "do": "make it night"}

    made = _annotate(
        row,
        tmp_path,
        names=LABELS,
        images=["a.jpg", {"path": "b.jpg", "role": "target"}],
        labels="y",
        label_names=1,
        negatives={"from": "no", "when": "there == false"},
        maps={"depth": "{d}"},
        edits={"instruction": "do"},
        exhaustive=False,
    )

    assert made.labels == ("dog",)
    assert made.negatives == ("bird",)
    assert made.maps == {"depth": "depth/1.png"}
    assert made.edits == (Edit(id="d0", instruction="make it night", before=0, after=1),)
    assert not made.exhaustive


@pytest.mark.parametrize(
    ("fields", "reason", "words"),
    [
        ({"images": "{x}.jpg"}, "field.missing", "images: no x"),
        ({"images": {"path": "a", "width": "s"}}, "schema", "images.width is 'word'"),
        ({"captions": "x.y"}, "field.missing", "captions.text: no x.y"),
        ({"captions": "flag"}, "schema", "captions.text is a truth value, expected text"),
        ({"captions": {"text": {"from": "l", "ops": ["lower"]}}}, "schema", "1 is a number"),
        ({"captions": {"each": "s", "text": "it"}}, "schema", "expected a list or a mapping"),
        ({"captions": {"each": "x", "text": "it"}}, "field.missing", "captions: no x"),
        ({"captions": {"each": ["l", "x"], "text": "it[0]"}}, "field.missing", "captions: no x"),
        (
            {"captions": {"each": ["l", "s"], "text": "it[0]"}},
            "schema",
            "captions s is text, expected a list",
        ),
        (
            {"captions": {"each": ["l", "turns"], "text": "it[0]"}},
            "schema",
            "3 l, 1 turns; expected as many of each",
        ),
        (
            {"captions": {"text": {"from": "s", "ops": [{"regex_take": "z"}]}}},
            "field.missing",
            "find nothing",
        ),
        ({"instances": {"category": "s"}}, "category.unknown", "'word' is not among the labels"),
        ({"instances": {"category": "n", "names": 1}}, "category.unknown", "7 is not among the 2 labels"),
        ({"instances": {"box": {"from": "l", "format": "xyxy"}}}, "schema", "has 3 numbers, expected 4"),
        ({"instances": {"box": {"from": "s", "format": "xyxy"}}}, "schema", "is text, expected a list"),
        ({"instances": {"box": {"from": "mixed", "format": "xyxy"}}}, "schema", "expected numbers"),
        ({"instances": {"quad": {"from": "l"}}}, "schema", "expected 8"),
        (
            {"images": {"path": "a", "width": "n", "height": "n"}, "instances": {"polygon": {"from": "l"}}},
            "polygon.invalid",
            "polygon",
        ),
        ({"expressions": {"text": "s", "instances": "n"}}, "id.orphan", "no instance has id 7"),
        (
            {"questions": {"text": "s", "choices": "l", "answer_index": "n"}},
            "qa.format",
            "the answer is choice 7 of 3",
        ),
        (
            {"questions": {"text": "s", "choices": "l", "answer_letter": "s"}},
            "qa.format",
            "expected a letter",
        ),
        ({"questions": {"text": "null"}}, "field.missing", "questions.text is null"),
        ({"dialogs": {"turns": "turns", "role": "turn.r", "text": "turn.t"}}, "turn.role", "'cat', expected"),
        ({"dialogs": {"question": "s", "answer": "null"}}, "field.missing", "null"),
        ({"edits": {"instruction": "s"}}, "schema", "before 0, after 1 of 0 images"),
        ({"labels": "s"}, "category.unknown", "'word'"),
    ],
)
def test_a_row_that_does_not_say_it_is_rejected_with_the_place(
    tmp_path: Path, fields: dict[str, Any], reason: str, words: str
) -> None:
    row = {
        "s": "word",
        "n": 7,
        "l": [1, 2, 3],
        "flag": True,
        "null": None,
        "mixed": [1, 2, "x", 4],
        "turns": [{"r": "cat", "t": "miau"}],
    }

    found, detail = _reason(row, tmp_path, names=LABELS, **fields)

    assert found == reason
    assert words in detail


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"captions": "a..b"}, "path 'a..b'"),
        ({"captions": {"text": {"from": "a", "ops": ["stirp"]}}}, "did you mean 'strip'"),
        ({"captions": {"text": {"ops": ["strip"]}}}, "either 'from' or 'template'"),
        ({"images": "{a"}, "template"),
        ({"instances": {"crowd": "f(x)"}}, "condition"),
        ({"instances": {"names": 0}}, "needs a category"),
        ({"instances": {"box": {"from": "b", "format": "xywh", "end": "inclusive"}}}, "end: inclusive"),
        ({"instances": {"box": {"from": "b", "format": "xyxy", "unit": "norm", "origin": 1}}}, "origin: 1"),
        ({"expressions": {"text": "t"}}, "either 'box' or 'instances'"),
        ({"questions": {"text": "t", "answer_index": "a"}}, "choices: missing"),
        ({"dialogs": {"turns": "t"}}, "a dialog needs"),
        ({"dialogs": {"question": "q", "answer": "a", "role": "r"}}, "a dialog needs"),
        ({"instances": {"bbox": {}}}, "unknown field `bbox`"),
    ],
)
def test_a_wrong_declaration_is_found_without_data(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=words.replace("(", r"\(")):
        msgspec.convert(fields, Fields, strict=True)


@pytest.mark.parametrize(
    ("fact", "points", "expected"),
    [
        ({"format": "xyv"}, [1, 2, 2, 3, 4, 1, 9, 9, 0], [(1, 2, 2), (3, 4, 1), (0, 0, 0)]),
        ({"format": "xyv"}, [[1, 2, 2], None, [3, None, 1]], [(1, 2, 2), (0, 0, 0), (0, 0, 0)]),
        ({"format": "xyv", "visible": {"1": 2, "3": 0}}, [[1, 2, 1], [3, 4, 3]], [(1, 2, 2), (0, 0, 0)]),
        ({"format": "xy", "absent": [-1]}, [[1, 2], [-1, -1], [-1, 5]], [(1, 2, 2), (0, 0, 0), (-1, 5, 2)]),
        ({"format": "xy", "unit": "norm"}, [0.5, 0.5, 1, 0], [(20, 15, 2), (40, 0, 2)]),
        ({"format": "xy", "origin": 1}, ["1", "2.5"], [(0, 1.5, 2)]),
    ],
)
def test_keypoints_are_pixels_and_open_ones_are_not_labelled(
    tmp_path: Path, fact: dict[str, Any], points: list[Any], expected: list[Any]
) -> None:
    image = {"path": "a", "width": {"from": "w"}, "height": {"from": "h"}}
    instances = {"keypoints": {"from": "points", **fact}}

    made = _annotate({"points": points, "w": 40, "h": 30}, tmp_path, images=image, instances=instances)

    assert made.instances[0].keypoints == tuple(expected)


@pytest.mark.parametrize(
    ("points", "reason", "words"),
    [
        ([1, 2, 2, 3], "schema", "has 4 numbers, expected 3 a point (xyv)"),
        ([], "schema", "has 0 numbers"),
        ([1, 2, 7], "keypoint.visibility", "[0]: visibility is 7, expected one of 0, 1, 2"),
        ([1, "x", 2], "schema", "expected numbers"),
        ("text", "schema", "expected a list of numbers"),
    ],
)
def test_keypoints_that_cannot_be_reject_the_record(
    tmp_path: Path, points: Any, reason: str, words: str
) -> None:
    instances = {"keypoints": {"from": "points", "format": "xyv"}}

    found, detail = _reason({"points": points}, tmp_path, images="a", instances=instances)

    assert found == reason
    assert words in detail


def test_keypoints_that_the_row_lacks_are_none_where_the_spec_says_so(tmp_path: Path) -> None:
    instances = {"keypoints": {"from": "points", "format": "xy", "default": None}}

    made = _annotate({"points": None}, tmp_path, images="a", instances=instances)

    assert made.instances[0].keypoints is None
