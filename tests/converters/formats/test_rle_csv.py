from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image as Pillow

from converters.formats.rle_csv import Source, labels, read
from dataengine.annotation import Annotation, Instance, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import mask_from_rle

ONE: dict[str, Any] = {"annotations": "train.csv", "images": "images", "category": "hole"}


def _split(folder: Path, rows: str, head: str = "ImageId, EncodedPixels", **options: Any) -> Any:
    """Read a table about a.png, 4 pixels wide and 3 high."""
    (folder / "images").mkdir()
    Pillow.new("L", (4, 3)).save(folder / "images/a.png")
    (folder / "train.csv").write_text(f"{head}\n{rows}")
    found = list(read(msgspec.convert({**ONE, **options}, Source), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def _mask(item: Instance) -> list[list[int]]:
    assert item.mask is not None
    rows: list[list[int]] = mask_from_rle(item.mask).tolist()
    return rows


def test_runs_go_down_the_columns_from_pixel_1(tmp_path: Path) -> None:
    (found,), rejected = _split(tmp_path, "a,1 1 6 2\n")

    assert rejected == []
    assert (found.key, found.images[0].path, found.exhaustive) == ("a", "images/a.png", True)
    (item,) = found.instances
    assert _mask(item) == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert (item.category, item.box) == ("hole", (0, 0, 3, 3))


def test_runs_may_go_along_the_rows(tmp_path: Path) -> None:
    (found,), _ = _split(tmp_path, "a,1 1 6 2\n", order="rows")

    assert _mask(found.instances[0]) == [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_relative_starts_count_from_the_end_of_the_run_before(tmp_path: Path) -> None:
    (found,), _ = _split(tmp_path, "a,1 2 3 1\n", coding="relative")

    # Pixels 1 and 2 (from 0), then three that are not, then pixel 6.
    assert _mask(found.instances[0]) == [[0, 0, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]]


def test_rows_of_a_picture_are_its_objects_and_an_empty_one_says_there_is_none(tmp_path: Path) -> None:
    rows = "a,2,1 1\nb,1,\na,1,2 1\na,3,\n"

    (found,), (missing,) = _split(
        tmp_path,
        rows,
        "image,class,rle",
        image="image",
        code="rle",
        category=None,
        names={"1": "scratch", "2": "pit", "3": "hole"},
        **{"class": "class"},
    )

    assert [(item.category, item.id) for item in found.instances] == [
        ("pit", "line 2"),
        ("scratch", "line 4"),
    ]
    assert (missing.key, missing.reason) == ("b", "image.missing")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("1 1 2", "schema"),
        ("one two", "schema"),
        ("1 -1", "schema"),
        ("0 1", "rle.size_mismatch"),
        ("12 2", "rle.size_mismatch"),
        ("1 3 2 1", "rle.size_mismatch"),
        (f"1 {2**62} 1 {2**62}", "rle.size_mismatch"),
    ],
)
def test_a_code_that_cannot_be_is_rejected_and_its_object_ignored(
    tmp_path: Path, code: str, reason: str
) -> None:
    (found,), (rejected,) = _split(tmp_path, f"a,{code}\na,5 1\n")

    assert rejected.reason == reason
    assert [(item.category, item.ignore) for item in found.instances] == [("hole", True), ("hole", False)]


def test_a_table_without_the_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no column 'EncodedPixels'"):
        _split(tmp_path, "a,1\n", "ImageId,rle")


def test_a_header_that_is_a_novel_is_not_told_whole(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no column") as caught:
        _split(tmp_path, "a,1\n", "ImageId," + "x" * 100_000)

    assert len(str(caught.value)) < 1000


def test_classes_are_one_or_a_column_of_named_ones() -> None:
    named = {"annotations": "a", "class": "c", "names": {"1": "x", "2": "y", "3": "x"}}
    with pytest.raises(msgspec.ValidationError, match="expected either"):
        msgspec.convert({**ONE, "class": "c"}, Source)
    with pytest.raises(msgspec.ValidationError, match="names: missing"):
        msgspec.convert({"annotations": "a", "class": "c"}, Source)

    assert labels(msgspec.convert(named, Source), Root(Path())).names == ("x", "y")
