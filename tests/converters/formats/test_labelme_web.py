from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image as Pillow

from converters.formats.labelme_web import Source, labels, read, recognise
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import mask_from_rle
from dataengine.listing import Fit, Listing

Samples = Callable[[str], Root]
SQUARE = "<polygon>" + "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((1, 1), (4, 1), (4, 3), (1, 3)))
SQUARE += "</polygon>"


def _object(name: str, body: str, deleted: int = 0) -> str:
    return f"<object><name>{name}</name><deleted>{deleted}</deleted>{body}</object>"


def _split(folder: Path, objects: str, size: str = "<nrows>4</nrows><ncols>6</ncols>", **options: Any) -> Any:
    """Read a file about in/a.png, 6 pixels wide and 4 high."""
    for name in ("Annotations/in", "Images/in", "Masks/in"):
        (folder / name).mkdir(parents=True)
    Pillow.new("RGB", (6, 4)).save(folder / "Images/in/a.png")
    mask = np.zeros((4, 6), np.uint8)
    mask[2, 3:5] = 255
    Pillow.fromarray(mask).save(folder / "Masks/in/m.png")
    Pillow.fromarray(mask[:2]).save(folder / "Masks/in/small.png")
    (folder / "Annotations/in/a.xml").write_text(
        f"<annotation><filename>a.png</filename><folder>in</folder><imagesize>{size}</imagesize>{objects}</annotation>"
    )
    found = list(read(msgspec.convert(options, Source), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_polygon_is_a_mask_and_a_bounding_box_is_none(tmp_path: Path) -> None:
    boxed = _object("car", f"<type>bounding_box</type>{SQUARE}<occluded>yes</occluded>")

    (found,), rejected = _split(tmp_path, _object("tree", SQUARE) + boxed)

    assert rejected == []
    assert (found.key, found.images[0].path, found.exhaustive) == ("in/a", "Images/in/a.png", False)
    tree, car = found.instances
    assert (tree.category, tree.box) == ("tree", (1, 1, 4, 3))
    assert tree.mask is not None
    assert mask_from_rle(tree.mask).sum() == 6
    assert (car.box, car.mask, car.attributes) == ((1, 1, 4, 3), None, {"occluded": "1"})
    assert labels(Source(), Root(tmp_path)).names == ("car", "tree")


def test_a_mask_is_a_picture_of_its_own(tmp_path: Path) -> None:
    (found,), _ = _split(tmp_path, _object("cat", "<segm><mask>m.png</mask></segm>"))

    (item,) = found.instances
    assert item.box == (3, 2, 5, 3)
    assert mask_from_rle(item.mask).tolist()[2] == [0, 0, 0, 1, 1, 0]


def test_what_somebody_took_back_is_not_there(tmp_path: Path) -> None:
    (found,), rejected = _split(
        tmp_path, _object("gone", SQUARE, deleted=1) + _object("tree", SQUARE), labels=["tree"]
    )

    assert ([item.category for item in found.instances], rejected) == (["tree"], [])


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (_object("cat", ""), "schema"),
        (_object("cat", "<polygon><pt><x>1</x><y>nan</y></pt></polygon>"), "schema"),
        (_object("cat", "<polygon><pt><x>1</x></pt></polygon>"), "schema"),
        (_object("cat", "<segm><mask>lost.png</mask></segm>"), "map.missing"),
        (_object("cat", "<segm><mask>small.png</mask></segm>"), "map.size_mismatch"),
        (_object("cat", "<segm><mask>../../Images/in/a.png</mask></segm>"), "path.outside"),
        (_object("dog", SQUARE), "category.unknown"),
    ],
)
def test_an_object_that_cannot_be_used_is_rejected_and_ignored(
    tmp_path: Path, item: str, reason: str
) -> None:
    (found,), (rejected,) = _split(tmp_path, item, labels=["cat"])

    assert rejected.reason == reason
    assert [one.ignore for one in found.instances] == [True]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("<annotation/>", "field.missing"), ("<a/>", "schema"), ("<annotation>", "xml.malformed")],
)
def test_a_file_that_is_none_costs_itself_alone(tmp_path: Path, text: str, reason: str) -> None:
    _split(tmp_path, _object("cat", SQUARE))
    (tmp_path / "Annotations/b.xml").write_text(text)

    found = list(read(Source(), Root(tmp_path)))

    assert [item.reason for item in found if isinstance(item, Rejected)] == [reason]
    assert len(found) == 2


def test_a_size_that_is_not_stated_is_read_from_the_picture(tmp_path: Path) -> None:
    (found,), _ = _split(tmp_path, _object("cat", SQUARE), size="<nrows>0</nrows><ncols>x</ncols>")

    assert found.images[0].width is None
    assert found.instances[0].mask.size == (4, 6)


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no XML file"):
        list(read(Source(), Root(tmp_path)))


def test_the_made_up_excerpt_has_seven_objects(samples: Samples) -> None:
    (found,) = read(Source(), samples("fmt_labelme"))

    assert isinstance(found, Annotation)
    assert [item.category for item in found.instances] == [
        "window", "license plate", "o1", "q1", "b1", "m1", "hg",
    ]  # fmt: skip
    assert [item.mask is None for item in found.instances] == [
        False, False, False, False, True, False, False,
    ]  # fmt: skip


def test_a_folder_is_recognised_by_the_folders_above_those_of_equal_names(tmp_path: Path) -> None:
    _split(tmp_path, _object("cat", SQUARE))

    fit = recognise(Listing(Root(tmp_path)))

    assert isinstance(fit, Fit)
    (keys,) = fit.splits.values()
    assert (keys["annotations"], keys["images"]) == ("Annotations", "Images")
    (tmp_path / "Annotations/in/a.xml").write_text("<annotation><filename>a.png</filename></annotation>")
    assert (
        recognise(Listing(Root(tmp_path)))
        == "no XML file has objects with polygons and a picture in the folder"
    )


def test_a_size_without_end_says_nothing(tmp_path: Path) -> None:
    endless = "9" * 5000

    (found,), rejected = _split(
        tmp_path, _object("tree", SQUARE), f"<nrows>{endless}</nrows><ncols>6</ncols>"
    )

    assert rejected == []
    assert [item.category for item in found.instances] == ["tree"]
