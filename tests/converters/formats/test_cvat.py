from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from converters.formats.cvat import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import mask_from_rle, rle_area

BOX = '<box label="cat" xtl="2.5" ytl="3" xbr="8" ybr="9" occluded="1" z_order="0"/>'
META = (
    "<meta><task><labels><label><name>cat</name></label><label><name>dog</name></label>"
    "<label><name>nose</name><parent>dog</parent></label></labels></task></meta>"
)


def _image(body: str, name: str = "a.jpg", more: str = 'width="40" height="30"') -> str:
    return f'<image id="0" name="{name}" {more}>{body}</image>'


def _folder(folder: Path, *images: str, meta: str = META) -> Root:
    text = f"<annotations><version>1.1</version>{meta}{''.join(images)}</annotations>"
    (folder / "annotations.xml").write_text(text)
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_box_has_fractions_and_attributes(tmp_path: Path) -> None:
    box = BOX.replace("/>", '><attribute name="age"> 3 </attribute><attribute name="x"/></box>')

    (found,), rejected = _split(_folder(tmp_path, _image(box)))

    assert rejected == []
    assert (found.key, found.images[0].path) == ("a.jpg", "images/a.jpg")
    assert (found.images[0].width, found.images[0].height) == (40, 30)
    (item,) = found.instances
    assert (item.category, item.box, item.quad, item.mask) == ("cat", (2.5, 3, 8, 9), None, None)
    assert item.attributes == {"age": "3", "occluded": "1"}
    assert (found.origin.record, item.id) == ("image[0]", "image[0].box[0]")
    assert found.exhaustive


def test_a_turned_box_has_corners_and_the_box_around_them(tmp_path: Path) -> None:
    box = '<box label="cat" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90.0"/>'

    (found,), _ = _split(_folder(tmp_path, _image(box)))

    (item,) = found.instances
    assert item.box == pytest.approx((15, 5, 25, 25))
    assert item.quad == pytest.approx((25, 5, 25, 25, 15, 25, 15, 5))


def test_a_polygon_is_a_box_and_a_mask(tmp_path: Path) -> None:
    polygon = '<polygon label="dog" points="2.0,2.0;6,2;6,6;2,6" z_order="1"/>'

    (found,), _ = _split(_folder(tmp_path, _image(polygon)))

    (item,) = found.instances
    assert (item.category, item.box) == ("dog", (2, 2, 6, 6))
    assert item.mask is not None
    assert rle_area(item.mask) == 16


def test_an_ellipse_may_be_turned(tmp_path: Path) -> None:
    ellipse = '<ellipse label="dog" cx="20" cy="15" rx="10" ry="4" rotation="90"/>'

    (found,), _ = _split(_folder(tmp_path, _image(ellipse)))

    (item,) = found.instances
    assert item.box == pytest.approx((16, 5, 24, 25))
    assert item.mask is not None
    assert rle_area(item.mask) == pytest.approx(math.pi * 40, rel=0.1)


def test_the_runs_of_a_mask_go_by_rows_through_its_rectangle(tmp_path: Path) -> None:
    mask = '<mask label=" cat " rle="1, 2, 1, 1" left="34" top="3" width="3" height="2"/>'
    cut = mask.replace("1, 2, 1, 1", "1, 2, 1, 1, 1")

    (found,), (rejected,) = _split(_folder(tmp_path, _image(cut + mask)))

    good, bad = found.instances
    assert good.mask is not None
    assert np.argwhere(mask_from_rle(good.mask)).tolist() == [[3, 35], [3, 36], [4, 35]]
    assert good.box == (35, 3, 37, 5)
    assert (bad.ignore, bad.category, rejected.reason) == (True, "cat", "rle.size_mismatch")


@pytest.mark.parametrize("tag", ["points", "polyline", "skeleton", "cuboid"])
def test_a_line_or_a_point_is_an_object_without_an_end(tmp_path: Path, tag: str) -> None:
    (found,), rejected = _split(_folder(tmp_path, _image(f'<{tag} label="cat" points="1,2"/>')))

    assert rejected == []
    (item,) = found.instances
    assert (item.category, item.box, item.mask, item.ignore) == ("cat", None, None, False)


