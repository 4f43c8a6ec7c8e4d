from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import Annotation, Image, Instance, Origin
from dataengine.errors import Skip, SpecError
from dataengine.geometry import rle_of_box
from dataengine.marks import KINDS, name
from dataengine.sample import Rendering, TextTargets
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]


def thing(number: int, text: str | None = None, side: int = 16) -> Instance:
    x, y = (number % 5) * 19.0, (number // 5) * 19.0
    box = (x, y, x + side, y + side)
    category = f"kind_{number}"
    return Instance(id=str(number), category=category, box=box, text=text, mask=rle_of_box(box, 100, 80))


def annotate(*instances: Instance) -> Annotation:
    return Annotation(
        key="1",
        images=(Image(path="a.jpg", width=100, height=80),),
        origin=Origin(file="f", record="r"),
        instances=instances,
    )


@given(
    count=st.integers(1, 12), kind=st.sampled_from(KINDS), most=st.integers(1, 5), seed=st.integers(0, 2**32)
)
@settings(deadline=None, max_examples=60)
def test_each_round_asks_for_one_mark_and_names_its_object(
    make_task: MakeTask, build: Build, count: int, kind: str, most: int, seed: int
) -> None:
    annotation = annotate(*map(thing, range(count)))

    rendering = build(annotation, make_task("mark_recognition", show=[kind], max_marks=most), seed)

    questions, answers = rendering.conversation[::2], rendering.conversation[1::2]
    assert 1 <= len(rendering.marks) == len(questions) <= min(most, count)
    right = {one.box: f"Kind {one.id}." for one in annotation.instances}
    for mark, question, answer in zip(rendering.marks, questions, answers, strict=True):
        assert mark.kind == kind and mark.image == 0
        assert f"the {name(mark)}" in question.text
        assert answer.text == right[mark.box]
    assert [question.text.count("<image>") for question in questions] == [1] + [0] * (len(questions) - 1)


def test_text_is_read_as_it_stands(make_task: MakeTask, build: Build) -> None:
    rendering = build(annotate(thing(0, "EXIT\nnow"), thing(1)), make_task("mark_ocr", train=False))

    assert rendering.conversation[1].text == "EXIT now"
    assert rendering.targets == TextTargets(answers=("EXIT now",))


def test_what_is_too_small_to_be_seen_is_marked_only_where_nothing_else_is(
    make_task: MakeTask, build: Build
) -> None:
    task = make_task("mark_recognition")

    for seed in range(20):
        both = build(annotate(thing(0, side=2), thing(1), thing(2, side=2)), task, seed)
        assert [mark.box for mark in both.marks] == [thing(1).box]
        assert len(build(annotate(thing(0, side=2), thing(3, side=2)), task, seed).marks) == 1


def test_text_that_speaks_the_models_language_is_not_asked_for(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(thing(0, "<image>"), thing(1, "EXIT"), thing(2, "[DET]"), thing(3, "a\0b"))

    for seed in range(10):
        marks = build(annotation, make_task("mark_ocr"), seed).marks
        assert [mark.box for mark in marks] == [thing(1).box]


def test_a_picture_without_objects_is_skipped(make_task: MakeTask, build: Build) -> None:
    with pytest.raises(Skip, match=r"object\.none"):
        build(annotate(), make_task("mark_recognition"))


def test_a_region_is_no_drawn_mark(make_task: MakeTask) -> None:
    with pytest.raises(SpecError, match="expected kinds of drawn marks"):
        make_task("mark_recognition", show=["region"])
