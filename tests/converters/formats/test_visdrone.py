from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from converters.formats.visdrone import CATEGORIES, Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root


def _split(folder: Path, text: str | bytes, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    (folder / "annotations").mkdir(exist_ok=True)
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "annotations" / "000.txt").write_bytes(data)
    found = list(read(Source(**options), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_row_is_left_top_width_height_and_a_class_from_one(tmp_path: Path) -> None:
    (found,), rejected = _split(tmp_path, "684,8,273,116,1,1,0,0\n406,119,265,70,1,10,1,2,\n")

    assert rejected == []
    assert (found.key, found.images[0].path) == ("000", "images/000.jpg")
    assert [(item.category, item.box) for item in found.instances] == [
        ("pedestrian", (684, 8, 957, 124)),
        ("motor", (406, 119, 671, 189)),
    ]
    assert found.instances[1].attributes == {"truncation": "1", "occlusion": "2"}
    assert found.exhaustive
    assert labels(Source(), Root(tmp_path)).names == CATEGORIES


def test_regions_that_do_not_count_are_ignored_for_every_class(tmp_path: Path) -> None:
    (found,), _ = _split(tmp_path, "1,2,3,4,0,0,0,0\n1,2,3,4,1,11,0,0\n1,2,3,4,0,4,0,0\n")

    assert len(found.instances) == 10 + 10 + 1
    assert all(item.ignore for item in found.instances)
    assert [item.category for item in found.instances] == [*CATEGORIES, *CATEGORIES, "car"]
    assert len({item.id for item in found.instances}) == 21
    assert {item.box for item in found.instances} == {(1, 2, 4, 6)}


@pytest.mark.parametrize(
    ("line", "reason", "known"),
    [
        ("1,2,3,4,1,12,0,0", "category.unknown", False),
        ("1,2,3,4,1,-1,0,0", "category.unknown", False),
        ("1,2,3,4,1,4.5,0,0", "schema", False),
        ("1,2,3,4,1,4,0", "schema", False),
        ("1,2,x,4,1,4,0,0", "schema", True),
        ("1,2,inf,4,1,4,0,0", "box.nonfinite", True),
        ("1,2,3,4,x,4,0,0", "schema", True),
        (b"\xff\xfe", "schema", False),
    ],
)
def test_a_defective_row_is_rejected_and_leaves_an_ignored_object(
    tmp_path: Path, line: str | bytes, reason: str, known: bool
) -> None:
    data = line if isinstance(line, bytes) else line.encode()

    (found,), rejected = _split(tmp_path, b"1,2,3,4,1,1,0,0\n" + data)

    assert [(item.key, item.reason) for item in rejected] == [("000.2", reason)]
    assert [(item.category, item.ignore) for item in found.instances] == [
        ("pedestrian", False),
        ("car" if known else None, True),
    ]
    assert found.exhaustive == known


def test_a_list_and_what_it_names_in_vain(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("gone\n000\n000\n")

    found, rejected = _split(tmp_path, "", image_set="val.txt")

    assert [(item.key, item.instances) for item in found] == [("000", ())]
    assert [(item.key, item.reason) for item in rejected] == [("gone", "id.orphan"), ("000", "id.duplicate")]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.annotations"):
        list(read(Source(), Root(tmp_path)))
