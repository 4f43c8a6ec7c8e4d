from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from converters.formats.openimages_csv import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_box

Samples = Callable[[str], Root]
HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
PLANE = "a,xclick,/m/1,1,0.25,0.5,0.1,0.9,0,0,0,0,0"


def _root(folder: Path, boxes: str | bytes, image_labels: str | None = None) -> Root:
    """Write tables for the pictures a and b, 200 x 100 pixels."""
    (folder / "images").mkdir(exist_ok=True)
    for stem in "ab":
        Image.new("RGB", (200, 100)).save(folder / "images" / f"{stem}.jpg")
    (folder / "classes.csv").write_text('/m/1,Airplane\n/m/2,"Bird, flying"\n/m/3,Car\n')
    data = boxes if isinstance(boxes, bytes) else boxes.encode()
    (folder / "boxes.csv").write_bytes(data)
    if image_labels is not None:
        (folder / "labels.csv").write_text(f"ImageID,Source,LabelName,Confidence\n{image_labels}")
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    source = Source(**{"annotations": "boxes.csv", "classes": "classes.csv", "images": "images", **options})
    found = list(read(source, root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_both_x_come_before_both_y(tmp_path: Path) -> None:
    root = _root(
        tmp_path,
        f"{HEADER}\n{PLANE}\na,xclick,/m/2,1,0,1,0,1,1,-1,1,1,0\nb,xclick,/m/3,1,0,1,0,1,0,0,0,0,0\n",
    )

    found, rejected = _split(root)

    assert rejected == []
    assert [item.key for item in found] == ["a", "b"]
    first, second = found[0].instances
    assert (first.category, first.box, first.crowd, first.attributes) == (
        "Airplane",
        (50, 10, 100, 90),
        False,
        {},
    )
    assert (second.category, second.crowd) == ("Bird, flying", True)
    assert second.attributes == {"occluded": "1", "depiction": "1"}
    assert (found[0].images[0].width, found[0].images[0].height) == (200, 100)
    assert not found[0].exhaustive
    assert labels(Source(annotations="", classes="classes.csv"), root).names == (
        "Airplane",
        "Bird, flying",
        "Car",
    )


def test_a_header_of_the_table_of_classes_is_no_class(tmp_path: Path) -> None:
    root = _root(tmp_path, HEADER)
    (tmp_path / "classes.csv").write_text("LabelName,DisplayName\n/m/1,Airplane\n")

    assert labels(Source(annotations="", classes="classes.csv"), root).names == ("Airplane",)


def test_only_what_people_denied_is_absent(tmp_path: Path) -> None:
    said = (
        "a,verification,/m/2,0\na,verification,/m/1,1\na,machine,/m/3,0.4\na,verification,/m/99,0\n"
        "c,verification,/m/3,0\nc,verification,/m/2,0\nc,verification,/m/2,1\n"
    )
    root = _root(tmp_path, f"{HEADER}\n{PLANE}\n", said)

    found, rejected = _split(root, image_labels="labels.csv")

    assert rejected == []
    assert [(item.key, item.labels, item.negatives) for item in found] == [
        ("a", ("Airplane",), ("Bird, flying",)),
        ("c", ("Bird, flying",), ("Car",)),
    ]
    assert (found[1].instances, found[1].exhaustive, found[1].images[0].path) == ((), False, "images/c.jpg")


def test_a_box_of_a_kind_leaves_the_classes_above_it_open(tmp_path: Path) -> None:
    root = _root(tmp_path, f"{HEADER}\n{PLANE}\n{PLANE.replace('/m/1', '/m/3')}\n")
    # Everything > Car > Airplane, and Bird > Airplane once more; everything has no name.
    plane = {"LabelName": "/m/1"}
    kinds = [
        {"LabelName": "/m/3", "Subcategory": [plane, {"LabelName": "/m/9"}]},
        {"LabelName": "/m/2", "Subcategory": [plane], "Part": [{"LabelName": "/m/3"}]},
    ]
    (tmp_path / "tree.json").write_text(json.dumps({"LabelName": "/m/0", "Subcategory": kinds}))

    (found,), _ = _split(root, hierarchy="tree.json")

    assert [(item.category, item.box, item.ignore) for item in found.instances] == [
        ("Airplane", (50, 10, 100, 90), False),
        ("Car", (50, 10, 100, 90), True),
        ("Bird, flying", (50, 10, 100, 90), True),
        ("Car", (50, 10, 100, 90), False),
    ]


def test_a_hierarchy_of_another_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tree.json").write_text("[]")

    with pytest.raises(SourceError, match=r"tree\.json"):
        _split(_root(tmp_path, f"{HEADER}\n{PLANE}\n"), hierarchy="tree.json")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (PLANE.replace("/m/1", "/m/9"), "category.unknown"),
        (PLANE.replace("0.25", "50"), "box.not_normalised"),
        (PLANE.replace("0.25", "nan"), "box.nonfinite"),
        (PLANE.replace("0.25", '"0,25"'), "schema"),
        (PLANE + ",1", "schema"),
    ],
)
def test_a_defective_row_costs_no_other(tmp_path: Path, row: str, reason: str) -> None:
    (found,), rejected = _split(_root(tmp_path, f"{HEADER}\n{PLANE}\n{row}\n"))

    assert [(item.reason, item.origin.record) for item in rejected] == [(reason, "line 3")]
    assert found.instances[0].box == (50, 10, 100, 90)
    assert all(item.ignore for item in found.instances[1:])


