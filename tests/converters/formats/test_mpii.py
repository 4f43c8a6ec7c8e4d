from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from converters.formats.mpii import NAMES, Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]
JOINTS = [[101.0 + number, 51.0 + 2 * number] for number in range(16)]


def _person(**changes: Any) -> dict[str, Any]:
    return {
        "joints_vis": [1] * 16,
        "joints": JOINTS,
        "image": "a.jpg",
        "scale": 2.0,
        "center": [301.0, 201.0],
    } | changes


def _split(root: Root, file: str, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(annotations=file, **options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def _list(folder: Path, *people: Any) -> Root:
    (folder / "list.json").write_text(json.dumps(people))
    return Root(folder)


def _mat(folder: Path, annolist: list[Any], **more: Any) -> Root:
    """Write a MATLAB file as MPII's: a struct that holds an array of structs, whose fields differ."""
    names = list(dict.fromkeys(name for one in annolist for name in one))
    array = np.zeros((1, len(annolist)), dtype=[(name, object) for name in names])
    for number, one in enumerate(annolist):
        for name in names:
            array[0, number][name] = one.get(name, np.zeros((0, 0)))
    scipy.io.savemat(folder / "m.mat", {"RELEASE": {"annolist": array, **more}}, do_compression=True)
    return Root(folder)


def _point(number: int, x: float, y: float, visible: Any = None) -> dict[str, Any]:
    return {"id": number, "x": x, "y": y, "is_visible": np.zeros((0, 0)) if visible is None else visible}


def _picture(name: str, *people: dict[str, Any]) -> dict[str, Any]:
    rect = np.empty((1, len(people)), dtype=object)
    for number, person in enumerate(people):
        rect[0, number] = person
    return {"image": {"name": name}, "annorect": rect if people else np.zeros((0, 0))}


def test_a_listed_person_counts_pixels_from_one(tmp_path: Path) -> None:
    (found,), rejected = _split(_list(tmp_path, _person()), "list.json")

    assert rejected == []
    assert (found.key, found.images[0].path, found.exhaustive) == ("a.jpg", "images/a.jpg", False)
    (person,) = found.instances
    assert person.category == "person"
    assert person.keypoints is not None
    assert person.keypoints[0] == (100.0, 50.0, 2)
    assert person.keypoints[15] == (115.0, 80.0, 2)
    assert person.box == (100.0, 50.0, 116.0, 81.0)


def test_the_box_may_be_the_stated_square(tmp_path: Path) -> None:
    (found,), _ = _split(_list(tmp_path, _person()), "list.json", box="scale", images="")

    assert found.instances[0].box == (100.0, 0.0, 500.0, 400.0)
    assert found.images[0].path == "a.jpg"


def test_a_joint_that_is_not_annotated_has_no_place_and_widens_no_box(tmp_path: Path) -> None:
    flags = [0, *[1] * 15]
    root = _list(tmp_path, _person(joints_vis=flags, joints=[[-1.0, -1.0], *JOINTS[1:]]))

    (found,), _ = _split(root, "list.json")

    assert found.instances[0].keypoints is not None
    assert found.instances[0].keypoints[0] == (0.0, 0.0, 0)
    assert found.instances[0].box == (101.0, 52.0, 116.0, 81.0)


def test_people_of_one_picture_are_joined(tmp_path: Path) -> None:
    root = _list(tmp_path, _person(), _person(image="b.jpg"), _person())

    first, second = _split(root, "list.json")[0]

    assert [item.id for item in first.instances] == ["[0]", "[2]"]
    assert (first.origin.record, second.origin.record) == ("[0]", "[1]")


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        ({"joints": JOINTS[:15]}, {}, "keypoint.count"),
        ({"joints_vis": [1]}, {}, "keypoint.count"),
        ({"joints_vis": [0] * 16}, {}, "keypoint.none"),
        ({"scale": None}, {"box": "scale"}, "box.missing"),
        ({"center": None}, {"box": "scale"}, "box.missing"),
    ],
)
def test_a_person_who_cannot_be_used_stays_in_the_picture_as_ignored(
    tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    root = _list(tmp_path, _person(), _person(**changes))

    (found,), (rejected,) = _split(root, "list.json", **options)

    assert (rejected.reason, rejected.origin.record) == (reason, "[1]")
    assert [item.ignore for item in found.instances] == [False, True]


@pytest.mark.parametrize("person", [5, {"image": "a.jpg"}, _person(joints="x"), _person(joints=[[1.0]] * 16)])
def test_a_record_of_another_shape_is_rejected_alone(tmp_path: Path, person: Any) -> None:
    (found,), (rejected,) = _split(_list(tmp_path, person, _person()), "list.json")

    assert len(found.instances) == 1
    assert (rejected.key, rejected.reason) == ("[0]", "schema")


def test_the_labels_mirror_left_and_right(tmp_path: Path) -> None:
    (label,) = labels(Source(annotations="x"), Root(tmp_path)).labels

    assert len(label.keypoints) == 16
    assert len(label.flip_pairs) == 6
    assert all(NAMES[a].replace("right", "") == NAMES[b].replace("left", "") for a, b in label.flip_pairs)
    assert {end for pair in label.skeleton for end in pair} == set(range(16))


def test_the_matlab_file_says_what_hides_a_joint(tmp_path: Path) -> None:
    points = np.empty((1, 4), dtype=object)
    for index, one in enumerate(
        [_point(0, 11, 21, 1), _point(9, 15.5, 3), _point(5, 31, 41, 0), _point(4, 12, 22, "0")]
    ):
        points[0, index] = one
    person = {"annopoints": {"point": points}, "objpos": {"x": 101, "y": 51}, "scale": 0.5}
    root = _mat(tmp_path, [_picture("a.jpg", person)])

    (found,), rejected = _split(root, "m.mat")

    assert rejected == []
    (made,) = found.instances
    assert made.keypoints is not None
    assert {n: made.keypoints[n] for n in (0, 4, 5, 9)} == {
        0: (10.0, 20.0, 2),
        4: (11.0, 21.0, 1),
        5: (30.0, 40.0, 1),
        9: (14.5, 2.0, 2),
    }
    assert sum(v > 0 for _, _, v in made.keypoints) == 4
    assert made.box == (10.0, 2.0, 31.0, 41.0)
    assert found.origin.record == "annolist[0]"


def test_a_person_without_joints_is_ignored_where_the_square_is(tmp_path: Path) -> None:
    known = {"objpos": {"x": 101, "y": 51}, "scale": 0.5}
    root = _mat(tmp_path, [_picture("a.jpg", known, {"x1": 1.0}), _picture("b.jpg")])

    (first, second), rejected = _split(root, "m.mat")

    assert rejected == []
    assert [(item.ignore, item.box) for item in first.instances] == [
        (True, (50.0, 0.0, 150.0, 100.0)),
        (True, None),
    ]
    assert second.instances == ()


def test_the_pictures_of_the_other_part_are_reported(tmp_path: Path) -> None:
    root = _mat(tmp_path, [_picture("a.jpg"), _picture("b.jpg")], img_train=[1, 0])

    found, (rejected,) = _split(root, "m.mat", part="test")

    assert [item.key for item in found] == ["b.jpg"]
    assert (rejected.key, rejected.reason) == ("annolist[0]", "split.other")


@pytest.mark.parametrize(
    ("person", "reason"),
    [
        ({"annopoints": {"point": _point(16, 1, 1)}}, "keypoint.count"),
        ({"annopoints": {"point": _point(0.5, 1, 1)}}, "keypoint.count"),  # type: ignore[arg-type]
        ({"annopoints": {"point": {"id": 1}}}, "schema"),
        ({"annopoints": {"point": _point(0, float("nan"), 1)}}, "keypoint.nonfinite"),
        ({"annopoints": {"point": _point(0, 1, 1)}, "scale": "big"}, "schema"),
        ({"annopoints": {"point": {"id": [1, 2], "x": 1, "y": 1}}}, "schema"),
    ],
)
def test_a_defective_person_of_the_matlab_file_costs_no_other(
    tmp_path: Path, person: dict[str, Any], reason: str
) -> None:
    good = {"annopoints": {"point": _point(0, 1, 1, [1, 2])}}
    root = _mat(tmp_path, [_picture("a.jpg", good, person)])

    (found,), (rejected,) = _split(root, "m.mat")

    assert (rejected.reason, rejected.origin.record) == (reason, "annolist[0].annorect[1]")
    assert [item.ignore for item in found.instances] == [False, True]


def test_a_picture_without_a_name_or_with_that_of_another_is_rejected(tmp_path: Path) -> None:
    root = _mat(tmp_path, [_picture("a.jpg"), {"image": 5, "annorect": 1}, _picture("a.jpg")])

    found, rejected = _split(root, "m.mat")

    assert len(found) == 1
    assert [item.reason for item in rejected] == ["schema", "id.duplicate"]


@pytest.mark.parametrize("data", [b"", b"MATLAB 7.3 MAT-file" + bytes(600), b"\x89PNG", bytes(300)])
def test_a_file_that_is_no_matlab_file_is_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.mat").write_bytes(data)

    with pytest.raises(SourceError, match=r"m\.mat"):
        _split(Root(tmp_path), "m.mat")


def test_a_damaged_matlab_file_is_an_error(tmp_path: Path) -> None:
    _mat(tmp_path, [_picture("a.jpg", {"annopoints": {"point": _point(0, 1, 1)}})] * 4)
    whole = (tmp_path / "m.mat").read_bytes()

    for place in range(0, len(whole), 97):
        (tmp_path / "m.mat").write_bytes(whole[:place])
        with pytest.raises(SourceError):
            _split(Root(tmp_path), "m.mat")


def test_another_matlab_file_is_an_error(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "m.mat", {"annolist": 5})

    with pytest.raises(SourceError, match="RELEASE"):
        _split(Root(tmp_path), "m.mat")


def test_real_people_read(samples: Samples) -> None:
    root = samples("mpii")

    found, rejected = _split(root, "test_mpii.json", images="")

    assert rejected == []
    assert len(found) == 5
    assert sum(v > 0 for item in found for one in item.instances for _, _, v in one.keypoints or ()) == 76


def test_a_matlab_file_in_the_original_layout_reads(samples: Samples) -> None:
    found, rejected = _split(samples("fmt_mpii"), "mpii_human_pose_v1_u12_1.mat", images="")

    assert rejected == []
    assert [len(item.instances) for item in found] == [1, 1, 2]
    assert found[0].instances[0].keypoints is not None
    assert found[0].instances[0].keypoints[3] == (646.0, 187.0, 1)
