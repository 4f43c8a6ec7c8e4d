"""Visual Genome: a list of pictures, and a list of the facts of each kind that the spec names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from converters.formats.visual_genome import Source
from dataengine.geometry import to_xywh
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, draw, write

NAMES = ("dog", "ball")
PHRASES = ("a dog after a ball", "the ball in the grass")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures with a dog that chases a ball."""
    pictures: list[dict[str, Any]] = []
    facts: dict[str, list[dict[str, Any]]] = {}
    for number in (1, 2):
        draw(root / source.images / f"VG_100K/{number}.jpg")
        url = f"https://example.org/VG_100K/{number}.jpg"
        pictures.append({"image_id": number, "width": WIDTH, "height": HEIGHT, "url": url})
        dog, ball = (_object(10 * number + place, name, place) for place, name in enumerate(NAMES))
        regions = [_region(10 * number + place, phrase, place) for place, phrase in enumerate(PHRASES)]
        asked = {"qa_id": number, "question": "What does the dog chase?", "answer": "A ball."}
        said = {"predicate": "chases", "subject": dog, "object": ball}
        for name, key, value in (
            ("regions", "regions", regions),
            ("questions", "qas", [asked]),
            ("relationships", "relationships", [said]),
        ):
            facts.setdefault(name, []).append({"image_id": number, key: value})
        facts.setdefault("objects", []).append({"image_id": number, "objects": [dog, ball]})
        tinted = [{**dog, "attributes": ["brown"]}]
        facts.setdefault("attributes", []).append({"image_id": number, "attributes": tinted})
    write(root / source.image_data, json.dumps(pictures))
    for name, rows in facts.items():
        if (file := getattr(source, name)) is not None:
            write(root / file, json.dumps(rows))
    words = [("regions", PHRASES[0]), ("questions", "A ball."), ("relationships", "chases")]
    return Made(2, frozenset(word for name, word in words if getattr(source, name) is not None))


def _object(number: int, name: str, place: int) -> dict[str, Any]:
    x, y, width, height = to_xywh(box_of(place))
    return {"object_id": number, "names": [name], "x": x, "y": y, "w": width, "h": height}


def _region(number: int, phrase: str, place: int) -> dict[str, Any]:
    x, y, width, height = to_xywh(box_of(place))
    return {"region_id": number, "phrase": phrase, "x": x, "y": y, "width": width, "height": height}
