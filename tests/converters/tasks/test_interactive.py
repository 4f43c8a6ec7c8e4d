from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import Annotation, Image, Instance, Origin
from dataengine.errors import Skip
from dataengine.geometry import mask_from_rle, rle_from_mask, rle_of_box
from dataengine.sample import InstanceTargets, Rendering
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]

KINDS = ["point", "scribble", "circle", "polygon", "box", "mask"]


def thing(number: int, width: int = 12, height: int = 12, crowd: bool = False) -> Instance:
    x, y = (number % 8) * 12.0, (number // 8) * 12.0
    box = (x, y, x + width, y + height)
    return Instance(id=str(number), category="cat", box=box, mask=rle_of_box(box, 100, 80), crowd=crowd)


def annotate(*instances: Instance) -> Annotation:
    return Annotation(
        key="1", images=(Image(path="a.jpg"),), origin=Origin(file="f", record="r"), instances=instances
    )


def targets(rendering: Rendering) -> InstanceTargets:
    assert isinstance(rendering.targets, InstanceTargets)
    return rendering.targets


@given(
    sizes=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=24),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6, unique=True),
    train=st.booleans(),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=60)
def test_each_mark_lies_on_its_own_object(
    make_task: MakeTask,
    build: Build,
    sizes: list[tuple[int, int]],
    kinds: list[str],
    train: bool,
    seed: int,
) -> None:
    annotation = annotate(*(thing(number, *size) for number, size in enumerate(sizes)))

    try:
        rendering = build(annotation, make_task("interactive_segmentation", train=train, prompts=kinds), seed)
    except Skip as skip:
        assert skip.reason == "region.none"
        # No object has the pixels that every kind asks for.
        assert min(width * height for width, height in sizes) < 10
        return

    found = targets(rendering).instances
    by_id = {item.id: item for item in annotation.instances}
    assert len(rendering.regions) == len(found) <= 20
    assert [target.label for target in found] == [f"region{n}" for n in range(1, len(found) + 1)]
    assert [route.name for route in rendering.routes] == [target.label for target in found]
    for region, target in zip(rendering.regions, found, strict=True):
        item = by_id[target.id]
        assert item.box is not None and item.mask is not None and target.mask == item.mask
        assert region.kind in kinds
        if region.kind == "box":
            assert region.box == item.box
        else:
            assert region.mask is not None
            marked = mask_from_rle(region.mask)
            assert marked.any()
            assert not (marked & ~mask_from_rle(item.mask) & 1).any()


def test_marks_are_of_every_kind_to_train(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(*(thing(number) for number in range(20)))

    kinds = {
        region.kind
        for seed in range(6)
        for region in build(annotation, make_task("interactive_segmentation"), seed).regions
    }

    assert kinds == set(KINDS)


def test_twenty_random_objects_to_train_and_the_first_twenty_to_evaluate(
    make_task: MakeTask, build: Build
) -> None:
    annotation = annotate(*(thing(number) for number in range(40)))

    taught = [
        [
            int(target.id)
            for target in targets(build(annotation, make_task("interactive_segmentation"), seed)).instances
        ]
        for seed in range(12)
    ]
    tested = targets(build(annotation, make_task("interactive_segmentation", train=False), 3))

    assert {len(numbers) for numbers in taught} == {20}
    assert set().union(*taught) == set(range(40))
    assert [int(target.id) for target in tested.instances] == list(range(20))


def test_an_object_too_small_for_a_point_leaves_with_its_target(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(thing(0), thing(1, 3, 3), thing(2))

    rendering = build(annotation, make_task("interactive_segmentation", train=False, prompts=["point"]), 1)

    assert [target.id for target in targets(rendering).instances] == ["0", "2"]
    assert (
        rendering.conversation[1].text
        == "Here are the masks of the marked objects: region1[DET], region2[DET]."
    )
    for region, column in zip(rendering.regions, (0, 24), strict=True):
        assert column <= region.box[0] < region.box[2] <= column + 12


def test_crowds_and_objects_without_a_mask_are_not_marked(make_task: MakeTask, build: Build) -> None:
    bare = Instance(id="9", category="cat", box=(0.0, 0.0, 9.0, 9.0))

    rendering = build(annotate(thing(1, crowd=True), bare, thing(2)), make_task("interactive_segmentation"))

    assert [target.id for target in targets(rendering).instances] == ["2"]


@pytest.mark.parametrize("instances", [(), (thing(0, 1, 1),), (thing(0, crowd=True),)])
def test_nothing_to_mark_is_skipped(
    make_task: MakeTask, build: Build, instances: tuple[Instance, ...]
) -> None:
    with pytest.raises(Skip) as caught:
        build(annotate(*instances), make_task("interactive_segmentation"))

    assert caught.value.reason == "region.none"


def test_an_empty_mask_is_no_prompt(make_task: MakeTask, build: Build) -> None:
    empty = rle_from_mask(np.zeros((80, 100), np.uint8))
    item = Instance(id="1", category="cat", box=(0.0, 0.0, 9.0, 9.0), mask=empty)

    for kind in KINDS:
        with pytest.raises(Skip):
            build(annotate(item), make_task("interactive_segmentation", prompts=[kind]))
