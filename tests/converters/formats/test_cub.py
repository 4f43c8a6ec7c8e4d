from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from converters.formats.cub import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

TABLES = {
    "images.txt": "1 001.Sooty_Albatross/a 1.jpg\n2 002.Crow/b.jpg\n",
    "image_class_labels.txt": "1 1\n2 2\n",
    "train_test_split.txt": "1 1\n2 0\n",
    "bounding_boxes.txt": "1 60.0 27.0 325.0 304.0\n2 1.5 2 3 4\n",
    "classes.txt": "1 001.Sooty_Albatross\n2 Crow (Adult)\n",
    "parts/parts.txt": "1 back\n2 left eye\n3 right eye\n",
    "parts/part_locs.txt": "1 1 10.5 20.0 1\n1 2 0.0 0.0 0\n1 3 5.0 6.0 1\n2 3 7 8 1\n",
}


def _folder(folder: Path, **changes: str) -> Root:
    for name, text in {
        **TABLES,
        **{f"{key}.txt".replace("__", "/"): v for key, v in changes.items()},
    }.items():
        path = folder / "birds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(folder="birds", **options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_tables_are_joined_by_the_id(tmp_path: Path) -> None:
    (first, second), rejected = _split(_folder(tmp_path))

    assert rejected == []
    assert (first.key, first.labels) == ("1", ("Sooty Albatross",))
    assert first.images[0].path == "birds/images/001.Sooty_Albatross/a 1.jpg"
    (bird,) = first.instances
    assert (bird.category, bird.box) == ("Sooty Albatross", (60, 27, 385, 331))
    assert bird.keypoints == ((10.5, 20.0, 2), (0.0, 0.0, 0), (5.0, 6.0, 2))
    assert second.instances[0].keypoints == ((0.0, 0.0, 0), (0.0, 0.0, 0), (7.0, 8.0, 2))
    assert (second.origin.file, second.origin.record) == ("birds/images.txt", "line 2")


@pytest.mark.parametrize(("part", "key", "other"), [("train", "1", "2"), ("test", "2", "1")])
def test_the_other_half_is_reported(tmp_path: Path, part: str, key: str, other: str) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path), part=part)

    assert (found.key, rejected.key, rejected.reason) == (key, other, "split.other")


def test_the_species_are_the_labels_and_have_keypoints(tmp_path: Path) -> None:
    space = labels(Source(folder="birds"), _folder(tmp_path))

    assert space.names == ("Sooty Albatross", "Crow (Adult)")
    assert all(label.keypoints == ("back", "left eye", "right eye") for label in space.labels)
    assert all(label.flip_pairs == ((1, 2),) for label in space.labels)


def test_one_category_may_stand_for_all_birds(tmp_path: Path) -> None:
    root = _folder(tmp_path)

    found, _ = _split(root, category="bird")
    space = labels(Source(folder="birds", category="bird"), root)

    assert [item.instances[0].category for item in found] == ["bird", "bird"]
    assert found[0].labels == ("Sooty Albatross",)
    assert space.names == ("bird", "Sooty Albatross", "Crow (Adult)")
    assert [len(label.keypoints) for label in space.labels] == [3, 0, 0]


def test_a_bird_without_a_line_of_parts_has_no_keypoints(tmp_path: Path) -> None:
    found, _ = _split(_folder(tmp_path, parts__part_locs="2 1 1 1 1\n2\n"))

    assert [item.instances[0].keypoints is None for item in found] == [True, False]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": "1\n2 b.jpg\n"}, "schema"),
        ({"images": "2 b.jpg\n2 b.jpg\n"}, "id.duplicate"),
        ({"image_class_labels": "2 2\n"}, "category.unknown"),
        ({"image_class_labels": "1 9\n2 2\n"}, "category.unknown"),
        ({"bounding_boxes": "2 1 2 3 4\n"}, "id.orphan"),
        ({"bounding_boxes": "1 1 2 3\n2 1 2 3 4\n"}, "schema"),
        ({"bounding_boxes": "1 1 2 x 4\n2 1 2 3 4\n"}, "schema"),
        ({"parts__part_locs": "1 1 nan 2 1\n"}, "keypoint.nonfinite"),
        ({"parts__part_locs": "1 1 5 2\n"}, "schema"),
    ],
)
def test_a_defective_line_costs_no_other_picture(
    tmp_path: Path, changes: dict[str, str], reason: str
) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, **changes))

    assert found.key == "2"
    assert rejected.reason == reason


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_missing_is_an_error(tmp_path: Path, name: str) -> None:
    root = _folder(tmp_path)
    (tmp_path / "birds" / name).unlink()

    with pytest.raises(SourceError, match=name):
        _split(root, part="train")


def test_a_table_that_is_empty_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"classes\.txt"):
        _split(_folder(tmp_path, classes="\n"))
