from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image as Pillow

from converters.formats.ade20k_full import Source, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_area

Samples = Callable[[str], Root]
# Class 312 is 10 and 56, class 7 is 0 and 7; B tells objects apart.
PIXELS = [[(10, 56, 255), (10, 56, 128), (0, 0, 0)], [(0, 7, 64), (10, 56, 255), (0, 0, 0)]]
OBJECTS = [
    {"name": "building, edifice", "name_ndx": 312, "parts": {"part_level": 0}},
    {"name": "sky", "name_ndx": 7},
    {"name": "door", "name_ndx": 9, "parts": {"part_level": 1}},
]


def _folder(folder: Path, pixels: Any = PIXELS, document: Any = None, text: str = "") -> Root:
    place = folder / "images/training/urban/street"
    place.mkdir(parents=True)
    Pillow.fromarray(np.asarray(pixels, np.uint8)).save(place / "A_1_seg.png")
    document = {"annotation": {"object": OBJECTS}} if document is None else document
    (place / "A_1.json").write_bytes(msgspec.json.encode(document))
    (place / "A_1_atr.txt").write_text(text)
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**{"folder": "images/training", **options}), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_pixel_names_its_class_and_its_object(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path))

    assert rejected == []
    assert (found.key, found.images[0].path) == (
        "urban/street/A_1",
        "images/training/urban/street/A_1.jpg",
    )
    assert {(item.id, item.category, item.box, item.ignore) for item in found.instances} == {
        ("ignored", None, (2, 0, 3, 2), True),
        ("7.64", "sky", (0, 1, 1, 2), False),
        ("312.128", "building", (1, 0, 2, 1), False),
        ("312.255", "building", (0, 0, 2, 2), False),
    }
    assert not found.exhaustive


def test_a_class_is_all_its_pixels_where_the_view_is_of_classes(tmp_path: Path) -> None:
    (found,), _ = _split(_folder(tmp_path), view="classes")

    areas = {item.category: rle_area(item.mask) for item in found.instances if item.mask}
    assert areas == {None: 2, "sky": 1, "building": 3}


def test_text_of_2017_names_objects_by_their_number(tmp_path: Path) -> None:
    text = (
        '255 # 0 # 0 # building, edifice # building # ""\n'
        '128 # 0 # 1 # building, edifice # building # ""\n'
        '064 # 0 # 0 # sky # sky # ""\n'
        '064 # 1 # 0 # door # door # ""\n\n'
    )

    (found,), _ = _split(_folder(tmp_path, text=text), names="text")

    assert sorted(str(item.category) for item in found.instances) == ["None", "building", "building", "sky"]


def test_names_may_be_latin_1(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    data = msgspec.json.encode(
        {"annotation": {"object": [{"name": "caf\u00e9, bar", "name_ndx": 312}, OBJECTS[1]]}}
    )
    path = tmp_path / "images/training/urban/street/A_1.json"
    path.write_bytes(data.decode().encode("latin-1"))

    (found,), _ = _split(root)

    assert "caf\u00e9" in {item.category for item in found.instances}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"annotation": {"object": OBJECTS[:1]}}, "category.unknown"),
        ({"annotation": {"object": [{"name": 3, "name_ndx": 7}]}}, "schema"),
        ([], "schema"),
    ],
)
def test_names_that_do_not_cover_the_map_reject_the_picture(
    tmp_path: Path, document: Any, reason: str
) -> None:
    found, (rejected,) = _split(_folder(tmp_path, document=document))

    assert found == []
    assert (rejected.key, rejected.reason) == ("urban/street/A_1", reason)


@pytest.mark.parametrize("text", ["255 building\n", "x # 0 # 0 # a # b # c\n"])
def test_a_line_that_names_nothing_rejects_the_picture(tmp_path: Path, text: str) -> None:
    _, (rejected,) = _split(_folder(tmp_path, text=text), names="text")

    assert rejected.reason == "schema"


def test_a_map_of_one_channel_is_none(tmp_path: Path) -> None:
    _, (rejected,) = _split(_folder(tmp_path, pixels=[[1, 2]]))

    assert rejected.reason == "map.encoding"


def test_missing_names_reject_the_picture_and_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    (tmp_path / "images/training/urban/street/A_1.json").unlink()

    _, (rejected,) = _split(root)

    assert rejected.reason == "map.missing"
    with pytest.raises(SourceError, match=r"source\.folder"):
        _split(root, folder="images/validation")


def test_a_real_street(samples: Samples) -> None:
    root = samples("ade20k_full")

    (found,), rejected = _split(root, folder="ADE20K_2021_17_01/images/ADE/training")

    assert rejected == []
    assert found.key == "urban/street/ADE_train_00016964"
    buildings = [item for item in found.instances if item.category == "building"]
    assert buildings
    # The first building of the JSON spans x 11 to 499 and y 6 to 1367, wherever nothing hides it.
    assert any(item.box is not None and item.box[0] <= 20 and item.box[1] <= 10 for item in buildings)


def test_the_layout_of_2017(samples: Samples) -> None:
    found, rejected = _split(samples("fmt_ade20k2017"), folder="dataset", names="text")

    assert rejected == []
    assert [sorted(str(item.category) for item in one.instances) for one in found] == [
        ["None", "person", "sky"],
        ["None", "person", "sky"],
    ]
