from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from converters.formats.grandf import Source, read
from dataengine.annotation import Annotation, Rejected
from dataengine.clean import clean
from dataengine.files import Root

RLE = {"size": [30, 40], "counts": [0, 60, 1140]}
PHRASES: dict[str, Any] = {
    "file_name": "sa_1.jpg",
    "caption": '"A man and his dogs."',
    "groundings": {
        "A man": {"token_positives": [0, 5], "rle_masks": [RLE]},
        "his dogs": {"token_positives": [10, 18], "rle_masks": [RLE, RLE]},
    },
}
REFS: dict[str, Any] = {
    "img_file_name": "COCO_1.jpg",
    "caption": "The Red cup stands here.",
    "refs": [
        {"sentence": "the red  cup", "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]]},
        {"sentence": "a spoon", "segmentation": [[2, 2, 12, 2, 12, 12]]},
    ],
}


def _split(folder: Path, *items: Any) -> tuple[list[Annotation], list[Rejected]]:
    (folder / "a.json").write_text(json.dumps(items))
    (folder / "images").mkdir(exist_ok=True)
    Image.new("RGB", (40, 30)).save(folder / "images" / "COCO_1.jpg")
    found = list(read(Source(annotations="a.json", images="images"), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_each_phrase_has_its_place_and_its_masks(tmp_path: Path) -> None:
    (found,), rejected = _split(tmp_path, PHRASES)

    assert rejected == []
    assert found.captions[0].text == "A man and his dogs."
    assert (found.images[0].width, found.images[0].height) == (40, 30)
    assert [(item.id, item.text, item.instances, item.spans) for item in found.expressions] == [
        ("0.0", "A man", (0,), ((0, 5),)),
        ("0.1", "his dogs", (1, 2), ((10, 18),)),
    ]
    assert all(item.mask is not None and item.mask.size == (30, 40) for item in found.instances)


def test_a_referred_object_is_looked_for_in_the_caption(tmp_path: Path) -> None:
    (found,), rejected = _split(tmp_path, REFS)

    assert rejected == []
    assert [(item.text, item.instances, item.spans) for item in found.expressions] == [
        ("the red cup", (0,), ((0, 11),)),
        ("a spoon", (1,), ()),
    ]
    cleaned = clean(found, [(40, 30)]).annotation.instances
    assert [item.mask.size if item.mask else None for item in cleaned] == [(30, 40)] * 2


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({**PHRASES, "caption": '" "'}, "text.empty"),
        ({**PHRASES, "file_name": ""}, "schema"),
        ({**PHRASES, "groundings": {"x": {"token_positives": [0, 500]}}}, "span.invalid"),
        (
            {**PHRASES, "groundings": {"x": {"rle_masks": [{"size": [3, 3], "counts": [1]}]}}},
            "rle.size_mismatch",
        ),
        ({**PHRASES, "groundings": [1]}, "schema"),
        ({**REFS, "img_file_name": "none.jpg"}, "image.missing"),
        ({**REFS, "img_file_name": "../x.jpg"}, "path.outside"),
        ({**REFS, "refs": [{"sentence": "x", "segmentation": [[1, 2]]}]}, "polygon.invalid"),
    ],
)
def test_a_defective_item_is_rejected_alone(tmp_path: Path, item: dict[str, Any], reason: str) -> None:
    (found,), (rejected,) = _split(tmp_path, item, PHRASES)

    assert found.key == "sa_1"
    assert (rejected.reason, rejected.origin.record) == (reason, "[0]")
