from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from converters.formats import voc_xml
from converters.formats.labelme import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import mask_from_rle, rle_area, rle_box

Samples = Callable[[str], Root]


def _shape(kind: str | None, *points: Any, label: Any = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": list(points), "shape_type": kind, "group_id": None, **more}


BOX = _shape("rectangle", [12, 3], [4, 9])
SQUARE = _shape("polygon", [2, 2], [6, 2], [6, 6], [2, 6])


def _folder(folder: Path, *shapes: Any, name: str = "a", **facts: Any) -> Root:
    facts = {"imagePath": f"{name}.jpg", "imageWidth": 20, "imageHeight": 16, "imageData": None} | facts
    (folder / f"{name}.json").write_text(json.dumps({"version": "5.0.1", "shapes": shapes, **facts}))
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def _png(rows: list[list[int]]) -> str:
    stream = io.BytesIO()
    Picture.fromarray(np.array(rows, np.uint8) * 255).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def test_a_rectangle_is_any_two_corners_and_no_outline(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, BOX))

    assert rejected == []
    assert found.key == "a"
    (item,) = found.instances
    assert (item.id, item.category, item.box, item.mask) == ("shapes[0]", "cat", (4, 3, 12, 9), None)
    assert (found.images[0].path, found.images[0].width, found.images[0].height) == ("a.jpg", 20, 16)
    assert found.exhaustive


@pytest.mark.parametrize("kind", ["polygon", None])
def test_a_polygon_is_a_box_and_a_mask(tmp_path: Path, kind: str | None) -> None:
    (found,), _ = _split(_folder(tmp_path, {**SQUARE, "shape_type": kind}))

    (item,) = found.instances
    assert item.box == (2, 2, 6, 6)
    assert item.mask is not None
    assert (rle_area(item.mask), rle_box(item.mask)) == (16, (2, 2, 6, 6))


def test_a_circle_is_its_center_and_a_point_of_its_rim(tmp_path: Path) -> None:
    circle = _shape("circle", [100, 80], [100, 50])

    (found,), _ = _split(_folder(tmp_path, circle, imageWidth=200, imageHeight=160))

    (item,) = found.instances
    assert item.box == pytest.approx((70, 50, 130, 110))
    assert item.mask is not None
    assert rle_area(item.mask) == pytest.approx(math.pi * 900, rel=0.02)


def test_a_mask_is_a_picture_of_its_rectangle(tmp_path: Path) -> None:
    mask = _shape("mask", [15, 5], [17, 6], mask=_png([[0, 1, 1], [0, 0, 1]]))

    (found,), rejected = _split(_folder(tmp_path, mask))

    assert rejected == []
    (item,) = found.instances
    assert item.mask is not None
    assert np.argwhere(mask_from_rle(item.mask)).tolist() == [[5, 16], [5, 17], [6, 17]]
    assert (item.box, item.mask.size) == ((16, 5, 18, 7), (16, 20))


def test_a_rectangle_may_be_written_with_four_corners_or_be_turned(tmp_path: Path) -> None:
    four = _shape("rectangle", [4, 3], [12, 3], [12, 9], [4, 9])
    turned = _shape("oriented_rectangle", [5, 1], [9, 5], [5, 9], [1, 5])

    (found,), _ = _split(_folder(tmp_path, four, turned))

    assert [item.box for item in found.instances] == [(4, 3, 12, 9), (1, 1, 9, 9)]
    assert [item.quad for item in found.instances] == [None, (5, 1, 9, 5, 5, 9, 1, 5)]


@pytest.mark.parametrize("kind", ["point", "line", "linestrip", "points"])
def test_a_point_or_line_is_an_object_without_an_end(tmp_path: Path, kind: str) -> None:
    (found,), rejected = _split(_folder(tmp_path, _shape(kind, [3, 3], [4, 4])))

    assert rejected == []
    (item,) = found.instances
    assert (item.category, item.box, item.mask, item.ignore) == ("cat", None, None, False)


