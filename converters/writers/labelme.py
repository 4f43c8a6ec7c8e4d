"""labelme: a JSON beside each picture, as the reader of that name states it.

A box is a rectangle, a mask a shape of that type (labelme 5.2 and later), which holds its pixels as they are. An
ignored object is labelled `__ignore__`.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from PIL import Image as Pictures

from converters.export_tables import Categories, LeftOut
from dataengine.annotation import Annotation, Image, Instance, LabelSpace
from dataengine.files import make_folder, write_atomic
from dataengine.geometry import mask_from_rle, rle_box
from dataengine.modules import Written

FOLDER = "images"
IGNORED = "__ignore__"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write a JSON beside each picture. Objects without a place are left out."""
    categories, left_out = Categories(labels), LeftOut()
    exhaustive, seen = Counter[bool](), set[str]()
    make_folder(folder / FOLDER)
    for item in annotations:
        exhaustive[item.exhaustive] += 1
        left_out.unplaced(item, instances=True)
        for number, image in enumerate(item.images):
            objects = [one for one in item.instances if one.image == number]
            stem = str(PurePosixPath(image.path).with_suffix(""))
            if stem in seen:
                left_out.add("picture whose JSON is that of another")
                left_out.add("instance", len(objects))
                continue
            seen.add(stem)
            shapes = [shape for one in objects if (shape := _shape(one, categories, left_out))]
            write_atomic(folder / f"{stem}.json", msgspec.json.encode(_document(image, shapes)))
    source = {"annotations": FOLDER, "labels": categories.names(), **left_out.exhaustive(exhaustive)}
    return Written(source, left_out.counts)


def _document(image: Image, shapes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": PurePosixPath(image.path).name,
        "imageData": None,
        "imageHeight": image.height,
        "imageWidth": image.width,
    }


def _shape(one: Instance, categories: Categories, left_out: LeftOut) -> dict[str, Any]:
    """Return the shape of an object, empty where it has none."""
    box = rle_box(one.mask) if one.mask else one.box
    if (
        box is None
        or (one.category is None and not one.ignore)
        or one.crowd
        or (one.mask and box[2] == box[0])
    ):
        left_out.add("instance without category or place, or crowd")
        return {}
    left_out.details(one, "mask", "ignore", "attributes")
    left_out.add("box that is not its mask's", one.box not in (None, box))
    left_out.add("category of an ignored instance", one.ignore and one.category is not None)
    left_out.add("attributes", not set(one.attributes) <= {"description"})
    if one.category is not None:
        categories.number(one.category)
    x0, y0, x1, y1 = box
    shape: dict[str, Any] = {
        "label": IGNORED if one.ignore else one.category,
        # Both ends of a mask's rectangle are pixels of it.
        "points": [[x0, y0], [x1 - 1, y1 - 1] if one.mask else [x1, y1]],
        "group_id": None,
        "description": one.attributes.get("description", ""),
        "shape_type": "mask" if one.mask else "rectangle",
        "flags": {},
        "mask": None,
    }
    if one.mask:
        part = mask_from_rle(one.mask)[int(y0) : int(y1), int(x0) : int(x1)]
        file = io.BytesIO()
        Pictures.fromarray(part > 0).save(file, format="PNG")
        shape["mask"] = base64.b64encode(file.getvalue()).decode()
    return shape
