"""VGG Image Annotator: a JSON that maps each picture to its regions.

Conventions (robots.ox.ac.uk/~vgg/software/via, versions 1 and 2): pixels from 0; `shape_attributes.name` says which
shape a region is: rect (x, y, width, height), polygon (all_points_x, all_points_y), circle (cx, cy, r), ellipse (cx,
cy, rx, ry, and theta in radians), point or polyline. Regions are a list, in version 1 a mapping. A project keeps the
pictures under `_via_img_metadata`. What a region is stands in one of its attributes, as a text or as a mapping of what
is ticked. The size of a picture is nowhere, so its header is asked. Points and lines have no area: such an object is
there, but nobody said where it ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from converters.json_files import decode, load
from converters.shapes import Outline, ellipse, finite, gather, outline_mask, outlines_box, size_of
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.geometry import from_xywh
from dataengine.listing import Fit, Listing, name_splits, several

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON file, or a pattern of several (one a picture); `images` the folder of the pictures.

    With `beside: true` a picture lies beside its file instead. `attribute` names the attribute that says what a region
    is; without it every region is of `category`. `labels` are the categories; without them they are the names that
    occur, or `category`. `exhaustive` as in `coco_instances`.
    """

    annotations: str
    images: str = ""
    beside: bool = False
    attribute: str | None = None
    category: str | None = None
    labels: tuple[str, ...] = ()
    exhaustive: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError where both or neither of the two say what a region is."""
        if (self.attribute is None) == (self.category is None):
            raise ValueError("expected attribute or category, which say what a region is")


class RawShape(msgspec.Struct):
    name: str
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    cx: float | None = None
    cy: float | None = None
    r: float | None = None
    rx: float | None = None
    ry: float | None = None
    theta: float | None = None
    all_points_x: list[float | None] = []
    all_points_y: list[float | None] = []


class RawAttributes(msgspec.Struct, kw_only=True):
    region_attributes: dict[str, Any] = {}


class RawRegion(RawAttributes, kw_only=True):
    shape_attributes: RawShape


class RawPicture(msgspec.Struct):
    filename: str
    regions: dict[str, msgspec.Raw] | list[msgspec.Raw] = {}


class RawProject(msgspec.Struct):
    images: dict[str, msgspec.Raw] = msgspec.field(name="_via_img_metadata")


_picture = msgspec.json.Decoder(RawPicture)
_attributes = msgspec.json.Decoder(RawAttributes)
_region = msgspec.json.Decoder(RawRegion)


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the declared categories in their order, or else all names that occur, sorted."""
    names = source.labels or ((source.category,) if source.category else tuple(sorted(_names(source, root))))
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in names))


def _names(source: Source, root: Root) -> set[str]:
    found = set[str]()
    for one in _pictures(source, root):
        if isinstance(one, Rejected):
            continue
        try:
            regions = _regions(decode(one[2], _picture))
        except Quarantine:
            continue
        found |= {name for _, region in regions if (name := _known(source, region))}
    return found


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds VIA's JSON: pictures with a filename and regions."""
    files, splits = [], []
    for file in listing.ending(".json"):
        picture = _first_picture(listing, file)
        if picture is None:
            continue
        files.append(file)
        folder = listing.picture_folder(str(picture["filename"]))
        if folder is not None:
            named = {"annotations": file, **({"images": folder} if folder else {})}
            splits.append((file, {**named, **_meaning(picture["regions"])}))
    if not splits:
        return (
            f"{files[0]}: its pictures are not in the folder"
            if files
            else "no JSON file has pictures with regions"
        )
    tasks = ("detection", "instance_segmentation")
    return Fit(
        splits=name_splits(splits), tasks=tasks, why=f"{several(files)}: pictures with regions", certainty=3
    )


def _first_picture(listing: Listing, file: str) -> dict[str, Any] | None:
    """Return the first picture of a file that has regions, or None."""
    head = listing.json(file)
    try:
        if isinstance(head, dict) and "_via_img_metadata" in head:
            head = msgspec.json.decode(head["_via_img_metadata"], type=dict[str, msgspec.Raw])
        for raw in head.values() if isinstance(head, dict) else ():
            value = msgspec.json.decode(raw)
            if not isinstance(value, dict) or not {"filename", "regions"} <= set(value):
                return None
            if value["regions"] and isinstance(value["regions"], dict | list):
                return value
    except (msgspec.DecodeError, RecursionError):
        return None
    return None


