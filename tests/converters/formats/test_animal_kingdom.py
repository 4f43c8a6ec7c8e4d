from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from converters.formats import coco_keypoints
from converters.formats.animal_kingdom import NAMES, Source, labels, read
from dataengine import manifest
from dataengine.annotation import Annotation, Rejected
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.files import Root
from dataengine.sample import KeypointTargets

Samples = Callable[[str], Root]
ABSENT = [-1.0, -1.0]


def _animal(*joints: tuple[int, float, float], **changes: Any) -> dict[str, Any]:
    """A record with some of the 23 joints, by their numbers."""
    places, flags = [ABSENT] * 23, [0] * 23
    for number, x, y in joints:
        places[number], flags[number] = [x, y], 1
    return {
        "image": "AAOYRUDX/AAOYRUDX_f000027.jpg", "animal": "Elephant", "animal_subclass": "Elephant",
        "animal_class": "Mammal", "animal_parent_class": "Mammal", "joints": places, "joints_vis": flags,
        "scale": 0.66, "center": [229.7, 202.4], **changes,
    }  # fmt: skip


ELEPHANT = _animal((0, 220.5, 135.5), (7, 260.0, 154.0), (11, 251.5, 269.0))


def _read(folder: Path, *records: Any, **options: Any) -> list[Annotation | Rejected]:
    (folder / "train.json").write_text(json.dumps(list(records)))
    return list(read(Source(annotations="train.json", **options), Root(folder)))


def test_visible_joints_have_places_and_the_box_is_theirs(tmp_path: Path) -> None:
    (found,) = _read(tmp_path, ELEPHANT)

    assert isinstance(found, Annotation)
    assert (found.key, found.images[0].path) == (
        "AAOYRUDX/AAOYRUDX_f000027",
        "dataset/AAOYRUDX/AAOYRUDX_f000027.jpg",
    )
    (animal,) = found.instances
    assert (animal.category, animal.box, found.exhaustive) == ("Mammal", (220.5, 135.5, 261, 270), False)
    assert animal.keypoints is not None
    assert [animal.keypoints[number] for number in (0, 1, 7)] == [(220.5, 135.5, 2), (0, 0, 0), (260, 154, 2)]


def test_animals_of_one_frame_are_together_and_a_bad_one_keeps_its_place(tmp_path: Path) -> None:
    other = _animal((0, 1, 1), image="B/B_f1.jpg", animal="Frog")
    calf = _animal((3, 30, 40), animal="Calf")

    frame, bad, second = _read(tmp_path, ELEPHANT, other, _animal(), calf, category="animal")

    assert isinstance(frame, Annotation) and isinstance(second, Annotation) and isinstance(bad, Rejected)
    assert [(item.category, item.ignore) for item in frame.instances] == [
        ("Elephant", False),
        (None, True),
        ("Calf", False),
    ]
    assert (bad.reason, bad.origin.record) == ("keypoint.none", "[2]")
    assert second.instances[0].category == "Frog"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({**ELEPHANT, "joints": []}, "keypoint.count"),
        ({**ELEPHANT, "animal_parent_class": " "}, "schema"),
        ({**ELEPHANT, "image": ""}, "schema"),
        ({**ELEPHANT, "joints_vis": "x"}, "schema"),
    ],
)
def test_a_defective_record_is_rejected(record: Any, reason: str, tmp_path: Path) -> None:
    found = _read(tmp_path, record)

    assert [item.reason for item in found if isinstance(item, Rejected)] == [reason]


def test_the_kinds_are_those_of_the_records(tmp_path: Path) -> None:
    _read(tmp_path, ELEPHANT, _animal((0, 1, 1), animal_parent_class="Bird"), {})

    space = labels(Source(annotations="train.json"), Root(tmp_path))

    assert space.names == ("Bird", "Mammal")
    assert space.labels[0].keypoints == NAMES
    assert {NAMES[one]: NAMES[other] for one, other in space.labels[0].flip_pairs}["Eye_Left"] == "Eye_Right"


def test_joints_are_those_of_the_coco_files_of_mmpose(samples: Samples) -> None:
    root = samples("animal_kingdom")
    source = coco_keypoints.Source(annotations="test_animalkingdom.json")

    names = coco_keypoints.labels(source, root).labels[0].keypoints

    assert names == NAMES


def test_the_spec_asks_for_the_joints_of_a_frame(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "annotation/ak_P1").mkdir(parents=True)
    (root / "annotation/ak_P1/test.json").write_text(json.dumps([ELEPHANT]))
    (root / "dataset/AAOYRUDX").mkdir(parents=True)
    Image.new("RGB", (640, 360)).save(root / "dataset/AAOYRUDX/AAOYRUDX_f000027.jpg")
    (spec,) = Catalog().find("animal_kingdom_pose")

    convert(spec, "test", root, tmp_path / "out")

    (sample,) = manifest.read_samples(tmp_path / "out/animal_kingdom_pose/keypoints/test")
    assert isinstance(sample.targets, KeypointTargets)
    assert (sample.targets.instances[0].label, len(sample.targets.names)) == ("Mammal", 23)
