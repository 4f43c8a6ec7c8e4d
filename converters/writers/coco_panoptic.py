"""COCO panoptic: one JSON, and a PNG of segments a picture, as the reader of that name states it.

Pixels that no mask claims are black, and readers take them as neither object nor background.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image as Images

from converters.export_tables import Categories, LeftOut, Pictures
from dataengine.annotation import Annotation, Instance, LabelSpace
from dataengine.files import write_atomic
from dataengine.geometry import mask_from_rle, rle_box, to_xywh
from dataengine.modules import Written

FILE, MAPS = "panoptic.json", "panoptic"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `panoptic.json` and `panoptic/*.png`. Objects without a category or mask are left out.

    A pixel belongs to the first of its masks.
    """
    pictures, categories, left_out = Pictures(), Categories(labels), LeftOut()
    records: list[dict[str, Any]] = []
    exhaustive = Counter[bool]()
    for item in annotations:
        exhaustive[item.exhaustive] += 1
        left_out.unplaced(item, instances=True)
        for number, image in enumerate(item.images):
            objects = [one for one in item.instances if one.image == number]
            image_id = pictures.number(image)
            if image_id <= len(records) or not (image.width and image.height):
                left_out.add("picture without size, or that came before")
                left_out.add("instance", len(objects))
                continue
            values = np.zeros((image.height, image.width), np.uint32)
            segments = [segment for one in objects if (segment := _draw(one, values, categories, left_out))]
            name = f"{image_id:012d}.png"
            write_atomic(folder / MAPS / name, _png(values))
            records.append({"image_id": image_id, "file_name": name, "segments_info": segments})
    document = {"images": pictures.records(), "annotations": records, "categories": categories.records()}
    write_atomic(folder / FILE, msgspec.json.encode(document))
    return Written({"annotations": FILE, "maps": MAPS, **left_out.exhaustive(exhaustive)}, left_out.counts)


def _draw(
    one: Instance,
    values: np.ndarray[tuple[int, ...], np.dtype[np.uint32]],
    categories: Categories,
    left_out: LeftOut,
) -> dict[str, Any]:
    """Draw the pixels of an object that are still free, and return its record, empty where there are none."""
    if one.ignore:
        # Its pixels stay black.
        left_out.add("category of an ignored instance", one.category is not None)
        left_out.add("ignored instance without mask", one.mask is None)
        return {}
    if one.category is None or one.mask is None or one.mask.size != values.shape:
        left_out.add("instance without category or mask of the picture's size")
        return {}
    left_out.details(one, "mask", "crowd")
    left_out.add("box that is not its mask's", one.box not in (None, rle_box(one.mask)))
    drawn = mask_from_rle(one.mask) > 0
    free = drawn & (values == 0)
    if not free.any():
        left_out.add("instance under others, or of no pixel")
        return {}
    left_out.add("pixels under another mask", int((drawn & ~free).sum()))
    identity = int(values.max()) + 1
    values[free] = identity
    ys, xs = np.nonzero(free)
    box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
    return {
        "id": identity,
        "category_id": categories.number(one.category),
        "area": int(free.sum()),
        "bbox": list(to_xywh(box)),
        "iscrowd": int(one.crowd),
    }


def _png(values: np.ndarray[tuple[int, ...], np.dtype[np.uint32]]) -> bytes:
    """Return the numbers as the colours R + 256 G + 65536 B."""
    colors = np.stack([values & 255, values >> 8 & 255, values >> 16 & 255], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Images.fromarray(colors).save(file, format="PNG")
    return file.getvalue()
