from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from dataengine.annotation import (
    Annotation,
    Caption,
    Dialog,
    Edit,
    Expression,
    Image,
    Instance,
    Origin,
    Question,
    Turn,
)
from dataengine.audit.rule import Facts, Hit, SampleFacts
from dataengine.audit.samples import NAMED
from dataengine.audit.table import ANNOTATION_RULES, BY_ID, RULES, SAMPLE_RULES, rule_of
from dataengine.geometry import rle_of_box
from dataengine.sample import (
    InstanceTargets,
    Route,
    Sample,
    SampleImage,
    SampleLicense,
    SampleOrigin,
    TargetInstance,
)

ORIGIN = Origin(file="f", record="r")
SOUND = Instance(id="1", category="cat", box=(1, 2, 20, 18), keypoints=((4.0, 5.0, 2), (0.0, 0.0, 0)))


def _annotation(**fields: Any) -> Annotation:
    images = (
        Image(path="a.jpg", width=32, height=24, license="CC-BY-4.0"),
        Image(path="b.jpg", width=32, height=24, license="CC-BY-4.0", role="target"),
    )
    return Annotation(**{"key": "1", "images": images, "origin": ORIGIN, "instances": (SOUND,), **fields})


def _with(**fields: Any) -> Annotation:
    other = {"id": "2", "box": (4, 5, 22, 20), **fields}
    return _annotation(instances=(SOUND, msgspec.structs.replace(SOUND, **other)))


def _hits(annotation: Annotation, size: tuple[int, int] | None = (32, 24)) -> list[str]:
    return [rule for rule, check in ANNOTATION_RULES for _ in check(Facts(annotation, [size]))]


def test_a_sound_annotation_breaks_no_rule() -> None:
    annotation = _annotation(
        captions=(Caption(id="1", text="a cat"),),
        expressions=(Expression(id="1", text="the cat", instances=(0,)),),
        questions=(Question(id="1", text="what?", answers=("cat",), choices=("cat", "dog")),),
        edits=(Edit(id="1", instruction="make it blue", before=0, after=1),),
        dialogs=(Dialog(id="1", turns=(Turn("user", "<image>\nhi"), Turn("assistant", "hello [1] <b>"))),),
    )

    assert _hits(annotation) == []


@pytest.mark.parametrize(
    ("annotation", "rule"),
    [
        (_with(box=(5, 5, 5, 9)), "box.degenerate"),
        (_with(box=(9, 5, 5, 9)), "box.inverted"),
        (_with(box=(math.nan, 5, 5, 9)), "box.nonfinite"),
        (_with(box=(5, 5, math.inf, 9)), "box.nonfinite"),
        (_with(box=(5, 5, 40, 9)), "box.outside"),
        (_with(box=(-5, 5, 10, 9)), "box.outside"),
        (_with(mask=rle_of_box((4, 5, 22, 20), 24, 32)), "rle.size_mismatch"),
        (_with(keypoints=((1.0, 1.0, 3),)), "keypoint.visibility"),
        (_with(keypoints=((1.0, 1.0, 0),)), "keypoint.visibility"),
        (_with(keypoints=((1.0, 1.0, 2),), attributes={"num_keypoints": "2"}), "keypoint.visibility"),
        (_with(keypoints=((1.0, 1.0, 2),), attributes={"num_keypoints": "1" * 5000}), "keypoint.visibility"),
        (_with(keypoints=((50.0, 1.0, 2),)), "keypoint.outside"),
        (_annotation(captions=(Caption(id="1", text=" "),)), "text.empty"),
        (_annotation(expressions=(Expression(id="1", text="", instances=()),)), "text.empty"),
        (_annotation(questions=(Question(id="1", text="why?", answers=("",)),)), "text.empty"),
        (_annotation(edits=(Edit(id="1", instruction="", before=0, after=1),)), "text.empty"),
        (_with(text=""), "text.empty"),
        (_annotation(captions=(Caption(id="1", text="a [DET]"),)), "text.special_token"),
        (_annotation(questions=(Question(id="1", text="why?", answers=("</s>",)),)), "text.special_token"),
        (_with(text="<|im_end|>"), "text.special_token"),
        (
            _annotation(
                dialogs=(Dialog(id="1", turns=(Turn("user", "<image>\n[SEG]"), Turn("assistant", "a"))),)
            ),
            "text.special_token",
        ),
        (
            _annotation(
                dialogs=(Dialog(id="1", turns=(Turn("user", "<image><image>"), Turn("assistant", "a"))),)
            ),
            "media.placeholder",
        ),
        (_annotation(images=(Image(path="a.jpg", license="unknown"),)), "license.missing"),
        (_annotation(images=(Image(path="a.jpg", license=""),)), "license.missing"),
    ],
)
def test_each_rule_is_hit_by_what_breaks_it_and_by_that_alone(annotation: Annotation, rule: str) -> None:
    assert _hits(annotation) == [rule]


