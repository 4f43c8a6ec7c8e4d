from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Picture

from converters.formats.via import Source, labels, read, recognise
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import mask_from_rle, rle_area
from dataengine.listing import Listing

RECT = {"name": "rect", "x": 3, "y": 4, "width": 10, "height": 5}
SQUARE = {"name": "polygon", "all_points_x": [2, 6, 6, 2], "all_points_y": [2, 2, 6, 6]}


def _region(shape: Any, **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


def _folder(folder: Path, *regions: Any, **more: Any) -> Root:
    Picture.new("RGB", (40, 30)).save(folder / "a.png")
    entry = {"filename": "a.png", "size": 120, "file_attributes": {}, "regions": list(regions)} | more
    (folder / "via.json").write_text(json.dumps({"a.png120": entry}))
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    options = {"annotations": "via.json", **options}
    if "attribute" not in options:
        options.setdefault("category", "thing")
    found = list(read(Source(**options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_rectangle_is_a_box(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, _region(RECT, color="red", size=3)))

    assert rejected == []
    assert (found.key, found.images[0].path, found.origin.record) == ("a.png", "a.png", "a.png120")
    (item,) = found.instances
    assert (item.category, item.box, item.mask) == ("thing", (3, 4, 13, 9), None)
    assert item.attributes == {"color": "red"}
    assert found.exhaustive


def test_a_polygon_is_a_box_and_a_mask_of_the_pictures_size(tmp_path: Path) -> None:
    (found,), _ = _split(_folder(tmp_path, _region(SQUARE)))

    (item,) = found.instances
    assert item.box == (2, 2, 6, 6)
    assert item.mask is not None
    assert (rle_area(item.mask), item.mask.size) == (16, (30, 40))


def test_circles_and_ellipses_have_their_area(tmp_path: Path) -> None:
    circle = {"name": "circle", "cx": 15, "cy": 15, "r": 12.5}
    turned = {"name": "ellipse", "cx": 20, "cy": 15, "rx": 12, "ry": 4, "theta": math.pi / 2}
    upright = {"name": "ellipse", "cx": 20, "cy": 15, "rx": 12, "ry": 4}

    (found,), rejected = _split(_folder(tmp_path, _region(circle), _region(turned), _region(upright)))

    assert rejected == []
    assert [item.box for item in found.instances] == [
        pytest.approx(box) for box in ((2.5, 2.5, 27.5, 27.5), (16, 3, 24, 27), (8, 11, 32, 19))
    ]
    first, second, _ = (item.mask for item in found.instances)
    assert first is not None and second is not None
    assert rle_area(first) == pytest.approx(math.pi * 12.5**2, rel=0.05)
    assert mask_from_rle(second)[5, 20] == 1


@pytest.mark.parametrize("name", ["point", "polyline"])
def test_a_point_or_line_is_an_object_without_an_end(tmp_path: Path, name: str) -> None:
    (found,), rejected = _split(_folder(tmp_path, _region({"name": name, "cx": 1, "cy": 2})))

    assert rejected == []
    assert (found.instances[0].box, found.instances[0].ignore) == (None, False)


def test_regions_may_be_a_mapping_and_pictures_lie_in_a_project(tmp_path: Path) -> None:
    root = _folder(tmp_path, regions={"0": _region(RECT), "1": _region(SQUARE)})
    pictures = json.loads((tmp_path / "via.json").read_text())
    project = {"_via_settings": {"ui": {}}, "_via_img_metadata": pictures, "_via_attributes": {}}
    (tmp_path / "project.json").write_text(json.dumps(project))

    (plain,), _ = _split(root)
    (inside,), rejected = _split(root, annotations="project.json")

    assert rejected == []
    assert [item.id for item in plain.instances] == ["a.png120.regions[0]", "a.png120.regions[1]"]
    assert plain.instances == inside.instances


@pytest.mark.parametrize(
    ("value", "category"),
    [(" cat ", "cat"), ({"cat": True}, "cat"), ({"cat": True, "dog": False}, "cat"), (7, "7")],
)
def test_an_attribute_says_what_a_region_is(tmp_path: Path, value: Any, category: str) -> None:
    root = _folder(tmp_path, _region(RECT, kind=value, pose="left"))

    (found,), rejected = _split(root, attribute="kind")

    assert rejected == []
    assert (found.instances[0].category, found.instances[0].attributes) == (category, {"pose": "left"})
    assert labels(Source(annotations="via.json", attribute="kind"), root).names == (category,)


def test_files_may_lie_beside_their_pictures(tmp_path: Path) -> None:
    for video in ("1", "2"):
        (tmp_path / "train" / video).mkdir(parents=True)
        _folder(tmp_path / "train" / video, _region(RECT))

    found, rejected = _split(Root(tmp_path), annotations="train/*/*.json", beside=True)

    assert rejected == []
    assert [item.key for item in found] == ["train/1/a.png", "train/2/a.png"]
    assert found[1].images[0].path == "train/2/a.png"


def test_pictures_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    (found,), _ = _split(_folder(tmp_path, _region(RECT)), images="pics")

    assert (found.key, found.images[0].path) == ("a.png", "pics/a.png")


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        ("a region", "schema"),
        (_region({"x": 1}, kind="cat"), "schema"),
        (_region({**RECT, "width": None}, kind="cat"), "schema"),
        (_region({**RECT, "width": "wide"}, kind="cat"), "schema"),
        (_region({**RECT, "name": "star"}, kind="cat"), "schema"),
        (_region({"name": "circle", "cx": 1, "cy": 2}, kind="cat"), "schema"),
        (_region({"name": "circle", "cx": 1, "cy": 2, "r": 1e300}, kind="cat"), "polygon.invalid"),
        (_region({**SQUARE, "all_points_y": [1]}, kind="cat"), "polygon.invalid"),
        (_region({**SQUARE, "all_points_x": [1], "all_points_y": [1]}, kind="cat"), "polygon.invalid"),
        (_region({"name": "polygon"}, kind="cat"), "polygon.invalid"),
        (_region(RECT), "field.missing"),
        (_region(RECT, kind=""), "field.missing"),
        (_region(RECT, kind={"cat": True, "dog": True}), "field.missing"),
        (_region(RECT, kind="kite"), "category.unknown"),
    ],
)
def test_a_defective_region_is_rejected_and_stays_ignored(tmp_path: Path, region: Any, reason: str) -> None:
    root = _folder(tmp_path, _region(RECT, kind="cat"), region)

    (found,), (rejected,) = _split(root, attribute="kind", labels=("cat", "dog"))

    assert (rejected.reason, rejected.origin.record) == (reason, "a.png120.regions[1]")
    assert [item.ignore for item in found.instances] == [False, True]
    assert found.exhaustive == (found.instances[1].category == "cat")


def test_an_outline_on_a_picture_that_is_not_there_is_rejected(tmp_path: Path) -> None:
    root = _folder(tmp_path, _region(RECT), _region(SQUARE))
    (tmp_path / "a.png").unlink()

    (found,), (rejected,) = _split(root)

    assert [item.ignore for item in found.instances] == [False, True]
    assert rejected.reason == "image.missing"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"regions": []}, "schema"),
        ({"filename": " "}, "field.missing"),
        ({"filename": "b.png", "regions": 3}, "schema"),
        ({"filename": "a.png"}, "id.duplicate"),
    ],
)
def test_a_defective_picture_is_rejected_alone(tmp_path: Path, entry: Any, reason: str) -> None:
    root = _folder(tmp_path, _region(RECT))
    pictures = json.loads((tmp_path / "via.json").read_text()) | {"other": entry}
    (tmp_path / "via.json").write_text(json.dumps(pictures))

    (found,), (rejected,) = _split(root)

    assert found.key == "a.png"
    assert (rejected.reason, rejected.origin.record) == (reason, "other")


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"_via_img_metadata": []}', '{"a":' * 50_000])
def test_a_file_of_another_kind_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "via.json").write_text(text)

    with pytest.raises(SourceError, match="expected a VIA file"):
        _split(Root(tmp_path))


