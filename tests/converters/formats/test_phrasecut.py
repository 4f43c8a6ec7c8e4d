from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from converters.formats.phrasecut import Source, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_area

SQUARE = [[2, 2], [12, 2], [12, 12], [2, 12]]
PHRASE: dict[str, Any] = {
    "task_id": "7__1_2",
    "image_id": 7,
    "ann_ids": [1, 2],
    "phrase": " red  cups ",
    "instance_boxes": [[2, 2, 10, 10], [20, 2, 10, 10]],
    "Polygons": [[SQUARE], [[[20, 2], [30, 2], [30, 12], [20, 12]], [[20, 20], [25, 20], [25, 25]]]],
    "phrase_structure": {
        "name": "cups",
        "attributes": ["red"],
        "relation_descriptions": [],
        "type": "attribute",
    },
}
SIZES = [{"image_id": 7, "width": 40, "height": 30, "split": "val"}]


def _split(folder: Path, *rows: Any, sizes: Any = SIZES) -> tuple[list[Annotation], list[Rejected]]:
    (folder / "refer_val.json").write_text(json.dumps(rows))
    (folder / "image_data_split3000.json").write_text(json.dumps(sizes))
    found = list(read(Source(annotations="refer_val.json"), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_phrase_means_all_its_objects(tmp_path: Path) -> None:
    (found,), rejected = _split(tmp_path, PHRASE)

    assert rejected == []
    assert (found.key, found.images[0].path, found.images[0].width) == ("7__1_2", "images/7.jpg", 40)
    assert [(item.category, item.box) for item in found.instances] == [
        ("cups", (2, 2, 12, 12)),
        ("cups", (20, 2, 30, 12)),
    ]
    areas = [rle_area(item.mask) for item in found.instances if item.mask]
    assert areas[0] == 100 and 105 < areas[1] < 125
    assert [(item.text, item.instances) for item in found.expressions] == [("red cups", (0, 1))]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_id": 8}, "id.orphan"),
        ({"phrase": " "}, "text.empty"),
        ({"instance_boxes": [[1, 2, 3, 4]]}, "schema"),
        ({"instance_boxes": [[1, 2, 3], [1, 2, 3]]}, "schema"),
        ({"Polygons": [[], []]}, "polygon.invalid"),
        ({"Polygons": [[[[1, 2], [3, 4]]], [SQUARE]]}, "polygon.invalid"),
        ({"Polygons": [[[[1e9, 2], [3, 4], [5, 6]]], [SQUARE]]}, "polygon.invalid"),
        ({"Polygons": [[["x"]]]}, "schema"),
    ],
)
def test_a_defective_phrase_is_rejected_alone(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    (found,), (rejected,) = _split(tmp_path, {**PHRASE, **change}, {**PHRASE, "task_id": "other"})

    assert found.key == "other"
    assert (rejected.reason, rejected.origin.record) == (reason, "[0]")


def test_a_picture_without_a_size_is_rejected(tmp_path: Path) -> None:
    found, rejected = _split(tmp_path, PHRASE, sizes=[{"image_id": 7}])

    assert found == []
    assert [item.reason for item in rejected] == ["schema", "id.orphan"]


def test_a_list_of_pictures_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="list of pictures"):
        _split(tmp_path, PHRASE, sizes={"7": {}})
