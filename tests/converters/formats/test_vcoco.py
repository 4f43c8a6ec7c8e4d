from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.vcoco import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]
NAME = "COCO_val2014_000000000005.jpg"


def _box(number: int, category: int, image: int = 5) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "bbox": [number, 2, 3, 4]}


INSTANCES: dict[str, Any] = {
    "images": [{"id": 5, "file_name": NAME, "width": 90, "height": 80}, {"id": 6, "file_name": "x.jpg"}],
    "annotations": [_box(10, 1), _box(11, 1), _box(20, 18), _box(21, 48), _box(30, 1, 6)],
    "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 48, "name": "fork"}],
}
EAT: dict[str, Any] = {
    "action_name": "eat",
    "role_name": ["agent", "obj", "instr"],
    "image_id": [5, 5],
    "ann_id": [10, 11],
    "role_object_id": [10, 11, 20, 20, 0, 21],
    "label": [1, 1],
    "include": [[], [], []],
}
TALK = {
    **EAT,
    "action_name": "talk_on_phone",
    "role_name": ["agent"],
    "role_object_id": [10, 11],
    "label": [0, 1],
}


def _split(
    folder: Path, *actions: Any, instances: Any = INSTANCES, **options: Any
) -> tuple[list[Annotation], list[Rejected]]:
    (folder / "vcoco.json").write_text(json.dumps(actions))
    (folder / "coco.json").write_text(json.dumps(instances))
    found = list(read(Source(annotations="vcoco.json", instances=("coco.json",), **options), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_roles_are_stacked_one_after_the_other(tmp_path: Path) -> None:
    (found,), rejected = _split(tmp_path, EAT, TALK, images="coco")

    assert rejected == []
    assert (found.key, found.images[0].path) == ("5", f"coco/val2014/{NAME}")
    assert [(item.id, item.category) for item in found.instances] == [
        ("10", "person"),
        ("11", "person"),
        ("20", "dog"),
        ("21", "fork"),
    ]
    assert found.relations == ((0, "eat", 2), (1, "eat", 2), (1, "eat with", 3))
    assert [item.attributes for item in found.instances[:3]] == [
        {"actions": "eat"},
        {"actions": "eat, talk on phone"},
        {},
    ]


def test_an_instrument_alone_needs_no_preposition(tmp_path: Path) -> None:
    ride = {**EAT, "action_name": "ride", "role_name": ["agent", "instr"], "role_object_id": [10, 11, 20, 0]}

    (found,), _ = _split(tmp_path, ride, folders=False)

    assert found.relations == ((0, "ride", 2),)
    assert found.images[0].path == NAME


def test_what_points_nowhere_is_rejected_and_the_rest_kept(tmp_path: Path) -> None:
    action = {**EAT, "image_id": [5, 7], "role_object_id": [10, 11, 20, 20, 99, 0]}

    (found,), rejected = _split(tmp_path, action)

    assert found.relations == ((0, "eat", 2),)
    assert [(item.key, item.reason) for item in rejected] == [
        ("picture 5: 10 eat with 99", "id.orphan"),
        ("picture 7", "id.orphan"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"role_object_id": [10, 11]},
        {"label": [1]},
        {"ann_id": [10]},
        {"label": ["yes", "no"]},
        {"role_name": None},
    ],
)
def test_arrays_that_contradict_each_other_are_rejected(tmp_path: Path, change: dict[str, Any]) -> None:
    (found,), (rejected,) = _split(tmp_path, {**EAT, **change}, TALK)

    assert (rejected.key, rejected.reason) == ("[0]", "schema")
    assert found.relations == ()


def test_labels_are_cocos(tmp_path: Path) -> None:
    _split(tmp_path)

    names = labels(Source(annotations="vcoco.json", instances=("coco.json",)), Root(tmp_path)).names
    assert names == ("person", "dog", "fork")


def test_without_instances_nothing_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "vcoco.json").write_text("[]")

    with pytest.raises(SourceError, match=r"source\.annotations"):
        list(read(Source(annotations="vcoco.json", instances=("none.json",)), Root(tmp_path)))


def test_real_actions_join_the_objects_that_they_name(samples: Samples, tmp_path: Path) -> None:
    real = samples("vcoco").directory / "vcoco_val.json"
    actions = json.loads(real.read_bytes())
    owners = {
        number: image
        for action in actions
        for place, number in enumerate(action["role_object_id"])
        if number
        for image in [action["image_id"][place % len(action["image_id"])]]
    }
    # The boxes are made up: the excerpt has no instances.
    instances = {
        "images": [{"id": one, "file_name": f"{one}.jpg"} for one in sorted(set(owners.values()))],
        "annotations": [_box(number, 1, image) for number, image in owners.items()],
        "categories": INSTANCES["categories"],
    }

    found, rejected = _split(tmp_path, *actions, instances=instances)

    assert rejected == []
    assert len(found) == 5
    assert sum(len(item.relations) for item in found) == 6
