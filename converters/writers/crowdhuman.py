"""CrowdHuman: ODGT, a JSON object a line and picture, which the `records` reader reads back.

A box is [x, y, width, height] of the whole body (`fbox`), from pixel 0. The boxes of the head and of what is visible
are not known, and not written. Pictures are called `ID.jpg`: one that is no JPEG keeps its bytes under that name (a
hard link where the file system allows it), and readers that go by the content take it as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from converters.export_tables import LeftOut
from converters.json_files import unique
from dataengine.annotation import Annotation, Instance, LabelSpace
from dataengine.files import atomic, link
from dataengine.geometry import to_xywh
from dataengine.modules import Written

FILE, IMAGES = "annotation.odgt", "Images"
PERSON = "person"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `annotation.odgt`, and the pictures to `Images`. Everything but persons with a box is left out."""
    left_out, exhaustive = LeftOut(), Counter[bool]()
    seen: dict[str, int] = {}
    with atomic(folder / FILE) as file:
        for item in annotations:
            exhaustive[item.exhaustive] += 1
            left_out.unplaced(item, instances=True)
            for number, image in enumerate(item.images):
                objects = [one for one in item.instances if one.image == number]
                name = unique(PurePosixPath(image.path).stem, seen)
                link(folder / image.path, folder / IMAGES / f"{name}.jpg")
                line = {"ID": name, "gtboxes": _boxes(objects, left_out)}
                file.write(msgspec.json.encode(line) + b"\n")
    fields: dict[str, Any] = {
        "images": f"{IMAGES}/{{ID}}.jpg",
        "instances": {
            "each": "gtboxes",
            "id": "it.extra.box_id",
            "category": "it.tag",
            "box": {"from": "it.fbox", "format": "xywh"},
            "ignore": "it.extra.ignore == 1",
        },
        **left_out.exhaustive(exhaustive),
    }
    table = {"path": FILE, "kind": "jsonl"}
    source = {"table": table, "key": "{ID}", "labels": [PERSON], "fields": fields}
    return Written(source, left_out.counts, "records")


def _boxes(objects: Iterable[Instance], left_out: LeftOut) -> list[dict[str, Any]]:
    boxes: list[dict[str, Any]] = []
    for one in objects:
        if one.box is None or one.category != PERSON:
            left_out.add("instance without box, or that is no person")
            continue
        left_out.details(one, "ignore")
        extra = {"box_id": len(boxes), "ignore": int(one.ignore or one.crowd)}
        boxes.append({"tag": PERSON, "fbox": list(to_xywh(one.box)), "extra": extra})
    return boxes
