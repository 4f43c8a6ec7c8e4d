"""VGPhraseCut: phrases with the boxes and polygons that they mean."""

from __future__ import annotations

import json
from pathlib import Path

from converters.formats.phrasecut import Source
from dataengine.geometry import to_xywh
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, corners, draw, write

PHRASES = ("the brown dog", "two red balls")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two phrases of two pictures: one object, and two."""
    rows = []
    for number, phrase in enumerate(PHRASES, start=1):
        draw(root / source.images / f"{number}.jpg")
        points = [corners(box_of(place)) for place in range(number)]
        rows.append({
            "task_id": f"{number}__0", "image_id": number, "phrase": phrase,
            "instance_boxes": [to_xywh(box_of(place)) for place in range(number)],
            "Polygons": [[[flat[at : at + 2] for at in range(0, 8, 2)]] for flat in points],
        })  # fmt: skip
    write(root / source.annotations, json.dumps(rows))
    pictures = [{"image_id": number, "width": WIDTH, "height": HEIGHT} for number in (1, 2)]
    write(root / source.image_data, json.dumps(pictures))
    return Made(2, frozenset(PHRASES))
