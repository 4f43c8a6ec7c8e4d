"""Open Images: tables of boxes, classes and image labels, as the reader of that name states it.

A picture is called by a number of 16 hexadecimal digits with `.jpg` behind: one that is no JPEG keeps its bytes under
that name (a hard link where the file system allows it). Flags that nobody stated are -1. A class without a box in a
picture may be there all the same: the layout does not say that all objects are boxed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from converters.export_tables import Categories, LeftOut
from dataengine.annotation import Annotation, Image, Instance, LabelSpace
from dataengine.files import atomic, link, write_atomic
from dataengine.modules import Written

IMAGES, BOXES, CLASSES, SAID = (
    "openimages",
    "annotations-bbox.csv",
    "class-descriptions.csv",
    "imagelabels.csv",
)
_FLAGS = ("IsOccluded", "IsTruncated", "IsDepiction", "IsInside")
_BOXES = (
    "ImageID",
    "Source",
    "LabelName",
    "Confidence",
    "XMin",
    "XMax",
    "YMin",
    "YMax",
    *_FLAGS,
    "IsGroupOf",
)
_SAID = ("ImageID", "Source", "LabelName", "Confidence")


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write three tables, and the pictures to `openimages/`. Objects without a category or box are left out."""
    categories, left_out = Categories(labels), LeftOut()
    count = 0
    with atomic(folder / BOXES) as boxes, atomic(folder / SAID) as said:
        _row(boxes, _BOXES)
        _row(said, _SAID)
        for item in annotations:
            left_out.unplaced(item, instances=True, labels=True, negatives=True)
            left_out.add("exhaustive", item.exhaustive)
            for number, image in enumerate(item.images):
                objects = [one for one in item.instances if one.image == number]
                identity = f"{count:016x}"
                rows = [row for one in objects if (row := _box(one, image, categories, left_out))]
                for row in rows:
                    _row(boxes, (identity, *row))
                stated = [(name, 1) for name in item.labels] + [(name, 0) for name in item.negatives]
                for name, confidence in stated:
                    _row(said, (identity, "verification", _code(categories, name), confidence))
                if rows or stated:
                    link(folder / image.path, folder / IMAGES / f"{identity}.jpg")
                    count += 1
                else:
                    left_out.add("picture without objects or labels")
    table = io.BytesIO()
    _row(table, ("LabelName", "DisplayName"))
    for name in categories.names():
        _row(table, (_code(categories, name), name))
    write_atomic(folder / CLASSES, table.getvalue())
    return Written(
        {"annotations": BOXES, "classes": CLASSES, "image_labels": SAID, "images": IMAGES}, left_out.counts
    )


def _code(categories: Categories, name: str) -> str:
    return f"/x/{categories.number(name):05d}"


def _row(file: BinaryIO | io.BytesIO, values: Iterable[object]) -> None:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    file.write(line.getvalue().encode())


def _box(one: Instance, image: Image, categories: Categories, left_out: LeftOut) -> list[object]:
    """Return what follows the picture in a row, nothing for what is no box."""
    if one.box is None or one.category is None or one.ignore or not (image.width and image.height):
        left_out.add("instance without category, box or size of its picture, or that is ignored")
        return []
    left_out.details(one, "attributes", "crowd")
    flags = {name: name.removeprefix("Is").lower() for name in _FLAGS}
    left_out.add(
        "attributes",
        any(pair not in {(key, "1") for key in flags.values()} for pair in one.attributes.items()),
    )
    x0, y0, x1, y1 = one.box
    shares = (x0 / image.width, x1 / image.width, y0 / image.height, y1 / image.height)
    stated = (1 if one.attributes.get(key) == "1" else -1 for key in flags.values())
    return ["xclick", _code(categories, one.category), 1, *map(repr, shares), *stated, int(one.crowd)]
