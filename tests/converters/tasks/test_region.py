from __future__ import annotations

from collections.abc import Callable

import pytest

from dataengine.annotation import Annotation, Expression, Image, Instance, Origin
from dataengine.errors import Skip
from dataengine.geometry import rle_of_box
from dataengine.sample import Rendering, TextTargets
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]


def thing(number: int, category: str | None = "cat", masked: bool = True, crowd: bool = False) -> Instance:
    box = (float(number), 2.0, number + 10.0, 22.0)
    # The mask covers the left half of the box only, so that the two kinds of region can be told apart.
    mask = rle_of_box((box[0], 2.0, box[0] + 5.0, 22.0), 100, 80) if masked else None
    return Instance(id=str(number), category=category, box=box, mask=mask, crowd=crowd)


def annotate(*instances: Instance, expressions: tuple[Expression, ...] = ()) -> Annotation:
    return Annotation(
        key="1",
        images=(Image(path="a.jpg"),),
        origin=Origin(file="f", record="r"),
        instances=instances,
        expressions=expressions,
    )


def said(text: str, *instances: int) -> Annotation:
    return annotate(
        thing(0), thing(1, masked=False), expressions=(Expression(id="e", text=text, instances=instances),)
    )


def test_a_region_caption_is_a_sentence(make_task: MakeTask, build: Build) -> None:
    rendering = build(said("the cat  on the left", 0), make_task("region_caption"))

    assert rendering.conversation[1].text == "The cat on the left."
    assert rendering.targets == TextTargets(answers=("The cat on the left.",))
    assert rendering.conversation[0].text.count("<reg>region1<region></reg>") == 1


def test_a_region_is_a_box_or_the_pixels_of_the_mask(make_task: MakeTask, build: Build) -> None:
    annotation = said("the cat on the left", 0)
    task = make_task("region_caption")

    regions = [build(annotation, task, seed).regions[0] for seed in range(200)]

    kinds = [region.kind for region in regions]
    assert 70 < kinds.count("box") < 130
    for region in regions:
        if region.kind == "box":
            assert (region.box, region.mask) == ((0.0, 2.0, 10.0, 22.0), None)
        else:
            assert (region.box, region.mask) == ((0.0, 2.0, 5.0, 22.0), annotation.instances[0].mask)


def test_an_object_without_a_mask_is_shown_by_its_box(make_task: MakeTask, build: Build) -> None:
    for seed in range(10):
        region = build(said("the cat on the right", 1), make_task("region_caption"), seed).regions[0]
        assert region.kind == "box"


def test_short_captions_are_left_out_of_training_alone(make_task: MakeTask, build: Build) -> None:
    with pytest.raises(Skip) as caught:
        build(said("left cat", 0), make_task("region_caption"))

    assert caught.value.reason == "text.too_short"
    assert build(said("left cat", 0), make_task("region_caption", train=False))
    assert build(said("left cat", 0), make_task("region_caption", min_words=2))


@pytest.mark.parametrize(
    ("text", "instances", "options", "reason"),
    [
        ("the cat on the left", (), {}, "expression.no_object"),
        ("both of the cats", (0, 1), {}, "expression.many_objects"),
        (" ,; ", (0,), {}, "text.empty"),
        ("the cat on the right", (1,), {"prompts": ["mask"]}, "object.incomplete"),
    ],
)
def test_what_cannot_be_captioned_is_skipped(
    make_task: MakeTask,
    build: Build,
    text: str,
    instances: tuple[int, ...],
    options: dict[str, list[str]],
    reason: str,
) -> None:
    with pytest.raises(Skip) as caught:
        build(said(text, *instances), make_task("region_caption", **options))

    assert caught.value.reason == reason


