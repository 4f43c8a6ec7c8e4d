"""GranD-f: captions whose phrases have masks, as positions or as sentences that are looked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from converters.formats.grandf import Source
from dataengine.geometry import rle_from_polygons
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, corners, draw, write

CAPTION = "A dog runs after a ball."
PHRASES = ("A dog", "a ball")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two captions; those from RefCOCOg have sentences."""
    rows = []
    for number in (1, 2):
        name = f"{number:012d}.jpg"
        draw(root / source.images / name)
        rows.append(_by_sentence(name) if "RefCOCOg" in source.annotations else _by_position(name))
    write(root / source.annotations, json.dumps(rows))
    return Made(2, frozenset({CAPTION, *PHRASES}))


def _by_position(name: str) -> dict[str, Any]:
    groundings = {}
    for place, phrase in enumerate(PHRASES):
        rle = rle_from_polygons([corners(box_of(place))], WIDTH, HEIGHT)
        start = CAPTION.index(phrase)
        masks = [{"size": list(rle.size), "counts": rle.counts}]
        groundings[phrase] = {"token_positives": [start, start + len(phrase)], "rle_masks": masks}
    return {"file_name": name, "caption": CAPTION, "groundings": groundings}


def _by_sentence(name: str) -> dict[str, Any]:
    refs = [
        {"sentence": phrase, "segmentation": [corners(box_of(place))]} for place, phrase in enumerate(PHRASES)
    ]
    return {"img_file_name": name, "caption": f'"{CAPTION}"', "refs": refs}