@pytest.mark.parametrize("text", ["", "[1]", '{"_via_img_metadata": []}'])
def test_a_file_of_another_kind_among_others_costs_itself_alone(tmp_path: Path, text: str) -> None:
    root = _folder(tmp_path, _region(RECT))
    (tmp_path / "a.json").write_text(text)

    (found,), (rejected,) = _split(root, annotations="*.json")

    assert found.key == "a.png"
    assert (rejected.key, rejected.reason, rejected.origin.file) == ("a.json", "schema", "a.json")


def test_a_pattern_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.annotations"):
        _split(Root(tmp_path), annotations="*/via.json")


@pytest.mark.parametrize("regions", [7, "text", True])
def test_regions_that_are_none_are_no_reason_to_know_the_layout(tmp_path: Path, regions: Any) -> None:
    entry = {"filename": "1.png", "size": 1, "regions": regions, "file_attributes": {}}
    (tmp_path / "via.json").write_text(json.dumps({"1.png1": entry}))
    Picture.new("RGB", (4, 4)).save(tmp_path / "1.png")

    assert isinstance(recognise(Listing(Root(tmp_path))), str)


def test_a_spec_says_in_one_way_what_a_region_is() -> None:
    for options in ({}, {"attribute": "kind", "category": "thing"}):
        with pytest.raises(ValueError, match="attribute or category"):
            Source(annotations="via.json", **options)  # type: ignore[arg-type]


def test_labels_are_the_declared_ones_or_the_names_in_the_file(tmp_path: Path) -> None:
    root = _folder(tmp_path, _region(RECT, kind="dog"), _region(RECT, kind="cat"), _region(RECT), 3)

    assert labels(Source(annotations="via.json", attribute="kind"), root).names == ("cat", "dog")
    assert labels(Source(annotations="via.json", category="thing"), root).names == ("thing",)
    assert labels(Source(annotations="via.json", attribute="kind", labels=("x",)), root).names == ("x",)


def test_a_real_file_without_pictures_says_so(samples: Callable[[str], Root]) -> None:
    found, rejected = _split(samples("via_ellipse_project"), annotations="via_region_data.json")

    assert [len(item.instances) for item in found] == [3, 1, 0, 3]
    assert {item.reason for item in rejected} == {"image.missing"}
    assert len(rejected) == 7