def test_a_tag_is_a_label_of_the_picture(tmp_path: Path) -> None:
    tags = '<tag label="dog"/><tag label="cat"/><tag label="dog"/><tag label="kite"/>'

    (found,), (rejected,) = _split(_folder(tmp_path, _image(tags)))

    assert (found.labels, found.instances) == (("dog", "cat"), ())
    assert (rejected.reason, rejected.origin.record) == ("category.unknown", "image[0].tag[3]")


def test_a_subset_of_a_project_is_read_alone(tmp_path: Path) -> None:
    pictures = [_image(BOX, more=f'subset="{name}"') for name in ("Train", "Test")]
    root = _folder(tmp_path, *pictures, meta=META.replace("task", "project"))

    (found,), (rejected,) = _split(root, subset="Test", images="images/Test")
    _, (twice,) = _split(root)

    assert (found.images[0].path, found.origin.record) == ("images/Test/a.jpg", "image[1]")
    assert (rejected.reason, rejected.origin.record) == ("split.other", "image[0]")
    assert twice.reason == "id.duplicate"


def test_without_a_stated_size_the_header_says_it(tmp_path: Path) -> None:
    Picture.new("RGB", (9, 8)).save(tmp_path / "a.jpg")
    polygon = '<polygon label="dog" points="2,2;6,2;6,6;2,6"/>'
    root = _folder(tmp_path, _image(polygon, more=""), _image(polygon, "b.jpg", 'width="x"'))

    (a, b), (rejected,) = _split(root, images="")

    assert a.instances[0].mask is not None
    assert a.instances[0].mask.size == (8, 9)
    assert (b.instances[0].ignore, rejected.reason) == (True, "image.missing")


@pytest.mark.parametrize(
    ("drawing", "reason"),
    [
        (BOX.replace("cat", ""), "schema"),
        (BOX.replace("cat", "kite"), "category.unknown"),
        (BOX.replace("2.5", "left"), "schema"),
        (BOX.replace("2.5", "nan"), "schema"),
        (BOX.replace("xtl", "x"), "schema"),
        (BOX.replace("z_order", "rotation").replace('"0"', '"much"'), "schema"),
        ('<polygon label="cat" points="1,2;3,4"/>', "polygon.invalid"),
        ('<polygon label="cat" points="1,2;3;5,6"/>', "schema"),
        ('<polygon label="cat" points="1,2;3,inf;5,6"/>', "schema"),
        ('<polygon label="cat"/>', "schema"),
        ('<polygon label="cat" points="1,2;3,1e9;5,6"/>', "polygon.invalid"),
        ('<mask label="cat" rle="4" left="39" top="0" width="2" height="2"/>', "rle.size_mismatch"),
        ('<mask label="cat" rle="-1,5" left="0" top="0" width="2" height="2"/>', "rle.size_mismatch"),
        ('<mask label="cat" rle="a" left="0" top="0" width="2" height="2"/>', "schema"),
        ('<mask label="cat" rle="4" left="0" top="0" width="2"/>', "schema"),
    ],
)
def test_a_defective_drawing_is_rejected_and_stays_ignored(tmp_path: Path, drawing: str, reason: str) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, _image(BOX + drawing)))

    assert rejected.reason == reason
    assert rejected.key.startswith("a.jpg.image[0].")
    assert [item.ignore for item in found.instances] == [False, True]
    assert found.exhaustive == ('"cat"' in drawing)


def test_a_size_that_no_picture_has_says_nothing(tmp_path: Path) -> None:
    mask = '<mask label="cat" rle="1" left="0" top="0" width="1" height="1"/>'

    (found,), (rejected,) = _split(_folder(tmp_path, _image(mask, more='width="9999999999" height="-3"')))

    assert (found.images[0].width, found.images[0].height) == (None, None)
    assert rejected.reason == "image.missing"


