from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from dataengine.annotation import Annotation, Image, Instance, Origin
from dataengine.errors import Quarantine, Skip
from dataengine.sample import InstanceTargets, Rendering, TextTargets
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]
R1, R2, R3 = (f"<reg>region{number}<region></reg>" for number in (1, 2, 3))
NAMES = ("man", "horse", "man", "horse", "tree")


def annotate(*relations: tuple[int, str, int], names: tuple[str | None, ...] = NAMES) -> Annotation:
    boxes = [(10.0 * number, 0.0, 10.0 * number + 8, 20.0) for number in range(len(names))]
    return Annotation(
        key="1",
        images=(Image(path="a.jpg"),),
        origin=Origin(file="f", record="r"),
        instances=tuple(
            Instance(id=str(number), category=name, box=box)
            for number, (name, box) in enumerate(zip(names, boxes, strict=True))
        ),
        relations=relations,
    )


def test_each_pair_is_asked_in_a_round_and_each_region_shown_once(make_task: MakeTask, build: Build) -> None:
    annotation = annotate((0, "ride", 1), (0, "next to", 4), (0, "sit on", 1))

    rendering = build(annotation, make_task("relation", train=False))

    assert [turn.text for turn in rendering.conversation] == [
        f"<image>\nHow does {R1} relate to {R2}? Answer with a short phrase.",
        "Ride, sit on.",
        f"How does region1 relate to {R3}? Answer with a short phrase.",
        "Next to.",
    ]
    assert [region.box[0] for region in rendering.regions] == [0.0, 10.0, 40.0]


def test_one_pair_has_every_stated_predicate_as_an_answer(make_task: MakeTask, build: Build) -> None:
    rendering = build(annotate((0, "ride", 1), (0, "on", 1)), make_task("relation"))

    assert rendering.targets == TextTargets(answers=("Ride, on.", "Ride.", "On."))


def test_a_relation_names_its_pairs_and_all_of_them_are_found(make_task: MakeTask, build: Build) -> None:
    annotation = annotate((0, "riding", 1), (2, "riding", 3), (0, "riding", 3), (0, "near", 4))

    rendering = build(annotation, make_task("relation_grounding", train=False))

    assert (
        rendering.conversation[0].text == "<image>\nWhere in the picture do you see this: man riding horse?"
    )
    assert rendering.conversation[1].text == "The first is man[GRD], the second is horse[GRD]."
    assert isinstance(rendering.targets, InstanceTargets)
    assert [(item.label, item.id) for item in rendering.targets.instances] == [
        ("man", "0"),
        ("man", "2"),
        ("horse", "1"),
        ("horse", "3"),
    ]


def test_two_objects_of_one_class_keep_their_roles(make_task: MakeTask, build: Build) -> None:
    rendering = build(annotate((2, "behind", 0)), make_task("relation_grounding"))

    assert isinstance(rendering.targets, InstanceTargets)
    assert [route.name for route in rendering.routes] == ["man", "man (2)"]
    assert [(item.label, item.id) for item in rendering.targets.instances] == [("man", "2"), ("man (2)", "0")]


def test_training_takes_some_of_many_pairs(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(*((a, "near", b) for a in range(5) for b in range(5) if a != b))

    rounds = [len(build(annotation, make_task("relation"), seed).conversation) // 2 for seed in range(5)]
    tested = build(annotation, make_task("relation", train=False))

    assert rounds == [10] * 5
    assert len(tested.conversation) == 2 * 20


@pytest.mark.parametrize(
    ("relations", "names", "task", "reason"),
    [
        ((), NAMES, "relation", "relation.none"),
        (((0, " ", 1),), NAMES, "relation", "relation.none"),
        (((1, "near", 1),), NAMES, "relation", "relation.none"),
        (((0, "near", 9),), NAMES, "relation", "id.orphan"),
        (((0, "near", 1),), (None, "cat"), "relation_grounding", "relation.unnamed"),
    ],
)
def test_what_cannot_be_asked_has_its_reason(
    make_task: MakeTask,
    build: Build,
    relations: tuple[tuple[int, str, int], ...],
    names: tuple[str | None, ...],
    task: str,
    reason: str,
) -> None:
    with pytest.raises((Skip, Quarantine)) as caught:
        build(annotate(*relations, names=names), make_task(task))

    assert getattr(caught.value, "reason", "") == reason


@pytest.mark.parametrize("change", [{"crowd": True}, {"ignore": True}, {"box": None}])
def test_an_object_that_cannot_be_shown_takes_its_relations_along(
    make_task: MakeTask, build: Build, change: dict[str, object]
) -> None:
    annotation = annotate((0, "near", 1), (1, "near", 4))
    instances = list(annotation.instances)
    instances[0] = msgspec.structs.replace(instances[0], **change)
    annotation = msgspec.structs.replace(annotation, instances=tuple(instances))

    rendering = build(annotation, make_task("relation"))

    assert [region.box[0] for region in rendering.regions] == [10.0, 40.0]
