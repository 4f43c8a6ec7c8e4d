from __future__ import annotations

from collections.abc import Callable

import pytest

from dataengine.annotation import Annotation, Dialog, Image, Origin, Turn
from dataengine.errors import Quarantine
from dataengine.sample import Rendering
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]


def annotate(*texts: str, images: int = 1, system: str = "") -> Annotation:
    turns = [Turn("system", system)] if system else []
    turns += [Turn("assistant" if number % 2 else "user", text) for number, text in enumerate(texts)]
    return Annotation(
        key="1",
        images=tuple(Image(path=f"{number}.jpg") for number in range(images)),
        origin=Origin(file="f", record="r"),
        dialogs=(Dialog(id="d", turns=tuple(turns)),),
    )


def texts(rendering: Rendering) -> list[str]:
    return [turn.text for turn in rendering.conversation]


def test_rounds_keep_their_words(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(" <image>\nWho is it? ", "A cat.\n", "Why?", "It  says so.", system="Be kind.")

    rendering = build(annotation, make_task("conversation"))

    assert texts(rendering) == ["Be kind.", "<image>\nWho is it?", "A cat.", "Why?", "It  says so."]
    assert rendering.conversation[0].role == "system"


def test_pictures_that_no_turn_names_stand_first(make_task: MakeTask, build: Build) -> None:
    rendering = build(annotate("Compare.", "Alike.", images=2), make_task("conversation"))

    assert texts(rendering) == ["<image>\n<image>\nCompare.", "Alike."]


def test_a_single_picture_moves_to_the_front_unless_told_otherwise(make_task: MakeTask, build: Build) -> None:
    annotation = annotate("What is this?\n<image>", "A cat.")

    moved = build(annotation, make_task("conversation"))
    kept = build(annotation, make_task("conversation", image_first=False))

    assert texts(moved)[0] == "<image>\nWhat is this?"
    assert texts(kept)[0] == "What is this?\n<image>"


def test_several_pictures_keep_their_places(make_task: MakeTask, build: Build) -> None:
    annotation = annotate("Is <image> like <image>?", "Yes.", images=2)

    assert texts(build(annotation, make_task("conversation")))[0] == "Is <image> like <image>?"


def test_a_conversation_may_have_no_picture(make_task: MakeTask, build: Build) -> None:
    assert texts(build(annotate("Hello.", "Hello!", images=0), make_task("conversation"))) == [
        "Hello.",
        "Hello!",
    ]


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (annotate("<image>\n<image>\nWho?", "A cat."), "media.placeholder"),
        (annotate("Who?"), "turn.structure"),
        (annotate(images=0), "turn.structure"),
        (annotate("Who?", " ", images=0), "text.empty"),
    ],
)
def test_a_broken_conversation_is_quarantined(
    make_task: MakeTask, build: Build, annotation: Annotation, reason: str
) -> None:
    with pytest.raises(Quarantine) as caught:
        build(annotation, make_task("conversation"))

    assert caught.value.reason == reason
