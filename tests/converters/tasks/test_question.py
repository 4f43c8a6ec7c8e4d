from __future__ import annotations

from collections.abc import Callable

import pytest

from dataengine.annotation import Annotation, Image, Origin, Question
from dataengine.errors import Quarantine, Skip
from dataengine.sample import Rendering, TextTargets
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]


def annotate(question: Question, images: int = 1) -> Annotation:
    return Annotation(
        key="1",
        images=tuple(Image(path=f"{number}.jpg") for number in range(images)),
        origin=Origin(file="f", record="r"),
        questions=(question,),
    )


def choice(index: int | None, *choices: str, answers: tuple[str, ...] = ()) -> Annotation:
    return annotate(Question(id="1", text="Which one?", choices=choices, answer_index=index, answers=answers))


def test_the_first_answer_is_taught_and_all_are_accepted(make_task: MakeTask, build: Build) -> None:
    question = Question(id="1", text=" What is it? ", answers=("cat", "a cat", "cat"))

    rendering = build(annotate(question), make_task("vqa"))

    assert rendering.conversation[1].text == "cat"
    assert rendering.targets == TextTargets(answers=("cat", "a cat"), votes=(2, 1))
    assert "What is it?" in rendering.conversation[0].text


def test_votes_say_which_answer_is_taught_and_are_kept(make_task: MakeTask, build: Build) -> None:
    question = Question(id="1", text="What is it?", answers=("dog", "cat ", "cat"), votes=(3, 2, 5))

    targets = build(annotate(question), make_task("vqa")).targets

    assert targets == TextTargets(answers=("cat", "dog"), votes=(7, 3))
    assert isinstance(targets, TextTargets)
    assert targets.given == ("cat",) * 7 + ("dog",) * 3


def test_answers_that_differ_have_no_votes(make_task: MakeTask, build: Build) -> None:
    question = Question(id="1", text="What is it?", answers=("dog", "cat"))

    targets = build(annotate(question), make_task("vqa")).targets

    assert targets == TextTargets(answers=("dog", "cat"))
    assert isinstance(targets, TextTargets)
    assert targets.given == ("dog", "cat")


def test_an_open_question_stands_alone(make_task: MakeTask, build: Build) -> None:
    question = Question(id="1", text="Why is it funny?", answers=("Because cats do not drive.",))

    rendering = build(annotate(question), make_task("vqa", form="open"))

    assert rendering.conversation[0].text == "<image>\nWhy is it funny?"
    assert rendering.prompt.question == ""


def test_every_picture_is_shown_in_order_and_none_where_there_is_none(
    make_task: MakeTask, build: Build
) -> None:
    question = Question(id="1", text="What changed?", answers=("nothing",))

    three = build(annotate(question, images=3), make_task("vqa", form="open"))
    none = build(annotate(question, images=0), make_task("vqa", form="open"))

    assert three.conversation[0].text == "<image>\n<image>\n<image>\nWhat changed?"
    assert none.conversation[0].text == "What changed?"


def test_a_choice_is_answered_by_its_letter(make_task: MakeTask, build: Build) -> None:
    for index, letter in enumerate("ABC"):
        rendering = build(choice(index, "red", " dark  green ", "blue"), make_task("multiple_choice_vqa"))

        assert rendering.conversation[1].text == letter
        assert "A. red\nB. dark green\nC. blue" in rendering.conversation[0].text
        assert rendering.targets == TextTargets(
            answers=(("red", "dark green", "blue")[index],),
            choices=("red", "dark green", "blue"),
            answer_index=index,
        )


def test_a_choice_may_be_given_by_its_words(make_task: MakeTask, build: Build) -> None:
    rendering = build(choice(None, "red", "blue", answers=("blue",)), make_task("multiple_choice_vqa"))

    assert rendering.conversation[1].text == "B"


def test_a_question_with_choices_can_be_asked_without_them(make_task: MakeTask, build: Build) -> None:
    assert build(choice(1, "red", "blue"), make_task("vqa")).conversation[1].text == "blue"


@pytest.mark.parametrize(
    "annotation",
    [
        choice(2, "red", "blue"),
        choice(-1, "red", "blue"),
        choice(0, "red"),
        choice(0),
        choice(0, "red", " "),
        choice(0, *map(str, range(27))),
        choice(None, "red", "blue", answers=("green",)),
        choice(None, "red", "red", answers=("red",)),
    ],
)
def test_a_choice_that_cannot_be_right_is_quarantined(
    make_task: MakeTask, build: Build, annotation: Annotation
) -> None:
    with pytest.raises(Quarantine) as caught:
        build(annotation, make_task("multiple_choice_vqa"))

    assert caught.value.reason == "qa.format"


@pytest.mark.parametrize(
    ("annotation", "task", "reason"),
    [
        (annotate(Question(id="1", text="Why?")), "vqa", "question.no_answer"),
        (annotate(Question(id="1", text="Why?", answers=(" ",))), "vqa", "question.no_answer"),
        (annotate(Question(id="1", text=" ", answers=("x",))), "vqa", "text.empty"),
        (choice(None, "red", "blue"), "multiple_choice_vqa", "question.no_answer"),
        (choice(None, "red", "blue"), "vqa", "question.no_answer"),
        (choice(None, answers=("red",)), "multiple_choice_vqa", "question.no_choices"),
    ],
)
def test_what_cannot_be_asked_is_skipped(
    make_task: MakeTask, build: Build, annotation: Annotation, task: str, reason: str
) -> None:
    with pytest.raises(Skip) as caught:
        build(annotation, make_task(task))

    assert caught.value.reason == reason


def test_braces_of_a_question_are_not_read_as_slots(make_task: MakeTask, build: Build) -> None:
    question = Question(id="1", text="What does {choices} {x} print?", answers=("{y}",))

    for seed in range(20):
        rendering = build(annotate(question), make_task("vqa"), seed)
        assert "What does {choices} {x} print?" in rendering.conversation[0].text
