from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.soda import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_area

Samples = Callable[[str], Root]
PLANE = {"poly": [10.0, 0.0, 20.0, 10.0, 10.0, 20.0, 0.0, 10.0], "category_id": 0, "id": 1, "area": 1.0}
CATEGORIES = [{"id": 9, "name": "ignore"}, {"id": 1, "name": "ship"}, {"id": 0, "name": "airplane"}]


def _folder(folder: Path, *records: Any, **more: Any) -> Root:
    (folder / "train").mkdir(exist_ok=True)
    images = {"file_name": "00001.jpg", "width": 40, "height": 30, "id": 1}
    document = {"images": images, "annotations": records, "categories": CATEGORIES, **more}
    (folder / "train" / "00001.json").write_text(json.dumps(document))
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**{"annotations": "train", "images": "Images", **options}), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_poly_is_a_turned_object(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, PLANE))

    (item,) = found.instances
    assert rejected == []
    assert (found.key, found.images[0].path, found.images[0].width) == ("00001", "Images/00001.jpg", 40)
    assert (item.category, item.box) == ("airplane", (0, 0, 20, 20))
    assert item.quad == (10, 0, 20, 10, 10, 20, 0, 10)
    assert item.mask is not None and rle_area(item.mask) == pytest.approx(200, abs=25)


def test_an_ignored_region_is_neither_object_nor_label(tmp_path: Path) -> None:
    root = _folder(tmp_path, {**PLANE, "category_id": 9})

    (found,), rejected = _split(root)

    (item,) = found.instances
    assert rejected == []
    assert (item.category, item.ignore, item.box, found.exhaustive) == (None, True, (0, 0, 20, 20), True)
    assert labels(Source(annotations="train"), root).names == ("airplane", "ship")


@pytest.mark.parametrize(
    ("changes", "reason", "exhaustive"),
    [
        ({"category_id": 5}, "category.unknown", False),
        ({"category_id": "0"}, "schema", False),
        ({"poly": [1, 2, 3, 4]}, "polygon.invalid", True),
        ({"poly": [1, 2, 3, 4, 5, 1e30]}, "polygon.invalid", True),
        ({"poly": [1, 2, 3, 4, 5, float("nan")]}, "schema", False),
        ({"poly": "here"}, "schema", False),
    ],
)
def test_a_defective_object_is_rejected_and_ignored(
    tmp_path: Path, changes: dict[str, Any], reason: str, exhaustive: bool
) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, PLANE, {**PLANE, **changes}))

    assert (rejected.key, rejected.reason) == ("00001.annotations[1]", reason)
    assert [item.ignore for item in found.instances] == [False, True]
    assert found.exhaustive == exhaustive


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": []}', "\xff"])
def test_a_file_that_is_another_costs_no_other(tmp_path: Path, text: str) -> None:
    root = _folder(tmp_path, PLANE)
    (tmp_path / "train" / "00000.json").write_bytes(text.encode("latin-1"))

    (found,), (rejected,) = _split(root)

    assert (found.key, rejected.key, rejected.reason) == ("00001", "00000", "schema")
    assert labels(Source(annotations="train"), root).names == ("airplane", "ship")


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.annotations"):
        _split(Root(tmp_path))


def test_a_made_tree_of_torchgeo(samples: Samples) -> None:
    root = samples("fmt_soda_a")

    found, rejected = _split(root, annotations="Annotations/train")

    assert rejected == []
    assert [item.category for item in found[0].instances] == [
        "storage-tank", "helicopter", "swimming-pool", "ship",
    ]  # fmt: skip
    assert found[0].instances[0].box == (12, 17, 18, 25)
    assert labels(Source(annotations="Annotations/train"), root).names == (
        "airplane", "helicopter", "small-vehicle", "large-vehicle", "ship", "container", "storage-tank",
        "swimming-pool", "windmill",
    )  # fmt: skip
