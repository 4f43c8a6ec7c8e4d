from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from converters.formats.oriented_xml import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_area

Samples = Callable[[str], Root]

POINTS = ("10,0", "20,10", "10,20", "0,10")
CORNERS = dict(
    zip(
        [
            f"{axis}_{side}_{end}"
            for side, end in (("left", "top"), ("right", "top"), ("right", "bottom"), ("left", "bottom"))
            for axis in "xy"
        ],
        (10, 0, 20, 10, 10, 20, 0, 10),
        strict=True,
    )
)


def fair1m(
    name: str = "Boeing737", points: tuple[str, ...] = (*POINTS, POINTS[0]), unit: str = "pixel"
) -> str:
    listed = "".join(f"<point>{point}</point>" for point in points)
    return (
        f"<object><coordinate>{unit}</coordinate><possibleresult><name>{name}</name></possibleresult>"
        f"<points>{listed}</points></object>"
    )


def tags(prefix: str, values: dict[str, object]) -> str:
    return "".join(f"<{prefix}{key}>{value}</{prefix}{key}>" for key, value in values.items())


def hrsc(class_id: str = "100000001", difficult: int = 0, **values: object) -> str:
    box = tags("mbox_", {"cx": 20, "cy": 15, "w": 20, "h": 10, "ang": 0, **values})
    return (
        f"<HRSC_Object><Class_ID>{class_id}</Class_ID><difficult>{difficult}</difficult>{box}</HRSC_Object>"
    )


def robndbox(**values: object) -> str:
    return f"<object><name>ship</name><robndbox>{tags('', values)}</robndbox></object>"


def _document(layout: str, body: str) -> str:
    size = "<size><width>40</width><height>30</height></size>"
    match layout:
        case "fair1m":
            return f"<annotation>{size}<objects>{body}</objects></annotation>"
        case "hrsc":
            return (
                "<HRSC_Image><Img_SizeWidth>40</Img_SizeWidth><Img_SizeHeight>30</Img_SizeHeight>"
                f"<HRSC_Objects>{body}</HRSC_Objects></HRSC_Image>"
            )
    return f"<annotation>{size}{body}</annotation>"


def _folder(folder: Path, layout: str, **bodies: str) -> Root:
    (folder / "xml").mkdir()
    (folder / "images").mkdir()
    for stem, body in bodies.items():
        text = body if body.startswith("<?") or not body.startswith("<") else _document(layout, body)
        (folder / "xml" / f"{stem}.xml").write_text(text)
        Image.new("RGB", (40, 30)).save(folder / "images" / f"{stem}.jpg")
    return Root(folder)


