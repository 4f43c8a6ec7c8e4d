from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from converters.formats.visual_genome import Source, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

URL = "https://cs.stanford.edu/people/rak248/VG_100K_2/1.jpg"
FILES: dict[str, Any] = {
    "image_data": [
        {"image_id": 1, "url": URL, "width": 800, "height": 600, "coco_id": None},
        {"image_id": 2, "url": URL.replace("1.jpg", "2.jpg"), "width": 640, "height": 480},
    ],
    "regions": [
        {
            "id": 1,
            "regions": [
                {
                    "region_id": 10,
                    "image_id": 1,
                    "phrase": " a red\n car ",
                    "x": 5,
                    "y": 6,
                    "width": 20,
                    "height": 30,
                }
            ],
        }
    ],
    "objects": [
        {
            "image_id": 1,
            "objects": [
                {"object_id": 7, "x": 1, "y": 2, "w": 3, "h": 4, "names": ["car", "auto"], "synsets": []},
                {"object_id": 8, "x": 0, "y": 0, "w": 9, "h": 9, "names": ["road"], "synsets": []},
            ],
        }
    ],
    "attributes": [
        {
            "image_id": 1,
            "attributes": [
                {
                    "object_id": 7,
                    "x": 1,
                    "y": 2,
                    "w": 3,
                    "h": 4,
                    "names": ["car"],
                    "attributes": ["red", "red ", "old"],
                }
            ],
        }
    ],
    "relationships": [
        {
            "image_id": 1,
            "relationships": [
                {
                    "relationship_id": 3,
                    "predicate": "PARKED ON",
                    "subject": {"object_id": 7, "x": 1, "y": 2, "w": 3, "h": 4, "name": "car"},
                    "object": {"object_id": 99, "x": 4, "y": 4, "w": 5, "h": 5, "name": "lot"},
                }
            ],
        }
    ],
    "questions": [
        {"id": 1, "qas": [{"qa_id": 55, "image_id": 1, "question": "What color?", "answer": "Red."}]}
    ],
}


def _folder(folder: Path, **changes: Any) -> Root:
    for name, value in (FILES | changes).items():
        text = value if isinstance(value, str) else json.dumps(value)
        (folder / f"{name}.json").write_text(text)
    return Root(folder)


def _split(root: Root, *parts: str, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**{part: f"{part}.json" for part in parts}, **options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_regions_are_objects_with_an_expression_each(tmp_path: Path) -> None:
    (first, second), rejected = _split(_folder(tmp_path), "regions", images="vg")

    assert rejected == []
    assert (first.key, first.images[0].path, first.images[0].width) == ("1", "vg/VG_100K_2/1.jpg", 800)
    assert [(item.text, item.box, item.category) for item in first.instances] == [
        ("a red car", (5, 6, 25, 36), None)
    ]
    assert [(item.id, item.text, item.instances) for item in first.expressions] == [
        ("r10", "a red car", (0,))
    ]
    assert second.instances == ()
    assert not first.exhaustive


def test_relations_join_listed_objects_and_add_those_that_are_not(tmp_path: Path) -> None:
    (first, _), _ = _split(_folder(tmp_path), "objects", "attributes", "relationships")

    assert [(item.id, item.category, item.box) for item in first.instances] == [
        ("o7", "car", (1, 2, 4, 6)),
        ("o8", "road", (0, 0, 9, 9)),
        ("o99", "lot", (4, 4, 9, 9)),
    ]
    assert first.instances[0].attributes == {"attributes": "red, old"}
    assert first.relations == ((0, "parked on", 2),)


def test_questions_are_the_pictures_own(tmp_path: Path) -> None:
    (first, second), _ = _split(_folder(tmp_path), "questions")

    assert [(item.id, item.text, item.answers) for item in first.questions] == [
        ("55", "What color?", ("Red.",))
    ]
    assert second.questions == ()


def test_a_list_takes_some_pictures_alone(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    (tmp_path / "val.txt").write_text("2\n")

    found, rejected = _split(root, "regions", image_set="val.txt")

    assert [item.key for item in found] == ["2"]
    assert [(item.key, item.reason) for item in rejected] == [("1", "split.other")]


def test_items_without_a_picture_are_rejected(tmp_path: Path) -> None:
    root = _folder(tmp_path, regions=[{"id": 9, "regions": []}, {"id": [1]}])

    found, rejected = _split(root, "regions")

    assert [item.key for item in found] == ["1", "2"]
    assert [(item.key, item.reason) for item in rejected] == [
        ("regions [1]", "schema"),
        ("regions [0]", "id.orphan"),
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"regions": [{"id": 1, "regions": [{"phrase": "x", "x": "wide"}]}]}, "schema"),
        ({"regions": [{"id": 1, "regions": {"0": 1}}]}, "schema"),
        ({"image_data": [{"image_id": 1, "url": ""}]}, "schema"),
        ({"image_data": [{"image_id": 1, "url": URL, "width": 1e300}]}, "schema"),
        ({"image_data": [{"image_id": 1, "url": URL}, {"image_id": "1", "url": URL}]}, "id.duplicate"),
    ],
)
def test_a_defective_record_is_rejected(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    _, rejected = _split(_folder(tmp_path, **changes), "regions")

    assert [item.reason for item in rejected][:1] == [reason]


@pytest.mark.parametrize("text", ["{", "{}", "[1", "[" * 100_000])
def test_a_file_that_is_no_list_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError, match=r"regions\.json"):
        _split(_folder(tmp_path, regions=text), "regions")
