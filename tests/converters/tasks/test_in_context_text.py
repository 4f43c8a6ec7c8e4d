from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import (
    Annotation,
    Caption,
    Dialog,
    Image,
    Instance,
    Label,
    LabelSpace,
    Origin,
    Question,
    Turn,
)
from dataengine.errors import Quarantine, Skip
from dataengine.geometry import rle_of_box
from dataengine.marks import KINDS
from dataengine.sample import Rendering, TextTargets
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]


def item(key: str, **facts: Any) -> Annotation:
    return Annotation(
        key=key,
        images=(Image(path=f"{key}.jpg", width=100, height=80),),
        origin=Origin(file="f", record=key),
        **facts,
    )


def asked(last: Annotation, *examples: Annotation, shared: str = "") -> Annotation:
    facts = {
        name: getattr(last, name) for name in ("labels", "captions", "questions", "dialogs", "instances")
    }
    return item(last.key, examples=examples, shared=shared, **facts)


def thing(number: int, category: str = "cat", text: str | None = None, mask: bool = True) -> Instance:
    x = number * 19.0
    box = (x, 10.0, x + 16, 40.0)
    code = rle_of_box(box, 100, 80) if mask else None
    return Instance(id=str(number), category=category, box=box, text=text, mask=code)


def said(rendering: Rendering) -> list[str]:
    return [turn.text for turn in rendering.conversation]


def test_classes_stand_below_the_examples_and_the_last_one_is_asked_for(
    make_task: MakeTask, build: Build
) -> None:
    annotation = asked(
        item("3", labels=("tree_frog",)), item("1", labels=("newt",)), item("2", labels=("tree_frog",)),
        shared="tree_frog",
    )  # fmt: skip

    rendering = build(annotation, make_task("in_context_text", train=False, fact="label"))

    assert said(rendering) == [
        "These pictures come with their answers:\n<image>\nnewt\n<image>\ntree frog\n"
        "Answer for the last picture in the same way:\n<image>",
        "tree frog",
    ]
    assert rendering.targets == TextTargets(answers=("tree frog",))
    assert rendering.prompt.question == "en01"


def test_of_several_classes_the_shared_one_is_said(make_task: MakeTask, build: Build) -> None:
    annotation = asked(item("2", labels=("a", "b")), item("1", labels=("c", "b")), shared="b")

    rendering = build(annotation, make_task("in_context_text", train=False, fact="label"))

    assert "<image>\nb\n" in said(rendering)[0]
    assert said(rendering)[1] == "b"


def test_a_class_beyond_the_label_space_is_refused(make_task: MakeTask, build: Build) -> None:
    labels = LabelSpace(id="two", labels=(Label(name="a"), Label(name="b")))
    good = asked(item("2", labels=("a",)), item("1", labels=("b",)), shared="a")
    bad = asked(item("2", labels=("c",)), item("1", labels=("c",)), shared="c")

    assert said(build(good, make_task("in_context_text", labels, fact="label")))[1] == "a"
    with pytest.raises(Quarantine, match=r"category\.unknown"):
        build(bad, make_task("in_context_text", labels, fact="label"))


def test_captions_are_sentences_and_all_of_the_last_picture_are_accepted(
    make_task: MakeTask, build: Build
) -> None:
    two = (Caption(id="0", text="a dog runs "), Caption(id="1", text="A dog."))
    annotation = asked(item("2", captions=two), item("1", captions=(Caption(id="0", text="a cat"),)))

    rendering = build(annotation, make_task("in_context_text", train=False, fact="caption"))

    assert "<image>\nA cat.\n" in said(rendering)[0]
    assert said(rendering)[1] == "A dog runs."
    assert rendering.targets == TextTargets(answers=("A dog runs.", "A dog."))


def test_questions_stand_with_their_answers(make_task: MakeTask, build: Build) -> None:
    first = Question(id="0", text="How many?", answers=("two",))
    second = Question(id="0", text="What colour?", choices=("red", "blue"), answer_index=1)
    annotation = asked(item("2", questions=(second,)), item("1", questions=(first,)))

    rendering = build(annotation, make_task("in_context_text", train=False, fact="question"))

    assert "<image>\nHow many?\ntwo\n" in said(rendering)[0]
    assert said(rendering)[0].endswith("<image>\nWhat colour?")
    assert said(rendering)[1] == "blue"


def test_of_a_conversation_the_first_round_is_shown(make_task: MakeTask, build: Build) -> None:
    turns = (Turn("user", "<image>\nDescribe it."), Turn("assistant", "A hill."), Turn("user", "Why?"))
    last = (Turn("user", "Who is it?\n<image>"), Turn("assistant", "A man."))
    annotation = asked(
        item("2", dialogs=(Dialog(id="", turns=last),)), item("1", dialogs=(Dialog(id="", turns=turns),))
    )

    rendering = build(annotation, make_task("in_context_text", train=False, fact="dialog"))

    assert "<image>\nDescribe it.\nA hill.\n" in said(rendering)[0]
    assert said(rendering)[0].endswith("<image>\nWho is it?")
    assert said(rendering)[1] == "A man."


