from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.tasks.instances import choose_classes, class_order
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin
from dataengine.errors import Quarantine, Skip
from dataengine.geometry import rle_area, rle_of_box
from dataengine.sample import InstanceTargets, Rendering
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]

NAMES = tuple(f"class {number:03d}" for number in range(130))
SPACE = LabelSpace(id="space", labels=tuple(Label(name=name) for name in NAMES))


def annotate(*instances: Instance, exhaustive: bool = True, negatives: tuple[str, ...] = ()) -> Annotation:
    return Annotation(
        key="1",
        images=(Image(path="a.jpg", width=100, height=80),),
        origin=Origin(file="f", record="r"),
        instances=instances,
        exhaustive=exhaustive,
        negatives=negatives,
    )


def thing(number: int, category: str | None, crowd: bool = False, difficult: bool = False) -> Instance:
    box = (float(number), 2.0, number + 10.0, 22.0)
    return Instance(
        id=str(number),
        category=category,
        box=box,
        mask=rle_of_box(box, 100, 80),
        crowd=crowd,
        difficult=difficult,
    )


def space(count: int) -> LabelSpace:
    return LabelSpace(id="space", labels=SPACE.labels[:count])


def listed(rendering: Rendering, task: Task) -> list[str]:
    """Return the classes that the question names, read back from its text."""
    assert task.bank is not None
    before, after = task.bank.questions[rendering.prompt.question].split("{classes}")
    text = rendering.conversation[0].text.removeprefix("<image>\n")
    return text.removeprefix(before).removesuffix(after).split(", ")


@st.composite
def cases(draw: st.DrawFn) -> tuple[LabelSpace, Annotation]:
    size = draw(st.integers(1, 130))
    categories = draw(st.lists(st.integers(0, size - 1), max_size=12))
    flags = [draw(st.sampled_from(["", "", "", "crowd", "difficult"])) for _ in categories]
    absent = draw(st.lists(st.integers(0, size - 1), max_size=6))
    instances = tuple(
        thing(number, NAMES[category], crowd=flag == "crowd", difficult=flag == "difficult")
        for number, (category, flag) in enumerate(zip(categories, flags, strict=True))
    )
    found = annotate(
        *instances,
        exhaustive=draw(st.booleans()),
        negatives=tuple(dict.fromkeys(NAMES[number] for number in absent)),
    )
    return space(size), found


@given(case=cases(), train=st.booleans(), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=150)
def test_every_target_is_asked_for_under_its_own_name(
    make_task: MakeTask, build: Build, case: tuple[LabelSpace, Annotation], train: bool, seed: int
) -> None:
    labels, annotation = case
    task = make_task("detection", labels, train=train)

    try:
        rendering = build(annotation, task, seed)
    except Skip as skip:
        assert skip.reason == "category.none"
        assert not any(not (item.crowd or item.difficult) for item in annotation.instances)
        return

    assert isinstance(rendering.targets, InstanceTargets)
    names = [route.name for route in rendering.routes]
    answer = rendering.conversation[1].text
    assert listed(rendering, task) == names
    assert ", ".join(f"{name}[DET]" for name in names) in answer
    assert len(set(names)) == len(names) <= 100
    by_id = {item.id: item for item in annotation.instances}
    assert {target.id: target.label for target in rendering.targets.instances} == {
        item.id: item.category for item in annotation.instances if item.category in names
    }
    for target in rendering.targets.instances:
        assert target.box == by_id[target.id].box
        assert target.ignore == (by_id[target.id].crowd or by_id[target.id].difficult)


@given(case=cases(), train=st.booleans(), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=150)
def test_an_absent_class_is_named_only_where_it_is_known_to_be_absent(
    make_task: MakeTask, build: Build, case: tuple[LabelSpace, Annotation], train: bool, seed: int
) -> None:
    labels, annotation = case
    present = {item.category for item in annotation.instances if not (item.crowd or item.difficult)}
    unsure = {item.category for item in annotation.instances} - present

    try:
        rendering = build(annotation, make_task("detection", labels, train=train), seed)
    except Skip:
        return

    absent = {route.name for route in rendering.routes} - present
    assert not absent & unsure
    assert annotation.exhaustive or absent <= set(annotation.negatives)
    assert isinstance(rendering.targets, InstanceTargets)
    assert not set(rendering.targets.negatives) & (present | unsure)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=40)
def test_the_same_chance_gives_the_same_words(make_task: MakeTask, build: Build, seed: int) -> None:
    annotation = annotate(thing(1, NAMES[3]), thing(2, NAMES[7]))
    task = make_task("detection", space(40))

    assert build(annotation, task, seed) == build(annotation, task, seed)


def test_evaluation_names_the_whole_label_space_in_order_with_the_first_templates(
    make_task: MakeTask, build: Build
) -> None:
    annotation = annotate(thing(1, NAMES[33]), thing(2, NAMES[7]))
    task = make_task("detection", space(80), train=False)

    renderings = [build(annotation, task, seed) for seed in range(5)]

    assert [route.name for route in renderings[0].routes] == list(NAMES[:80])
    assert (renderings[0].prompt.question, renderings[0].prompt.answer) == ("en01", "en01")
    assert renderings[1:] == renderings[:-1]


