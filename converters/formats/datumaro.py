"""Datumaro's own JSON: items with their annotations, and the categories that they name by position.

Conventions (openvinotoolkit/datumaro, plugins/data_formats/datumaro): pixels from 0; a bbox is x, y, width, height;
points are a flat list, those of an ellipse its upright box; `rle` is COCO's run-length code; the `size` of an image is
[height, width]. Polygons and masks of one `group` (0 is none) and one label are parts of one object, as in its export
to COCO. `label` and `caption` are about the whole picture. Lines, points and cuboids have no area: such an object is
there, but nobody said where it ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from converters.formats.coco_instances import Pixels
from converters.json_files import decode, load
from converters.shapes import (
    Size,
    code_mask,
    ellipse,
    finite,
    gather,
    outline_mask,
    outlines_box,
    size_of,
    united,
)
from dataengine.annotation import Annotation, Caption, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import from_xywh, rle_box
from dataengine.listing import Fit, Listing, name_splits, several

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON file, `images` the folder that the paths in it start from.

    That is `images`, or the subset's folder in it. `exhaustive` as in `coco_instances`.
    """

    annotations: str
    images: str = "images"
    exhaustive: bool = True


class RawRle(msgspec.Struct):
    size: tuple[int, int]
    counts: list[int] | str


class RawAnnotation(msgspec.Struct):
    type: str
    id: int | None = None
    label_id: int | None = None
    group: int | None = None
    bbox: tuple[float, float, float, float] | None = None
    points: list[float] = []
    rle: RawRle | None = None
    caption: str | None = None
    attributes: dict[str, Any] = {}


class RawTyped(msgspec.Struct):
    type: str
    label_id: int | None = None


class RawMedia(msgspec.Struct):
    path: str = ""
    size: tuple[Pixels, Pixels] | None = None


class RawItem(msgspec.Struct):
    id: str
    annotations: list[msgspec.Raw] = []
    image: RawMedia | None = None
    media: RawMedia | None = None


class RawLabel(msgspec.Struct):
    name: str


class RawLabels(msgspec.Struct):
    labels: list[RawLabel] = []


class RawCategories(msgspec.Struct):
    label: RawLabels = msgspec.field(default_factory=RawLabels)


class RawFile(msgspec.Struct):
    items: list[msgspec.Raw]
    categories: RawCategories = msgspec.field(default_factory=RawCategories)


