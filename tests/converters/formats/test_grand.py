from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.grand import Source, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]
PICTURE: dict[str, Any] = {
    "objects": [
        {
            "id": 4,
            "bbox": [1, 2, 30, 40],
            "labels": ["hot_dog", "food"],
            "attributes": ["Assistant: a long roll"],
        },
        {"id": 9, "bbox": [5, 5, 9, 9], "labels": [], "attributes": "a view", "score": 0.25},
    ],
    "floating_objects": [
        {"id": 7, "bbox": [0, 0, 3, 3], "labels": ["cup"], "attributes": None, "score": 0.1}
    ],
    "relationships": {
        "grounding": [{"phrase": "a Roll", "object_ids": [4]}, {"phrase": "the sky", "object_ids": [9]}]
    },
    "captions": ["See a roll here", "nothing"],
    "dense_caption": {"caption": "A cup, and a roll.", "details": [{"phrase": "a cup", "ids": [7]}]},
}


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def _write(folder: Path, **files: Any) -> Root:
    for name, value in files.items():
        (folder / f"{name}.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return Root(folder)


def test_phrases_are_found_in_the_captions_that_hold_them(tmp_path: Path) -> None:
    (found,), rejected = _split(_write(tmp_path, a={"sa_1.jpg": PICTURE}), images="sa")

    assert rejected == []
    assert (found.key, found.images[0].path) == ("sa_1", "sa/sa_1.jpg")
    assert [(item.id, item.text, item.box) for item in found.instances] == [
        ("4", "hot dog", (1, 2, 30, 40)),
        ("9", None, (5, 5, 9, 9)),
        ("7", "cup", (0, 0, 3, 3)),
    ]
    assert [item.text for item in found.captions] == ["See a roll here", "nothing", "A cup, and a roll."]
    phrases = [
        (item.id.partition(".")[0], item.text, item.instances, item.spans) for item in found.expressions
    ]
    assert phrases == [
        ("o4-0", "a long roll", (0,), ()),
        ("o9-0", "a view", (1,), ()),
        ("0", "a Roll", (0,), ((4, 10),)),
        ("2", "a cup", (2,), ((0, 5),)),
    ]


def test_weak_objects_are_ignored_ones(tmp_path: Path) -> None:
    (found,), _ = _split(_write(tmp_path, a={"sa_1.jpg": PICTURE}), min_score=0.2)

    assert [(item.ignore, item.attributes) for item in found.instances] == [
        (False, {}),
        (False, {"score": "0.25"}),
        (True, {"score": "0.1"}),
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("[1]", "schema"),
        ('{"a.jpg": {"objects": 5}}', "schema"),
        ('{"a.jpg": ', "schema"),
        ("[" * 50_000, "schema"),
        ({"": PICTURE}, "schema"),
        ({"a.jpg": {"objects": [{"id": 1, "bbox": [1]}]}}, "schema"),
        ({"a.jpg": {"objects": [PICTURE["objects"][0]] * 2}}, "id.duplicate"),
        ({"sa_1.jpg": PICTURE}, "id.duplicate"),
        ({"a.jpg": {**PICTURE, "objects": []}}, "id.orphan"),
    ],
)
def test_a_defective_picture_is_rejected_alone(tmp_path: Path, value: Any, reason: str) -> None:
    (found,), (rejected,) = _split(_write(tmp_path, a={"sa_1.jpg": PICTURE}, b=value))

    assert found.key == "sa_1"
    assert (rejected.reason, rejected.origin.file) == (reason, "b.json")


def test_no_file_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.annotations"):
        _split(Root(tmp_path))


def test_a_real_picture_reads_without_a_rejection(samples: Samples) -> None:
    (found,), rejected = _split(samples("grand_sa1b"))

    assert rejected == []
    assert len(found.instances) == 29
    assert len(found.captions) == 2
    assert [(item.text, item.instances) for item in found.expressions if item.spans][:2] == [
        ("a hot air balloon flying over a river", (0,)),
        ("a hot air balloon", (0,)),
    ]
