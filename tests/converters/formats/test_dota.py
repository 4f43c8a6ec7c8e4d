from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from converters.formats.dota import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_area

Samples = Callable[[str], Root]
PLANE = "10 0 20 10 10 20 0 10 plane 0"


def _folder(folder: Path, **files: str | bytes) -> Root:
    (folder / "labelTxt").mkdir()
    (folder / "images").mkdir()
    for stem, text in files.items():
        (folder / "labelTxt" / f"{stem}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
        Image.new("RGB", (40, 30)).save(folder / "images" / f"{stem}.png")
    return Root(folder)


def _source(**options: Any) -> Source:
    return msgspec.convert(options, Source)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(_source(**options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_line_is_a_turned_object_with_its_upright_box_and_pixels(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, P1=PLANE))

    (item,) = found.instances
    assert rejected == []
    assert (found.key, found.images[0].path) == ("P1", "images/P1.png")
    assert (item.category, item.box, item.difficult) == ("plane", (0, 0, 20, 20), False)
    assert item.quad == (10, 0, 20, 10, 10, 20, 0, 10)
    assert item.mask is not None and item.mask.size == (30, 40)
    assert rle_area(item.mask) == pytest.approx(200, abs=25)


def test_header_lines_and_blank_lines_are_no_objects(tmp_path: Path) -> None:
    text = f"\ufeffimagesource:GoogleEarth\r\ngsd:null\r\n\r\n{PLANE}\r\n"

    (found,), rejected = _split(_folder(tmp_path, a=text))

    assert rejected == []
    assert [item.id for item in found.instances] == ["4"]


@pytest.mark.parametrize(
    ("ending", "name", "difficult"),
    [
        ("large-vehicle 0", "large-vehicle", False),
        ("plane 1", "plane", True),
        ("plane 2", "plane", True),
        ("plane", "plane", False),
        ("storage tank 1", "storage tank", True),
        ("A220 0", "A220", False),
        ("747", "747", False),
    ],
)
def test_a_category_may_have_blanks_and_the_flag_may_be_missing(
    tmp_path: Path, ending: str, name: str, difficult: bool
) -> None:
    (found,), rejected = _split(_folder(tmp_path, a=f"10 0 20 10 10 20 0 10 {ending}"))

    assert rejected == []
    assert [(item.category, item.difficult) for item in found.instances] == [(name, difficult)]


def test_the_labels_are_those_declared_or_those_that_occur(tmp_path: Path) -> None:
    root = _folder(tmp_path, a=PLANE, b=PLANE.replace("plane", "harbor") + "\nbroken")

    assert labels(_source(), root).names == ("harbor", "plane")
    assert labels(_source(labels=["ship", "plane"]), root).names == ("ship", "plane")


@pytest.mark.parametrize(
    ("line", "reason", "category"),
    [
        ("10 0 20 10 10 20 0", "schema", None),
        ("10 0 20 10 10 20 0 10", "schema", None),
        ("10 0 20 10 10 20 0 ten plane 0", "schema", "plane"),
        ("10 0 20 10 10 20 0 nan plane 0", "polygon.invalid", "plane"),
        ("10 0 20 10 10 20 0 -inf plane 0", "polygon.invalid", "plane"),
        ("10 0 20 10 10 20 0 1e9 plane 0", "polygon.invalid", "plane"),
        ("10 0 20 10 10 20 0 10 boat 0", "category.unknown", None),
    ],
)
def test_a_line_that_is_no_object_is_rejected_and_ignored(
    tmp_path: Path, line: str, reason: str, category: str | None
) -> None:
    root = _folder(tmp_path, a=f"{PLANE}\n{line}")

    (found,), (rejected,) = _split(root, labels=["plane"])

    assert (rejected.key, rejected.reason, rejected.origin.record) == ("a.line 2", reason, "line 2")
    assert [(item.category, item.ignore) for item in found.instances] == [("plane", False), (category, True)]
    assert found.exhaustive == (category is not None)


def test_bytes_that_are_no_text_cost_their_line_alone(tmp_path: Path) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, a=b"\xff\xfe\xff\n" + PLANE.encode()))

    assert rejected.reason == "schema"
    assert [item.ignore for item in found.instances] == [True, False]


def test_corners_beyond_the_picture_stay_as_the_source_says(tmp_path: Path) -> None:
    (found,), _ = _split(_folder(tmp_path, a="-10 0 20 0 20 20 -10 20 plane 0"))

    (item,) = found.instances
    assert item.box == (-10, 0, 20, 20)
    assert item.mask is not None and rle_area(item.mask) == 400


def test_an_empty_file_is_a_picture_without_objects(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, a=""))

    assert (found.instances, found.exhaustive, rejected) == ((), True, [])


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.annotations"):
        _split(_folder(tmp_path))


@given(data=st.binary(max_size=80))
@settings(deadline=None, max_examples=60)
def test_no_line_of_any_bytes_raises(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    root = _folder(tmp_path_factory.mktemp("x"), a=PLANE.encode() + b"\n" + data)

    (found,), rejected = _split(root)

    assert found.instances[0].category == "plane"
    assert len(rejected) == sum(item.ignore for item in found.instances)


def test_real_files_of_version_1(samples: Samples) -> None:
    found, rejected = _split(samples("dota_v1"))

    items = [item for one in found for item in one.instances]
    assert rejected == []
    assert len(found) == 6
    assert (len(items), sum(item.difficult for item in items)) == (448, 61)
    assert all((item.mask is None) == (one.key != "P1888") for one in found for item in one.instances)


def test_a_made_tree_of_datumaro(samples: Samples) -> None:
    found, rejected = _split(
        samples("fmt_dota"), annotations="train/labelTxt", images="train/images", extensions=["jpg"]
    )

    assert rejected == []
    assert [item.category for one in found for item in one.instances]