def test_shapes_of_one_group_and_label_are_one_object(tmp_path: Path) -> None:
    left, right = {**SQUARE, "group_id": 1}, _shape("polygon", [10, 2], [14, 2], [14, 4], [10, 4], group_id=1)
    point = _shape("point", [3, 3], group_id=1)
    other = {**SQUARE, "label": "dog", "group_id": 1}

    (found,), _ = _split(_folder(tmp_path, left, other, right, point, SQUARE))

    assert [(item.id, item.category) for item in found.instances] == [
        ("cat/1", "cat"),
        ("dog/1", "dog"),
        ("shapes[4]", "cat"),
    ]
    first = found.instances[0]
    assert first.box == (2, 2, 14, 6)
    assert first.mask is not None
    assert rle_area(first.mask) == 24


def test_a_group_with_a_part_that_has_no_outline_has_no_mask(tmp_path: Path) -> None:
    (found,), _ = _split(_folder(tmp_path, {**SQUARE, "group_id": 1}, {**BOX, "group_id": 1}))

    (item,) = found.instances
    assert (item.box, item.mask) == ((2, 2, 12, 9), None)


def test_an_ignored_label_is_neither_object_nor_background(tmp_path: Path) -> None:
    shapes = [{**SQUARE, "label": "__ignore__"}, {**BOX, "label": "blur"}]

    (found,), rejected = _split(_folder(tmp_path, *shapes), ignored=("__ignore__", "blur"))

    assert rejected == []
    assert [(item.category, item.ignore) for item in found.instances] == [(None, True)] * 2


@pytest.mark.parametrize(
    ("options", "stated", "path"),
    [
        ({}, "..\\img\\a.jpg", "img/a.jpg"),
        ({}, "x/./a.jpg", "ann/x/a.jpg"),
        ({}, "../../a.jpg", "../a.jpg"),
        ({}, "/home/me/a.jpg", "/home/me/a.jpg"),
        ({"images": "pics"}, "..\\img\\a.jpg", "pics/a.jpg"),
        ({"media": "stem", "extension": "png"}, "b.jpg", "ann/a.png"),
        ({"media": "stem", "images": ""}, "b.jpg", "a.jpg"),
    ],
)
def test_a_picture_is_found_from_its_file(
    tmp_path: Path, options: dict[str, Any], stated: str, path: str
) -> None:
    (tmp_path / "ann").mkdir()
    _folder(tmp_path / "ann", BOX, imagePath=stated)

    (found,), _ = _split(Root(tmp_path), annotations="ann", **options)

    assert found.images[0].path == path


