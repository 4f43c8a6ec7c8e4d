"""Label maps: a grey PNG a picture whose pixels are numbers of classes, as the reader of that name states it.

0 is background, 255 what is neither object nor background (0 and 65535 in 16-bit maps, for more than 254 classes).
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Images

from converters.export_tables import Categories, LeftOut
from dataengine.annotation import Annotation, Instance, LabelSpace
from dataengine.files import atomic, write_atomic
from dataengine.geometry import mask_from_rle, rle_box
from dataengine.modules import Written

MAPS, LIST = "maps", "split.txt"
# What a line of the list holds; a name may have blanks.
LINE = "{image}\t{map}"
Map = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `maps/*.png` and `split.txt`. A map does not tell objects of one class apart; a pixel has its first."""
    categories, left_out = Categories(labels), LeftOut()
    exhaustive, seen = Counter[bool](), set[str]()
    kind = np.uint8 if len(labels.names) < 255 else np.uint16
    with atomic(folder / LIST) as listed:
        for item in annotations:
            exhaustive[item.exhaustive] += 1
            left_out.unplaced(item, instances=True)
            inputs = [number for number, image in enumerate(item.images) if image.role == "input"]
            for number, image in enumerate(item.images):
                objects = [one for one in item.instances if one.image == number]
                if not objects and number in inputs[:-1]:
                    left_out.add("picture shown before another")
                    continue
                if image.path in seen or not (image.width and image.height):
                    left_out.add("picture without size, or that came before")
                    left_out.add("instance", len(objects))
                    continue
                seen.add(image.path)
                values = np.zeros((image.height, image.width), kind)
                _draw(objects, values, categories, left_out)
                name = f"{MAPS}/{len(seen):07d}.png"
                file = io.BytesIO()
                Images.fromarray(values).save(file, format="PNG")
                write_atomic(folder / name, file.getvalue())
                listed.write(f"{image.path}\t{name}\n".encode())
    source = {
        "maps": "{map}", "images": "{image}", "image_set": LIST, "line": LINE,
        "classes": [None, *categories.names()], "ignore": [int(np.iinfo(kind).max)], **left_out.exhaustive(exhaustive),
    }  # fmt: skip
    return Written(source, left_out.counts)


def _draw(objects: Iterable[Instance], values: Map, categories: Categories, left_out: LeftOut) -> None:
    """Draw the pixels of objects that no other has drawn."""
    ignored = int(np.iinfo(values.dtype).max)
    drawn = set[int]()
    for one in objects:
        if one.mask is None or one.mask.size != values.shape or (one.category is None and not one.ignore):
            left_out.add("instance without category or mask of the picture's size")
            continue
        left_out.details(one, "mask", "ignore")
        left_out.add("category of an ignored instance", one.ignore and one.category is not None)
        left_out.add("box that is not its mask's", one.box not in (None, rle_box(one.mask)))
        number = ignored if one.ignore else categories.number(str(one.category))
        if number >= ignored and not one.ignore:
            left_out.add("instance of more classes than a map has numbers")
            continue
        left_out.add("instance apart from others of its class", number in drawn)
        drawn.add(number)
        pixels = mask_from_rle(one.mask) > 0
        free = pixels & (values == 0)
        left_out.add("pixels under another mask", int((pixels & ~free & (values != number)).sum()))
        values[free] = number
