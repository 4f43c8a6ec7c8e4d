"""SA-1B: masks of no class beside their picture."""

from __future__ import annotations

import json
from pathlib import Path

from converters.formats.sa1b import Source
from dataengine.geometry import rle_from_polygons, to_xywh
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, corners, draw, write


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures with two masks each; no word stands in the files."""
    for number in (1, 2):
        file = root / source.annotations.replace("**/", "").replace("*/", "000020/").replace("*", str(number))
        masks = []
        for place in range(2):
            rle = rle_from_polygons([corners(box_of(place))], WIDTH, HEIGHT)
            code = {"size": list(rle.size), "counts": rle.counts}
            quality = {"predicted_iou": 0.95, "stability_score": 0.98}
            masks.append({"id": place, "segmentation": code, "bbox": to_xywh(box_of(place)), **quality})
        draw(file.with_suffix(".jpg"))
        picture = {"image_id": number, "file_name": f"{file.stem}.jpg", "width": WIDTH, "height": HEIGHT}
        write(file, json.dumps({"image": picture, "annotations": masks}))
    return Made(2, frozenset())
