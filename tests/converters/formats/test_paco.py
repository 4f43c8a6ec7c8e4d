from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from converters.formats.paco import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.files import Root

FILE: dict[str, Any] = {
    "images": [
        {
            "id": 1, "file_name": "val2017/1.jpg", "width": 40, "height": 30, "neg_category_ids": [5],
            "not_exhaustive_category_ids": [9],
        }
    ],
    "annotations": [
        {
            "id": 7, "image_id": 1, "category_id": 3, "bbox": [4, 2, 10, 6], "obj_ann_id": 7,
            "segmentation": [[4, 2, 14, 2, 14, 8]], "attribute_ids": [0, 2, 30, 41], "dom_color_ids": [0],
            "unknown_color": 0, "unknown_pattern_marking": 1, "unknown_material": 0, "unknown_transparency": 0,
        },
        {"id": 8, "image_id": 1, "category_id": 4, "bbox": [5, 3, 2, 2], "obj_ann_id": 7, "attribute_ids": []},
        {"id": 9, "image_id": 1, "category_id": 9, "bbox": [0, 0, 2, 2], "obj_ann_id": 9, "attribute_ids": []},
    ],
    "categories": [
        {"id": 9, "name": "car_(automobile)"}, {"id": 3, "name": "dog"}, {"id": 4, "name": "dog:leg"},
        {"id": 5, "name": "dog:tail"},
    ],
    "part_categories": [{"id": 1, "name": "leg"}],
    "attributes": [
        {"id": 0, "name": "black"}, {"id": 2, "name": "blue"}, {"id": 30, "name": "plain"}, {"id": 41, "name": "stone"}
    ],
    "attr_type_to_attr_idxs": {
        "color": [0, 1, 2], "pattern_marking": [30], "material": [41], "transparency": [55],
    },
}  # fmt: skip
SOURCE = Source(annotations="a.json", images="coco")


def _write(folder: Path, **changes: Any) -> Root:
    (folder / "a.json").write_text(json.dumps({**FILE, **changes}))
    return Root(folder)


def test_parts_belong_to_objects_and_both_have_attributes(tmp_path: Path) -> None:
    (found,) = read(SOURCE, _write(tmp_path))

    assert isinstance(found, Annotation)
    assert found.images[0].path == "coco/val2017/1.jpg"
    assert [(item.category, item.box, item.attributes, item.ignore) for item in found.instances] == [
        ("dog", (4, 2, 14, 8), {"color": "black, blue", "material": "stone"}, False),
        ("dog leg", (5, 3, 7, 5), {"object": "7"}, False),
        ("car_(automobile)", (0, 0, 2, 2), {}, True),
    ]


def test_absent_parts_are_known_and_no_other_absence_is(tmp_path: Path) -> None:
    (found,) = read(SOURCE, _write(tmp_path))

    assert isinstance(found, Annotation)
    assert (found.negatives, found.exhaustive) == (("dog tail",), False)


def test_classes_stand_in_the_order_of_their_ids(tmp_path: Path) -> None:
    assert labels(SOURCE, _write(tmp_path)).names == ("dog", "dog leg", "dog tail", "car_(automobile)")


@pytest.mark.parametrize(
    "change",
    [{"attributes": []}, {"attr_type_to_attr_idxs": {}}],
)
def test_an_attribute_without_a_name_or_a_type_rejects_its_object_alone(
    change: dict[str, Any], tmp_path: Path
) -> None:
    annotation, *rejected = read(SOURCE, _write(tmp_path, **change))

    assert isinstance(annotation, Annotation)
    assert [item.ignore for item in annotation.instances] == [True, False, True]
    assert [(item.reason, item.origin.record) for item in rejected if isinstance(item, Rejected)] == [
        ("value.unknown", "annotations[0]")
    ]
