from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from converters.formats.scalabel import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import mask_from_rle, rle_area, rle_from_polygons

CAR = {"id": "1", "category": "car", "box2d": {"x1": 2, "y1": 3, "x2": 5.5, "y2": 7}}
RLE = rle_from_polygons([[1, 1, 4, 1, 4, 3, 1, 3]], 40, 30)


def _poly(types: str, *vertices: list[float], closed: bool = True) -> dict[str, Any]:
    return {"vertices": list(vertices), "types": types, "closed": closed}


def _outlined(*polys: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "1", "category": "car", "poly2d": list(polys), **more}


def _frame(*found: Any, name: str = "a.jpg", **more: Any) -> dict[str, Any]:
    return {"name": name, "labels": list(found), **more}


def _folder(folder: Path, *frames: Any) -> Root:
    (folder / "det.json").write_text(json.dumps(frames))
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**{"annotations": "det.json", "width": 40, "height": 30, **options}), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_both_corners_belong_to_a_box(tmp_path: Path) -> None:
    attributes = {"occluded": True, "trafficLightColor": "red", "speed": 3}
    root = _folder(tmp_path, _frame({**CAR, "attributes": attributes}))

    (found,), rejected = _split(root, images="images")
    (exclusive,), _ = _split(root, end="exclusive")

    assert rejected == []
    assert (found.key, found.images[0].path) == ("a.jpg", "images/a.jpg")
    assert (found.images[0].width, found.images[0].height) == (40, 30)
    (item,) = found.instances
    assert (item.id, item.category, item.box) == ("1", "car", (2, 3, 6.5, 8))
    assert item.attributes == {"occluded": "True", "trafficLightColor": "red"}
    assert exclusive.instances[0].box == (2, 3, 5.5, 7)
    assert (found.origin.file, found.origin.record) == ("det.json", "[0]")


def test_labels_of_one_id_are_two_objects(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, _frame(CAR, CAR)))

    assert rejected == []
    assert [item.id for item in found.instances] == ["1", "1~2"]


def test_the_parts_of_a_poly2d_are_one_object(tmp_path: Path) -> None:
    one = _poly("LLLL", [0, 0], [4, 0], [4, 4], [0, 4])
    two = _poly("LLLL", [10, 10], [12, 10], [12, 12], [10, 12])

    (found,), rejected = _split(_folder(tmp_path, _frame(_outlined(one, two))))

    assert rejected == []
    (item,) = found.instances
    assert item.box == (0, 0, 12, 12)
    assert item.mask is not None
    assert rle_area(item.mask) == 20


@pytest.mark.parametrize("types", ["LLCCLL", "LLCCCL"])
def test_a_curve_passes_its_two_control_points(tmp_path: Path, types: str) -> None:
    # From (20, 10) over the controls (20, 0), (10, 0) to (10, 10): three quarters of the way up at its top.
    poly = _poly(types, [10, 20], [20, 10], [20, 0], [10, 0], [10, 10], [10, 15])

    (found,), rejected = _split(_folder(tmp_path, _frame(_outlined(poly))))

    assert rejected == []
    (item,) = found.instances
    assert item.box == pytest.approx((10, 2.5, 20, 20))
    assert item.mask is not None
    mask = mask_from_rle(item.mask)
    assert mask[4, 15] == 1
    assert mask[1, 15] == 0


def test_a_curve_may_close_the_outline(tmp_path: Path) -> None:
    poly = _poly("LLLCC", [10, 10], [10, 20], [20, 20], [20, 0], [10, 0])

    (found,), rejected = _split(_folder(tmp_path, _frame(_outlined(poly))))

    assert rejected == []
    assert found.instances[0].box is not None
    assert found.instances[0].box[1] == pytest.approx(3.43, abs=0.05)


def test_an_open_outline_is_a_line_unless_the_spec_says_otherwise(tmp_path: Path) -> None:
    poly = _poly("LLL", [0, 0], [4, 0], [4, 4], closed=False)
    root = _folder(tmp_path, _frame(_outlined(poly)))

    (line,), _ = _split(root)
    (area,), _ = _split(root, open_areas=True)

    assert (line.instances[0].box, line.instances[0].mask) == (None, None)
    assert area.instances[0].box == (0, 0, 4, 4)
    assert area.instances[0].mask is not None