_item = msgspec.json.Decoder(RawItem)
_annotation = msgspec.json.Decoder(RawAnnotation)
_typed = msgspec.json.Decoder(RawTyped)
_TEXTS = frozenset({"caption", "label", "hash_key"})


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the categories in their order; a name that stands twice stands once. Raises SourceError."""
    names = dict.fromkeys(_names(_load(source, root)))
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in names))


def _load(source: Source, root: Root) -> RawFile:
    return load(source.annotations, root, "annotations", RawFile, "a Datumaro file: items, categories")


def _names(raw: RawFile) -> list[str]:
    return [label.name.strip() for label in raw.categories.label.labels]


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds Datumaro's JSON: items and categories."""
    files = [file for file in listing.ending(".json") if {"items", "categories"} <= listing.keys(file)]
    if not files:
        return "no JSON file has items and categories"
    splits = []
    for file in files:
        item = listing.first(file, "items")
        media = item.get("image") or item.get("media")
        folder = listing.picture_folder(str(media.get("path") or "")) if isinstance(media, dict) else None
        if folder is not None:
            splits.append((file, {"annotations": file, "images": folder}))
    if not splits:
        return f"{files[0]}: its pictures are not in the folder"
    return Fit(
        splits=name_splits(splits),
        tasks=("detection",),
        why=f"{several(files)}: items and categories",
        certainty=3,
    )


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection an item, in file order, and a rejection a defective annotation."""
    raw = _load(source, root)
    names = _names(raw)
    seen = set[str]()
    for number, data in enumerate(raw.items):
        origin = Origin(file=source.annotations, record=f"items[{number}]")
        key = origin.record
        try:
            item = decode(data, _item)
            key = item.id
            if key in seen:
                raise Quarantine("id.duplicate", f"an item {key!r} came before")
            seen.add(key)
            yield from _annotate(source, root, names, item, origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)


def _annotate(
    source: Source, root: Root, names: Sequence[str], item: RawItem, origin: Origin
) -> Iterator[Annotation | Rejected]:
    stated = item.image or item.media or RawMedia()
    name = stated.path or f"{item.id}.jpg"
    size = stated.size or (0, 0)
    image = Image(
        path=f"{source.images}/{name}" if source.images else name,
        width=size[1] or None,
        height=size[0] or None,
    )
    records = [
        (f"{origin.record}.annotations[{number}]", data) for number, data in enumerate(item.annotations)
    ]
    texts = [(place, data) for place, data in records if _type(data) in _TEXTS]
    found = gather(
        ((place, data) for place, data in records if _type(data) not in _TEXTS),
        lambda place, data: _instance(root, names, image, place, decode(data, _annotation)),
        lambda data: _known(names, data),
        item.id,
        origin.file,
    )
    classes, captions, rejected = list[str](), list[Caption](), list(found.rejected)
    for place, data in texts:
        try:
            raw = decode(data, _annotation)
            if raw.type == "label":
                classes.append(_category(names, raw.label_id))
            elif raw.type == "caption":
                captions.append(Caption(id=f"c{len(captions)}", text=raw.caption or ""))
        except Quarantine as error:
            where = Origin(file=origin.file, record=place)
            rejected.append(
                Rejected(key=f"{item.id}.{place}", reason=error.reason, detail=error.detail, origin=where)
            )
    yield Annotation(
        key=item.id,
        images=(image,),
        instances=tuple(united(found.instances)),
        captions=tuple(captions),
        labels=tuple(dict.fromkeys(classes)),
        exhaustive=source.exhaustive and found.known,
        origin=origin,
    )
    yield from rejected


def _type(data: msgspec.Raw) -> str:
    try:
        return decode(data, _typed).type
    except Quarantine:
        return ""


def _known(names: Sequence[str], data: msgspec.Raw) -> str | None:
    try:
        return _category(names, decode(data, _typed).label_id)
    except Quarantine:
        return None


def _category(names: Sequence[str], label_id: int | None) -> str:
    if label_id is None or not 0 <= label_id < len(names) or not names[label_id]:
        raise Quarantine("category.unknown", f"label_id is {label_id}, and there are {len(names)} labels")
    return names[label_id]


def _instance(root: Root, names: Sequence[str], image: Image, place: str, raw: RawAnnotation) -> Instance:
    category = _category(names, raw.label_id)
    item = Instance(
        id=f"{category}/{raw.group}" if raw.group and raw.type in ("polygon", "mask") else place,
        category=category,
        attributes={
            key: str(value) for key, value in raw.attributes.items() if isinstance(value, str | bool | int)
        },
        crowd=raw.attributes.get("is_crowd") is True,
    )
    match raw.type:
        case "bbox":
            if raw.bbox is None:
                raise Quarantine("schema", "the annotation has no bbox")
            return msgspec.structs.replace(item, box=from_xywh(finite(raw.bbox, "bbox")))
        case "polygon":
            outline = finite(raw.points, "points")
            mask = outline_mask([outline], size_of(image, root))
            return msgspec.structs.replace(item, box=outlines_box([outline]), mask=mask)
        case "mask":
            if raw.rle is None:
                raise Quarantine("schema", "the annotation has no rle")
            size: Size | None = (image.width, image.height) if image.width and image.height else None
            mask = code_mask(raw.rle.counts, raw.rle.size, size)
            return msgspec.structs.replace(item, box=rle_box(mask), mask=mask)
        case "ellipse":
            x0, y0, x1, y1 = _four(raw.points)
            outline = ellipse(((x0 + x1) / 2, (y0 + y1) / 2), ((x1 - x0) / 2, (y1 - y0) / 2))
            mask = outline_mask([outline], size_of(image, root))
            return msgspec.structs.replace(item, box=(x0, y0, x1, y1), mask=mask)
        case "polyline" | "points" | "cuboid_3d" | "cuboid_2d":
            return item
    raise Quarantine("schema", f"the type is {raw.type!r}, which this layout does not have")


def _four(points: list[float]) -> list[float]:
    if len(points) != 4:
        raise Quarantine("schema", f"the ellipse has {len(points)} numbers, expected x1, y1, x2, y2")
    return finite(points, "points")
