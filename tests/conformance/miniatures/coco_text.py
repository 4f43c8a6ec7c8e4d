"""COCO-Text and TextOCR: pictures and words, mappings by id; one word that nobody can read."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from converters.formats.coco_text import Source
from dataengine.geometry import to_xywh
from dataengine.spec import Resolved
from tests.conformance.miniatures.scene import HEIGHT, WIDTH, Made, box_of, corners, draw, write

WORDS = ("exit", "LONDON")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures with three words, and where sets are named one of another set."""
    pictures, words = dict[str, Any](), dict[str, Any]()
    sets = [source.set or "train", source.set or "train", *(["another"] if source.set else [])]
    for number, name in enumerate(sets, start=1):
        draw(root / source.images / f"{number}.jpg")
        pictures[str(number)] = {
            "id": number, "file_name": f"{source.strip}{number}.jpg", "width": WIDTH, "height": HEIGHT, "set": name,
        }  # fmt: skip
    for number, place in itertools.product((1, 2), range(3)):
        word = (*WORDS, ".")[place]
        outline = "points" if source.unreadable else "mask"
        legibility = {} if source.unreadable else {"legibility": "illegible" if word == "." else "legible"}
        words[f"{number}_{place}"] = {
            "id": f"{number}_{place}", "image_id": number, "bbox": list(to_xywh(box_of(place))), outline: corners(box_of(place)),
            "utf8_string": word, **legibility,
        }  # fmt: skip
    write(root / source.annotations, json.dumps({"imgs": pictures, "anns": words}))
    return Made(2, frozenset(WORDS))