@pytest.mark.parametrize("box", [(-0.5, 0, 32.9, 24), (0, 0, 32, 24), (31, 23, 32, 24)])
def test_a_box_that_leaves_by_less_than_a_pixel_is_no_hit(box: Any) -> None:
    assert _hits(_with(box=box)) == []


def test_without_a_known_size_nothing_is_outside() -> None:
    assert _hits(_with(box=(5, 5, 4000, 9), keypoints=((5000.0, 1.0, 2),)), None) == []


def test_an_object_without_a_box_has_nothing_to_hit() -> None:
    assert _hits(_with(box=None, keypoints=None)) == []


def _sample(**fields: Any) -> Sample:
    values = {
        "id": "tiny/train/1#detection",
        "task": "detection",
        "dataset": "tiny",
        "split": "train",
        "images": (SampleImage(path="a.jpg", width=32, height=24, format="jpeg"),),
        "conversation": (Turn("user", "<image>\nwhere?"), Turn("assistant", "cat[DET]")),
        "targets": InstanceTargets(instances=(TargetInstance(label="cat", box=(1, 2, 9, 9), area=56),)),
        "routes": (Route(token="[DET]", kind="category", name="cat"),),
        "origin": SampleOrigin(dataset="tiny", file="f", record="r", spec="s", spec_hash="h", reader="x"),
        "license": SampleLicense(annotations="CC0-1.0", images="CC0-1.0"),
    }
    return Sample(**{**values, **fields})


def _target(*box: float) -> InstanceTargets:
    return InstanceTargets(instances=(TargetInstance(label="cat", box=box, area=1),))  # type: ignore[arg-type]


def _found(sample: Sample) -> list[tuple[str, Hit]]:
    return [(rule, hit) for rule, check in SAMPLE_RULES for hit in check(SampleFacts(sample))]


def test_a_dialog_that_says_nowhere_where_its_picture_stands_is_sound() -> None:
    dialog = Dialog(id="1", turns=(Turn("user", "What is it?"), Turn("assistant", "A cat.")))

    assert _hits(_annotation(dialogs=(dialog,))) == []


def test_a_sound_sample_breaks_no_rule() -> None:
    assert _found(_sample()) == []


@pytest.mark.parametrize(
    ("sample", "rule"),
    [
        (_sample(routes=()), "sample.contradiction"),
        (_sample(conversation=(Turn("user", "<image> hi"),), routes=()), "turn.structure"),
        (_sample(images=()), "media.placeholder"),
        (_sample(license=SampleLicense(annotations="unspecified", images="CC0-1.0")), "license.missing"),
        (_sample(license=SampleLicense(annotations="CC0-1.0", images="unknown")), "license.missing"),
        (_sample(targets=_target(5, 5, 5, 9)), "box.degenerate"),
        (_sample(targets=_target(5, 5, 33, 9)), "box.outside"),
        (
            _sample(conversation=(Turn("user", "<image>"), Turn("assistant", "[DET]</s>"))),
            "text.special_token",
        ),
    ],
)
def test_each_sample_rule_is_hit_by_what_breaks_it(sample: Sample, rule: str) -> None:
    assert [name for name, _ in _found(sample)] == [rule]


def test_the_objects_of_several_pictures_are_held_against_the_last() -> None:
    images = tuple(
        SampleImage(path=f"{width}.jpg", width=width, height=24, format="jpeg") for width in (100, 32)
    )
    turns = (Turn("user", "<image><image>\nwhere?"), Turn("assistant", "cat[DET]"))

    ((name, hit),) = _found(_sample(images=images, conversation=turns, targets=_target(5, 5, 33, 9)))

    assert (name, hit.image) == ("box.outside", 1)


def test_every_rule_stands_once() -> None:
    assert len(BY_ID) == len(RULES) > 20


def test_a_reason_that_no_rule_names_counts_as_an_error() -> None:
    assert (rule_of("mine.own").severity, rule_of("mine.own").action) == ("error", "quarantine")
    assert rule_of("box.outside").severity == "warn"


def test_every_named_contradiction_is_a_rule() -> None:
    assert {rule for rule, _ in SAMPLE_RULES} >= set(NAMED)
