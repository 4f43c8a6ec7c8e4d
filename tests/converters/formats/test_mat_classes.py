from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from converters.formats.mat_classes import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

CARS: dict[str, Any] = {
    "annotations": "cars.mat",
    "rows": "annotations",
    "names": "meta.mat",
    "images": "cars_train",
}


def _cells(*names: str) -> Any:
    cells = np.empty((len(names), 1), dtype=object)
    for number, name in enumerate(names):
        cells[number, 0] = name
    return cells


def _cars(folder: Path, *rows: tuple[Any, ...]) -> Root:
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    array = np.zeros((1, len(rows)), dtype=[(name, object) for name in fields])
    for number, row in enumerate(rows):
        array[0, number] = row
    scipy.io.savemat(folder / "cars.mat", {"annotations": array})
    scipy.io.savemat(folder / "meta.mat", {"class_names": _cells("AM General", "Audi TT")})
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_cars_have_a_class_and_a_box_that_counts_from_one(tmp_path: Path) -> None:
    root = _cars(tmp_path, (39, 116, 569, 375, 2, "00001.jpg"))

    (found,), rejected = _split(root, **CARS)

    assert rejected == []
    assert (found.key, found.labels, found.images[0].path) == (
        "00001.jpg",
        ("Audi TT",),
        "cars_train/00001.jpg",
    )
    (car,) = found.instances
    assert (car.category, car.box) == ("Audi TT", (38, 115, 569, 375))
    assert found.exhaustive
    assert labels(Source(**CARS), root).names == ("AM General", "Audi TT")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((1, 1, 5, 5, 3, "b.jpg"), "category.unknown"),
        ((1, 1, 5, 5, 0, "b.jpg"), "category.unknown"),
        ((1, 1, 5, 5, "x", "b.jpg"), "category.unknown"),
        ((1, 1, 5, "x", 1, "b.jpg"), "schema"),
        ((1, 1, 5, 5, 1, 7), "schema"),
        ((1, 1, 5, 5, 1, "a.jpg"), "id.duplicate"),
    ],
)
def test_a_defective_row_costs_no_other(tmp_path: Path, row: tuple[Any, ...], reason: str) -> None:
    found, (rejected,) = _split(_cars(tmp_path, (1, 1, 5, 5, 1, "a.jpg"), row), **CARS)

    assert [item.key for item in found] == ["a.jpg"]
    assert (rejected.reason, rejected.origin.record) == (reason, "row 2")


def test_flowers_are_numbered_and_a_split_lists_numbers(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "labels.mat", {"labels": np.array([[2, 1, 2]], dtype=np.uint8)})
    scipy.io.savemat(tmp_path / "setid.mat", {"trnid": np.array([[3, 1]], dtype=np.uint16)})
    options: dict[str, Any] = {
        "annotations": "labels.mat",
        "numbered": "image_{:05d}.jpg",
        "ids": "setid.mat",
        "ids_of": "trnid",
        "labels": ("rose", "lily"),
    }

    found, (rejected,) = _split(Root(tmp_path), **options)

    assert [(item.key, item.labels) for item in found] == [
        ("image_00001.jpg", ("lily",)),
        ("image_00003.jpg", ("lily",)),
    ]
    assert (rejected.key, rejected.reason) == ("row 2", "split.other")
    assert not found[0].exhaustive
    assert found[0].instances == ()


def test_dogs_lie_in_the_folder_of_their_breed(tmp_path: Path) -> None:
    files = _cells("n02-Shih-Tzu/a.jpg", "n01-Chihuahua/b.jpg", "c.jpg")
    scipy.io.savemat(tmp_path / "list.mat", {"file_list": files, "labels": np.array([[2.0], [1.0], [3.0]])})
    options: dict[str, Any] = {"annotations": "list.mat", "files": "file_list"}

    found, (rejected,) = _split(Root(tmp_path), **options)

    assert [item.labels for item in found] == [("Shih-Tzu",), ("Chihuahua",)]
    assert (rejected.key, rejected.reason) == ("c.jpg", "label.missing")
    assert labels(Source(**options), Root(tmp_path)).names == ("Chihuahua", "Shih-Tzu")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"file_list": "a.jpg"}, "no variable 'labels'"),
        ({"labels": [1]}, "no variable 'file_list'"),
        ({"labels": [1, 2], "file_list": "a.jpg"}, "expected as many"),
    ],
)
def test_variables_that_do_not_fit_are_an_error(tmp_path: Path, content: dict[str, Any], says: str) -> None:
    scipy.io.savemat(tmp_path / "list.mat", content)

    with pytest.raises(SourceError, match=says):
        _split(Root(tmp_path), annotations="list.mat", files="file_list")


def test_names_that_are_none_are_an_error(tmp_path: Path) -> None:
    root = _cars(tmp_path, (1, 1, 5, 5, 1, "a.jpg"))
    scipy.io.savemat(tmp_path / "meta.mat", {"class_names": [1, 2]})

    with pytest.raises(SourceError, match=r"meta\.mat"):
        _split(root, **CARS)


@pytest.mark.parametrize(
    "options",
    [{}, {"rows": "a", "files": "b"}, {"numbered": "a.jpg"}, {"numbered": "{a}"}, {"numbered": "{0.x}"}],
)
def test_keys_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|numbered"):
        Source(annotations="a.mat", **options)
