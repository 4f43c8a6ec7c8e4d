from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dataengine.annotation import Annotation, Image, Label, LabelSpace, Origin
from dataengine.errors import Quarantine, Skip
from dataengine.sample import Rendering, TextTargets
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]


def space(count: int) -> LabelSpace:
    return LabelSpace(id="many", labels=tuple(Label(name=f"class_{number}") for number in range(count)))


def annotate(*labels: str, **facts: Any) -> Annotation:
    return Annotation(
        key="1", images=(Image(path="a.jpg"),), origin=Origin(file="f", record="r"), labels=labels, **facts
    )


def test_the_class_is_the_answer(make_task: MakeTask, build: Build) -> None:
    rendering = build(annotate("class_1"), make_task("classification", space(3), train=False))

    assert [turn.text for turn in rendering.conversation] == [
        "<image>\nWhich class does this picture belong to? Answer with its name only.",
        "Class 1.",
    ]
    assert rendering.targets == TextTargets(answers=("class 1",))


def test_several_classes_are_named_in_the_order_of_the_source(make_task: MakeTask, build: Build) -> None:
    rendering = build(annotate("dog", "cat", "dog"), make_task("classification"))

    assert rendering.conversation[1].text == "Dog, cat."


def test_a_small_label_space_is_listed_whole(make_task: MakeTask, build: Build) -> None:
    rendering = build(annotate("class_1"), make_task("classification_choices", space(3), train=False))

    assert rendering.conversation[0].text == (
        "<image>\nWhich of these classes fits the picture: class 0, class 1, class 2? Answer with the name only."
    )
    assert rendering.targets == TextTargets(
        answers=("class 1",), choices=("class 0", "class 1", "class 2"), answer_index=1
    )


def test_of_a_large_label_space_the_right_class_and_others_are_listed(
    make_task: MakeTask, build: Build
) -> None:
    task = make_task("classification_choices", space(100), max_choices=5)

    targets = [build(annotate("class_7"), task, seed).targets for seed in range(40)]

    places = set()
    for found in targets:
        assert isinstance(found, TextTargets)
        assert len(set(found.choices)) == 5 and found.answer_index is not None
        assert found.choices[found.answer_index] == "class 7"
        places.add(found.answer_index)
    assert places == set(range(5))


def test_only_classes_known_to_be_wrong_stand_beside_the_right_one(make_task: MakeTask, build: Build) -> None:
    annotation = annotate("class_1", exhaustive=False, negatives=("class_2",))

    rendering = build(annotation, make_task("classification_choices", space(9), train=False))

    assert isinstance(rendering.targets, TextTargets)
    assert rendering.targets.choices == ("class 1", "class 2")


GRADES = LabelSpace(
    id="grades",
    labels=(
        Label(name="mild", description="red dots alone"),
        Label(name="severe", description="many haemorrhages. No new vessels yet"),
        Label(name="unknown"),
    ),
)


def test_what_the_class_means_follows_its_name(make_task: MakeTask, build: Build) -> None:
    rendering = build(annotate("severe"), make_task("classification_described", GRADES, train=False))

    assert rendering.conversation[1].text == "Severe: many haemorrhages. No new vessels yet."
    assert rendering.targets == TextTargets(answers=("Severe: many haemorrhages. No new vessels yet.",))


def test_of_several_classes_each_is_a_sentence_of_its_own(make_task: MakeTask, build: Build) -> None:
    rendering = build(annotate("unknown", "mild"), make_task("classification_described", GRADES))

    assert rendering.conversation[1].text == "Unknown. Mild: red dots alone."


def test_listed_classes_are_explained_behind_the_question(make_task: MakeTask, build: Build) -> None:
    task = make_task("classification_choices", GRADES, train=False, describe=True)

    rendering = build(annotate("mild"), task)

    assert rendering.conversation[0].text.split("\n")[2:] == [
        "Mild: red dots alone.",
        "Severe: many haemorrhages. No new vessels yet.",
        "Unknown.",
    ]
    assert rendering.conversation[1].text == "Mild."
    assert isinstance(rendering.targets, TextTargets) and rendering.targets.answer_index == 0


def test_a_class_without_a_description_cannot_be_explained(make_task: MakeTask, build: Build) -> None:
    with pytest.raises(Skip, match=r"label\.no_description"):
        build(annotate("unknown"), make_task("classification_described", GRADES))


@pytest.mark.parametrize(
    ("annotation", "task", "reason"),
    [
        (annotate(), "classification", "label.none"),
        (annotate("fox"), "classification", "category.unknown"),
        (annotate("class_1", exhaustive=False), "classification_choices", "label.no_choices"),
    ],
)
def test_what_cannot_be_asked_has_its_reason(
    make_task: MakeTask, build: Build, annotation: Annotation, task: str, reason: str
) -> None:
    with pytest.raises((Skip, Quarantine)) as caught:
        build(annotation, make_task(task, space(3)))

    assert getattr(caught.value, "reason", "") == reason
