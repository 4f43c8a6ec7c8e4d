"""COCO-Interactive: objects with a mark of each kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from converters.formats.coco_interactive import Source
from dataengine.geometry import rle_from_polygons, to_xywh
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, corners, draw, write

KINDS = ("point", "scribble", "box", "mask")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures with two objects each; no word stands in the file."""
    rows: list[dict[str, Any]] = []
    for number in (1, 2):
        draw(root / source.images / f"{number}.jpg")
        info = {"id": number, "width": WIDTH, "height": HEIGHT, "file_name": f"{number}.jpg"}
        objects = [_object(number, place) for place in range(2)]
        rows.append({"image": f"{number}.jpg", "image_info": info, "anns": objects})
    write(root / source.annotations, json.dumps(rows))
    return Made(2, frozenset())


def _object(number: int, place: int) -> dict[str, Any]:
    box = box_of(place)
    x, y = box[:2]
    marks = {
        "point": (x + 4, y + 4, x + 5, y + 5),
        "scribble": (x + 2, y + 8, x + 9, y + 9),
        "box": box,
        "mask": box,
    }
    said = {f"{kind}_visual_prompt_mask": _rle(corners(marks[kind])) for kind in KINDS}
    shape = {"bbox": to_xywh(box), "segmentation": _rle(corners(box)), "category_id": 1, "iscrowd": 0}
    return {"id": 10 * number + place, "image_id": number, **shape, **said}


def _rle(points: tuple[float, ...]) -> dict[str, Any]:
    rle = rle_from_polygons([points], WIDTH, HEIGHT)
    return {"size": list(rle.size), "counts": rle.counts}