def test_a_region_stands_without_a_number_and_lies_on_its_own_picture(
    make_task: MakeTask, build: Build
) -> None:
    annotation = asked(
        item("2", instances=(thing(1), thing(2))),
        item("1", instances=(thing(0, "dog"), thing(3))),
        shared="cat",
    )
    task = make_task("in_context_text", train=False, fact="category", show=["region"])

    rendering = build(annotation, task)

    region = "<reg>region<region></reg>"
    assert f"<image>\n{region}: cat\n" in said(rendering)[0]
    assert said(rendering)[0].endswith(f"<image>\n{region}:")
    assert said(rendering)[1] == "cat"
    assert [(one.kind, one.image) for one in rendering.regions] == [("mask", 0), ("mask", 1)]
    assert not rendering.marks


@given(
    counts=st.lists(st.integers(1, 5), min_size=2, max_size=6),
    kind=st.sampled_from(KINDS),
    most=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=60)
def test_every_answer_about_marks_names_its_object(
    make_task: MakeTask, build: Build, counts: list[int], kind: str, most: int, seed: int
) -> None:
    names = ["cat", "dog", "bird", "fish", "cow"]
    pictures = [
        item(
            str(number), instances=tuple(thing(place, names[(place + number) % 5]) for place in range(count))
        )
        for number, count in enumerate(counts)
    ]
    annotation = asked(pictures[-1], *pictures[:-1], shared="cat")

    rendering = build(
        annotation, make_task("in_context_text", fact="category", show=[kind], max_marks=most), seed
    )

    assert {mark.kind for mark in rendering.marks} == {kind}
    by_picture = [[mark for mark in rendering.marks if mark.image == n] for n in range(len(counts))]
    assert all(1 <= len(marks) <= min(most, count) for marks, count in zip(by_picture, counts, strict=True))
    right = {
        (picture, one.box): one.category for picture, shown in enumerate(pictures) for one in shown.instances
    }
    parts = said(rendering)[0].split("<image>\n")[1:]
    for number, marks in enumerate(by_picture):
        for mark in marks:
            name = right[number, mark.box]
            alone = number == len(counts) - 1 and len(marks) == 1
            text = said(rendering)[1] if number == len(counts) - 1 else parts[number]
            assert text == name if alone else f"{mark.color} " in text and f": {name}" in text


def test_text_in_pictures_is_read_at_marks(make_task: MakeTask, build: Build) -> None:
    annotation = asked(
        item("2", instances=(thing(1, text="EXIT  now"),)), item("1", instances=(thing(0, text="IN"),))
    )

    rendering = build(annotation, make_task("in_context_text", fact="text", show=["box"], max_marks=1))

    assert " box: IN\n" in said(rendering)[0]
    assert said(rendering)[1] == "EXIT now"


def test_mask_marks_are_left_out_where_an_object_has_no_mask(make_task: MakeTask, build: Build) -> None:
    annotation = asked(
        item("2", instances=(thing(1, mask=False),)), item("1", instances=(thing(0),)), shared="cat"
    )
    task = make_task("in_context_text", fact="category", show=["mask", "box"])

    assert {mark.kind for seed in range(12) for mark in build(annotation, task, seed).marks} == {"box"}
    with pytest.raises(Skip, match=r"object\.incomplete"):
        build(annotation, make_task("in_context_text", fact="category", show=["mask"]))


def test_objects_in_one_place_are_not_marked_together(make_task: MakeTask, build: Build) -> None:
    one, two = thing(1), Instance(id="9", category="dog", box=(20.0, 10.0, 36.0, 40.0))
    annotation = asked(item("2", instances=(one, two)), item("1", instances=(thing(0),)), shared="cat")
    task = make_task("in_context_text", fact="category", show=["box"])

    for seed in range(20):
        assert len([mark for mark in build(annotation, task, seed).marks if mark.image == 1]) == 1


def test_without_examples_nothing_is_asked(make_task: MakeTask, build: Build) -> None:
    with pytest.raises(Skip, match=r"gather\.no_example"):
        build(item("1", labels=("a",)), make_task("in_context_text", fact="label"))


def test_an_example_that_cleaning_left_nothing_of_costs_its_sample(make_task: MakeTask, build: Build) -> None:
    lost = Instance(id="0", category="cat", ignore=True)
    annotation = asked(item("2", instances=(thing(1),)), item("1", instances=(lost,)), shared="cat")

    with pytest.raises(Skip, match=r"object\.none"):
        build(annotation, make_task("in_context_text", fact="category"))
