"""COCO instances, by the writer of that name; pictures by address where the spec takes their names from there."""

from __future__ import annotations

from pathlib import Path

import msgspec

from converters.formats.coco_instances import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, classes_of, draw, drawn, move, words_of, write, written


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write three pictures with objects and one without."""
    categories = classes_of(spec)
    annotations = drawn(spec, categories)
    written("coco_instances", annotations, categories, root / "written")
    target = root / source.annotations
    move(root / "written" / "instances.json", target)
    document = msgspec.json.decode(target.read_bytes())
    for record in document["images"]:
        name = f"folder/{record['file_name']}" if source.media == "coco_url" else record["file_name"]
        draw(root / source.images / name)
        if source.media == "coco_url":
            del record["file_name"]
            record["coco_url"] = f"http://images.example.org/{name}"
        else:
            record["file_name"] = source.strip + name
    if source.parents == "skip":
        document["categories"].append({"id": 0, "name": "group", "supercategory": "none"})
        for one in document["categories"][:-1]:
            one["supercategory"] = "group"
    write(target, msgspec.json.encode(document))
    return Made(len(annotations), words_of(spec, categories))