def _meaning(regions: Any) -> dict[str, str]:
    """Return the key that says what a region is: its first attribute, or one category for all."""
    region = next(iter(regions.values() if isinstance(regions, dict) else regions))
    said = region.get("region_attributes") if isinstance(region, dict) else None
    return {"attribute": next(iter(said))} if isinstance(said, dict) and said else {"category": "object"}


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture, in file order, and a rejection a defective region."""
    seen = set[str]()
    for found in _pictures(source, root):
        if isinstance(found, Rejected):
            yield found
            continue
        file, name, data = found
        origin, key = Origin(file=file, record=name), name
        try:
            picture = decode(data, _picture)
            path = _path(source, file, picture.filename)
            key = path.removeprefix(f"{source.images}/")
            if key in seen:
                raise Quarantine("id.duplicate", f"a picture {key!r} came before")
            seen.add(key)
            yield from _annotate(source, root, picture, Image(path=path), key, origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)


def _path(source: Source, file: str, name: str) -> str:
    if not name.strip():
        raise Quarantine("field.missing", "the picture has no filename")
    folder = file.rpartition("/")[0] if source.beside else source.images
    return f"{folder}/{name}" if folder else name


def _pictures(source: Source, root: Root) -> Iterator[tuple[str, str, msgspec.Raw] | Rejected]:
    """Yield (file, key, record) of each picture, and a rejection of a file among others that is none.

    Raises SourceError.
    """
    files = root.glob(source.annotations) if "*" in source.annotations else [source.annotations]
    if not files:
        raise SourceError(
            f"{root.directory}: no file matches {source.annotations!r}; the spec needs it as source.annotations"
        )
    for file in files:
        try:
            found = _content(file, root)
        except SourceError as error:
            if len(files) == 1:
                raise
            origin = Origin(file=file, record="file")
            yield Rejected(key=file, reason="schema", detail=str(error), origin=origin)
        else:
            yield from ((file, name, data) for name, data in found.items())


def _content(file: str, root: Root) -> dict[str, msgspec.Raw]:
    """Return the pictures of a file by key, as they stand. Raises SourceError."""
    expected = "a VIA file: a mapping of pictures, or a project"
    found = load(file, root, "annotations", dict[str, msgspec.Raw], expected)
    if "_via_img_metadata" in found:
        return load(file, root, "annotations", RawProject, expected).images
    return found


def _regions(picture: RawPicture) -> list[tuple[str, msgspec.Raw]]:
    regions = picture.regions
    pairs = regions.items() if isinstance(regions, dict) else enumerate(regions)
    return [(f"regions[{number}]", data) for number, data in pairs]


def _annotate(
    source: Source, root: Root, picture: RawPicture, image: Image, key: str, origin: Origin
) -> Iterator[Annotation | Rejected]:
    found = gather(
        ((f"{origin.record}.{place}", data) for place, data in _regions(picture)),
        lambda place, data: _instance(source, root, image, place, data),
        lambda data: _known(source, data),
        key,
        origin.file,
    )
    yield Annotation(
        key=key,
        images=(image,),
        instances=found.instances,
        exhaustive=source.exhaustive and found.known,
        origin=origin,
    )
    yield from found.rejected


def _known(source: Source, data: msgspec.Raw) -> str | None:
    try:
        return _category(source, decode(data, _attributes))
    except Quarantine:
        return None


def _category(source: Source, raw: RawAttributes) -> str:
    """Return what a region is. Raises Quarantine `field.missing`, `category.unknown`."""
    if source.attribute is None:
        assert source.category is not None
        return source.category
    value = raw.region_attributes.get(source.attribute)
    if isinstance(value, dict):
        ticked = [name for name, tick in value.items() if tick not in (False, "false", None)]
        value = ticked[0] if len(ticked) == 1 else None
    name = str(value).strip() if isinstance(value, str | int) else ""
    if not name:
        raise Quarantine("field.missing", f"the region has no one value of {source.attribute!r}")
    if source.labels and name not in source.labels:
        raise Quarantine("category.unknown", f"{name!r} is not among the labels")
    return name


def _instance(source: Source, root: Root, image: Image, place: str, data: msgspec.Raw) -> Instance:
    raw = decode(data, _region)
    item = Instance(id=place, category=_category(source, raw), attributes=_texts(source, raw))
    shape = raw.shape_attributes
    match shape.name:
        case "rect":
            numbers = finite((shape.x, shape.y, shape.width, shape.height), "rect")
            return msgspec.structs.replace(item, box=from_xywh(numbers))
        case "polygon":
            outline = _polygon(shape)
        case "circle":
            cx, cy, radius = finite((shape.cx, shape.cy, shape.r), "circle")
            outline = ellipse((cx, cy), (radius, radius))
        case "ellipse":
            cx, cy, rx, ry, theta = finite(
                (shape.cx, shape.cy, shape.rx, shape.ry, shape.theta or 0), "ellipse"
            )
            outline = ellipse((cx, cy), (rx, ry), math.degrees(theta))
        case "point" | "polyline" | "line":
            return item
        case _:
            raise Quarantine("schema", f"the shape is {shape.name!r}, which no version of VIA draws")
    return msgspec.structs.replace(
        item, box=outlines_box([outline]), mask=outline_mask([outline], size_of(image, root))
    )


def _polygon(shape: RawShape) -> Outline:
    xs, ys = shape.all_points_x, shape.all_points_y
    if len(xs) != len(ys):
        raise Quarantine("polygon.invalid", f"the polygon has {len(xs)} x and {len(ys)} y")
    return finite((value for point in zip(xs, ys, strict=True) for value in point), "polygon")


def _texts(source: Source, raw: RawAttributes) -> dict[str, str]:
    return {
        key: value
        for key, value in raw.region_attributes.items()
        if key != source.attribute and isinstance(value, str) and value
    }
