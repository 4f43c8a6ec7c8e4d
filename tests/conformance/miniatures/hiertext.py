"""HierText: paragraphs of lines of words; one word that nobody can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from converters.formats.hiertext import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, corners, draw, write

WORDS = ("keep", "left", "")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures with a line of three words."""
    words = [_text(place, word) for place, word in enumerate(WORDS)]
    rows = []
    # Where some words cannot be read, nobody can say how many there are.
    for name, shown in (("aa", words), ("bb", words[:2])):
        line = {**_text(0, "keep left"), "words": shown}
        draw(root / source.images / f"{name}.{source.extension}")
        paragraph = {"vertices": line["vertices"], "legible": True, "lines": [line]}
        rows.append(
            {"image_id": name, "image_width": WIDTH, "image_height": HEIGHT, "paragraphs": [paragraph]}
        )
    write(root / source.annotations, json.dumps({"annotations": rows}))
    return Made(2, frozenset({"keep", "left"} if source.level == "word" else {"keep left"}))


def _text(place: int, text: str) -> dict[str, Any]:
    points = corners(box_of(place))
    vertices = [points[at : at + 2] for at in range(0, 8, 2)]
    return {
        "vertices": vertices,
        "text": text,
        "legible": bool(text),
        "handwritten": False,
        "vertical": False,
    }