def test_a_run_length_code_is_taken_as_it_stands(tmp_path: Path) -> None:
    label = {"id": 4, "category": "car", "rle": {"size": [30, 40], "counts": RLE.counts}}

    (found,), _ = _split(_folder(tmp_path, _frame(label)), width=None, height=None)

    assert found.instances[0].mask == RLE


def test_outlines_without_a_stated_size_need_the_picture(tmp_path: Path) -> None:
    Picture.new("RGB", (9, 8)).save(tmp_path / "a.jpg")
    label = _outlined(_poly("LLL", [0, 0], [4, 0], [4, 4]))
    root = _folder(tmp_path, _frame(label), _frame(label, name="b.jpg"))

    (a, b), (rejected,) = _split(root, width=None, height=None)

    assert a.instances[0].mask is not None
    assert a.instances[0].mask.size == (8, 9)
    assert b.instances[0].ignore
    assert rejected.reason == "image.missing"


def test_the_size_of_a_frame_goes_before_that_of_the_spec(tmp_path: Path) -> None:
    (found,), _ = _split(_folder(tmp_path, _frame(CAR, size={"width": 8, "height": 9})))

    assert (found.images[0].width, found.images[0].height) == (8, 9)


def test_a_crowd_and_ignored_classes_are_told_apart(tmp_path: Path) -> None:
    crowd = {**CAR, "attributes": {"crowd": True}}
    trailer = {**CAR, "id": "2", "category": "trailer"}
    old = {**CAR, "id": "3", "category": "van"}
    root = _folder(tmp_path, _frame(crowd, trailer, old))

    (found,), rejected = _split(
        root, labels=("car", "truck"), rename={"van": "car"}, ignored={"trailer": "truck"}
    )

    assert rejected == []
    assert [(item.category, item.crowd, item.ignore) for item in found.instances] == [
        ("car", True, False),
        ("truck", False, True),
        ("car", False, False),
    ]


@pytest.mark.parametrize(
    ("frame", "exhaustive"), [({"labels": []}, True), ({"labels": None}, False), ({}, False)]
)
def test_a_frame_without_labels_is_no_empty_frame(
    tmp_path: Path, frame: dict[str, Any], exhaustive: bool
) -> None:
    (found,), rejected = _split(_folder(tmp_path, {"name": "a.jpg", **frame}))

    assert (found.instances, rejected) == ((), [])
    assert found.exhaustive == exhaustive


def test_frames_may_lie_in_a_mapping_or_in_a_file_a_video(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    for video in ("v1", "v2"):
        data = {"config": {}, "frames": [_frame(CAR, videoName=video)]}
        (tmp_path / "t" / f"{video}.json").write_text(json.dumps(data))

    found, rejected = _split(Root(tmp_path), annotations="t/*.json", images="i", media="video")

    assert rejected == []
    assert [item.key for item in found] == ["v1/a.jpg", "v2/a.jpg"]
    assert found[1].images[0].path == "i/v2/a.jpg"
    assert found[1].origin.file == "t/v2.json"


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("a label", "schema"),
        ({"id": "9", "box2d": CAR["box2d"]}, "schema"),
        ({**CAR, "category": 3}, "schema"),
        ({**CAR, "id": "9", "category": "kite"}, "category.unknown"),
        ({**CAR, "id": "9", "box2d": {"x1": 1}}, "schema"),
        (_outlined(_poly("LL", [0, 0], [1, 1]), id="9"), "polygon.invalid"),
        (_outlined(_poly("LLLL", [0, 0], [1, 1], [2, 0]), id="9"), "polygon.invalid"),
        (_outlined(_poly("LLX", [0, 0], [1, 1], [2, 0]), id="9"), "polygon.invalid"),
        (_outlined(_poly("LLLC", [0, 0], [1, 1], [2, 0], [3, 3]), id="9"), "polygon.invalid"),
        (_outlined(_poly("LLL", [0, 0], [1, 1], [2, 1e20]), id="9"), "polygon.invalid"),
        (_outlined(_poly("", closed=True), id="9"), "polygon.invalid"),
        ({**CAR, "id": "9", "rle": {"size": [40, 30], "counts": RLE.counts}}, "rle.size_mismatch"),
        ({**CAR, "id": "9", "rle": {"size": [30, 40], "counts": "zz"}}, "rle.size_mismatch"),
    ],
)
def test_a_defective_label_is_rejected_and_stays_ignored(tmp_path: Path, label: Any, reason: str) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, _frame(CAR, label)), labels=("car",))

    assert (rejected.reason, rejected.origin.record) == (reason, "[0].labels[1]")
    assert [item.ignore for item in found.instances] == [False, True]
    assert found.exhaustive == (found.instances[1].category == "car")


