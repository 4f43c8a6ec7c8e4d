"""COCO panoptic, by the writer of that name."""

from __future__ import annotations

from pathlib import Path

import msgspec

from converters.formats.coco_panoptic import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, classes_of, draw, drawn, move, words_of, write, written


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write three pictures with segments and one without."""
    categories = classes_of(spec)
    annotations = drawn(spec, categories)
    keys = written("coco_panoptic", annotations, categories, root / "written")
    document = msgspec.json.decode((root / "written" / keys["annotations"]).read_bytes())
    maps = root / "written" / keys.get("maps", keys["annotations"].removesuffix(".json"))
    move(maps, root / (source.annotations.removesuffix(".json") if source.maps is None else source.maps))
    for record in document["images"]:
        draw(root / source.images / record["file_name"])
        record["file_name"] = source.strip + record["file_name"]
    write(root / source.annotations, msgspec.json.encode(document))
    return Made(len(annotations), words_of(spec, categories))
