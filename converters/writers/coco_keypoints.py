"""COCO keypoints: COCO instances with `keypoints` and `num_keypoints`, as the reader of that name states it.

Keypoints are x, y, v for each name that the category gives; its skeleton counts them from 1. An object without any has
an empty list and `num_keypoints: 0`, which COCO's own evaluation ignores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from converters.export_tables import Categories, LeftOut, Pictures
from converters.writers.coco_instances import place_of
from dataengine.annotation import Annotation, Instance, Keypoint, LabelSpace
from dataengine.files import write_atomic
from dataengine.modules import Written

FILE = "person_keypoints.json"
STATED = "num_keypoints"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `person_keypoints.json`. Objects without a category or a place are left out."""
    pictures, categories, left_out = Pictures(), Categories(labels), LeftOut()
    expected = {label.name: len(label.keypoints) for label in labels.labels}
    records: list[dict[str, Any]] = []
    exhaustive = Counter[bool]()
    for item in annotations:
        exhaustive[item.exhaustive] += 1
        left_out.unplaced(item, instances=True)
        image_ids = [pictures.number(image) for image in item.images]
        for one in item.instances:
            if one.category is None or (one.box is None and one.mask is None):
                left_out.add("instance without category or place")
                continue
            points = _keypoints(one, expected.get(one.category, 0), left_out)
            stated = str(sum(v > 0 for _, _, v in points))
            left_out.details(one, "mask", "crowd", "ignore", "keypoints", "attributes")
            left_out.add("attributes", bool(set(one.attributes.items()) - {(STATED, stated)}))
            records.append(
                {
                    "id": len(records) + 1,
                    "image_id": image_ids[one.image],
                    "category_id": categories.number(one.category),
                    **place_of(one),
                    "keypoints": [value for point in points for value in point],
                    STATED: int(stated),
                }
            )
    document = {"images": pictures.records(), "annotations": records, "categories": categories.records()}
    write_atomic(folder / FILE, msgspec.json.encode(document))
    return Written({"annotations": FILE, **left_out.exhaustive(exhaustive)}, left_out.counts)


def _keypoints(one: Instance, expected: int, left_out: LeftOut) -> tuple[Keypoint, ...]:
    """Return the keypoints of an object, none where the category names another number of them."""
    points = one.keypoints or ()
    if points and expected and len(points) != expected:
        left_out.add("keypoints, not as many as are named")
        return ()
    return points
