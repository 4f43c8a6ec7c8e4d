from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from dataengine.annotation import Annotation, Dialog, Image, Instance, Origin, Question, Turn
from dataengine.errors import Quarantine, Skip
from dataengine.sample import Rendering, TextTargets
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]
R1, R2 = "<reg>region1<region></reg>", "<reg>region2<region></reg>"


def scene(*questions: Question, turns: tuple[Turn, ...] = ()) -> Annotation:
    boxes = [(float(10 * number), 0.0, 10.0 * number + 8, 20.0) for number in range(3)]
    return Annotation(
        key="1",
        images=(Image(path="a.jpg"),),
        origin=Origin(file="f", record="r"),
        instances=tuple(Instance(id=str(number), box=box) for number, box in enumerate(boxes)),
        questions=questions,
        dialogs=(Dialog(id="d", turns=turns),) if turns else (),
    )


def ask(text: str, *instances: int, answers: tuple[str, ...] = ("Yes.",)) -> Annotation:
    return scene(Question(id="q", text=text, answers=answers, instances=instances))


def test_a_mark_in_a_question_becomes_its_region_in_the_order_of_the_text(
    make_task: MakeTask, build: Build
) -> None:
    annotation = ask("Is <region2> left of <region1>, and is <region2> red?", 0, 2)

    rendering = build(annotation, make_task("region_qa", train=False))

    assert rendering.conversation[0].text == f"<image>\nIs {R1} left of {R2}, and is region1 red?"
    assert [region.box[0] for region in rendering.regions] == [20.0, 0.0]
    assert rendering.prompt.bank == ""


def test_an_answer_calls_regions_by_their_names(make_task: MakeTask, build: Build) -> None:
    annotation = ask("Why does <region2> look at <region1>?", 0, 1, answers=("<region1> fell over.",))

    rendering = build(annotation, make_task("region_qa"))

    assert rendering.conversation[1].text == "region2 fell over."
    assert rendering.targets == TextTargets(answers=("region2 fell over.",))


def test_a_question_without_marks_is_asked_about_all_its_objects(make_task: MakeTask, build: Build) -> None:
    rendering = build(ask("Are they alike?", 2, 0), make_task("region_qa", train=False))

    assert rendering.conversation[0].text == f"<image>\nThis is about {R1}, {R2}. Are they alike?"
    assert [region.box[0] for region in rendering.regions] == [20.0, 0.0]
    assert rendering.prompt.question == "en01"


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (ask("  ", 0), "text.empty"),
        (ask("What?"), "question.no_region"),
        (ask("What is <region1>?", 0, answers=(" ",)), "question.no_answer"),
        (ask("What is <region1>?", 0, 1, answers=("Like <region2>.",)), "region.unshown"),
        (ask("What is <region2>?", 0), "region.unknown"),
        (ask("What is <region0>?", 0), "region.unknown"),
        (ask("What is <region1>?", 9), "id.orphan"),
    ],
)
def test_what_cannot_be_asked_has_its_reason(
    make_task: MakeTask, build: Build, annotation: Annotation, reason: str
) -> None:
    with pytest.raises((Skip, Quarantine)) as caught:
        build(annotation, make_task("region_qa"))

    assert getattr(caught.value, "reason", "") == reason


def test_a_conversation_shows_each_region_once(make_task: MakeTask, build: Build) -> None:
    turns = (
        Turn("user", "What is <region3>?"),
        Turn("assistant", "<region3> is a cat."),
        Turn("user", "And <region1>, next to <region3>?"),
        Turn("assistant", "A dog."),
    )

    rendering = build(scene(turns=turns), make_task("region_conversation"))

    assert [turn.text for turn in rendering.conversation] == [
        f"<image>\nWhat is {R1}?",
        "region1 is a cat.",
        f"And {R2}, next to region1?",
        "A dog.",
    ]
    assert [region.box[0] for region in rendering.regions] == [20.0, 0.0]


def test_regions_that_only_the_answers_name_are_shown_first(make_task: MakeTask, build: Build) -> None:
    turns = (Turn("user", "Who won?"), Turn("assistant", "<region2> did."))

    rendering = build(scene(turns=turns), make_task("region_conversation", train=False))

    assert [turn.text for turn in rendering.conversation] == [
        f"<image>\nThis is about {R1}. Who won?",
        "region1 did.",
    ]
    assert [region.box[0] for region in rendering.regions] == [10.0]


def test_a_conversation_that_names_no_region_is_about_all(make_task: MakeTask, build: Build) -> None:
    turns = (Turn("user", "What are they?"), Turn("assistant", "Cats."))

    rendering = build(scene(turns=turns), make_task("region_conversation"))

    assert [region.box[0] for region in rendering.regions] == [0.0, 10.0, 20.0]


def test_a_conversation_without_objects_is_skipped(make_task: MakeTask, build: Build) -> None:
    turns = (Turn("user", "What is it?"), Turn("assistant", "A cat."))
    annotation = msgspec.structs.replace(scene(turns=turns), instances=())

    with pytest.raises(Skip) as caught:
        build(annotation, make_task("region_conversation"))

    assert caught.value.reason == "question.no_region"
