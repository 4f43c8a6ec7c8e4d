"""Facts that builders recover from samples, and what another wording may make of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin, Question
from dataengine.errors import Skip
from dataengine.modules import load_builder
from dataengine.render import RenderOptions, rerender, way_of
from dataengine.sample import InstanceTargets, KeypointTargets, Rendering, Sample, TextTargets
from dataengine.task import Task

MakeTask = Callable[..., Task]
MakeSample = Callable[[Annotation, Task, Rendering], Sample]
NAMES = ("ant", "bee", "cow", "dog", "elk")
JOINTS = {
    "ant": ("head", "tail"),
    "bee": ("wing", "head"),
    "cow": ("horn",),
    "dog": ("tail",),
    "elk": ("head",),
}
# What an annotation says of a class: nothing, an object, a crowd, both, or an object that cannot be used.
State = Literal["nothing", "object", "crowd", "both", "unusable"]
STATES = st.fixed_dictionaries(
    {name: st.sampled_from(["nothing", "object", "crowd", "both", "unusable"]) for name in NAMES}
)
SPACE = LabelSpace(id="five", labels=tuple(Label(name=name, keypoints=JOINTS[name]) for name in NAMES))


def scene(states: dict[str, State], exhaustive: bool, negatives: set[str]) -> Annotation:
    instances = []
    for name, state in states.items():
        points = tuple((5.0 + number, 6.0, 2) for number in range(len(JOINTS[name])))
        if state in ("object", "both"):
            instances.append(Instance(id="", category=name, box=(1, 2, 30, 40), keypoints=points))
        if state in ("crowd", "both"):
            instances.append(Instance(id="", category=name, box=(0, 0, 90, 70), crowd=True))
        if state == "unusable":
            instances.append(Instance(id="", category=name, ignore=True))
    numbered = [
        Instance(**{key: getattr(one, key) for key in one.__struct_fields__} | {"id": str(number)})
        for number, one in enumerate(instances)
    ]
    return Annotation(
        key="1",
        images=(Image(path="a.jpg"),),
        origin=Origin(file="f", record="r"),
        instances=tuple(numbered),
        negatives=tuple(sorted(negatives)),
        exhaustive=exhaustive,
    )


@settings(deadline=None, max_examples=150)
@given(
    states=STATES,
    exhaustive=st.booleans(),
    negatives=st.sets(st.sampled_from(NAMES)),
    task_id=st.sampled_from(["detection", "keypoints"]),
    most=st.integers(1, 6),
    told=st.booleans(),
    seed=st.integers(0, 1 << 20),
)
def test_no_class_that_could_be_there_is_named_as_absent(
    make_task: MakeTask, make_sample: MakeSample, states: dict[str, State], exhaustive: bool,
    negatives: set[str], task_id: str, most: int, told: bool, seed: int,
) -> None:  # fmt: skip
    annotation = scene(states, exhaustive, negatives)
    task = make_task(task_id, labels=SPACE, max_classes=most)
    try:
        rendering = load_builder(task.spec.builder, "").build(
            annotation, annotation, task, random.Random(seed)
        )
    except Skip:
        return
    sample = make_sample(annotation, task, rendering)
    absent = {name for name in NAMES if states[name] == "nothing"} & (set(NAMES) if exhaustive else negatives)
    kept = _labels(sample)
    may = {route.name for route in sample.routes if route.kind == "category"}
    if told and rendering.unsure is not None:
        may |= absent
    if isinstance(sample.targets, InstanceTargets):
        may |= absent & negatives

    named = set[str]()
    for number in range(12):
        found = rerender(
            sample, way_of(task, RenderOptions()), random.Random(number), rendering.unsure if told else None
        )
        classes = {route.name for route in found.routes if route.kind == "category"}
        named |= classes
        assert kept <= classes and classes - kept <= absent
        assert len(classes) <= most
        assert _labels(found) == kept
    assert named <= may


def _labels(sample: Sample) -> set[str]:
    assert isinstance(sample.targets, InstanceTargets | KeypointTargets)
    return {one.label for one in sample.targets.instances}


@settings(deadline=None, max_examples=60)
@given(states=STATES, seed=st.integers(0, 1 << 20), other=st.integers(0, 1 << 20))
def test_keypoints_keep_their_names_when_other_classes_are_asked_for(
    make_task: MakeTask, make_sample: MakeSample, states: dict[str, State], seed: int, other: int
) -> None:
    annotation = scene(states, True, set())
    task = make_task("keypoints", labels=SPACE)
    try:
        rendering = load_builder("keypoints", "").build(annotation, annotation, task, random.Random(seed))
    except Skip:
        return
    sample = make_sample(annotation, task, rendering)

    found = rerender(sample, way_of(task, RenderOptions()), random.Random(other), rendering.unsure)

    assert isinstance(sample.targets, KeypointTargets) and isinstance(found.targets, KeypointTargets)
    asked = [route.name for route in found.routes if route.kind == "keypoint"]
    assert len(set(asked)) == len(asked) > 0 and set(asked) <= set(found.targets.names)
    for before, after in zip(sample.targets.instances, found.targets.instances, strict=True):
        assert _points(before.keypoints, sample.targets) == _points(after.keypoints, found.targets)


def test_keypoints_of_an_unknown_label_space_get_another_template_alone(
    make_task: MakeTask, make_sample: MakeSample
) -> None:
    states: dict[str, State] = {name: "object" if name in ("bee", "cow") else "nothing" for name in NAMES}
    annotation = scene(states, True, set())
    task = make_task("keypoints", labels=SPACE)
    rendering = load_builder("keypoints", "").build(annotation, annotation, task, random.Random(1))
    sample = make_sample(annotation, task, rendering)
    way = way_of(make_task("keypoints"), RenderOptions())

    several = [rerender(sample, way, random.Random(number), rendering.unsure) for number in range(9)]

    assert {(one.routes, one.targets) for one in several} == {(sample.routes, sample.targets)}
    assert len({one.prompt for one in several}) > 5


def _points(points: object, targets: KeypointTargets) -> dict[str, object]:
    assert isinstance(points, tuple)
    return {name: point for name, point in zip(targets.names, points, strict=True) if point[2]}


def test_no_template_is_chosen_that_would_swap_what_routes_point_to(
    make_task: MakeTask, make_sample: MakeSample
) -> None:
    annotation = Annotation(
        key="1",
        images=(Image(path="a.jpg"),),
        origin=Origin(file="f", record="r"),
        instances=(
            Instance(id="1", category="man", box=(1, 1, 9, 9)),
            Instance(id="2", category="dog", box=(20, 1, 30, 9)),
        ),
        relations=((0, "walks", 1),),
    )
    task = make_task("relation_grounding")
    assert task.bank is not None
    answers = {
        "en01": "{subject}, {object}.",
        "en02": "{object} of {subject}.",
        "en03": "{subject}: {object}.",
    }
    task = msgspec.structs.replace(task, bank=msgspec.structs.replace(task.bank, answers=answers))
    rendering = load_builder("relation", "").build(annotation, annotation, task, random.Random(1))
    sample = make_sample(annotation, task, rendering)
    assert sample.prompt.answer != "en02"

    several = [rerender(sample, way_of(task, RenderOptions()), random.Random(n)) for n in range(30)]

    assert {one.conversation[1].text for one in several} == {"man[GRD], dog[GRD].", "man[GRD]: dog[GRD]."}
    assert {one.routes for one in several} == {sample.routes}


def ask(make_task: MakeTask, make_sample: MakeSample, question: Question, seed: int = 0) -> list[Sample]:
    """Return a multiple choice question as it is stored, and in twenty other wordings."""
    annotation = Annotation(
        key="1", images=(Image(path="a.jpg"),), origin=Origin(file="f", record="r"), questions=(question,)
    )
    task = make_task("multiple_choice_vqa")
    rendering = load_builder("question", "").build(annotation, question, task, random.Random(seed))
    sample = make_sample(annotation, task, rendering)
    way = way_of(task, RenderOptions())
    return [sample, *(rerender(sample, way, random.Random(number)) for number in range(20))]


@given(
    choices=st.lists(
        st.sampled_from(["a red cat", "Two.", "7", "a, b", "the dog's", "it is I"]), min_size=2, max_size=6, unique=True
    ),
    right=st.integers(0, 5),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_the_letter_of_the_right_choice_follows_it(
    make_task: MakeTask, make_sample: MakeSample, choices: list[str], right: int, seed: int
) -> None:
    question = Question(
        id="q", text="What is it?\nLook!", choices=tuple(choices), answer_index=right % len(choices)
    )

    stored, *others = ask(make_task, make_sample, question, seed)

    assert isinstance(stored.targets, TextTargets) and stored.targets.choices == tuple(choices)
    for sample in others:
        assert isinstance(sample.targets, TextTargets)
        letter = sample.conversation[1].text
        assert f"\n{letter}. {choices[right % len(choices)]}\n" in sample.conversation[0].text + "\n"
        assert sample.targets.choices["ABCDEF".index(letter)] == choices[right % len(choices)]
        assert sample.targets.answer_index == "ABCDEF".index(letter)
        assert "What is it?\nLook!" in sample.conversation[0].text
    assert len({one.targets.choices for one in others if isinstance(one.targets, TextTargets)}) > 1


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("What is it?", ("a cat", "a dog", "all of the above")),
        ("What is it?", ("a cat", "a dog", "both A and B")),
        ("What is it?", ("a cat", "a dog", "A or B")),
        ("Which is the same angle?", ("A", "B", "C")),
        ("(A) a cat (B) a dog: which one?", ("a cat", "a dog")),
        ("Is option B right?", ("yes", "no")),
        ("这是什么？", ("猫", "狗", "以上都是")),
    ],
)
def test_choices_that_speak_of_their_order_keep_it(
    make_task: MakeTask, make_sample: MakeSample, text: str, choices: tuple[str, ...]
) -> None:
    question = Question(id="q", text=text, choices=choices, answer_index=1)

    stored, *others = ask(make_task, make_sample, question)

    assert {one.targets for one in others} == {stored.targets}
    assert len({one.prompt.question for one in others}) > 3


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_several_right_classes_stay_right(make_task: MakeTask, make_sample: MakeSample, lang: str) -> None:
    names = ("sea lion", "lion", "sea", "cow, brown", "elk")
    space = LabelSpace(id="five", labels=tuple(Label(name=name) for name in names))
    annotation = Annotation(
        key="1",
        images=(Image(path="a.jpg"),),
        origin=Origin(file="f", record="r"),
        labels=("sea lion", "cow, brown", "sea"),
    )
    task = make_task("classification_choices", labels=space, lang=lang)
    rendering = load_builder("classification", "").build(annotation, annotation, task, random.Random(0))
    sample = make_sample(annotation, task, rendering)

    several = [rerender(sample, way_of(task, RenderOptions()), random.Random(n), ()) for n in range(20)]

    assert {one.targets.answers for one in several if isinstance(one.targets, TextTargets)} == {
        sample.targets.answers if isinstance(sample.targets, TextTargets) else ()
    }
    assert {one.conversation[1] for one in several} == {sample.conversation[1]}
    assert len({one.targets.choices for one in several if isinstance(one.targets, TextTargets)}) > 5


def test_a_limit_of_the_run_lowers_that_of_the_task_and_never_raises_it(make_task: MakeTask) -> None:
    task = make_task("keypoints", labels=SPACE, max_classes=3, max_absent=None)

    high, low = (
        way_of(task, RenderOptions(max_classes=count, max_absent=count, all_ratio=0.9)).task.options
        for count in (5, 2)
    )

    assert (high.max_classes, high.max_absent, high.all_ratio) == (3, 5, 0.9)
    assert (low.max_classes, low.max_absent, low.all_ratio) == (2, 2, 0.9)
    assert high.max_keypoints == task.options.max_keypoints


def test_only_classes_that_are_wrong_for_sure_are_listed_beside_the_right_one(
    make_task: MakeTask, make_sample: MakeSample
) -> None:
    annotation = Annotation(
        key="1", images=(Image(path="a.jpg"),), origin=Origin(file="f", record="r"), labels=("cow",)
    )
    task = make_task("classification_choices", labels=SPACE, max_choices=3)
    rendering = load_builder("classification", "").build(annotation, annotation, task, random.Random(0))
    sample = make_sample(annotation, task, rendering)
    assert isinstance(sample.targets, TextTargets)

    listed: dict[bool, set[str]] = {}
    for told in (True, False):
        listed[told] = set()
        for number in range(30):
            found = rerender(
                sample,
                way_of(task, RenderOptions()),
                random.Random(number),
                rendering.unsure if told else None,
            ).targets
            assert isinstance(found, TextTargets) and len(found.choices) == 3
            assert found.answers == ("cow",) and found.choices[found.answer_index or 0] == "cow"
            listed[told] |= {*found.choices}

    assert rendering.unsure == ()
    assert listed == {True: set(NAMES), False: set(sample.targets.choices)}
