from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Picture

from converters.formats.datumaro import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_area, rle_from_polygons

BOX = {"id": 0, "type": "bbox", "label_id": 0, "group": 0, "bbox": [2.5, 3, 4, 5], "attributes": {}}
SQUARE = {"type": "polygon", "label_id": 1, "group": 0, "points": [2, 2, 6, 2, 6, 6, 2, 6]}
RLE = rle_from_polygons([[1, 1, 4, 1, 4, 3, 1, 3]], 40, 30)
MASK = {"type": "mask", "label_id": 1, "group": 0, "rle": {"counts": RLE.counts, "size": [30, 40]}}
NAMES = [{"name": "cat", "parent": ""}, {"name": "dog", "parent": ""}, {"name": "cat"}]


def _item(*annotations: Any, **more: Any) -> dict[str, Any]:
    image = {"path": "train/a.jpg", "size": [30, 40]}
    return {"id": "a", "annotations": list(annotations), "image": image, **more}


def _folder(folder: Path, *items: Any) -> Root:
    text = json.dumps({"infos": {}, "categories": {"label": {"labels": NAMES}}, "items": items})
    (folder / "train.json").write_text(text)
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**{"annotations": "train.json", **options}), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_box_is_a_corner_and_a_size(tmp_path: Path) -> None:
    box = {**BOX, "attributes": {"occluded": True, "is_crowd": True, "score": 0.5, "id": 3}}

    (found,), rejected = _split(_folder(tmp_path, _item(box)))

    assert rejected == []
    assert (found.key, found.images[0].path) == ("a", "images/train/a.jpg")
    assert (found.images[0].width, found.images[0].height) == (40, 30)
    (item,) = found.instances
    assert (item.category, item.box, item.crowd) == ("cat", (2.5, 3, 6.5, 8), True)
    assert item.attributes == {"occluded": "True", "is_crowd": "True", "id": "3"}
    assert (found.origin.record, item.id) == ("items[0]", "items[0].annotations[0]")


def test_polygons_and_codes_are_masks(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, _item(SQUARE, MASK)))

    assert rejected == []
    square, code = found.instances
    assert square.mask is not None
    assert (square.category, square.box, rle_area(square.mask)) == ("dog", (2, 2, 6, 6), 16)
    assert (code.box, code.mask) == ((1, 1, 4, 3), RLE)


def test_an_ellipse_is_given_by_its_upright_box(tmp_path: Path) -> None:
    ellipse = {"type": "ellipse", "label_id": 0, "points": [5, 5, 35, 25]}

    (found,), _ = _split(_folder(tmp_path, _item(ellipse)))

    (item,) = found.instances
    assert item.box == (5, 5, 35, 25)
    assert item.mask is not None
    assert rle_area(item.mask) == pytest.approx(math.pi * 150, rel=0.05)


def test_a_group_is_one_object(tmp_path: Path) -> None:
    parts = [{**SQUARE, "group": 4}, {**MASK, "group": 4}, {**SQUARE, "group": 4, "label_id": 0}]

    (found,), _ = _split(_folder(tmp_path, _item(*parts, {**BOX, "group": 4})))

    assert [(item.id, item.category) for item in found.instances] == [
        ("dog/4", "dog"),
        ("cat/4", "cat"),
        ("items[0].annotations[3]", "cat"),
    ]
    first = found.instances[0]
    assert first.mask is not None
    assert (first.box, rle_area(first.mask)) == ((1, 1, 6, 6), 20)


def test_labels_and_captions_are_about_the_picture(tmp_path: Path) -> None:
    facts = [
        {"type": "label", "label_id": 1},
        {"type": "caption", "caption": "A dog."},
        {"type": "label", "label_id": 1},
        {"type": "label", "label_id": 9},
        {"type": "caption", "caption": 3},
        {"type": "hash_key"},
    ]

    (found,), rejected = _split(_folder(tmp_path, _item(*facts)))

    assert (found.labels, found.instances) == (("dog",), ())
    assert [item.text for item in found.captions] == ["A dog."]
    assert [(item.reason, item.origin.record) for item in rejected] == [
        ("category.unknown", "items[0].annotations[3]"),
        ("schema", "items[0].annotations[4]"),
    ]


