from __future__ import annotations

from collections.abc import Callable

import pytest

from dataengine.annotation import Annotation, Caption, Dialog, Expression, Image, Instance, Origin, Turn
from dataengine.errors import Quarantine, Skip
from dataengine.geometry import rle_of_box
from dataengine.sample import InstanceTargets, Rendering
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]
TEXT = "a man in a red hat and a man walk their dog ."


def thing(number: int, masked: bool = True) -> Instance:
    box = (float(number), 2.0, number + 10.0, 22.0)
    return Instance(id=str(number), box=box, mask=rle_of_box(box, 100, 80) if masked else None)


def said(text: str, *phrases: tuple[str, int, tuple[int, ...]], caption: str = "0") -> tuple[Expression, ...]:
    """Phrases by their words, which occurrence of them it is, and their objects."""
    found = []
    for number, (words, times, instances) in enumerate(phrases):
        start = -1
        for _ in range(times):
            start = text.index(words, start + 1)
        found.append(
            Expression(
                id=f"{caption}.{number}",
                text=words,
                instances=instances,
                spans=((start, start + len(words)),),
            )
        )
    return tuple(found)


def annotate(expressions: tuple[Expression, ...] = (), **facts: tuple[object, ...]) -> Annotation:
    known: dict[str, object] = {"captions": (Caption(id="0", text=TEXT),), **facts}
    return Annotation(
        key="1",
        images=(Image(path="a.jpg"),),
        origin=Origin(file="f", record="r"),
        instances=tuple(thing(number) for number in range(4)),
        expressions=expressions,
        **known,  # type: ignore[arg-type]
    )


PHRASES = said(
    TEXT,
    ("a man in a red hat", 1, (0,)),
    ("a red hat", 1, (1,)),
    ("a man", 2, (2,)),
    ("their dog", 1, ()),
)


def test_a_token_follows_each_phrase_that_means_objects(make_task: MakeTask, build: Build) -> None:
    rendering = build(annotate(PHRASES), make_task("grounded_caption", train=False))

    assert rendering.conversation[1].text == "A man in a red hat[DET][DET] and a man[DET] walk their dog."
    assert [route.name for route in rendering.routes] == ["a red hat", "a man in a red hat", "a man"]
    assert isinstance(rendering.targets, InstanceTargets)
    assert [(item.label, item.id) for item in rendering.targets.instances] == [
        ("a red hat", "1"),
        ("a man in a red hat", "0"),
        ("a man", "2"),
    ]
    assert rendering.conversation[0].text == (
        "<image>\nWhat does this picture show? Answer in a sentence and localize each object that you name."
    )


def test_a_phrase_that_comes_again_has_a_name_of_its_own(make_task: MakeTask, build: Build) -> None:
    phrases = said(TEXT, ("a man", 1, (0,)), ("a man", 2, (2, 3)))

    rendering = build(annotate(phrases), make_task("grounded_caption"))

    assert isinstance(rendering.targets, InstanceTargets)
    assert [(item.label, item.id) for item in rendering.targets.instances] == [
        ("a man", "0"),
        ("a man (2)", "2"),
        ("a man (2)", "3"),
    ]


def test_masks_are_answered_where_they_are_asked_for(make_task: MakeTask, build: Build) -> None:
    boxes = build(annotate(PHRASES), make_task("grounded_caption")).targets
    masks = build(annotate(PHRASES), make_task("grounded_caption_mask")).targets

    assert isinstance(boxes, InstanceTargets) and isinstance(masks, InstanceTargets)
    assert [item.mask for item in boxes.instances] == [None] * 3
    assert all(item.mask is not None for item in masks.instances)


def test_of_several_captions_each_has_its_own_phrases(make_task: MakeTask, build: Build) -> None:
    second = "a dog and a man"
    captions = (Caption(id="0", text=TEXT), Caption(id="1", text=second))
    phrases = said(TEXT, ("their dog", 1, (3,))) + said(second, ("a dog", 1, (3,)), caption="1")
    annotation = annotate(phrases, captions=captions)

    texts = [
        build(annotation, make_task("grounded_caption"), unit=unit).conversation[1].text for unit in captions
    ]

    assert texts == ["A man in a red hat and a man walk their dog[DET].", "A dog[DET] and a man."]


@pytest.mark.parametrize(
    ("phrases", "reason"),
    [
        ((), "phrase.none"),
        (said(TEXT, ("their dog", 1, ())), "phrase.none"),
        (said(TEXT, ("their dog", 1, (9,))), "id.orphan"),
        ((Expression(id="0.0", text="a dog", instances=(0,), spans=((40, 99),)),), "span.invalid"),
        ((Expression(id="0.0", text="a dog", instances=(0,), spans=((5, 5),)),), "span.invalid"),
        ((Expression(id="0.0", text=" . ", instances=(0,), spans=((0, 5),)),), "text.empty"),
    ],
)
def test_what_cannot_be_grounded_has_its_reason(
    make_task: MakeTask, build: Build, phrases: tuple[Expression, ...], reason: str
) -> None:
    with pytest.raises((Skip, Quarantine)) as caught:
        build(annotate(phrases), make_task("grounded_caption"))

    assert getattr(caught.value, "reason", "") == reason


def talk(*texts: str) -> Annotation:
    turns = tuple(Turn("user" if number % 2 == 0 else "assistant", text) for number, text in enumerate(texts))
    return annotate(captions=(), dialogs=(Dialog(id="d", turns=turns),))


def test_a_dialog_routes_the_phrases_of_its_answers(make_task: MakeTask, build: Build) -> None:
    annotation = talk(
        "What is near <p>the man</p><region1>?",
        "<p>Two  cats</p> <region2><region3> and <p>some grass</p>, but <region1> is alone.",
        "Where is <p>the hat</p>?",
        "On <p>his head</p><region4>.",
    )

    rendering = build(annotation, make_task("grounded_conversation"))

    assert [turn.text for turn in rendering.conversation] == [
        "<image>\nWhat is near the man <reg>region1<region></reg>?",
        "Two cats[DET] and some grass, but region1 is alone.",
        "Where is the hat?",
        "On his head[DET].",
    ]
    assert isinstance(rendering.targets, InstanceTargets)
    assert [(item.label, item.id) for item in rendering.targets.instances] == [
        ("two cats", "1"),
        ("two cats", "2"),
        ("his head", "3"),
    ]
    assert [region.box[0] for region in rendering.regions] == [0.0]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (("Hello.", "Hello, <p>friend</p>."), "phrase.none"),
        (("Hello.", "<p>A cat</p><region9>."), "id.orphan"),
        (("Hello.", "<p>A cat</p><region1> and <region2>."), "region.unshown"),
        (("Is it <region9>?", "<p>A cat</p><region1>."), "region.unknown"),
    ],
)
def test_a_dialog_that_cannot_be_grounded_has_its_reason(
    make_task: MakeTask, build: Build, texts: tuple[str, ...], reason: str
) -> None:
    with pytest.raises((Skip, Quarantine)) as caught:
        build(talk(*texts), make_task("grounded_conversation"))

    assert getattr(caught.value, "reason", "") == reason
