from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image as Pillow

from converters.formats.pixel_arrays import Source, labels, prepare, read, recognise
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.listing import Fit, Listing

Found = tuple[list[Annotation], list[Rejected]]


def _split(folder: Path, **options: Any) -> Found:
    source = msgspec.convert(options, Source)
    prepare(source, folder)
    found = list(read(source, Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def _pixels(folder: Path, item: Annotation) -> Any:
    image = item.images[0]
    with Pillow.open(folder / image.path) as picture:
        assert picture.size == (image.width, image.height)
        return np.asarray(picture).tolist()


def _idx(folder: Path, pictures: Any, answers: list[int], promised: int | None = None) -> dict[str, Any]:
    stored = np.asarray(pictures, np.uint8)
    count, height, width = stored.shape
    head = struct.pack(">BBBB3I", 0, 0, 8, 3, promised or count, height, width)
    (folder / "t-images-idx3-ubyte").write_bytes(head + stored.tobytes())
    (folder / "t-labels-idx1-ubyte").write_bytes(
        struct.pack(">BBBBI", 0, 0, 8, 1, len(answers)) + bytes(answers)
    )
    return {
        "layout": "idx",
        "pictures": "t-images-idx3-ubyte",
        "answers": "t-labels-idx1-ubyte",
        "classes": ["zero", "one"],
    }


ROWS = [[[0, 1, 2], [3, 4, 5]], [[9, 8, 7], [6, 5, 4]]]


def test_idx_pictures_are_rows_of_bytes(tmp_path: Path) -> None:
    (first, second), rejected = _split(tmp_path, **_idx(tmp_path, ROWS, [1, 0]))

    assert rejected == []
    assert (first.key, first.labels, first.exhaustive) == ("t-images-idx3-ubyte.0", ("one",), False)
    assert second.labels == ("zero",)
    assert [_pixels(tmp_path, item) for item in (first, second)] == ROWS


def test_transposed_pictures_are_turned_back(tmp_path: Path) -> None:
    (first, _), _ = _split(tmp_path, **_idx(tmp_path, ROWS, [1, 0]), transposed=True)

    assert _pixels(tmp_path, first) == [[0, 3], [1, 4], [2, 5]]


def test_a_header_that_promises_more_is_said_and_costs_nothing_else(tmp_path: Path) -> None:
    found, (rejected,) = _split(tmp_path, **_idx(tmp_path, ROWS, [1, 0], promised=70000))

    assert len(found) == 2
    assert (rejected.reason, rejected.origin.record) == ("schema", "header")
    assert "promises 70000, and the file holds 2" in rejected.detail


@pytest.mark.parametrize(
    ("answers", "reason", "kept"),
    [([1], "label.missing", 1), ([1, 0, 1], "id.orphan", 2), ([1, 7], "category.unknown", 1)],
)
def test_answers_and_pictures_are_all_accounted_for(
    tmp_path: Path, answers: list[int], reason: str, kept: int
) -> None:
    found, rejected = _split(tmp_path, **_idx(tmp_path, ROWS, answers))

    assert (len(found), [item.reason for item in rejected]) == (kept, [reason])


def test_classes_may_count_from_one(tmp_path: Path) -> None:
    (first, second), _ = _split(tmp_path, **_idx(tmp_path, ROWS, [1, 2]), first=1)

    assert (first.labels, second.labels) == (("zero",), ("one",))


def test_pictures_stay_a_torn_one_is_mended_and_another_in_their_place_stops_all(tmp_path: Path) -> None:
    options = _idx(tmp_path, ROWS, [1, 0])
    (first, _), _ = _split(tmp_path, **options)
    file = tmp_path / first.images[0].path
    before = file.stat().st_mtime_ns

    _split(tmp_path, **options)
    assert file.stat().st_mtime_ns == before

    file.write_bytes(file.read_bytes()[:30])
    _split(tmp_path, **options)
    assert _pixels(tmp_path, first) == ROWS[0]

    Pillow.new("L", (3, 2), 77).save(file)
    with pytest.raises(SourceError, match="is not the picture of"):
        _split(tmp_path, **options)


def _cifar(folder: Path, batch: dict[Any, Any], protocol: int = 2) -> dict[str, Any]:
    (folder / "batch").write_bytes(pickle.dumps(batch, protocol))
    (folder / "meta").write_bytes(pickle.dumps({"label_names": ["cat", "dog"]}))
    return {"layout": "cifar", "pictures": ["batch"], "answers": "labels", "classes": "meta"}


def test_a_cifar_row_is_all_red_then_all_green_then_all_blue(tmp_path: Path) -> None:
    row = np.concatenate([np.full(1024, 250), np.arange(1024) % 251, np.full(1024, 3)]).astype(np.uint8)
    options = _cifar(tmp_path, {"data": row[None], "labels": [1], "batch_label": "b"})

    (found,), rejected = _split(tmp_path, **options)

    assert (rejected, found.labels) == ([], ("dog",))
    pixels = _pixels(tmp_path, found)
    assert (len(pixels), len(pixels[0])) == (32, 32)
    # Row 1, column 2 is number 34 of each plane.
    assert pixels[1][2] == [250, 34, 3]
    assert labels(msgspec.convert(options, Source), Root(tmp_path)).names == ("cat", "dog")


def test_a_row_of_another_length_costs_its_own_record_alone(tmp_path: Path) -> None:
    rows = np.empty(2, dtype=object)
    rows[0], rows[1] = np.zeros(7, np.uint8), np.arange(6, dtype=np.uint8)
    options = _cifar(tmp_path, {"data": rows, "labels": [0, 1], "image_sizes": [(2, 2), (2, 3)]})

    (found,), (rejected,) = _split(tmp_path, **options)

    assert _pixels(tmp_path, found) == [[0, 1, 2], [3, 4, 5]]
    assert (rejected.reason, rejected.key) == ("image.corrupt", "batch.0")


def _npz(folder: Path, **arrays: Any) -> dict[str, Any]:
    np.savez(folder / "m.npz", **arrays)
    return {
        "layout": "npz",
        "pictures": "m.npz",
        "pixels": "val_images",
        "answers": "val_labels",
        "classes": ["a", "b"],
    }


def test_npz_pictures_are_grey_or_in_colour(tmp_path: Path) -> None:
    grey, colour = np.arange(8, dtype=np.uint8).reshape(2, 2, 2), np.zeros((1, 2, 2, 3), np.uint8)
    colour[0, 0, 1] = (1, 2, 3)

    (first, second), rejected = _split(
        tmp_path, **_npz(tmp_path, val_images=grey, val_labels=[[1], [0]]), to="grey"
    )
    (third,), _ = _split(tmp_path, **_npz(tmp_path, val_images=colour, val_labels=[[1]]), to="colour")

    assert (rejected, first.labels, second.labels) == ([], ("b",), ("a",))
    assert _pixels(tmp_path, second) == [[4, 5], [6, 7]]
    assert _pixels(tmp_path, third)[0][1] == [1, 2, 3]
    assert first.images[0].path == "grey/m-val_images/000000.png"


def test_several_columns_of_0_and_1_are_several_classes_and_the_others_absent(tmp_path: Path) -> None:
    pictures = np.zeros((3, 2, 2), np.uint8)

    found, _ = _split(tmp_path, **_npz(tmp_path, val_images=pictures, val_labels=[[1, 1], [0, 0], [0, 1]]))

    assert [item.labels for item in found] == [("a", "b"), (), ("b",)]
    assert all(item.exhaustive for item in found)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"val_images": np.zeros((1, 2, 2), np.uint8)}, "no 'val_labels'"),
        ({"val_images": np.zeros((1, 2, 2)), "val_labels": [0]}, "expected bytes"),
        ({"val_images": np.zeros((1, 2, 2, 2, 3), np.uint8), "val_labels": [0]}, "flat pictures"),
        ({"val_images": np.array([{}], dtype=object), "val_labels": [0]}, "arrays of numbers"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    with pytest.raises(SourceError, match=says):
        _split(tmp_path, **_npz(tmp_path, **arrays))


def test_a_table_has_its_class_first(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("label,p0,p1,p2,p3\n1,0,1,2,3\n0,9,9,9,9\n1,1,2,3\n0,1,2,3,256\n")

    found, rejected = _split(tmp_path, layout="csv", pictures="m.csv", classes=["a", "b"])

    assert [item.labels for item in found] == [("b",), ("a",)]
    assert _pixels(tmp_path, found[0]) == [[0, 1], [2, 3]]
    assert [(item.reason, item.origin.record) for item in rejected] == [
        ("image.corrupt", "line 4"),
        ("image.corrupt", "line 5"),
    ]


def test_a_column_may_hold_all_pixels(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("emotion,pixels,Usage\n0,1 2 3 4,Training\n1,5 6 7 8,PublicTest\n")

    (found,), (left_out,) = _split(
        tmp_path,
        layout="csv",
        pictures="f.csv",
        classes=["angry", "sad"],
        answers="emotion",
        pixels="pixels",
        where={"Usage": "PublicTest"},
    )

    assert (found.labels, _pixels(tmp_path, found)) == (("sad",), [[5, 6], [7, 8]])
    assert left_out.reason == "where.filtered"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layout": "idx"}, "answers: missing"),
        ({"layout": "npz", "answers": "a"}, "pixels: missing"),
        ({"layout": "csv", "pixels": "p"}, "needs both"),
        ({"layout": "csv", "where": {"a": "b"}}, "where"),
    ],
)
def test_a_spec_that_cannot_be_read_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=says):
        msgspec.convert({"pictures": "p", "classes": ["a"], **options}, Source)


def test_idx_files_are_recognised_by_their_names_in_pairs(tmp_path: Path) -> None:
    _idx(tmp_path, ROWS, [1, 0])
    (tmp_path / "lonely-images-idx3-ubyte").write_bytes(b"")

    fit = recognise(Listing(Root(tmp_path)))

    assert isinstance(fit, Fit)
    (keys,) = fit.splits.values()
    assert (keys["pictures"], keys["answers"]) == ("t-images-idx3-ubyte", "t-labels-idx1-ubyte")
    assert len(list(read(msgspec.convert(keys, Source), Root(tmp_path)))) == 2
    (tmp_path / "t-labels-idx1-ubyte").unlink()
    assert isinstance(recognise(Listing(Root(tmp_path))), str)