def _split(root: Root, layout: str, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    given = {"annotations": "xml", "images": "images", "layout": layout, **options}
    found = list(read(msgspec.convert(given, Source), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_points_of_fair1m_are_an_object_and_the_last_repeats_the_first(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, "fair1m", a=fair1m()), "fair1m")

    (item,) = found.instances
    assert rejected == []
    assert (found.key, found.images[0].path) == ("a", "images/a.jpg")
    assert (found.images[0].width, found.images[0].height) == (40, 30)
    assert (item.category, item.box) == ("Boeing737", (0, 0, 20, 20))
    assert item.quad == (10, 0, 20, 10, 10, 20, 0, 10)
    assert item.mask is not None and rle_area(item.mask) == pytest.approx(200, abs=25)


def test_points_of_fair1m_need_not_repeat(tmp_path: Path) -> None:
    (found,), _ = _split(_folder(tmp_path, "fair1m", a=fair1m(points=POINTS)), "fair1m")

    assert found.instances[0].quad == (10, 0, 20, 10, 10, 20, 0, 10)


@pytest.mark.parametrize(
    ("angle", "corners"),
    [
        (0, (10, 10, 30, 10, 30, 20, 10, 20)),
        (math.pi / 2, (25, 5, 25, 25, 15, 25, 15, 5)),
        (math.atan2(3, 4), (15, 5, 31, 17, 25, 25, 9, 13)),
        (-math.pi / 2, (15, 25, 15, 5, 25, 5, 25, 25)),
    ],
)
@pytest.mark.parametrize("layout", ["hrsc", "robndbox"])
def test_a_turned_box_turns_clockwise_about_its_centre(
    tmp_path: Path, layout: str, angle: float, corners: tuple[float, ...]
) -> None:
    body = hrsc(ang=angle) if layout == "hrsc" else robndbox(cx=20, cy=15, w=20, h=10, angle=angle)

    (found,), rejected = _split(_folder(tmp_path, layout, a=body), layout)

    assert rejected == []
    assert found.instances[0].quad == pytest.approx(corners)


def test_the_corners_of_dior_r_stand_in_the_same_place(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, "robndbox", a=robndbox(**CORNERS)), "robndbox")

    assert rejected == []
    assert found.instances[0].quad == (10, 0, 20, 10, 10, 20, 0, 10)
    assert found.instances[0].box == (0, 0, 20, 20)


def test_a_plain_box_is_upright(tmp_path: Path) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>8</ymax></bndbox>"
    root = _folder(tmp_path, "robndbox", a=f"<object><name>ship</name>{box}</object>")

    (found,), _ = _split(root, "robndbox")

    assert found.instances[0].quad == (1, 2, 11, 2, 11, 8, 1, 8)


def test_numbers_of_classes_get_names_and_several_may_share_one(tmp_path: Path) -> None:
    root = _folder(tmp_path, "hrsc", a=hrsc() + hrsc("100000002", difficult=1) + hrsc("999"))
    names = {"100000001": "ship", "100000002": "ship"}

    (found,), (rejected,) = _split(root, "hrsc", names=names)

    assert [(item.category, item.difficult, item.ignore) for item in found.instances] == [
        ("ship", False, False),
        ("ship", True, False),
        (None, False, True),
    ]
    assert (rejected.reason, rejected.origin.record) == ("category.unknown", "object[2]")
    assert not found.exhaustive
    source = msgspec.convert({"annotations": "xml", "layout": "hrsc", "names": names}, Source)
    assert labels(source, root).names == ("ship",)


def test_the_labels_are_those_that_occur_or_those_declared(tmp_path: Path) -> None:
    root = _folder(tmp_path, "fair1m", a=fair1m("Van") + fair1m("Bus"), b=fair1m("Van"), c="broken")
    source = Source(annotations="xml", layout="fair1m")

    assert labels(source, root).names == ("Bus", "Van")
    declared = msgspec.structs.replace(source, labels=("Van", "Ship"))
    assert labels(declared, root).names == ("Van", "Ship")


@pytest.mark.parametrize(
    ("layout", "body", "reason"),
    [
        ("fair1m", fair1m(points=POINTS[:2]), "polygon.invalid"),
        ("fair1m", fair1m(points=(*POINTS[:3], "1")), "polygon.invalid"),
        ("fair1m", fair1m(points=(*POINTS[:3], "1,x")), "schema"),
        ("fair1m", fair1m(points=(*POINTS[:3], "1,nan")), "polygon.invalid"),
        ("fair1m", fair1m(unit="geographic"), "schema"),
        ("fair1m", fair1m(name=""), "schema"),
        ("hrsc", hrsc(ang="inf"), "polygon.invalid"),
        ("hrsc", hrsc(w="1e300"), "polygon.invalid"),
        ("hrsc", hrsc(cx=""), "schema"),
        ("robndbox", "<object><name>ship</name></object>", "schema"),
        ("robndbox", robndbox(x_left_top=1), "schema"),
    ],
)
def test_a_defective_object_is_rejected_and_ignored(
    tmp_path: Path, layout: str, body: str, reason: str
) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, layout, a=body), layout)

    assert (rejected.key, rejected.reason) == ("a.object[0]", reason)
    assert [item.ignore for item in found.instances] == [True]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("broken", "xml.malformed"),
        ('<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "xml.doctype"),
        ('<?xml version="1.0"?><HRSC_Image/>', "schema"),
    ],
)
def test_a_file_that_is_another_costs_no_other(tmp_path: Path, text: str, reason: str) -> None:
    found, (rejected,) = _split(_folder(tmp_path, "fair1m", a=text, b=fair1m()), "fair1m")

    assert [item.key for item in found] == ["b"]
    assert (rejected.key, rejected.reason) == ("a", reason)


def test_a_list_decides_which_files_are_read(tmp_path: Path) -> None:
    root = _folder(tmp_path, "fair1m", a=fair1m(), b=fair1m())
    (tmp_path / "val.txt").write_text("b\nmissing\nb\n../x\n")

    found, rejected = _split(root, "fair1m", image_set="val.txt")

    assert [item.key for item in found] == ["b"]
    assert [(item.key, item.reason) for item in rejected] == [
        ("missing", "id.orphan"),
        ("b", "id.duplicate"),
        ("../x", "path.outside"),
    ]


def test_a_folder_without_xml_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.annotations"):
        _split(_folder(tmp_path, "fair1m"), "fair1m")


@pytest.mark.parametrize("size", ["0", "-3", "4.5", "x", "9" * 5000])
def test_a_size_that_no_picture_has_is_not_stated(tmp_path: Path, size: str) -> None:
    root = _folder(tmp_path, "robndbox")
    (tmp_path / "xml" / "a.xml").write_text(f"<annotation><size><width>{size}</width></size></annotation>")

    (found,), _ = _split(root, "robndbox")

    assert (found.images[0].width, found.images[0].height) == (None, None)


def test_a_made_tree_of_torchgeo(samples: Samples) -> None:
    found, rejected = _split(
        samples("fmt_fair1m"),
        "fair1m",
        annotations="train/part1/labelXml",
        images="train/part1/images",
        extensions=["tif"],
    )

    assert rejected == []
    assert [item.quad for item in found[0].instances] == [(0, 0, 1, 0, 1, 1, 0, 1)]
    assert len(found) == 4
