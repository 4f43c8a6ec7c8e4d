from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import Annotation, Expression, Image, Instance, Origin
from dataengine.errors import Quarantine, Skip
from dataengine.geometry import rle_of_box
from dataengine.sample import InstanceTargets, Rendering
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]
Box = tuple[float, float, float, float]


def thing(number: int, box: Box, crowd: bool = False, masked: bool = True) -> Instance:
    return Instance(id=str(number), box=box, mask=rle_of_box(box, 100, 80) if masked else None, crowd=crowd)


OBJECTS = (
    thing(0, (10.0, 10.0, 30.0, 50.0)),
    thing(1, (40.0, 10.0, 60.0, 50.0), crowd=True),
    thing(2, (5.0, 5.0, 9.0, 9.0), masked=False),
)


def annotate(text: str, *instances: int, answer: str | None = None) -> Annotation:
    return Annotation(
        key="1",
        images=(Image(path="a.jpg"),),
        origin=Origin(file="f", record="r"),
        instances=OBJECTS,
        expressions=(Expression(id="e", text=text, instances=instances, answer=answer),),
    )


def targets(rendering: Rendering) -> InstanceTargets:
    assert isinstance(rendering.targets, InstanceTargets)
    return rendering.targets


def test_a_phrase_is_cleaned_before_it_is_asked(make_task: MakeTask, build: Build) -> None:
    annotation = annotate("  The  Man in\nRed. ", 0)

    rendering = build(annotation, make_task("grounding", train=False))

    assert rendering.conversation[0].text == "<image>\nWhere in the picture is this: the man in red?"
    assert [route.name for route in rendering.routes] == ["the man in red"]
    assert [target.label for target in targets(rendering).instances] == ["the man in red"]


def test_one_phrase_may_name_several_objects_each_once(make_task: MakeTask, build: Build) -> None:
    rendering = build(annotate("both", 1, 0, 1), make_task("grounding"))

    assert [target.id for target in targets(rendering).instances] == ["1", "0"]
    assert len(rendering.routes) == 1


def test_a_crowd_can_be_named(make_task: MakeTask, build: Build) -> None:
    rendering = build(annotate("the crowd", 1), make_task("grounding_mask"))

    assert [target.ignore for target in targets(rendering).instances] == [False]


@pytest.mark.parametrize(
    ("text", "instances", "task", "reason"),
    [
        ("the man", (), "grounding", "expression.no_object"),
        (" ... ", (0,), "grounding", "text.empty"),
        ("the small one", (2,), "grounding_mask", "object.incomplete"),
        ("  ", (0,), "reasoning_segmentation", "text.empty"),
    ],
)
def test_what_cannot_be_asked_is_skipped(
    make_task: MakeTask, build: Build, text: str, instances: tuple[int, ...], task: str, reason: str
) -> None:
    with pytest.raises(Skip) as caught:
        build(annotate(text, *instances), make_task(task))

    assert caught.value.reason == reason


def test_a_phrase_that_points_beyond_the_objects_is_quarantined(make_task: MakeTask, build: Build) -> None:
    with pytest.raises(Quarantine) as caught:
        build(annotate("the man", 3), make_task("grounding"))

    assert caught.value.reason == "id.orphan"


def test_boxes_alone_are_enough_for_grounding(make_task: MakeTask, build: Build) -> None:
    (target,) = targets(build(annotate("the small one", 2), make_task("grounding"))).instances

    assert (target.box, target.area, target.mask) == ((5.0, 5.0, 9.0, 9.0), 16.0, None)


def test_masks_go_to_the_task_that_asks_for_them(make_task: MakeTask, build: Build) -> None:
    annotation = annotate("the man", 0)

    (boxed,) = targets(build(annotation, make_task("grounding"))).instances
    (masked,) = targets(build(annotation, make_task("grounding_mask"))).instances

    assert boxed.mask is None
    assert masked.mask == OBJECTS[0].mask


def test_an_explanation_is_taught_but_not_evaluated(make_task: MakeTask, build: Build) -> None:
    annotation = annotate("Who would  win?", 0, answer="The taller\none.")

    taught = build(annotation, make_task("reasoning_segmentation"))
    tested = build(annotation, make_task("reasoning_segmentation", train=False))

    assert taught.conversation[0].text == tested.conversation[0].text == "<image>\nWho would win?"
    assert taught.conversation[1].text == "Sure, it is [GRD]. The taller one."
    assert tested.conversation[1].text == "Sure, it is [GRD]."


@given(
    text=st.text(st.characters(codec="utf-8", exclude_characters="[]<>|"), min_size=1),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=100)
def test_the_asked_words_are_the_label_of_the_target(
    make_task: MakeTask, build: Build, text: str, seed: int
) -> None:
    try:
        rendering = build(annotate(text, 0), make_task("grounding"), seed)
    except Skip as skip:
        assert skip.reason == "text.empty"
        return

    (target,) = targets(rendering).instances
    assert target.label == rendering.routes[0].name
    assert target.label in rendering.conversation[0].text
    assert rendering.conversation[1].text.count("[GRD]") == 1
