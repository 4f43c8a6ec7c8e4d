"""COCO-Text and TextOCR: pictures and words, mappings by id; one word that nobody can read."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from converters.formats.coco_text import Source
from dataengine.geometry import to_xywh
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, corners, draw, write

WORDS = ("exit", "LONDON")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write three pictures of words, one of which nobody can read, and where sets are named one of another set."""
    pictures, words = dict[str, Any](), dict[str, Any]()
    sets = [*[source.set or "train"] * 3, *(["another"] if source.set else [])]
    for number, name in enumerate(sets, start=1):
        draw(root / source.images / f"{number}.jpg")
        pictures[str(number)] = {
            "id": number, "file_name": f"{source.strip}{number}.jpg", "width": WIDTH, "height": HEIGHT, "set": name,
        }  # fmt: skip
    for number, place in (*itertools.product((1, 2, 3), range(2)), (1, 2)):
        word = (*WORDS, ".")[place]
        outline = "points" if source.unreadable else "mask"
        legibility = {} if source.unreadable else {"legibility": "illegible" if word == "." else "legible"}
        box = {"bbox": to_xywh(box_of(place)), outline: corners(box_of(place))}
        identity = f"{number}_{place}"
        words[identity] = {"id": identity, "image_id": number, "utf8_string": word, **box, **legibility}
    write(root / source.annotations, json.dumps({"imgs": pictures, "anns": words}))
    return Made(3, frozenset(WORDS))
