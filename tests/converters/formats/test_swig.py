from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.swig import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]
SPACE = {
    "nouns": {
        "n1": {"gloss": ["road", "street"], "def": "a way"},
        "n2": {"gloss": ["tramp"]},
        "n3": {"gloss": []},
    },
    "verbs": {"hitchhiking": {"framenet": "x"}, "baking": {}},
}
PICTURE: dict[str, Any] = {
    "verb": "hitchhiking",
    "height": 683,
    "width": 512,
    "bb": {"place": [-1, -1, -1, -1], "agent": [195, 282, 380, 554], "tool": [1, 2, 3, 4]},
    "frames": [
        {"place": "n1", "agent": "n1", "tool": ""},
        {"place": "n1", "agent": "n2", "tool": ""},
        {"place": "n1", "agent": "n2", "tool": ""},
    ],
}


def _split(
    folder: Path, pictures: Any, space: Any = SPACE, **options: Any
) -> tuple[list[Annotation], list[Rejected]]:
    (folder / "train.json").write_text(json.dumps(pictures))
    (folder / "space.json").write_text(json.dumps(space))
    found = list(read(Source(annotations="train.json", space="space.json", **options), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_role_with_a_box_is_an_object_named_by_most(tmp_path: Path) -> None:
    (found,), rejected = _split(tmp_path, {"a_1.jpg": PICTURE}, images="images_512")

    assert rejected == []
    assert (found.key, found.images[0].path, found.labels) == (
        "a_1.jpg",
        "images_512/a_1.jpg",
        ("hitchhiking",),
    )
    assert [(item.id, item.box, item.text) for item in found.instances] == [
        ("agent", (195, 282, 380, 554), "tramp"),
        ("tool", (1, 2, 3, 4), None),
    ]
    assert [(item.id, item.text, item.instances) for item in found.expressions] == [
        ("agent", "tramp, the agent of hitchhiking", (0,))
    ]


def test_labels_are_the_verbs(tmp_path: Path) -> None:
    _split(tmp_path, {"a.jpg": PICTURE, "b.jpg": 5})

    assert labels(Source(annotations="train.json", space="space.json"), Root(tmp_path)).names == (
        "baking",
        "hitchhiking",
    )
    assert labels(Source(annotations="train.json"), Root(tmp_path)).names == ("hitchhiking",)


@pytest.mark.parametrize(
    "change",
    [
        {"verb": " "},
        {"bb": {"agent": [1, 2]}},
        {"bb": 5},
        {"frames": [[1]]},
        {"width": "wide"},
        {"height": -1},
    ],
)
def test_a_defective_picture_is_rejected_alone(tmp_path: Path, change: dict[str, Any]) -> None:
    (found,), (rejected,) = _split(tmp_path, {"a.jpg": {**PICTURE, **change}, "b.jpg": PICTURE})

    assert found.key == "b.jpg"
    assert (rejected.key, rejected.reason) == ("a.jpg", "schema")


@pytest.mark.parametrize("space", [[], {"nouns": {}}, {"nouns": [1], "verbs": {}}])
def test_a_space_of_another_kind_is_an_error(tmp_path: Path, space: Any) -> None:
    with pytest.raises(SourceError, match="imsitu_space"):
        _split(tmp_path, {"a.jpg": PICTURE}, space)


def test_a_real_record_reads_without_a_rejection(samples: Samples) -> None:
    (found,) = read(Source(annotations="train.json"), samples("swig"))

    assert isinstance(found, Annotation)
    assert [(item.id, item.box) for item in found.instances] == [("agent", (195, 282, 380, 554))]
