"""SWiG: the verb of a picture, who fills its roles, and where they are; one role is not in the picture."""

from __future__ import annotations

import json
from pathlib import Path

from converters.formats.swig import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, draw, write

NOUNS = {"n01": "dog", "n02": "ball", "n03": "lawn"}
VERBS = ("chasing", "resting")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write a picture of each of two verbs."""
    pictures = {}
    for verb in VERBS:
        draw(root / source.images / f"{verb}_1.jpg")
        boxes = {"agent": box_of(0), "chased": box_of(1), "place": (-1, -1, -1, -1)}
        frame = dict(zip(boxes, NOUNS, strict=True))
        size = {"width": WIDTH, "height": HEIGHT}
        pictures[f"{verb}_1.jpg"] = {"verb": verb, **size, "bb": boxes, "frames": [frame] * 3}
    write(root / source.annotations, json.dumps(pictures))
    if source.space is not None:
        nouns = {code: {"gloss": [word], "def": ""} for code, word in NOUNS.items()}
        write(root / source.space, json.dumps({"nouns": nouns, "verbs": {verb: {} for verb in VERBS}}))
    return Made(len(VERBS), frozenset(VERBS))
