"""Osprey: regions with conversations, descriptions or categories about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from converters.formats.osprey import Source
from dataengine.geometry import to_xywh
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, corners, draw, write

TALK = ("What is <region1>?", "A dog that sleeps on the mat.")
SAID = (
    "A large brown dog lies on its side and sleeps.",
    "A red ball has rolled into the corner of the room.",
)


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures with two regions, and what the split's file says about them."""
    rows: list[dict[str, Any]] = []
    for number in (1, 2):
        name = f"{number:012d}.jpg"
        draw(root / source.images / name)
        regions = [
            {"segmentation": [corners(box_of(place))], "bbox": to_xywh(box_of(place)), "category_name": "dog"}
            for place in range(2)
        ]
        item: dict[str, Any] = {
            "id": number,
            "file_name": f"COCO_train2014_{name}" if source.after else name,
            "width": WIDTH,
            "height": HEIGHT,
        }
        if "category" in source.annotations:
            item |= {"annotations": regions, "categories": ["dog", "ball"]}
        elif "detail_description" in source.annotations:
            item |= {
                "annotation": regions,
                "description": [f"<region{one}>: {text}" for one, text in enumerate(SAID, 1)],
            }
        else:
            turns = [{"from": "human", "value": TALK[0]}, {"from": "gpt", "value": TALK[1]}]
            item |= {"annotation": regions, "conversations": turns}
        rows.append(item)
    write(root / source.annotations, json.dumps(rows))
    if "category" in source.annotations:
        return Made(2, frozenset({"dog", "ball"}))
    return Made(2, frozenset(SAID if "detail_description" in source.annotations else {TALK[1]}))
