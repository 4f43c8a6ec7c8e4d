from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import Annotation, Image, Instance, Origin
from dataengine.errors import Quarantine, Skip
from dataengine.geometry import rle_area, rle_of_box
from dataengine.sample import InstanceTargets, Rendering, TextTargets
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]


def annotate(*instances: Instance) -> Annotation:
    return Annotation(
        key="1",
        images=(Image(path="a.jpg", width=100, height=80),),
        origin=Origin(file="f", record="r"),
        instances=instances,
    )


def word(number: int, text: str | None, line: str = "", **flags: bool) -> Instance:
    box = (float(number), 2.0, number + 10.0, 22.0)
    return Instance(
        id=str(number),
        category="text",
        box=box,
        text=text,
        attributes={"line": line} if line else {},
        **flags,  # type: ignore[arg-type]
    )


def test_each_text_is_said_once_and_points_to_all_its_places(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(word(1, "EXIT"), word(2, "Way, out"), word(3, "EXIT"), word(4, "exit"))

    rendering = build(annotation, make_task("text_spotting", train=False))

    assert rendering.conversation[0].text == (
        "<image>\nCan you read every word in this picture and show where it stands?"
    )
    assert rendering.conversation[1].text == (
        'Here is the text that I can read: "EXIT"[DET], "Way, out"[DET], "exit"[DET].'
    )
    assert isinstance(rendering.targets, InstanceTargets)
    assert [(item.id, item.label) for item in rendering.targets.instances] == [
        ("1", "EXIT"),
        ("2", "Way, out"),
        ("3", "EXIT"),
        ("4", "exit"),
    ]
    assert rendering.targets.instances[0].box == (1, 2, 11, 22)


def test_the_pixels_of_a_word_are_its_mask_and_area(make_task: MakeTask, build: Build) -> None:
    mask = rle_of_box((0.0, 0.0, 4.0, 5.0), 100, 80)
    item = Instance(id="1", category="text", box=(0.0, 0.0, 9.0, 9.0), mask=mask, text="a")

    rendering = build(annotate(item), make_task("text_spotting"))

    assert isinstance(rendering.targets, InstanceTargets)
    assert rendering.targets.instances[0].mask == mask
    assert rendering.targets.instances[0].area == rle_area(mask) == 20


def test_words_that_nobody_can_read_are_neither_said_nor_asked_for(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(word(1, None, ignore=True), word(2, "a"), word(3, "b", difficult=True))

    spotted = build(annotation, make_task("text_spotting"))
    read = build(annotation, make_task("ocr"))

    assert [route.name for route in spotted.routes] == ["a"]
    assert read.conversation[1].text == "a"


@pytest.mark.parametrize("task", ["text_spotting", "ocr"])
def test_a_picture_without_readable_text_is_skipped(make_task: MakeTask, build: Build, task: str) -> None:
    with pytest.raises(Skip) as error:
        build(annotate(word(1, None, ignore=True)), make_task(task))

    assert error.value.reason == "text.none"


@pytest.mark.parametrize(
    ("task", "text", "reason"),
    [
        ("text_spotting", None, "object.incomplete"),
        ("ocr", None, "object.incomplete"),
        ("region_ocr", None, "object.incomplete"),
        ("text_spotting", " ", "text.empty"),
        ("ocr", " \n", "text.empty"),
        ("region_ocr", "", "text.empty"),
    ],
)
def test_a_word_whose_text_is_not_known_costs_the_picture(
    make_task: MakeTask, build: Build, task: str, text: str | None, reason: str
) -> None:
    with pytest.raises(Skip) as error:
        build(annotate(word(1, text)), make_task(task))

    assert error.value.reason == reason


def test_more_words_than_fit_are_not_cut(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(*(word(number, f"w{number % 4}") for number in range(9)))

    four = build(annotation, make_task("text_spotting", max_words=4))
    with pytest.raises(Skip) as error:
        build(annotation, make_task("text_spotting", max_words=3))

    assert len(four.routes) == 4
    assert error.value.reason == "text.too_many"


def test_text_that_speaks_the_models_language_is_quarantined(make_task: MakeTask, build: Build) -> None:
    for text in ("[DET]", "<image>", "<|endoftext|>"):
        with pytest.raises(Quarantine):
            build(annotate(word(1, text)), make_task("text_spotting"))


def test_the_words_of_a_line_are_joined_and_lines_are_kept_apart(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(
        word(1, "Dear", "0"), word(2, "Sir ,", "0"), word(3, "I", "1"), word(4, "P.S."), word(5, "Bye")
    )

    rendering = build(annotation, make_task("ocr", train=False))

    assert rendering.conversation[0].text == "<image>\nWhat does the text in the picture say?"
    assert rendering.conversation[1].text == "Dear Sir ,\nI\nP.S.\nBye"
    assert rendering.targets == TextTargets(answers=("Dear Sir ,\nI\nP.S.\nBye",))


def test_a_region_is_read_by_its_box(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(word(1, "a"), word(2, "two  words"))

    rendering = build(annotation, make_task("region_ocr", train=False), unit=annotation.instances[1])

    assert rendering.conversation[0].text == "<image>\nWhat does the text in <reg>region1<region></reg> say?"
    assert rendering.conversation[1].text == "two words"
    assert rendering.regions[0].box == (2, 2, 12, 22)


def test_a_region_that_nobody_can_read_is_skipped(make_task: MakeTask, build: Build) -> None:
    with pytest.raises(Skip) as error:
        build(annotate(word(1, "a", ignore=True)), make_task("region_ocr"))

    assert error.value.reason == "text.unreadable"


@given(
    texts=st.lists(st.text("ab ,\"'", min_size=1, max_size=4), min_size=1, max_size=12),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=100)
def test_every_readable_word_is_a_target_of_its_own_text(
    make_task: MakeTask, build: Build, texts: list[str], seed: int
) -> None:
    annotation = annotate(*(word(number, text) for number, text in enumerate(texts)))
    said = [" ".join(text.split()) for text in texts]

    try:
        rendering = build(annotation, make_task("text_spotting"), seed)
    except Skip as skip:
        assert skip.reason == "text.empty" and "" in said
        return

    assert isinstance(rendering.targets, InstanceTargets)
    assert [item.label for item in rendering.targets.instances] == said
    assert [route.name for route in rendering.routes] == list(dict.fromkeys(said))
    for name in said:
        assert f'"{name}"[DET]' in rendering.conversation[1].text