def test_without_a_stated_size_the_header_says_it(tmp_path: Path) -> None:
    Picture.new("RGB", (9, 8)).save(tmp_path / "a.jpg")
    root = _folder(tmp_path, SQUARE, imageWidth=None, imageHeight=None)

    (found,), _ = _split(root)

    assert found.instances[0].mask is not None
    assert found.instances[0].mask.size == (8, 9)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ("a shape", "schema"),
        ({**BOX, "label": ""}, "schema"),
        ({**BOX, "label": None}, "schema"),
        ({**BOX, "points": [[1, 2, 3]]}, "schema"),
        ({**BOX, "points": [[1, float("nan")], [2, 2]]}, "schema"),
        ({**BOX, "points": [[1, 2]]}, "polygon.invalid"),
        ({**BOX, "shape_type": "star"}, "schema"),
        ({**SQUARE, "points": []}, "polygon.invalid"),
        ({**SQUARE, "points": [[1, 1], [2, 2]]}, "polygon.invalid"),
        ({**SQUARE, "points": [[1, 1], [1e12, 2], [2, 2]]}, "polygon.invalid"),
        (_shape("circle", [1, 1], [1e300, 1]), "polygon.invalid"),
        (_shape("mask", [1, 1], [2, 2], mask="?"), "mask.invalid"),
        (_shape("mask", [1, 1], [2, 2], mask="aGVsbG8="), "mask.invalid"),
        (_shape("mask", [19, 1], [20, 1], mask=_png([[1, 1]])), "mask.invalid"),
        (_shape("mask", [1, 1], [2, 2]), "mask.invalid"),
        ({**BOX, "label": "dog"}, "category.unknown"),
    ],
)
def test_a_defective_shape_is_rejected_and_stays_ignored(tmp_path: Path, shape: Any, reason: str) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, BOX, shape), labels=("cat",))

    assert (rejected.key, rejected.reason, rejected.origin.record) == ("a.shapes[1]", reason, "shapes[1]")
    assert [item.ignore for item in found.instances] == [False, True]
    assert found.exhaustive == (found.instances[1].category == "cat")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"imageWidth": -1}, "schema"),
        ({"imageWidth": 10**30}, "schema"),
        ({"imageWidth": "20"}, "schema"),
        ({"imagePath": None}, "field.missing"),
        ({"imageWidth": 0}, "image.missing"),
        ({"shapes": {}}, "schema"),
    ],
)
def test_a_defective_file_is_rejected_alone(tmp_path: Path, facts: dict[str, Any], reason: str) -> None:
    _folder(tmp_path, BOX, **facts)
    root = _folder(tmp_path, BOX, name="b")

    (found,), (rejected,) = _split(root)

    assert found.key == "b"
    assert (rejected.key, rejected.reason, rejected.origin.file) == ("a", reason, "a.json")


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'{"shapes": [' + b"[" * 50_000])
def test_a_torn_file_is_rejected_alone(tmp_path: Path, data: bytes) -> None:
    root = _folder(tmp_path, BOX, name="b")
    (tmp_path / "a.json").write_bytes(data)

    (found,), (rejected,) = _split(root)

    assert (found.key, rejected.key, rejected.reason) == ("b", "a", "schema")


def test_labels_are_the_declared_ones_or_the_names_in_the_files(tmp_path: Path) -> None:
    _folder(tmp_path, {**BOX, "label": " dog "}, {**BOX, "label": "__ignore__"}, {"label": 3}, name="b")
    (tmp_path / "c.json").write_text("{")
    root = _folder(tmp_path, BOX)

    assert labels(Source(), root).names == ("cat", "dog")
    assert labels(Source(labels=("dog", "cat")), root).names == ("dog", "cat")


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.annotations"):
        _split(Root(tmp_path))
    with pytest.raises(SourceError, match=r"source\.annotations"):
        _split(_folder(tmp_path, BOX), annotations="../elsewhere")


def test_real_rectangles_are_those_of_the_tools_own_export(samples: Samples) -> None:
    root = samples("labelme_bbox")
    exported = voc_xml.Source(annotations="data_dataset_voc/Annotations", images="data_annotated", origin=0)

    found, rejected = _split(root, annotations="data_annotated")

    assert rejected == []
    theirs = [item for item in voc_xml.read(exported, root) if isinstance(item, Annotation)]
    assert [item.key for item in found] == [item.key for item in theirs]
    for ours, other in zip(found, theirs, strict=True):
        assert ours.images[0].path == other.images[0].path
        assert [item.category for item in ours.instances] == [item.category for item in other.instances]
        for one, same in zip(ours.instances, other.instances, strict=True):
            assert one.box == pytest.approx(same.box, abs=1e-3)


def test_real_polygons_cover_the_pixels_of_the_tools_own_export(samples: Samples) -> None:
    root = samples("labelme_instance")

    found, rejected = _split(root, annotations="data_annotated")

    assert rejected == []
    for item in found:
        masks = [mask_from_rle(one.mask) for one in item.instances if one.mask and not one.ignore]
        path = root.directory / "data_dataset_voc" / "SegmentationObject" / f"{item.key}.png"
        exported = np.asarray(Picture.open(path))
        clear = exported < 255
        ours, theirs = np.any(np.stack(masks), axis=0) & clear, (exported > 0) & clear
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.97
