"""MDETR's annotations: COCO records of a sentence each, whose objects point into it, or have words of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from converters.formats.mdetr import Source
from dataengine.geometry import to_xywh
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, corners, draw, write

SENTENCE = "A dog runs after a ball."
PHRASES = ("A dog", "a ball")
SAID = ("the dog that runs", "a ball in the grass")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures with two objects; where nothing points into a sentence, the objects have words."""
    spoken = {"region_caption", "region_caption_multi"} & set(spec.dataset.tasks)
    folders = source.folders or {"": source.images}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (kind, folder) in enumerate([*folders.items()] * 2, start=1):
        draw(root / folder / f"{number}.jpg")
        record: dict[str, Any] = {"id": number, "file_name": f"{source.strip}{number}.jpg"}
        images.append({
            **record, "width": WIDTH, "height": HEIGHT, "caption": SENTENCE, **({"data_source": kind} if kind else {}),
        })  # fmt: skip
        for place, phrase in enumerate(PHRASES):
            start = SENTENCE.index(phrase)
            words = (
                {"caption": SAID[place]} if spoken else {"tokens_positive": [[start, start + len(phrase)]]}
            )
            annotations.append({
                "id": len(annotations), "image_id": number, "category_id": 1, "bbox": to_xywh(box_of(place)),
                "segmentation": [corners(box_of(place))], **words,
            })  # fmt: skip
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    write(root / source.annotations, json.dumps(document))
    return Made(len(images), frozenset(SAID if spoken else PHRASES))
