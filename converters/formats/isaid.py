"""iSAID: beside each aerial picture one map of objects and one of classes, both as colours.

Conventions (iSAID_Devkit, preprocess): in `*_instance_id_RGB.png` the colour of a pixel is its object, R + 256 G +
65536 B, and 0 is background; in `*_instance_color_RGB.png` it is the object's class. The classes and their colours are
those of the development kit. An object whose pixels have colours of several classes rejects the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec
import numpy as np

from converters import path_patterns, pixel_maps
from converters.pixel_maps import Meanings
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root

VERSION = "1"

CLASSES = {
    0x00003F: "ship", 0x003F3F: "storage tank", 0x003F00: "baseball diamond", 0x003F7F: "tennis court",
    0x003FBF: "basketball court", 0x003FFF: "ground track field", 0x007F3F: "bridge", 0x007F7F: "large vehicle",
    0x00007F: "small vehicle", 0x0000BF: "helicopter", 0x0000FF: "swimming pool", 0x00BF7F: "roundabout",
    0x007FBF: "soccer ball field", 0x007FFF: "plane", 0x00649B: "harbor",
}  # fmt: skip
# The object of a pixel and its class in one number.
_SHIFT = 24


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`objects` are the files of objects (`train/Instance_masks/{name}_instance_id_RGB.png`).

    `classes` and `images` name the map of classes and the picture of each; words in braces as in `label_maps`.
    `view: classes` makes all pixels of a class one instance.
    """

    objects: str
    classes: str
    images: str
    view: Literal["classes", "objects"] = "objects"

    def __post_init__(self) -> None:
        """Raise ValueError where another pattern has a word that `objects` lacks."""
        path_patterns.check({"classes": self.classes, "images": self.images}, self.objects, "objects")


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the fifteen classes."""
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in CLASSES.values()))


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture, in the order of the names."""
    for file, parts in path_patterns.find(source.objects, root, "objects"):
        key = path_patterns.key(source.images, parts)
        origin = Origin(file=file, record="map")
        try:
            objects = pixel_maps.little_endian(pixel_maps.decode(pixel_maps.load(file, root, "objects")))
            colors = pixel_maps.colors(
                pixel_maps.load(path_patterns.fill(source.classes, parts), root, "classes")
            )
            if objects.shape != colors.shape:
                raise Quarantine("map.mismatch", f"objects are {objects.shape}, classes {colors.shape}")
            found = pixel_maps.runs((colors.astype(np.int64) << _SHIFT) | objects)
            instances = pixel_maps.cut(found, _meanings(pixel_maps.numbers(found), source.view))
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
            continue
        image = Image(path=path_patterns.fill(source.images, parts))
        yield Annotation(key=key, images=(image,), instances=instances, origin=origin)


def _meanings(numbers: list[int], view: str) -> Meanings:
    """Return what the numbers mean. Raises Quarantine `category.unknown` and `map.mismatch`."""
    made: Meanings = {}
    seen = dict[int, str]()
    for number in numbers:
        color, item = number >> _SHIFT, number & ((1 << _SHIFT) - 1)
        if not item and not color:
            made[number] = None
            continue
        if color not in CLASSES:
            raise Quarantine(
                "category.unknown", f"object {item} has the colour #{color:06x}, which is no class"
            )
        name = CLASSES[color]
        if not item:
            raise Quarantine("map.mismatch", f"pixels of {name} belong to no object")
        if seen.setdefault(item, name) != name:
            raise Quarantine("map.mismatch", f"object {item} is {seen[item]} and {name}")
        made[number] = Instance(id=name if view == "classes" else str(item), category=name)
    return made
