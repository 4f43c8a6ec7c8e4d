from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from converters.formats.osprey import Source, read
from dataengine.annotation import Annotation, Rejected
from dataengine.clean import clean
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_area

SQUARE = [[2, 2, 12, 2, 12, 12, 2, 12]]
REGIONS = [{"bbox": [2, 2, 10, 10], "segmentation": SQUARE}, {"bbox": [0, 0, 4, 4]}]
ITEM = {"file_name": "COCO_train2014_000009.jpg", "width": 40, "height": 30, "annotation": REGIONS}
TALK = [
    {"from": "human", "value": "<image>\nIs <region1> left of region2?"},
    {"from": "gpt", "value": "<region1> is."},
]


def _split(folder: Path, *items: Any, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    (folder / "a.json").write_text(json.dumps(items))
    found = list(read(Source(annotations="a.json", **options), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_conversation_keeps_its_marks(tmp_path: Path) -> None:
    (found,), rejected = _split(tmp_path, {**ITEM, "conversations": TALK}, images="coco", after="_")

    assert rejected == []
    assert (found.key, found.images[0].path) == ("000009", "coco/000009.jpg")
    assert [(turn.role, turn.text) for turn in found.dialogs[0].turns] == [
        ("user", "Is <region1> left of <region2>?"),
        ("assistant", "<region1> is."),
    ]
    first, second = found.instances
    assert (first.box, second.box) == ((2, 2, 12, 12), (0, 0, 4, 4))
    masks = [item.mask for item in clean(found, [(40, 30)]).annotation.instances]
    assert [rle_area(mask) if mask else None for mask in masks] == [100, None]


def test_descriptions_belong_to_the_regions_in_order(tmp_path: Path) -> None:
    item = {**ITEM, "description": ["<region1>: A red cup.", " <region2>:  "]}

    (found,), _ = _split(tmp_path, item)

    assert [(one.id, one.text, one.instances) for one in found.expressions] == [("0", "A red cup.", (0,))]
    assert found.images[0].path == "COCO_train2014_000009.jpg"


def test_evaluation_files_name_the_category_of_each_region(tmp_path: Path) -> None:
    item = {"id": 5, "file_name": "a.jpg", "width": 40, "height": 30, "categories": ["cup", "cup: handle"]}

    (found,), _ = _split(tmp_path, {**item, "annotations": REGIONS})

    assert [one.category for one in found.instances] == ["cup", "cup: handle"]
    assert found.key == "5"


def test_several_items_about_one_picture_have_keys_of_their_own(tmp_path: Path) -> None:
    found, _ = _split(tmp_path, ITEM, ITEM)

    assert [item.key for item in found] == ["COCO_train2014_000009", "COCO_train2014_000009~2"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"conversations": [{"from": "robot", "value": "Hi."}]}, "turn.role"),
        ({"annotation": [{}]}, "schema"),
        ({"annotation": [{"bbox": [1, 2]}]}, "schema"),
        ({"annotation": [{"segmentation": [[1, 2, 3, 4]]}]}, "polygon.invalid"),
        ({"annotation": [{"segmentation": {"size": [9, 9], "counts": "a"}}]}, "rle.size_mismatch"),
        ({"annotation": {"0": 1}}, "schema"),
        ({"categories": ["one"]}, "schema"),
        ({"description": ["a", "b", "c"]}, "schema"),
        ({"file_name": ""}, "schema"),
        ({"width": -4}, "schema"),
    ],
)
def test_a_defective_item_is_rejected_alone(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    (found,), (rejected,) = _split(tmp_path, {**ITEM, **change}, ITEM)

    assert found.key == "COCO_train2014_000009"
    assert (rejected.reason, rejected.origin.record) == (reason, "[0]")


def test_a_list_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[{}, {")

    with pytest.raises(SourceError, match="list of records"):
        list(read(Source(annotations="a.json"), Root(tmp_path)))
