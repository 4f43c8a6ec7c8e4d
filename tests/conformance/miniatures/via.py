"""VGG Image Annotator: a JSON with the regions of a picture, beside it or in one file for all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from converters.formats.via import Source
from dataengine.geometry import to_xywh
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, box_of, classes_of, draw, write


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures with two regions each."""
    names = classes_of(spec, source.labels)
    documents: dict[str, dict[str, Any]] = {}
    for number in (1, 2):
        said = [{source.attribute: names[place]} if source.attribute else {} for place in range(2)]
        regions = [_region(place, words) for place, words in enumerate(said)]
        picture = {"filename": f"{number:03d}.jpg", "size": 1, "regions": regions, "file_attributes": {}}
        file = source.annotations.replace("**", "1").replace("*/", "1/").replace("*", f"{number:03d}")
        documents.setdefault(file, {})[f"{number:03d}.jpg1"] = picture
        draw(
            (root / file).parent / f"{number:03d}.jpg"
            if source.beside
            else root / source.images / f"{number:03d}.jpg"
        )
    for file, pictures in documents.items():
        write(root / file, json.dumps(pictures))
    return Made(2, frozenset({source.category} if source.category else names[:2]))


def _region(place: int, words: dict[str, str]) -> dict[str, Any]:
    x, y, width, height = to_xywh(box_of(place))
    shape = {"name": "rect", "x": x, "y": y, "width": width, "height": height}
    return {"shape_attributes": shape, "region_attributes": words}