def test_recognition_asks_one_round_a_region(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(*(thing(number, f"class {number}") for number in range(4)))

    for seed in range(20):
        rendering = build(annotation, make_task("region_recognition"), seed)
        turns = rendering.conversation
        assert [turn.role for turn in turns] == ["user", "assistant"] * 4
        for number, region in enumerate(rendering.regions, start=1):
            assert f"<reg>region{number}<region></reg>" in turns[2 * number - 2].text
            # Boxes and masks of the objects start at x = number of the object, which its class repeats.
            assert turns[2 * number - 1].text == f"Class {int(region.box[0])}."
        assert [turn.text.count("<image>") for turn in turns] == [1] + [0] * 7


def test_recognition_takes_fifteen_random_objects_to_train_and_all_in_order_to_evaluate(
    make_task: MakeTask, build: Build
) -> None:
    annotation = annotate(*(thing(number, f"class {number}") for number in range(30)))

    lists = [
        [int(region.box[0]) for region in build(annotation, make_task("region_recognition"), seed).regions]
        for seed in range(30)
    ]
    tested = build(annotation, make_task("region_recognition", train=False))

    assert {len(numbers) for numbers in lists} == {15}
    assert all(len(set(numbers)) == 15 for numbers in lists)
    assert set().union(*lists) == set(range(30))
    assert [int(region.box[0]) for region in tested.regions] == list(range(30))
    assert {region.kind for region in tested.regions} == {"box"}


def test_recognition_leaves_out_crowds_and_nameless_objects(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(thing(1), thing(2, crowd=True), thing(3, category=None))

    assert len(build(annotation, make_task("region_recognition")).regions) == 1
    with pytest.raises(Skip) as caught:
        build(annotate(thing(2, crowd=True), thing(3, category=None)), make_task("region_recognition"))
    assert caught.value.reason == "object.none"


def many(*texts: str) -> Annotation:
    return annotate(
        *(thing(number) for number in range(len(texts))),
        expressions=tuple(
            Expression(id=str(number), text=text, instances=(number,)) for number, text in enumerate(texts)
        ),
    )


def test_several_regions_are_captioned_a_line_each(make_task: MakeTask, build: Build) -> None:
    rendering = build(
        many("the cat on the left", "a red ball"), make_task("region_caption_multi", train=False)
    )

    assert rendering.conversation[1].text == "region1: The cat on the left.\nregion2: A red ball."
    assert [region.box for region in rendering.regions] == [(0.0, 2.0, 10.0, 22.0), (1.0, 2.0, 11.0, 22.0)]


def test_every_line_describes_its_own_region_in_any_order(make_task: MakeTask, build: Build) -> None:
    texts = [f"the thing of number {number}" for number in range(30)]
    task = make_task("region_caption_multi")

    for seed in range(20):
        rendering = build(many(*texts), task, seed)

        lines = rendering.conversation[1].text.splitlines()
        assert len(lines) == len(rendering.regions) == 15
        for place, (line, region) in enumerate(zip(lines, rendering.regions, strict=True), start=1):
            assert region.box is not None
            assert line == f"region{place}: The thing of number {region.box[0]:.0f}."


def test_an_object_is_captioned_once_and_a_group_never(make_task: MakeTask, build: Build) -> None:
    expressions = (
        Expression(id="1", text="the first of all", instances=(0,)),
        Expression(id="2", text="the first once more", instances=(0,)),
        Expression(id="3", text="both of them together", instances=(0, 1)),
        Expression(id="4", text="none of them here", instances=()),
        Expression(id="5", text="the second of all", instances=(1,)),
    )
    annotation = annotate(thing(0), thing(1), expressions=expressions)

    rendering = build(annotation, make_task("region_caption_multi", train=False))

    assert rendering.conversation[1].text == "region1: The first of all.\nregion2: The second of all."


def test_one_region_is_too_few_to_be_asked_for_together(make_task: MakeTask, build: Build) -> None:
    with pytest.raises(Skip, match=r"region\.too_few"):
        build(many("the only cat here", "cat"), make_task("region_caption_multi"))
