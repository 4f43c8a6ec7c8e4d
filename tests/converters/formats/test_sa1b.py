from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.sa1b import Source, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_area, rle_from_polygons

RLE = rle_from_polygons([[1, 1, 4, 1, 4, 3, 1, 3]], 10, 8)
MASK = {
    "id": 7,
    "segmentation": {"size": [8, 10], "counts": RLE.counts},
    "bbox": [1.0, 1.0, 3.0, 2.0],
    "area": 6,
    "predicted_iou": 0.9,
    "stability_score": 0.96,
    "point_coords": [[2.0, 2.0]],
}


def _folder(folder: Path, *masks: Any, **image: Any) -> Root:
    (folder / "sa_000020").mkdir()
    stated = {"image_id": 3, "width": 10, "height": 8, "file_name": "sa_3.jpg"} | image
    text = json.dumps({"image": stated, "annotations": masks})
    (folder / "sa_000020" / "sa_3.json").write_text(text)
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_mask_is_an_object_of_no_class(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, MASK))

    assert rejected == []
    assert (found.key, found.images[0].path) == ("sa_000020/sa_3", "sa_000020/sa_3.jpg")
    assert (found.images[0].width, found.images[0].height) == (10, 8)
    (item,) = found.instances
    assert (item.id, item.category, item.box) == ("7", None, (1, 1, 4, 3))
    assert item.mask is not None
    assert rle_area(item.mask) == 6
    assert item.attributes == {"predicted_iou": "0.9000", "stability_score": "0.9600"}
    assert not found.exhaustive


def test_a_poor_mask_can_be_ignored(tmp_path: Path) -> None:
    root = _folder(tmp_path, MASK, {**MASK, "id": 8, "stability_score": None, "predicted_iou": 0.99})

    for options, ignored in (
        ({}, [False, False]),
        ({"min_iou": 0.95}, [True, False]),
        ({"min_stability": 0.97}, [True, False]),
    ):
        (found,), _ = _split(root, **options)
        assert [item.ignore for item in found.instances] == ignored


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        ("a mask", "schema"),
        ({**MASK, "id": 9, "bbox": [1, 2, 3]}, "schema"),
        ({**MASK, "id": 9, "segmentation": {"size": [10, 8], "counts": RLE.counts}}, "rle.size_mismatch"),
        ({**MASK, "id": 9, "segmentation": {"size": [8, 10], "counts": "b1"}}, "rle.size_mismatch"),
        ({**MASK, "id": 9, "segmentation": {"size": [8, 10], "counts": "é"}}, "rle.size_mismatch"),
        ({**MASK, "id": 9, "segmentation": [[1, 1, 2, 2, 3, 1]]}, "schema"),
        (MASK, "id.duplicate"),
    ],
)
def test_a_defective_mask_is_rejected_and_stays_ignored(tmp_path: Path, mask: Any, reason: str) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, MASK, mask))

    assert (rejected.reason, rejected.origin.record) == (reason, "annotations[1]")
    assert rejected.key == "sa_000020/sa_3.annotations[1]"
    assert [item.ignore for item in found.instances] == [False, True]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ({"width": 0}, "schema"),
        ({"height": 10**30}, "schema"),
        ({"width": "10"}, "schema"),
        ({"file_name": ".."}, "path.invalid"),
    ],
)
def test_a_file_without_a_usable_picture_is_rejected(tmp_path: Path, image: Any, reason: str) -> None:
    found, (rejected,) = _split(_folder(tmp_path, MASK, **image))

    assert found == []
    assert (rejected.key, rejected.reason) == ("sa_000020/sa_3", reason)


def test_the_picture_lies_beside_its_file_whatever_the_name_says(tmp_path: Path) -> None:
    (found,), _ = _split(_folder(tmp_path, MASK, file_name="../../etc/sa_3.jpg"))

    assert found.images[0].path == "sa_000020/sa_3.jpg"


def test_a_torn_file_costs_no_other(tmp_path: Path) -> None:
    root = _folder(tmp_path, MASK)
    (tmp_path / "sa_000020" / "sa_1.json").write_text('{"image": {')

    (found,), (rejected,) = _split(root)

    assert found.key == "sa_000020/sa_3"
    assert (rejected.key, rejected.reason) == ("sa_000020/sa_1", "schema")


def test_a_pattern_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.annotations"):
        _split(_folder(tmp_path, MASK), annotations="sa_000021/*.json")


def test_real_layout_reads(samples: Callable[[str], Root]) -> None:
    found, rejected = _split(samples("fmt_segment_anything"))

    assert [len(item.instances) for item in found] == [1, 1]
    assert found[0].instances[0].box == (3, 1, 4, 5)
    assert [item.reason for item in rejected] == ["rle.size_mismatch"]
