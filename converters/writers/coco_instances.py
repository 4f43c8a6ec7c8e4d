"""COCO instances: one JSON with images, annotations and categories, as the reader of that name states it.

Boxes are [x, y, width, height]; masks are compressed run-length codes, which every COCO tool reads. An object that is
neither to be found nor background is written as `ignore: 1`, a region of many as `iscrowd: 1`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from converters.export_tables import Categories, LeftOut, Pictures
from dataengine.annotation import Annotation, Instance, LabelSpace
from dataengine.files import write_atomic
from dataengine.geometry import rle_area, rle_box, to_xywh
from dataengine.modules import Written

FILE = "instances.json"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `instances.json`. Objects without a category or a place are left out."""
    pictures, categories, left_out = Pictures(), Categories(labels), LeftOut()
    records: list[dict[str, Any]] = []
    exhaustive = Counter[bool]()
    for item in annotations:
        exhaustive[item.exhaustive] += 1
        left_out.unplaced(item, instances=True)
        image_ids = [pictures.number(image) for image in item.images]
        for instance in item.instances:
            if instance.category is None or (instance.box is None and instance.mask is None):
                left_out.add("instance without category or place")
                continue
            left_out.details(instance, "mask", "crowd", "ignore")
            records.append(
                {
                    "id": len(records) + 1,
                    "image_id": image_ids[instance.image],
                    "category_id": categories.number(instance.category),
                    **place_of(instance),
                }
            )
    document = {"images": pictures.records(), "annotations": records, "categories": categories.records()}
    write_atomic(folder / FILE, msgspec.json.encode(document))
    return Written({"annotations": FILE, **left_out.exhaustive(exhaustive)}, left_out.counts)


def place_of(instance: Instance) -> dict[str, Any]:
    """Return the keys of an annotation record that say where an object is."""
    mask = instance.mask
    box = instance.box or (rle_box(mask) if mask else None)
    assert box is not None
    x, y, width, height = to_xywh(box)
    return {
        "bbox": [x, y, width, height],
        "area": rle_area(mask) if mask else width * height,
        "iscrowd": int(instance.crowd),
        **({"segmentation": {"size": mask.size, "counts": mask.counts}} if mask else {}),
        **({"ignore": 1} if instance.ignore else {}),
    }
