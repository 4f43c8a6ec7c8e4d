"""Panoptic scene graphs: objects, their segments in a colour PNG, and a relation between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from converters.formats.psg import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, draw, png, write

NUMBERS = (300, 70000)


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write three pictures of a dog on grass, one of them to test on."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for place, number in enumerate(NUMBERS):
        x0, y0, x1, y1 = map(int, box_of(place))
        pixels[y0:y1, x0:x1] = (number % 256, number // 256 % 256, number // 65536)
    data: list[dict[str, Any]] = []
    for number in (1, 2, 3):
        name = f"{number:012d}"
        draw(root / source.images / f"train2017/{name}.jpg")
        png(root / (source.panoptic or "") / f"panoptic_train2017/{name}.png", pixels)
        data.append({
            "file_name": f"train2017/{name}.jpg", "image_id": str(number), "width": WIDTH, "height": HEIGHT,
            "pan_seg_file_name": f"panoptic_train2017/{name}.png",
            "annotations": [{"bbox": box_of(place), "category_id": place} for place in range(2)],
            "segments_info": [{"id": one, "category_id": place, "iscrowd": 0} for place, one in enumerate(NUMBERS)],
            "relations": [[0, 1, 0]],
        })  # fmt: skip
    document = {
        "data": data, "thing_classes": ["dog"], "stuff_classes": ["grass"], "predicate_classes": ["standing on"],
        "test_image_ids": ["3"],
    }  # fmt: skip
    write(root / source.annotations, json.dumps(document))
    return Made({"all": 3, "train": 2, "test": 1}[source.part], frozenset({"dog", "grass", "standing on"}))
