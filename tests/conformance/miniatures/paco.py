"""PACO: objects and their parts with attributes, in COCO's records."""

from __future__ import annotations

from pathlib import Path

import msgspec

from converters.formats.paco import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, draw, drawn, write, written

NAMES = ("dog", "dog:leg", "ball")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write three pictures with objects, parts and attributes, and one without."""
    annotations = drawn(spec, NAMES)
    written("coco_instances", annotations, NAMES, root / "written")
    document = msgspec.json.decode((root / "written" / "instances.json").read_bytes())
    document["attributes"] = [{"id": 0, "name": "brown"}, {"id": 1, "name": "wood"}]
    document["attr_type_to_attr_idxs"] = {"color": [0], "material": [1]}
    for one in document["annotations"]:
        one |= {"attribute_ids": [0], "obj_ann_id": one["id"], "unknown_color": 0, "unknown_material": 1}
    for record in document["images"]:
        draw(root / source.images / record["file_name"])
        record |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        record["file_name"] = source.strip + record["file_name"]
    write(root / source.annotations, msgspec.json.encode(document))
    return Made(len(annotations), frozenset(name.replace(":", " ") for name in NAMES))
