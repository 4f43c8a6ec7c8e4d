from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest

from dataengine.annotation import Annotation, Caption, Edit, Image, Measure, Origin, Quantity
from dataengine.errors import Quarantine, Skip
from dataengine.sample import ImageTargets, Rendering
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]
Role = Literal["input", "target"]


def annotate(text: str, *roles: Role, before: int = 0, after: int = 1) -> Annotation:
    return Annotation(
        key="1",
        images=tuple(Image(path=f"{number}.jpg", role=role) for number, role in enumerate(roles)),
        origin=Origin(file="f", record="r"),
        captions=(Caption(id="c", text=text),),
        edits=(Edit(id="e", instruction=text, before=before, after=after),),
    )


def test_a_caption_is_drawn(make_task: MakeTask, build: Build) -> None:
    rendering = build(annotate(" A Red\nHouse. ", "target"), make_task("text_to_image", train=False))

    assert rendering.conversation[0].text == "Please make a picture of this: a red house."
    assert rendering.conversation[1].text == "Here it is [GEN]."
    assert rendering.targets == ImageTargets(image=0, caption="A Red House.")


def test_an_edit_is_worded_by_a_template_or_stands_bare(make_task: MakeTask, build: Build) -> None:
    annotation = annotate("Turn the sky  Red!", "input", "target")

    renderings = [build(annotation, make_task("image_edit"), seed) for seed in range(200)]

    bare = [one for one in renderings if not one.prompt.question]
    assert 70 < len(bare) < 130
    assert {one.conversation[0].text for one in bare} == {"<image>\nTurn the sky Red!"}
    for one in renderings:
        assert one.prompt.answer
        if one.prompt.question:
            assert one.conversation[0].text.endswith(": turn the sky red.")


def test_evaluation_words_an_edit_by_the_first_template(make_task: MakeTask, build: Build) -> None:
    annotation = annotate("Turn the sky red", "target", "input", before=1, after=0)

    rendering = build(annotation, make_task("image_edit", train=False), 4)

    assert rendering.conversation[0].text == (
        "<image>\nPlease change the picture as follows: turn the sky red."
    )
    assert rendering.conversation[1].text == "Sure, here you go [EDIT]."
    assert rendering.targets == ImageTargets(image=0, caption="Turn the sky red")
    assert [(route.kind, route.name) for route in rendering.routes] == [("image", "0")]


@pytest.mark.parametrize(
    ("task", "roles"),
    [
        ("text_to_image", ("input",)),
        ("text_to_image", ("target", "target")),
        ("text_to_image", ()),
        ("image_edit", ("input", "input")),
        ("image_edit", ("target", "input")),
        ("image_edit", ("input", "target", "target")),
        ("image_edit", ("input",)),
    ],
)
def test_pictures_in_other_roles_are_quarantined(
    make_task: MakeTask, build: Build, task: str, roles: tuple[Role, ...]
) -> None:
    with pytest.raises(Quarantine) as caught:
        build(annotate("make it red", *roles), make_task(task))

    assert caught.value.reason == "media.role"


@pytest.mark.parametrize(
    ("task", "roles"), [("text_to_image", ("target",)), ("image_edit", ("input", "target"))]
)
def test_without_words_there_is_nothing_to_make(
    make_task: MakeTask, build: Build, task: str, roles: tuple[Role, ...]
) -> None:
    with pytest.raises(Skip) as caught:
        build(annotate(" . ", *roles), make_task(task))

    assert caught.value.reason == "text.empty"


def mapped(*roles: Role, quantity: Quantity | None = "depth") -> Annotation:
    measure = Measure(quantity=quantity, unit="m", scale=256, invalid=(0,)) if quantity else None
    return Annotation(
        key="1",
        images=tuple(
            Image(path=f"{number}.png", role=role, measure=measure if role == "target" else None)
            for number, role in enumerate(roles)
        ),
        origin=Origin(file="f", record="r"),
    )


def test_a_map_is_asked_for_by_what_it_measures_and_keeps_its_measure(
    make_task: MakeTask, build: Build
) -> None:
    rendering = build(mapped("target", "input", quantity="disparity"), make_task("depth", train=False))

    assert rendering.conversation[0].text == "<image>\nEstimate the disparity at every pixel of this picture."
    assert rendering.conversation[1].text == "Here is the map [EDIT]."
    assert rendering.targets == ImageTargets(
        image=0,
        caption="disparity map",
        measure=Measure(quantity="disparity", unit="m", scale=256, invalid=(0,)),
    )
    assert [(route.kind, route.name) for route in rendering.routes] == [("image", "0")]


def test_normals_are_a_task_of_their_own(make_task: MakeTask, build: Build) -> None:
    rendering = build(mapped("input", "target", quantity="normal"), make_task("normals", train=False))

    assert rendering.conversation[0].text == "<image>\nEstimate the surface normals in this picture."
    assert isinstance(rendering.targets, ImageTargets) and rendering.targets.caption == "surface normal map"


@pytest.mark.parametrize(
    ("task", "annotation", "reason"),
    [
        ("depth", mapped("input", "target", quantity=None), "map.unmeasured"),
        ("depth", mapped("input", "target", quantity="normal"), "map.quantity"),
        ("normals", mapped("input", "target"), "map.quantity"),
        ("depth", mapped("input"), "media.role"),
        ("depth", mapped("input", "input", "target"), "media.role"),
        ("depth", mapped("input", "target", "target"), "media.role"),
    ],
)
def test_a_map_that_the_task_cannot_ask_for_is_quarantined(
    make_task: MakeTask, build: Build, task: str, annotation: Annotation, reason: str
) -> None:
    with pytest.raises(Quarantine) as caught:
        build(annotation, make_task(task))

    assert caught.value.reason == reason


def test_a_restoration_is_told_by_its_instruction(make_task: MakeTask, build: Build) -> None:
    annotation = annotate("Remove the rain.", "input", "target")

    rendering = build(annotation, make_task("image_restoration", train=False))

    assert rendering.conversation[0].text == "<image>\nPlease restore this picture: remove the rain."
    assert rendering.targets == ImageTargets(image=1, caption="Remove the rain.")


def test_an_edit_may_look_at_several_pictures(make_task: MakeTask, build: Build) -> None:
    annotation = annotate("Make the frame between these two.", "input", "input", "target", after=2)

    rendering = build(annotation, make_task("image_restoration", train=False))

    assert rendering.conversation[0].text.startswith("<image>\n<image>\nPlease restore")
    assert rendering.targets == ImageTargets(image=2, caption="Make the frame between these two.")