@pytest.mark.parametrize(
    ("frame", "reason"),
    [({"labels": []}, "schema"), ({"name": "a.jpg", "labels": {}}, "schema"), (_frame(), "id.duplicate")],
)
def test_a_defective_frame_is_rejected_alone(tmp_path: Path, frame: Any, reason: str) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, _frame(CAR), frame))

    assert found.key == "a.jpg"
    assert (rejected.reason, rejected.origin.record) == (reason, "[1]")


def test_a_frame_of_no_video_is_rejected(tmp_path: Path) -> None:
    found, (rejected,) = _split(_folder(tmp_path, _frame(CAR)), media="video")

    assert found == []
    assert rejected.reason == "field.missing"


@pytest.mark.parametrize("text", ["", "[{", '{"a": 1}', "3", "[" * 50_000])
def test_a_file_of_another_kind_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "det.json").write_text(text)

    with pytest.raises(SourceError, match="expected a Scalabel file"):
        _split(Root(tmp_path))


def test_a_file_of_another_kind_among_others_costs_itself_alone(tmp_path: Path) -> None:
    root = _folder(tmp_path, _frame(CAR))
    (tmp_path / "a.json").write_text("[{")

    (found,), (rejected,) = _split(root, annotations="*.json")

    assert found.key == "a.jpg"
    assert (rejected.key, rejected.reason, rejected.origin.file) == ("a.json", "schema", "a.json")
    assert labels(Source(annotations="*.json"), root).names == ("car",)


def test_a_pattern_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.annotations"):
        _split(Root(tmp_path), annotations="t/*.json")


def test_labels_are_the_declared_ones_or_the_names_in_the_file(tmp_path: Path) -> None:
    root = _folder(
        tmp_path, _frame(CAR, {**CAR, "category": "van"}, 3), "no frame", _frame({**CAR, "category": "bus"})
    )

    found = labels(Source(annotations="det.json", rename={"van": "lorry"}), root)

    assert found.names == ("bus", "car", "lorry")
    assert labels(Source(annotations="det.json", labels=("x", "car")), root).names == ("x", "car")


def test_real_frames_are_read(samples: Callable[[str], Root]) -> None:
    root = samples("bdd100k")

    (cars,), none = _split(root, annotations="example_annotation.json", width=1280, height=720)
    (panoptic,), rejected = _split(
        root, annotations="panseg_bdd100k.json", width=1280, height=720, open_areas=True
    )

    assert none == []
    assert [item.category for item in cars.instances] == ["car"] * 4
    # One pole is a line of two points.
    assert [(item.reason, item.origin.record) for item in rejected] == [("polygon.invalid", "[0].labels[15]")]
    assert sum(item.mask is not None for item in (*cars.instances, *panoptic.instances)) == 79


def test_real_outlines_cover_the_areas_of_the_toolkits_own_mask(samples: Callable[[str], Root]) -> None:
    root = samples("bdd100k")
    (found,), _ = _split(root, annotations="panseg_bdd100k.json", width=1280, height=720, open_areas=True)
    pixels = np.asarray(Picture.open(root.directory / "panseg_mask.png")).astype(int)
    drawn = pixels[:, :, 0] * 65536 + pixels[:, :, 2] * 256 + pixels[:, :, 3]
    sky = next(item for item in found.instances if item.category == "sky")

    assert sky.mask is not None
    ours = mask_from_rle(sky.mask).astype(bool)
    value = np.bincount(drawn[ours]).argmax()

    assert ((drawn == value) & ours).sum() / (drawn == value).sum() > 0.97
