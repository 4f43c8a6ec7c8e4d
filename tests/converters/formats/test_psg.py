from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converters.formats.psg import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_area, rle_box

PICTURE: dict[str, Any] = {
    "file_name": "val2017/1.jpg",
    "image_id": "1",
    "width": 40,
    "height": 30,
    "pan_seg_file_name": "panoptic_val2017/1.png",
    "segments_info": [{"id": 300, "iscrowd": 0}, {"id": 65537, "iscrowd": 1}],
    "annotations": [
        {"bbox": [0, 0, 10, 10], "bbox_mode": 0, "category_id": 0},
        {"bbox": [10, 0, 40, 30], "bbox_mode": 0, "category_id": 1},
    ],
    "relations": [[0, 1, 1], [0, 1, 1]],
}
OTHER = {**PICTURE, "image_id": "2"}


def _split(folder: Path, *pictures: Any, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    document = {
        "data": pictures,
        "thing_classes": ["person"],
        "stuff_classes": ["sand "],
        "predicate_classes": ["over", "standing on"],
        "test_image_ids": ["2"],
    }
    (folder / "psg.json").write_text(json.dumps(document))
    (folder / "panoptic_val2017").mkdir(exist_ok=True)
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:10, :10] = (44, 1, 0)  # 300
    pixels[:, 10:] = (1, 0, 1)  # 65537
    Image.fromarray(pixels).save(folder / "panoptic_val2017" / "1.png")
    found = list(read(Source(annotations="psg.json", **options), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_relations_join_objects_by_position(tmp_path: Path) -> None:
    (found,), rejected = _split(tmp_path, PICTURE, images="coco")

    assert rejected == []
    assert (found.key, found.images[0].path) == ("1", "coco/val2017/1.jpg")
    assert [(item.category, item.box, item.crowd) for item in found.instances] == [
        ("person", (0, 0, 10, 10), False),
        ("sand", (10, 0, 40, 30), True),
    ]
    assert found.relations == ((0, "standing on", 1),)
    assert all(item.mask is None for item in found.instances)


def test_masks_are_the_numbers_of_the_panoptic_picture(tmp_path: Path) -> None:
    (found,), rejected = _split(tmp_path, PICTURE, panoptic="")

    assert rejected == []
    masks = [item.mask for item in found.instances if item.mask is not None]
    assert [rle_area(mask) for mask in masks] == [100, 900]
    assert [rle_box(mask) for mask in masks] == [(0, 0, 10, 10), (10, 0, 40, 30)]


@pytest.mark.parametrize(("part", "keys"), [("all", ["1", "2"]), ("train", ["1"]), ("test", ["2"])])
def test_the_file_says_which_pictures_are_for_testing(tmp_path: Path, part: str, keys: list[str]) -> None:
    found, rejected = _split(tmp_path, PICTURE, OTHER, part=part)

    assert [item.key for item in found] == keys
    assert {item.reason for item in rejected} <= {"split.other"}


def test_labels_are_things_and_then_stuff(tmp_path: Path) -> None:
    _split(tmp_path)

    assert labels(Source(annotations="psg.json"), Root(tmp_path)).names == ("person", "sand")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"relations": [[0, 2, 0]]}, "id.orphan"),
        ({"relations": [[-1, 0, 0]]}, "id.orphan"),
        ({"relations": [[0, 1, 9]]}, "category.unknown"),
        ({"relations": [[0, 1]]}, "schema"),
        ({"annotations": [{"bbox": [0, 0, 1, 1], "category_id": 7}] * 2}, "category.unknown"),
        ({"annotations": [{"bbox": [0, 0, 1], "category_id": 0}] * 2}, "schema"),
        ({"annotations": []}, "schema"),
        ({"pan_seg_file_name": "none.png"}, "image.missing"),
        ({"pan_seg_file_name": "../none.png"}, "path.outside"),
        ({"pan_seg_file_name": "psg.json"}, "image.corrupt"),
        ({"width": 41}, "rle.size_mismatch"),
        ({"file_name": ""}, "schema"),
        ({"image_id": "2"}, "id.duplicate"),
    ],
)
def test_a_defective_picture_is_rejected_alone(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    (found,), (rejected,) = _split(tmp_path, OTHER, {**PICTURE, **change}, panoptic="")

    assert found.key == "2"
    assert (rejected.reason, rejected.origin.record) == (reason, "data[1]")


def test_a_file_of_another_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "psg.json").write_text('{"data": []}')

    with pytest.raises(SourceError, match="PSG file"):
        list(read(Source(annotations="psg.json"), Root(tmp_path)))