@pytest.mark.parametrize("kind", ["polyline", "points", "cuboid_3d"])
def test_a_line_or_a_point_is_an_object_without_an_end(tmp_path: Path, kind: str) -> None:
    (found,), rejected = _split(_folder(tmp_path, _item({**SQUARE, "type": kind})))

    assert rejected == []
    assert (found.instances[0].box, found.instances[0].mask) == (None, None)


def test_a_picture_is_the_one_that_is_named_or_has_the_items_name(tmp_path: Path) -> None:
    items = [
        {"id": "b", "annotations": [], "media": {"path": "x/b.png"}},
        {"id": "c/d", "annotations": [], "image": {"path": ""}},
        {"id": "e"},
    ]

    found, rejected = _split(_folder(tmp_path, *items), images="")

    assert rejected == []
    assert [item.images[0].path for item in found] == ["x/b.png", "c/d.jpg", "e.jpg"]


def test_without_a_stated_size_the_header_says_it(tmp_path: Path) -> None:
    Picture.new("RGB", (9, 8)).save(tmp_path / "a.jpg")
    root = _folder(tmp_path, _item(SQUARE, image={"path": "a.jpg"}), _item(SQUARE, id="b", image=None))

    (a, b), (rejected,) = _split(root, images="")

    assert a.instances[0].mask is not None
    assert a.instances[0].mask.size == (8, 9)
    assert (b.instances[0].ignore, rejected.reason) == (True, "image.missing")


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ("an annotation", "schema"),
        ({"label_id": 0}, "schema"),
        ({**BOX, "type": "star"}, "schema"),
        ({**BOX, "bbox": None}, "schema"),
        ({**BOX, "bbox": [1, 2, 3]}, "schema"),
        ({**BOX, "label_id": None}, "category.unknown"),
        ({**BOX, "label_id": 3}, "category.unknown"),
        ({**BOX, "label_id": -1}, "category.unknown"),
        ({**SQUARE, "points": [1, 2, 3, 4]}, "polygon.invalid"),
        ({**SQUARE, "points": []}, "polygon.invalid"),
        ({**SQUARE, "points": [1, 2, 3, 4, 5]}, "polygon.invalid"),
        ({**SQUARE, "points": [1, 2, 1e99, 4, 5, 6]}, "polygon.invalid"),
        ({**SQUARE, "type": "ellipse"}, "schema"),
        ({**MASK, "rle": None}, "schema"),
        ({**MASK, "rle": {"counts": RLE.counts, "size": [40, 30]}}, "rle.size_mismatch"),
        ({**MASK, "rle": {"counts": [1, 2], "size": [30, 40]}}, "rle.size_mismatch"),
    ],
)
def test_a_defective_annotation_is_rejected_and_stays_ignored(
    tmp_path: Path, annotation: Any, reason: str
) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, _item(BOX, annotation)))

    assert (rejected.reason, rejected.origin.record) == (reason, "items[0].annotations[1]")
    assert [item.ignore for item in found.instances] == [False, True]
    assert found.exhaustive == (found.instances[1].category is not None)


@pytest.mark.parametrize(
    ("item", "reason"),
    [({"annotations": []}, "schema"), ({"id": 7}, "schema"), (_item(), "id.duplicate"), (3, "schema")],
)
def test_a_defective_item_is_rejected_alone(tmp_path: Path, item: Any, reason: str) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, _item(BOX), item))

    assert found.key == "a"
    assert (rejected.reason, rejected.origin.record) == (reason, "items[1]")


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"categories": {}}', '{"items": [], "categories": 3}'])
def test_a_file_of_another_kind_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "train.json").write_text(text)

    with pytest.raises(SourceError, match="expected a Datumaro file"):
        _split(Root(tmp_path))


def test_labels_are_those_of_the_file_each_once(tmp_path: Path) -> None:
    assert labels(Source(annotations="train.json"), _folder(tmp_path)).names == ("cat", "dog")


def test_the_real_layout_reads(samples: Callable[[str], Root]) -> None:
    root = samples("fmt_datumaro")

    found, rejected = _split(root, annotations="legacy/annotations/train.json", images="legacy/images")

    assert rejected == []
    assert [item.labels for item in found] == [("car",), ("car", "bicycle", "tom", "mary")]
    assert all((root.directory / item.images[0].path).is_file() for item in found)
