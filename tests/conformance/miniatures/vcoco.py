"""V-COCO: who does what with what, about objects of COCO's files."""

from __future__ import annotations

from pathlib import Path

import msgspec

from converters.formats.vcoco import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, annotation, draw, objects, write, written

NAMES = ("person", "sports ball")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write a picture of a person who kicks a ball to each of COCO's files."""
    action = {"action_name": "kick", "role_name": ["agent", "obj"], "image_id": [], "ann_id": [], "label": []}
    persons, balls = list[int](), list[int]()
    for number, file in enumerate(source.instances, start=1):
        half = "val2014" if "val2014" in file else "train2014"
        name = f"COCO_{half}_{number:012d}.jpg"
        written("coco_instances", [annotation(name, instances=objects(NAMES))], NAMES, root / str(number))
        document = msgspec.json.decode((root / str(number) / "instances.json").read_bytes())
        for record in document["images"]:
            record["id"] = number
        for place, one in enumerate(document["annotations"]):
            one |= {"id": 10 * number + place, "image_id": number}
        write(root / file, msgspec.json.encode(document))
        draw(root / source.images / (f"{half}/{name}" if source.folders else name))
        persons.append(10 * number)
        balls.append(10 * number + 1)
    count = len(source.instances)
    said = {"image_id": list(range(1, count + 1)), "ann_id": persons, "role_object_id": [*persons, *balls]}
    write(root / source.annotations, msgspec.json.encode([{**action, **said, "label": [1] * count}]))
    return Made(count, frozenset({*NAMES, "kick"}))
