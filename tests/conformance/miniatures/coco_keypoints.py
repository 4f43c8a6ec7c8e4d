"""COCO keypoints, by the writer of that name."""

from __future__ import annotations

from pathlib import Path

import msgspec

from converters.formats.coco_keypoints import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, classes_of, draw, drawn, words_of, write, written

NAMES = ("left_eye", "right_eye", "tail")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write three pictures with objects of named keypoints, and one without."""
    categories = classes_of(spec)
    annotations = drawn(spec, categories)
    written("coco_instances", annotations, categories, root / "written")
    document = msgspec.json.decode((root / "written" / "instances.json").read_bytes())
    spaced = spec.labels.labels[0].keypoints if spec.labels is not None else ()
    count = source.num_keypoints or len(spaced) or len(NAMES)
    names = list(spaced) or [*NAMES, *(f"point {number}" for number in range(len(NAMES), count))][:count]
    for one in document["categories"]:
        one |= {"keypoints": names, "skeleton": [[1, 2]]}
    for one in document["annotations"]:
        x, y, *_ = one["bbox"]
        points = [value for number in range(count) for value in (x + 1 + number % 10, y + 2, 2)]
        one |= {source.keypoints_field: points, "num_keypoints": count}
    for record in document["images"]:
        draw(root / source.images / record["file_name"])
        record["file_name"] = source.strip + record["file_name"]
    write(root / source.annotations, msgspec.json.encode(document))
    return Made(len(annotations), words_of(spec, categories))
