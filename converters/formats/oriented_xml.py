"""Turned objects in XML, one file a picture: FAIR1M, HRSC2016, and the `robndbox` of roLabelImg, DIOR-R and MAR20.

Conventions, all in pixels from 0:
`fair1m` (FAIR1M, annotation format): objects/object with possibleresult/name and points/point, "x,y" each, five of them
where the last repeats the first; `coordinate` says pixel.
`hrsc` (HRSC2016, mmrotate/datasets/hrsc.py): HRSC_Objects/HRSC_Object with Class_ID and mbox_cx, mbox_cy, mbox_w,
mbox_h, mbox_ang; the angle in radians, clockwise as one sees the picture, from the x axis to the side called w.
`robndbox` (roLabelImg): VOC's object with robndbox/cx, cy, w, h, angle, which means the same; DIOR-R and MAR20 write
the corners x_left_top, y_left_top, … there instead. An object with a plain bndbox is upright.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal
from xml.etree.ElementTree import Element

import msgspec

from converters.file_pairs import Pair, pairs, sized
from converters.formats.voc_xml import parse
from converters.outlines import Size, box_corners, numbers, outline, turned
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root

VERSION = "1"

Layout = Literal["fair1m", "hrsc", "robndbox"]
MAX_SIDE = 1_000_000
_ROOTS: dict[Layout, str] = {"fair1m": "annotation", "hrsc": "HRSC_Image", "robndbox": "annotation"}
_OBJECTS: dict[Layout, str] = {
    "fair1m": "objects/object", "hrsc": "HRSC_Objects/HRSC_Object", "robndbox": "object",
}  # fmt: skip
_NAMES: dict[Layout, str] = {"fair1m": "possibleresult/name", "hrsc": "Class_ID", "robndbox": "name"}
_SIZES: dict[Layout, tuple[str, str]] = {
    "fair1m": ("size/width", "size/height"),
    "hrsc": ("Img_SizeWidth", "Img_SizeHeight"),
    "robndbox": ("size/width", "size/height"),
}
_CORNERS = [
    f"{axis}_{corner}" for corner in ("left_top", "right_top", "right_bottom", "left_bottom") for axis in "xy"
]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the folder of the XML files, `images` the folder or folders of the pictures of the same names.

    `image_set` is a list file of names; without it every XML in the folder is read. `names` gives the categories other
    names (HRSC2016's are numbers); several may share one. `labels` are the categories; without them they are those of
    `names`, or else those that occur. `exhaustive` as in `coco_instances`.
    """

    annotations: str
    layout: Layout
    images: str | tuple[str, ...] = ""
    image_set: str | None = None
    extensions: tuple[str, ...] = ("jpg",)
    names: dict[str, str] = {}
    labels: tuple[str, ...] = ()
    exhaustive: bool = True


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the declared categories in their order, or else all that occur, sorted."""
    names = (
        source.labels
        or tuple(dict.fromkeys(source.names.values()))
        or tuple(sorted(_occurring(source, root)))
    )
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in names))


def _occurring(source: Source, root: Root) -> set[str]:
    found = set[str]()
    for pair in _pairs(source, root):
        if isinstance(pair, Pair):
            try:
                document = parse(root.read(pair.file, "annotations"), _ROOTS[source.layout])
            except Quarantine:
                continue  # `read` says what is wrong with it
            found.update(
                _text(item, _NAMES[source.layout]) for item in document.findall(_OBJECTS[source.layout])
            )
    return found - {""}


def _pairs(source: Source, root: Root) -> Iterator[Pair | Rejected]:
    return pairs(
        root,
        source.annotations,
        source.images,
        suffix=".xml",
        extensions=source.extensions,
        image_set=source.image_set,
    )


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a file, and a rejection a defective object, which stays as an ignored one."""
    for item in sized(_pairs(source, root), root):
        if isinstance(item, Rejected):
            yield item
            continue
        pair, size = item
        try:
            document = parse(root.read(pair.file, "annotations"), _ROOTS[source.layout])
        except Quarantine as error:
            yield Rejected(
                key=pair.stem, reason=error.reason, detail=error.detail, origin=pair.origin("annotation")
            )
            continue
        yield from _annotate(source, pair, size, document)


def _annotate(
    source: Source, pair: Pair, size: Size | None, document: Element
) -> Iterator[Annotation | Rejected]:
    instances, rejected = list[Instance](), list[Rejected]()
    for number, item in enumerate(document.findall(_OBJECTS[source.layout])):
        category = None
        try:
            category = _category(source, item)
            shape = outline(_points(source.layout, item), size)
            instances.append(
                Instance(
                    id=str(number),
                    category=category,
                    box=shape.box,
                    quad=shape.quad,
                    mask=shape.mask,
                    difficult=_text(item, "difficult") not in ("", "0"),
                )
            )
        except Quarantine as error:
            rejected.append(pair.reject(f"object[{number}]", error))
            instances.append(Instance(id=str(number), category=category, ignore=True))
    width, height = (_side(document, path) for path in _SIZES[source.layout])
    yield Annotation(
        key=pair.stem,
        images=(Image(path=pair.image, width=width, height=height),),
        instances=tuple(instances),
        exhaustive=source.exhaustive and all(item.category is not None for item in instances),
        origin=pair.origin("annotation"),
    )
    yield from rejected


def _category(source: Source, item: Element) -> str:
    stated = _text(item, _NAMES[source.layout])
    if not stated:
        raise Quarantine("schema", f"the object has no {_NAMES[source.layout]}")
    name = source.names.get(stated, "" if source.names else stated)
    if not name or (source.labels and name not in source.labels):
        raise Quarantine("category.unknown", f"{stated!r} is not among the categories")
    return name


def _points(layout: Layout, item: Element) -> list[float]:
    """Return the corners of an object. Raises Quarantine `schema` or `polygon.invalid`."""
    match layout:
        case "fair1m":
            unit = _text(item, "coordinate")
            if unit not in ("", "pixel"):
                raise Quarantine("schema", f"coordinates are {unit!r}, expected 'pixel'")
            points = numbers(
                [value for one in item.findall("points/point") for value in (one.text or "").split(",")]
            )
            return points[:-2] if len(points) > 6 and points[:2] == points[-2:] else points
        case "hrsc":
            cx, cy, w, h, angle = numbers(
                [_text(item, f"mbox_{key}") for key in ("cx", "cy", "w", "h", "ang")]
            )
            return turned(cx, cy, w, h, angle)
        case "robndbox":
            return _robndbox(item)


def _robndbox(item: Element) -> list[float]:
    box, upright = item.find("robndbox"), item.find("bndbox")
    if box is not None and box.find("cx") is not None:
        cx, cy, w, h, angle = numbers([_text(box, key) for key in ("cx", "cy", "w", "h", "angle")])
        return turned(cx, cy, w, h, angle)
    if box is not None:
        return numbers([_text(box, key) for key in _CORNERS])
    if upright is not None:
        return box_corners(numbers([_text(upright, key) for key in ("xmin", "ymin", "xmax", "ymax")]))
    raise Quarantine("schema", "the object has no robndbox and no bndbox")


def _side(document: Element, path: str) -> int | None:
    """Return a stated size in pixels; 0 and anything that no picture has say nothing."""
    text = _text(document, path)
    return (
        int(text)
        if text.isascii() and text.isdigit() and len(text) < 8 and 0 < int(text) <= MAX_SIDE
        else None
    )


def _text(item: Element, path: str) -> str:
    return (item.findtext(path) or "").strip()
