from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest

from dataengine.annotation import Annotation, Caption, Image, Origin
from dataengine.errors import Quarantine, Skip
from dataengine.sample import Rendering, TextTargets
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]


def annotate(*captions: Caption, role: Literal["input", "target"] = "input") -> Annotation:
    return Annotation(
        key="1",
        images=(Image(path="a.jpg", role=role),),
        origin=Origin(file="f", record="r"),
        captions=captions,
    )


def test_the_caption_is_the_answer_and_all_captions_are_accepted(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(
        Caption(id="1", text="A cat."),
        Caption(id="2", text=" A  small\ncat. "),
        Caption(id="3", text="A cat."),
        Caption(id="4", text="Eine Katze.", lang="de"),
    )

    rendering = build(annotation, make_task("caption"), unit=annotation.captions[1])

    assert rendering.conversation[1].text == "A small cat."
    assert rendering.targets == TextTargets(answers=("A small cat.", "A cat."))


def test_a_blank_caption_is_skipped(make_task: MakeTask, build: Build) -> None:
    with pytest.raises(Skip) as caught:
        build(annotate(Caption(id="1", text=" \n")), make_task("caption"))

    assert caught.value.reason == "text.empty"


def test_a_picture_that_is_to_be_made_cannot_be_described(make_task: MakeTask, build: Build) -> None:
    with pytest.raises(Quarantine) as caught:
        build(annotate(Caption(id="1", text="A cat."), role="target"), make_task("caption"))

    assert caught.value.reason == "media.role"


def test_training_uses_many_templates_and_evaluation_the_first(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(Caption(id="1", text="A cat."))

    taught = {build(annotation, make_task("caption"), seed).prompt.question for seed in range(300)}
    tested = {
        build(annotation, make_task("caption", train=False), seed).prompt.question for seed in range(20)
    }

    assert taught == {f"en{number:02d}" for number in range(1, 21)}
    assert tested == {"en01"}