def test_rows_of_a_picture_that_stand_apart_are_rejected(tmp_path: Path) -> None:
    other = PLANE.replace("a,", "b,", 1)

    found, rejected = _split(_root(tmp_path, f"{HEADER}\n{PLANE}\n{other}\n{PLANE}\n"))

    assert [item.key for item in found] == ["a", "b"]
    assert [(item.reason, item.origin.record) for item in rejected] == [("id.duplicate", "line 4")]
    assert len({*(item.key for item in found), *(item.key for item in rejected)}) == 3


def test_a_picture_that_is_not_there_is_rejected(tmp_path: Path) -> None:
    rows = [PLANE.replace("a,", f"{name},", 1) for name in ("gone", "../x", "")]

    found, rejected = _split(_root(tmp_path, "\n".join([HEADER, *rows])))

    assert found == []
    assert [(item.key, item.reason) for item in rejected] == [
        ("gone", "image.missing"),
        ("../x", "path.outside"),
        ("", "image.missing"),
    ]


def test_a_confidence_that_is_none_is_rejected(tmp_path: Path) -> None:
    root = _root(tmp_path, f"{HEADER}\n{PLANE}\n", "a,verification,/m/2,no\n")

    (found,), rejected = _split(root, image_labels="labels.csv")

    assert [(item.reason, item.origin.file) for item in rejected] == [("schema", "labels.csv")]
    assert found.negatives == ()


def test_a_table_that_is_another_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"boxes\.csv: has no column 'XMin'"):
        _split(_root(tmp_path, "ImageID,LabelName\na,/m/1\n"))
    with pytest.raises(SourceError, match=r"boxes\.csv"):
        _split(_root(tmp_path, f'{HEADER}\n"{PLANE}\n'))
    with pytest.raises(SourceError, match=r"source\.classes"):
        _split(_root(tmp_path, HEADER), classes="gone.csv")


def test_a_copy_of_the_layout_is_read(samples: Samples) -> None:
    source = Source(
        annotations="v6/annotations/oidv6-train-annotations-bbox.csv",
        classes="v6/annotations/oidv6-class-descriptions.csv",
        image_labels="v6/annotations/oidv6-train-annotations-human-imagelabels.csv",
        images="v6/images/train",
    )

    first, second = read(source, samples("fmt_open_images"))

    assert isinstance(first, Annotation)
    assert isinstance(second, Annotation)
    assert (first.key, first.negatives, first.instances[0].category) == (
        "b",
        ("Generic label #0",),
        "Generic label #0",
    )
    assert (second.key, second.labels) == ("a", ("Generic label #0",))


MASKED = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks\n"


def test_a_mask_is_a_picture_stretched_to_its_photograph(tmp_path: Path) -> None:
    root = _root(tmp_path, f"{MASKED}m.png,a,/m/1,x,0,0.5,0,1,0.5,\nlost.png,a,/m/3,y,0,1,0,1,,\n")
    drawn = Image.new("1", (4, 2))
    drawn.paste(1, (0, 0, 2, 2))
    (tmp_path / "masks").mkdir()
    drawn.save(tmp_path / "masks/m.png")

    (found,), (rejected,) = _split(root, masks="masks")

    plane, car = found.instances
    assert (plane.category, plane.box) == ("Airplane", (0, 0, 100, 100))
    assert plane.mask is not None
    assert rle_box(plane.mask) == (0, 0, 100, 100)
    assert plane.mask.size == (100, 200)
    assert (rejected.reason, car.category, car.ignore) == ("map.missing", "Car", True)


def test_a_table_of_boxes_is_no_table_of_masks(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="BoxXMin"):
        _split(_root(tmp_path, f"{HEADER}\n{PLANE}\n"), masks="masks")