def test_a_picture_larger_than_a_mask_may_be_is_rejected(tmp_path: Path) -> None:
    side = 10**6
    mask = f'<mask label="cat" rle="{side**2}" left="0" top="0" width="{side}" height="{side}"/>'

    _, (rejected,) = _split(_folder(tmp_path, _image(mask, more=f'width="{side}" height="{side}"')))

    assert rejected.reason == "rle.size_mismatch"


def test_a_picture_without_a_name_is_rejected(tmp_path: Path) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, _image(BOX, name=" "), _image(BOX)))

    assert found.key == "a.jpg"
    assert (rejected.key, rejected.reason) == ("image[0]", "field.missing")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no element"),
        ("<annotations>", "no element"),
        ("<annotation/>", "expected <annotations>"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotations>&x;</annotations>', "document type"),
        ("<annotations><track id='0' label='cat'/></annotations>", "tracks of a video"),
    ],
)
def test_a_file_of_another_kind_is_an_error(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "annotations.xml").write_text(text)

    with pytest.raises(SourceError, match=says):
        _split(Root(tmp_path))


TRACKS = (
    '<track id="0" label="cat"><box frame="3" outside="0" xtl="1" ytl="2" xbr="3" ybr="4"/>'
    '<box frame="7" outside="1" xtl="1" ytl="2" xbr="3" ybr="4"/></track>'
    '<track id="1" label="dog"><polygon frame="3" outside="0" points="0,0;4,0;4,4"/>'
    '<box frame="5" outside="0" xtl="0" ytl="0" xbr="2" ybr="2"/></track>'
)
VIDEO = META.replace("</task>", "<original_size><width>40</width><height>30</height></original_size></task>")


def test_tracks_become_frames_and_what_has_left_the_picture_is_not_there(tmp_path: Path) -> None:
    root = _folder(tmp_path, TRACKS, meta=VIDEO)

    found, rejected = _split(root, frames="f_{:04d}.png")

    assert rejected == []
    assert [item.images[0].path for item in found] == [f"images/f_000{number}.png" for number in (3, 5, 7)]
    assert [(item.images[0].width, item.images[0].height) for item in found] == [(40, 30)] * 3
    assert [[(one.category, one.box) for one in item.instances] for item in found] == [
        [("cat", (1, 2, 3, 4)), ("dog", (0, 0, 4, 4))],
        [("dog", (0, 0, 2, 2))],
        [],
    ]
    assert found[0].origin.record == "frame 3"


def test_a_track_without_a_frame_stops_and_so_does_a_name_without_a_number(tmp_path: Path) -> None:
    root = _folder(tmp_path, TRACKS.replace('frame="5"', 'frame="x"'), meta=VIDEO)

    with pytest.raises(SourceError, match=r"track\[1\]: frame"):
        _split(root, frames="f_{:04d}.png")
    for wrong in ("f.png", "f_{name}.png", "f_{"):
        with pytest.raises(ValueError, match="frames"):
            Source(frames=wrong)


def test_labels_are_those_of_the_file_or_of_the_spec(tmp_path: Path) -> None:
    root = _folder(tmp_path, _image(BOX))

    assert labels(Source(), root).names == ("cat", "dog")
    assert labels(Source(labels=("x",)), root).names == ("x",)


def test_the_real_layouts_read(samples: Callable[[str], Root]) -> None:
    root = samples("fmt_cvat")

    project, skipped = _split(
        root,
        annotations="for_images/export_project/annotations.xml",
        images="for_images/export_project/images/Train",
        subset="Train",
    )
    task, rejected = _split(
        root, annotations="for_images/export_task/train.xml", images="for_images/export_task/images"
    )

    assert [len(item.instances) for item in (*project, *task)] == [2, 2, 2, 2]
    assert project[0].instances[0].attributes == {
        "a1": "true", "a2": "v3", "a3": "0003", "a4": "2.4", "occluded": "1"
    }  # fmt: skip
    assert {item.reason for item in skipped} == {"split.other"}
    assert [item.reason for item in rejected] == ["schema", "schema"]
    assert all((root.directory / item.images[0].path).is_file() for item in (*project, *task))
    with pytest.raises(SourceError, match="tracks"):
        _split(root, annotations="for_video/annotations.xml")
