from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from converters.tasks.counting import counts
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin
from dataengine.errors import Skip
from dataengine.sample import Rendering, TextTargets
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]
ORDER = ["person", "cat", "dog", "traffic_light"]
LABELS = LabelSpace(id="four", labels=tuple(Label(name=name) for name in ORDER))


def annotate(*objects: str | tuple[str | None, str] | None, **facts: Any) -> Annotation:
    """An annotation of objects by class; `(class, flag)` sets one of the flags."""
    instances = []
    for number, item in enumerate(objects):
        name, flag = item if isinstance(item, tuple) else (item, "")
        known = {flag: True} if flag else {}
        instances.append(
            Instance(id=str(number), category=name, box=(0.0, 0.0, 5.0, 5.0), **known)  # type: ignore[arg-type]
        )
    return Annotation(
        key="1",
        images=(Image(path="a.jpg"),),
        origin=Origin(file="f", record="r"),
        instances=tuple(instances),
        **facts,
    )


def test_objects_are_counted_by_class_and_missing_classes_are_none() -> None:
    found = counts(annotate("cat", "person", "cat"), ORDER, federated=False)

    assert found == {"person": 1, "cat": 2, "dog": 0, "traffic_light": 0}


@pytest.mark.parametrize("flag", ["crowd", "ignore", "difficult"])
def test_a_class_with_an_uncertain_object_has_no_number(flag: str) -> None:
    found = counts(annotate("cat", ("cat", flag), ("dog", flag), "person"), ORDER, federated=False)

    assert found == {"person": 1, "traffic_light": 0}


@pytest.mark.parametrize("nameless", [None, (None, "ignore")])
def test_an_object_of_no_class_leaves_every_number_unknown(nameless: Any) -> None:
    assert counts(annotate("cat", nameless), ORDER, federated=False) == {}


def test_an_annotation_in_part_knows_verified_absent_classes_alone() -> None:
    annotation = annotate("cat", negatives=("dog",), exhaustive=False)

    assert counts(annotation, ORDER, federated=False) == {"dog": 0}
    assert counts(annotation, ORDER, federated=True) == {"cat": 1, "dog": 0}


def test_a_contradiction_of_object_and_negative_is_no_zero() -> None:
    assert counts(annotate("dog", negatives=("dog",), exhaustive=False), ORDER, federated=False) == {}


def test_without_a_label_space_the_classes_are_those_of_the_annotation() -> None:
    assert counts(annotate("cat", "ant", negatives=("dog",)), [], federated=False) == {
        "ant": 1,
        "cat": 1,
        "dog": 0,
    }


def test_evaluation_asks_for_every_present_class_in_order(make_task: MakeTask, build: Build) -> None:
    annotation = annotate("traffic_light", "person", "person")

    rendering = build(annotation, make_task("counting", LABELS, train=False))

    assert [turn.text for turn in rendering.conversation] == [
        "<image>\nHow many objects of the class person are in the picture? Answer with a number.",
        "2",
        "How many objects of the class traffic light are in the picture? Answer with a number.",
        "1",
    ]


def test_training_asks_now_and_then_for_an_absent_class(make_task: MakeTask, build: Build) -> None:
    annotation = annotate("person")
    task = make_task("counting", LABELS)

    answers = [
        [turn.text for turn in build(annotation, task, seed).conversation[1::2]] for seed in range(200)
    ]

    with_zero = sum("0" in texts for texts in answers)
    assert 30 < with_zero < 70
    assert all("1" in texts for texts in answers)


def test_an_empty_picture_is_asked_for_a_class_that_is_not_there(make_task: MakeTask, build: Build) -> None:
    rendering = build(annotate(), make_task("counting", LABELS, train=False))

    assert rendering.targets == TextTargets(answers=("0",))


def test_rounds_and_numbers_have_a_limit(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(*["person"] * 7, "cat", "dog", "traffic_light")
    task = make_task("counting", LABELS, max_rounds=2, max_count=6)

    found = [build(annotation, task, seed).conversation for seed in range(30)]

    assert {len(turns) for turns in found} == {4}
    assert "7" not in {turn.text for turns in found for turn in turns}


def test_a_picture_without_a_known_number_is_skipped(make_task: MakeTask, build: Build) -> None:
    with pytest.raises(Skip) as caught:
        build(annotate("cat", exhaustive=False), make_task("counting", LABELS))

    assert caught.value.reason == "count.unknown"
