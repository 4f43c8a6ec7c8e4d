"""The tasks whose samples come from label maps, all worded by the builder `instances`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin
from dataengine.geometry import rle_of_box, rle_union
from dataengine.sample import InstanceTargets, Rendering
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]

LABELS = LabelSpace(id="three", labels=(Label(name="sky"), Label(name="car"), Label(name="road")))


def _region(name: str, category: str | None, x0: float, **flags: Any) -> Instance:
    box = (x0, 0.0, x0 + 20.0, 80.0)
    return Instance(id=name, category=category, box=box, mask=rle_of_box(box, 100, 80), **flags)


def _scene(*instances: Instance) -> Annotation:
    return Annotation(
        key="1",
        images=(Image(path="a.jpg"),),
        origin=Origin(file="f", record="r"),
        instances=instances,
    )


def _targets(rendering: Rendering) -> InstanceTargets:
    assert isinstance(rendering.targets, InstanceTargets)
    return rendering.targets


def test_a_label_map_becomes_one_mask_a_class(make_task: MakeTask, build: Build) -> None:
    scene = _scene(
        _region("sky", "sky", 0), _region("car", "car", 20), _region("ignored", None, 40, ignore=True)
    )

    made = build(scene, make_task("semantic_segmentation", LABELS, train=False))

    assert made.conversation[1].text == "Here is the map of the scene: sky[SEG], car[SEG], road[SEG]."
    assert [(item.label, item.area, item.ignore) for item in _targets(made).instances] == [
        ("sky", 1600, False),
        ("car", 1600, False),
    ]
    assert all(item.mask is not None for item in _targets(made).instances)


def test_pixels_that_the_source_leaves_open_are_void(make_task: MakeTask, build: Build) -> None:
    open_area, other = _region("a", None, 40, ignore=True), _region("b", None, 60, ignore=True)
    crowd = _region("c", "car", 0, ignore=True)

    made = build(
        _scene(_region("sky", "sky", 20), open_area, other, crowd),
        make_task("semantic_segmentation", LABELS, train=False),
    )
    closed = build(_scene(_region("sky", "sky", 20), crowd), make_task("semantic_segmentation", LABELS))
    boxes = build(_scene(_region("sky", "sky", 20), open_area), make_task("detection", LABELS))

    assert open_area.mask is not None and other.mask is not None
    assert _targets(made).void == rle_union([open_area.mask, other.mask])
    assert _targets(closed).void is None
    assert _targets(boxes).void is None


def test_a_panoptic_map_keeps_objects_apart_and_crowds_ignored(make_task: MakeTask, build: Build) -> None:
    scene = _scene(
        _region("1", "car", 0),
        _region("2", "car", 20),
        _region("3", "car", 40, crowd=True),
        _region("7", "road", 60),
    )

    made = build(scene, make_task("panoptic_segmentation", LABELS, train=False))

    assert made.conversation[1].text == "The scene splits into these segments: sky[SEG], car[SEG], road[SEG]."
    assert [(item.id, item.label, item.ignore) for item in _targets(made).instances] == [
        ("1", "car", False),
        ("2", "car", False),
        ("3", "car", True),
        ("7", "road", False),
    ]


@pytest.mark.parametrize(
    ("task", "name", "answer"),
    [
        ("salient_segmentation", "salient object", "Here is the mask: salient object[DET]."),
        ("camouflaged_segmentation", "camouflaged object", "Here is the mask: camouflaged object[DET]."),
    ],
)
def test_a_mask_of_one_class_is_asked_for_whether_it_is_there_or_not(
    make_task: MakeTask, build: Build, task: str, name: str, answer: str
) -> None:
    labels = LabelSpace(id="one", labels=(Label(name=name),))

    there = build(_scene(_region(name, name, 0)), make_task(task, labels, train=False))
    absent = build(_scene(), make_task(task, labels, train=True))

    assert there.conversation[1].text == answer
    assert [item.label for item in _targets(there).instances] == [name]
    assert [route.name for route in absent.routes] == [name]
    assert _targets(absent).instances == ()
    assert _targets(absent).exhaustive
