from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.interhand import Source, read, recognise
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.listing import Fit, Listing

Samples = Callable[[str], Root]
SAMPLE = Source(
    data="test_interhand2.6m_data.json",
    camera="test_interhand2.6m_camera.json",
    joints="test_interhand2.6m_joint_3d.json",
)
IMAGE = {
    "id": 1,
    "file_name": "a.jpg",
    "width": 200,
    "height": 100,
    "capture": 0,
    "camera": "c",
    "frame_idx": 7,
}
# A camera that looks along z from z = -10, turned so that its x is the world's y.
CAMERA = {
    "0": {
        "campos": {"c": [0, 0, -10]},
        "camrot": {"c": [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]},
        "focal": {"c": [100, 50]},
        "princpt": {"c": [20, 30]},
    }
}


def _folder(folder: Path, images: list[Any], annotations: list[Any], **files: Any) -> Root:
    places = [[float(number), 2.0, 0.0] for number in range(42)]
    joints = {"0": {"7": {"world_coord": places}}}
    (folder / "x_data.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    (folder / "x_camera.json").write_text(json.dumps(files.get("camera", CAMERA)))
    (folder / "x_joint_3d.json").write_text(json.dumps(files.get("joints", joints)))
    return Root(folder)


def _valid(*joints: int) -> list[list[int]]:
    return [[int(number in joints)] for number in range(42)]


def _split(root: Root, source: Source | None = None) -> tuple[list[Annotation], list[Rejected]]:
    source = source or Source(
        data="x_data.json", camera="x_camera.json", joints="x_joint_3d.json", images="i"
    )
    found = list(read(source, root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_joints_are_projected_and_stand_from_the_wrist_on(tmp_path: Path) -> None:
    # 3 is the root of the thumb, 0 its tip, 20 the wrist of the right hand, 41 that of the left.
    root = _folder(tmp_path, [IMAGE], [{"image_id": 1, "joint_valid": _valid(0, 3, 20, 41)}])

    (found,), rejected = _split(root)

    right, left = found.instances
    assert rejected == [] and found.images[0].path == "i/a.jpg"
    assert right.keypoints is not None and left.keypoints is not None
    # x = 100 * 2 / 10 + 20, y = 50 * -joint / 10 + 30
    assert right.keypoints[0] == (40.0, -70.0, 2)
    assert right.keypoints[1] == (40.0, 15.0, 2) and right.keypoints[4] == (40.0, 30.0, 2)
    assert {point for place, point in enumerate(right.keypoints) if place not in (0, 1, 4)} == {(0.0, 0.0, 0)}
    assert left.keypoints[0] == pytest.approx((40.0, -175.0, 2))
    assert (right.id, right.category, right.box) == ("right", "hand", (40.0, -70.0, 41.0, 31.0))


def test_a_joint_behind_the_camera_is_not_labelled(tmp_path: Path) -> None:
    joints = {"0": {"7": {"world_coord": [[0, 0, -20.0], *[[0, 0, 0.0]] * 41]}}}
    root = _folder(tmp_path, [IMAGE], [{"image_id": 1, "joint_valid": _valid(0, 20)}], joints=joints)

    (found,), _ = _split(root)

    points = found.instances[0].keypoints
    assert points is not None and (points[4][2], points[0][2]) == (0, 2)


@pytest.mark.parametrize(
    ("image", "annotation", "reason"),
    [
        ({}, {"image_id": 2, "joint_valid": _valid(0)}, "id.orphan"),
        ({"camera": "d"}, {"image_id": 1, "joint_valid": _valid(0)}, "id.orphan"),
        ({"capture": 1}, {"image_id": 1, "joint_valid": _valid(0)}, "id.orphan"),
        ({"frame_idx": 8}, {"image_id": 1, "joint_valid": _valid(0)}, "id.orphan"),
        ({}, {"image_id": 1, "joint_valid": _valid(0)[:41]}, "keypoint.count"),
        ({}, {"image_id": 1, "joint_valid": _valid()}, "keypoint.none"),
        ({}, {"image_id": 1}, "schema"),
    ],
)
def test_a_record_without_joints_of_its_picture_is_rejected(
    tmp_path: Path, image: dict[str, Any], annotation: dict[str, Any], reason: str
) -> None:
    found, rejected = _split(_folder(tmp_path, [{**IMAGE, **image}], [annotation]))

    assert found == [] and rejected[0].reason == reason and rejected[0].origin.record == "annotations[0]"


def test_a_picture_that_no_annotation_names_and_one_that_two_name_are_rejected(tmp_path: Path) -> None:
    twice = {"image_id": 1, "joint_valid": _valid(0)}
    root = _folder(tmp_path, [IMAGE, {**IMAGE, "id": 5}, {"id": 6}], [twice, twice])

    found, rejected = _split(root)

    assert len(found) == 1
    assert [(item.reason, item.key) for item in rejected] == [
        ("schema", "images[2]"), ("id.duplicate", "annotations[1]"), ("id.orphan", "image 5"),
    ]  # fmt: skip


def test_a_file_of_another_kind_stops_the_conversion(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"x_camera\.json"):
        _split(_folder(tmp_path, [IMAGE], [], camera=[1]))


def test_joints_of_real_pictures_lie_inside_the_boxes_that_the_file_has(samples: Samples) -> None:
    root = samples("interhand26m")
    data = json.loads((root.directory / SAMPLE.data).read_bytes())

    found, rejected = _split(root, SAMPLE)

    assert rejected == [] and [len(item.instances) for item in found] == [2, 2, 1, 1]
    for item, raw in zip(found, data["annotations"], strict=True):
        x, y, width, height = raw["bbox"]
        points = [point for hand in item.instances for point in hand.keypoints or () if point[2]]
        assert all(x <= px <= x + width and y <= py <= y + height for px, py, _ in points)
        # The file's box is a little larger than the joints.
        assert max(px for px, _, _ in points) - min(px for px, _, _ in points) > 0.7 * width


def test_the_three_files_are_recognised(samples: Samples) -> None:
    fit = recognise(Listing(samples("interhand26m")))

    assert isinstance(fit, Fit)
    assert list(fit.splits.values()) == [
        {"data": SAMPLE.data, "camera": SAMPLE.camera, "joints": SAMPLE.joints}
    ]