def test_half_of_the_training_prompts_name_every_class(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(thing(1, NAMES[0]))
    task = make_task("detection", space(60))

    counts = [len(build(annotation, task, seed).routes) for seed in range(400)]

    # 0.5 of the prompts name all by choice and 1 in 60 of the others by chance.
    assert 0.42 < counts.count(60) / 400 < 0.60
    assert min(counts) < 10
    assert len(set(counts)) > 40


def test_the_list_is_shuffled_to_train(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(*(thing(number, NAMES[number]) for number in range(6)))
    task = make_task("detection", space(6))

    orders = {tuple(route.name for route in build(annotation, task, seed).routes) for seed in range(30)}

    assert len(orders) > 20


def test_a_picture_without_objects_asks_for_at_least_one_class(make_task: MakeTask, build: Build) -> None:
    task = make_task("detection", space(3), all_ratio=0.0)

    counts = {len(build(annotate(), task, seed).routes) for seed in range(60)}

    assert counts == {1, 2, 3}


def test_present_classes_win_where_the_cap_leaves_no_room(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(*(thing(number % 90, NAMES[number + 20]) for number in range(98)))
    task = make_task("detection", space(130))

    for seed in range(10):
        names = {route.name for route in build(annotation, task, seed).routes}
        assert set(NAMES[20:118]) <= names
        assert len(names) <= 100


def test_more_present_classes_than_the_cap_still_make_a_true_prompt(
    make_task: MakeTask, build: Build
) -> None:
    annotation = annotate(*(thing(number % 90, NAMES[number]) for number in range(120)))

    rendering = build(annotation, make_task("detection", space(130)), 3)

    assert isinstance(rendering.targets, InstanceTargets)
    assert len(rendering.routes) == 100
    assert {target.label for target in rendering.targets.instances} == {r.name for r in rendering.routes}


def test_only_instance_segmentation_carries_masks(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(thing(5, NAMES[0]))

    boxes = build(annotation, make_task("detection", space(1))).targets
    masks = build(annotation, make_task("instance_segmentation", space(1))).targets

    assert isinstance(boxes, InstanceTargets) and isinstance(masks, InstanceTargets)
    assert boxes.instances[0].mask is None
    assert masks.instances[0].mask == annotation.instances[0].mask
    assert annotation.instances[0].mask is not None
    assert masks.instances[0].area == rle_area(annotation.instances[0].mask) == 200.0


def test_an_object_without_a_mask_makes_no_segmentation_sample(make_task: MakeTask, build: Build) -> None:
    bare = Instance(id="9", category=NAMES[0], box=(0.0, 0.0, 5.0, 5.0))

    with pytest.raises(Skip) as caught:
        build(annotate(thing(1, NAMES[0]), bare), make_task("instance_segmentation", space(1)))

    assert caught.value.reason == "object.incomplete"


def test_a_class_that_the_label_space_lacks_is_quarantined(make_task: MakeTask, build: Build) -> None:
    with pytest.raises(Quarantine) as caught:
        build(annotate(thing(1, "gryphon")), make_task("detection", space(5)))

    assert caught.value.reason == "category.unknown"
    assert "gryphon" in caught.value.detail


def test_without_a_label_space_the_classes_are_those_of_the_annotation(make_task: MakeTask) -> None:
    annotation = annotate(thing(1, "cat"), thing(2, None), negatives=("dog", "ant"))

    assert class_order(annotation, make_task("detection")) == ["ant", "cat", "dog"]


def test_absent_classes_are_limited_where_a_task_says_so() -> None:
    annotation = annotate(thing(1, NAMES[0]))

    counts = [
        len(
            choose_classes(
                annotation,
                list(NAMES),
                random.Random(seed),
                train=True,
                max_classes=100,
                all_ratio=0.0,
                max_absent=5,
            )
        )
        for seed in range(200)
    ]

    assert set(counts) == {1, 2, 3, 4, 5, 6}


def test_of_two_pictures_the_objects_lie_on_the_last(make_task: MakeTask, build: Build) -> None:
    changed = msgspec.structs.replace(thing(0, "class 000"), image=1)
    annotation = msgspec.structs.replace(annotate(changed), images=(Image(path="a.jpg"), Image(path="b.jpg")))

    rendering = build(annotation, make_task("change_segmentation", space(1), train=False))

    assert rendering.conversation[0].text.startswith("<image>\n<image>\nThese two pictures show")
    assert isinstance(rendering.targets, InstanceTargets)
    assert [item.mask for item in rendering.targets.instances] == [changed.mask]


def test_an_object_on_an_earlier_picture_is_quarantined(make_task: MakeTask, build: Build) -> None:
    annotation = msgspec.structs.replace(
        annotate(thing(0, "class 000")), images=(Image(path="a.jpg"), Image(path="b.jpg"))
    )

    with pytest.raises(Quarantine) as caught:
        build(annotation, make_task("change_segmentation", space(1)))

    assert caught.value.reason == "media.role"
