"""Cityscapes: beside each picture a map of instance ids, or the polygons that it was drawn from.

Conventions (cityscapesScripts, helpers/labels.py and preparation/json2instanceImg.py): a pixel below 1000 is a label;
from 1000 on it is label x 1000 + number of the object. A label with objects below 1000 is a group whose objects
nobody told apart (`cargroup` in the polygons): a crowd. Polygons are painted in the order of the file, so later ones
cover earlier ones; a label without an id (license plate) is not painted. The labels that the benchmark leaves out of
its nineteen classes are ignored pixels. Maps of 16 bits saved with 8 have lost their objects: what is left reads as
groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from converters import path_patterns, pixel_maps
from converters.json_files import decode
from converters.pixel_maps import Array, Meanings, Runs
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import MAX_COORDINATE
from dataengine.images import MAX_PIXELS

VERSION = "1"

OBJECTS = 1000
KITTI_OBJECTS = 256


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`maps` are the instance ids (`gtFine/train/{city}/{name}_gtFine_instanceIds.png`) or the polygons (.json).

    `images` names the picture of each; words in braces as in `label_maps`. `view` says what an instance is: all pixels
    of a class (`classes`), an object of a thing and all pixels of a stuff (`panoptic`), or an object alone (`objects`).
    `coding: kitti` says that a pixel is label x 256 + number of the object, 0 for none.
    """

    maps: str
    images: str
    view: Literal["classes", "panoptic", "objects"] = "panoptic"
    coding: Literal["cityscapes", "kitti"] = "cityscapes"

    def __post_init__(self) -> None:
        """Raise ValueError where `images` has a word that `maps` lacks."""
        path_patterns.check({"images": self.images}, self.maps, "maps")


class Kind(NamedTuple):
    """A label: its name, whether it has single objects, whether the benchmark asks for it."""

    name: str
    thing: bool = False
    asked: bool = True


_STUFF = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky",
}  # fmt: skip
_THINGS = {
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
_VOID = {
    0: "unlabeled", 1: "ego vehicle", 2: "rectification border", 3: "out of roi", 4: "static", 5: "dynamic",
    6: "ground", 9: "parking", 10: "rail track", 14: "guard rail", 15: "bridge", 16: "tunnel", 18: "polegroup",
    29: "caravan", 30: "trailer",
}  # fmt: skip
KINDS = dict(
    sorted(
        {
            **{number: Kind(name) for number, name in _STUFF.items()},
            **{number: Kind(name, thing=True) for number, name in _THINGS.items()},
            **{number: Kind(name, asked=False) for number, name in _VOID.items()},
        }.items()
    )
)
_NUMBERS = {kind.name: number for number, kind in KINDS.items()}
_UNPAINTED = ("license plate",)


class RawObject(msgspec.Struct):
    label: str
    polygon: list[tuple[float, float]]
    deleted: int | bool = False


class RawPolygons(msgspec.Struct):
    imgHeight: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    imgWidth: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    objects: list[RawObject]


_polygons = msgspec.json.Decoder(RawPolygons)


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the classes that the benchmark asks for: nineteen, or the eight that have objects."""
    kinds = [kind for kind in KINDS.values() if kind.asked and (kind.thing or source.view != "objects")]
    return LabelSpace(id="source", labels=tuple(Label(name=kind.name) for kind in kinds))


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a map, in the order of the names."""
    for file, parts in path_patterns.find(source.maps, root, "maps"):
        key = path_patterns.key(source.images, parts)
        origin = Origin(file=file, record="map")
        try:
            data = pixel_maps.load(file, root, "maps")
            values = paint(data) if file.endswith(".json") else pixel_maps.grey(pixel_maps.decode(data))
            found = pixel_maps.runs(values)
            instances = pixel_maps.cut(found, _meanings(found, source.view, source.coding))
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
            continue
        image = Image(path=path_patterns.fill(source.images, parts))
        yield Annotation(key=key, images=(image,), instances=instances, origin=origin)


def _meanings(found: Runs, view: str, coding: str) -> Meanings:
    """Return what the numbers of a map mean; one of no label has no meaning."""
    made: Meanings = {}
    for number in pixel_maps.numbers(found):
        if coding == "kitti":
            label, single = number // KITTI_OBJECTS, number % KITTI_OBJECTS > 0
        else:
            single = number >= OBJECTS
            label = number // OBJECTS if single else number
        kind = KINDS.get(label)
        if kind is None:
            continue
        if not kind.asked:
            made[number] = pixel_maps.IGNORED
        elif view == "classes":
            made[number] = Instance(id=kind.name, category=kind.name)
        elif kind.thing:
            made[number] = Instance(id=str(number), category=kind.name, crowd=not single)
        else:
            made[number] = Instance(id=str(number), category=kind.name) if view == "panoptic" else None
    return made


def paint(data: bytes) -> Array:
    """Return the map of instance ids that a file of polygons draws.

    Raises Quarantine `schema`, `polygon.invalid`, `category.unknown` and `map.too_large`.
    """
    record = decode(data, _polygons)
    if record.imgHeight * record.imgWidth > MAX_PIXELS:
        raise Quarantine("map.too_large", f"{record.imgWidth} x {record.imgHeight} pixels")
    canvas = Pillow.new("I", (record.imgWidth, record.imgHeight))
    draw = ImageDraw.Draw(canvas)
    seen: dict[int, int] = {}
    for place, item in enumerate(record.objects):
        group = item.label.endswith("group") and item.label not in _NUMBERS
        name = item.label.removesuffix("group") if group else item.label
        if item.deleted or name in _UNPAINTED:
            continue
        if name not in _NUMBERS:
            raise Quarantine("category.unknown", f"objects[{place}]: {item.label!r} is no label")
        points = [(int(x), int(y)) for x, y in item.polygon if abs(x) <= MAX_COORDINATE >= abs(y)]
        if len(points) < 3 or len(points) < len(item.polygon):
            raise Quarantine(
                "polygon.invalid", f"objects[{place}]: not three or more points near the picture"
            )
        number = _NUMBERS[name]
        value = number
        if KINDS[number].thing and not group:
            value = number * OBJECTS + seen.get(number, 0)
            seen[number] = seen.get(number, 0) + 1
        draw.polygon(points, fill=value)
    return np.asarray(canvas)
