from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.coco_wholebody import Source, read
from dataengine.annotation import Annotation, Keypoint, Rejected
from dataengine.files import Root

Samples = Callable[[str], Root]


def _points(count: int, v: float = 2) -> list[float]:
    return [value for number in range(count) for value in (number + 1.0, 2.0 * number, v)]


def _person(**changes: Any) -> dict[str, Any]:
    person: dict[str, Any] = {"id": 7, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40]}
    person |= {"keypoints": _points(17), "foot_valid": True, "foot_kpts": _points(6, 0.3)}
    person |= {"face_valid": True, "face_box": [12, 22, 4, 5], "face_kpts": _points(68, 1)}
    for side in ("left", "right"):
        person |= {f"{side}hand_valid": True, f"{side}hand_box": [1, 2, 3, 4]}
        person |= {f"{side}hand_kpts": _points(21, 0.04)}
    return person | changes


def _read(folder: Path, *people: dict[str, Any], part: Any = "person") -> tuple[Annotation, list[Rejected]]:
    document = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 100}],
        "annotations": list(people),
        "categories": [{"id": 1, "name": "person"}],
    }
    (folder / "w.json").write_text(json.dumps(document))
    items = list(read(Source(annotations="w.json", images="val", part=part), Root(folder)))
    (found,) = (item for item in items if isinstance(item, Annotation))
    return found, [item for item in items if isinstance(item, Rejected)]


def test_feet_follow_the_body(tmp_path: Path) -> None:
    found, rejected = _read(tmp_path, _person())

    assert rejected == []
    (person,) = found.instances
    assert (found.images[0].path, person.category, person.box) == ("val/a.jpg", "person", (10, 20, 40, 60))
    assert person.keypoints is not None
    assert len(person.keypoints) == 23
    assert person.keypoints[16:18] == ((17.0, 32.0, 2), (1.0, 0.0, 1))
    assert found.exhaustive


@pytest.mark.parametrize("changes", [{"foot_valid": False}, {"foot_valid": None}])
def test_feet_that_are_not_valid_are_not_labelled(tmp_path: Path, changes: dict[str, Any]) -> None:
    found, _ = _read(tmp_path, _person(**changes))

    assert found.instances[0].keypoints is not None
    assert found.instances[0].keypoints[17:] == ((0.0, 0.0, 0),) * 6


def test_a_face_has_its_own_box(tmp_path: Path) -> None:
    found, _ = _read(tmp_path, _person(), part="face")

    (face,) = found.instances
    assert (face.id, face.category, face.box, face.ignore) == ("7.face", "face", (12, 22, 16, 27), False)
    assert face.keypoints is not None
    assert len(face.keypoints) == 68
    assert face.keypoints[67] == (68.0, 134.0, 1)
    assert not found.exhaustive


def test_both_hands_are_objects_of_one_class(tmp_path: Path) -> None:
    found, _ = _read(tmp_path, _person(righthand_kpts=[0.0] * 60 + [5, 6, 2]), part="hand")

    left, right = found.instances
    assert [item.category for item in (left, right)] == ["hand", "hand"]
    assert [item.attributes for item in (left, right)] == [{"side": "left"}, {"side": "right"}]
    assert left.box == (1, 2, 4, 6)
    assert left.keypoints is not None
    assert left.keypoints[0] == (1.0, 0.0, 1)
    hidden: tuple[Keypoint, ...] = ((0.0, 0.0, 0),) * 20
    assert right.keypoints == (*hidden, (5.0, 6.0, 2))


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("face", {"face_valid": False}),
        ("face", {"face_valid": None}),
        ("face", {"face_box": None}),
        ("hand", {"lefthand_valid": False}),
    ],
)
def test_a_part_that_nobody_annotated_leaves_its_person_out_of_the_question(
    tmp_path: Path, part: str, changes: dict[str, Any]
) -> None:
    found, rejected = _read(tmp_path, _person(**changes), part=part)

    assert rejected == []
    first = found.instances[0]
    assert (first.ignore, first.category, first.box, first.keypoints) == (True, part, (10, 20, 40, 60), None)


@pytest.mark.parametrize("part", ["person", "face", "hand"])
def test_a_crowd_stays_one(tmp_path: Path, part: str) -> None:
    found, _ = _read(tmp_path, _person(iscrowd=1, face_valid=False), part=part)

    (crowd,) = found.instances
    assert (crowd.crowd, crowd.category) == (True, part)


def test_a_person_without_keypoints_has_none(tmp_path: Path) -> None:
    person = _person()
    del person["keypoints"]

    found, _ = _read(tmp_path, person)

    assert found.instances[0].keypoints is None


@pytest.mark.parametrize(
    ("part", "changes", "reason"),
    [
        ("person", {"keypoints": _points(16)}, "keypoint.count"),
        ("person", {"keypoints": _points(17, 3)}, "keypoint.visibility"),
        ("person", {"foot_kpts": _points(5)}, "keypoint.count"),
        ("face", {"face_kpts": "none"}, "schema"),
        ("face", {"face_kpts": _points(21)}, "keypoint.count"),
        ("hand", {"righthand_kpts": [None] * 63}, "schema"),
        ("hand", {"category_id": 9}, "category.unknown"),
    ],
)
def test_a_defective_person_costs_no_other(
    tmp_path: Path, part: str, changes: dict[str, Any], reason: str
) -> None:
    found, (rejected,) = _read(tmp_path, _person(), _person(**changes), part=part)

    assert (rejected.reason, rejected.origin.record) == (reason, "annotations[1]")
    assert found.instances[-1].ignore
    assert found.instances[-1].category == part
    assert not found.instances[0].ignore


def test_a_record_of_another_shape_is_rejected_and_the_picture_is_not_whole(tmp_path: Path) -> None:
    found, (rejected,) = _read(tmp_path, _person(face_box=[1, 2]))

    assert (rejected.reason, found.instances, found.exhaustive) == ("schema", (), False)


@pytest.mark.parametrize(
    ("part", "objects", "labelled", "ignored"),
    [("person", 14, 219, 0), ("face", 14, 272, 10), ("hand", 28, 210, 18)],
)
def test_real_people_read(samples: Samples, part: Any, objects: int, labelled: int, ignored: int) -> None:
    found = list(read(Source(annotations="test_coco_wholebody.json", part=part), samples("coco_wholebody")))

    made = [one for item in found if isinstance(item, Annotation) for one in item.instances]
    assert len(made) == objects
    assert sum(v > 0 for one in made for _, _, v in one.keypoints or ()) == labelled
    assert sum(one.ignore for one in made) == ignored
