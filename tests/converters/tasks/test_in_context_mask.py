from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dataengine.annotation import Annotation, Image, Instance, Origin
from dataengine.errors import Skip
from dataengine.geometry import rle_area, rle_of_box, rle_union
from dataengine.sample import InstanceTargets, Rendering
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]


def item(key: str, *instances: Instance, **facts: Any) -> Annotation:
    return Annotation(
        key=key,
        images=(Image(path=f"{key}.jpg", width=100, height=80),),
        origin=Origin(file="f", record=key),
        instances=instances,
        **facts,
    )


def thing(number: int, category: str = "cat", **facts: Any) -> Instance:
    x = number * 19.0
    box = (x, 10.0, x + 16, 40.0)
    return Instance(id=str(number), category=category, box=box, mask=rle_of_box(box, 100, 80), **facts)


def targets(rendering: Rendering) -> InstanceTargets:
    assert isinstance(rendering.targets, InstanceTargets)
    return rendering.targets


EXAMPLES = (item("1", thing(0), thing(1, "dog"), thing(2)), item("2", thing(3)))


def test_all_objects_of_the_class_are_one_region_an_example_and_one_target(
    make_task: MakeTask, build: Build
) -> None:
    annotation = item("3", thing(1), thing(4), thing(2, "dog"), examples=EXAMPLES, shared="cat")

    rendering = build(annotation, make_task("in_context_mask", train=False))

    region = "<reg>region<region></reg>"
    assert [turn.text for turn in rendering.conversation] == [
        f"In these pictures a region is marked:\n<image>\n{region}\n<image>\n{region}\n"
        "Mark the same kind of thing in the last picture:\n<image>",
        "[DET]",
    ]
    union = rle_union([one.mask for one in EXAMPLES[0].instances[::2] if one.mask])
    assert [(one.image, one.mask) for one in rendering.regions] == [
        (0, union),
        (1, EXAMPLES[1].instances[0].mask),
    ]
    (target,) = targets(rendering).instances
    assert target.box == (19, 10, 92, 40)
    assert target.area == 2 * 16 * 30 == rle_area(target.mask) if target.mask else False
    assert [(route.token, route.kind, route.name) for route in rendering.routes] == [
        ("[DET]", "region", target.label)
    ]


def test_the_prompt_never_names_the_class(make_task: MakeTask, build: Build) -> None:
    annotation = item("3", thing(1), examples=EXAMPLES, shared="cat")

    for seed in range(20):
        rendering = build(annotation, make_task("in_context_mask"), seed)
        assert "cat" not in "".join(turn.text for turn in rendering.conversation)


def test_objects_can_be_kept_apart(make_task: MakeTask, build: Build) -> None:
    annotation = item("3", thing(1), thing(4), examples=EXAMPLES, shared="cat")

    rendering = build(annotation, make_task("in_context_mask", merge=False))

    assert [one.image for one in rendering.regions] == [0, 0, 1]
    assert [one.id for one in targets(rendering).instances] == ["1", "4"]
    assert len(rendering.routes) == 1


@pytest.mark.parametrize("bad", [thing(4, crowd=True), Instance(id="9", category="cat", ignore=True)])
def test_a_class_that_is_not_whole_is_not_asked_for(make_task: MakeTask, build: Build, bad: Instance) -> None:
    for annotation in (
        item("3", thing(1), bad, examples=EXAMPLES, shared="cat"),
        item("3", thing(1), examples=(item("1", thing(0), bad),), shared="cat"),
    ):
        with pytest.raises(Skip, match=r"object\.incomplete"):
            build(annotation, make_task("in_context_mask"))


def test_an_object_without_a_mask_cannot_be_part_of_one(make_task: MakeTask, build: Build) -> None:
    bare = Instance(id="9", category="cat", box=(1, 1, 9, 9))

    with pytest.raises(Skip, match="has no mask"):
        build(item("3", thing(1), bare, examples=EXAMPLES, shared="cat"), make_task("in_context_mask"))


def test_without_examples_nothing_is_asked(make_task: MakeTask, build: Build) -> None:
    with pytest.raises(Skip, match=r"gather\.no_example"):
        build(item("1", thing(1)), make_task("in_context_mask"))
