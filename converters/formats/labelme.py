"""labelme: a JSON for each picture, whose `shapes` are what somebody drew on it.

Conventions (labelme's own export, wkentaro/labelme, examples/instance_segmentation): points are pixels from 0 of the
picture as it is to be seen; a rectangle is any two opposite corners, a circle its center and a point of its rim; shapes
of one label and one `group_id` are parts of one object. `imagePath` is relative to the JSON file and may be written
with back-slashes. A mask is a picture of the rectangle that its two points span, both ends included. A rectangle is a
box and no outline. Points and lines have no area: such an object is there, but nobody said where it ends.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

import msgspec
import numpy as np

from converters import text_layouts
from converters.formats.coco_instances import Pixels
from converters.json_files import decode
from converters.shapes import (
    Outline,
    Size,
    corners_box,
    document,
    ellipse,
    finite,
    gather,
    outline_mask,
    outlines_box,
    size_of,
    united,
)
from dataengine.annotation import (
    Annotation,
    Box,
    Image,
    Instance,
    Label,
    LabelSpace,
    Origin,
    Rejected,
    Rle,
)
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.geometry import quad_box, rle_box, rle_from_mask
from dataengine.images import decode as decode_picture
from dataengine.listing import Fit, Listing, name_splits, several

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the folder of the JSON files, with the folders in it.

    A picture is the one that the file names (`media: path`, relative to the file; with `images` only its last part, in
    that folder), or has the file's name and `extension` (`media: stem`). `labels` are the categories; without them they
    are the names that occur in the files of the split. Shapes labelled with a name of `ignored` are neither object nor
    background. `exhaustive` as in `coco_instances`.
    """

    annotations: str = ""
    images: str | None = None
    media: Literal["path", "stem"] = "path"
    extension: str = "jpg"
    labels: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ("__ignore__",)
    exhaustive: bool = True


class RawShape(msgspec.Struct):
    label: str
    points: list[tuple[float | None, float | None]]
    shape_type: str | None = "polygon"
    group_id: int | str | None = None
    mask: str | None = None
    description: str | None = None


class RawFile(msgspec.Struct):
    shapes: list[msgspec.Raw]
    imagePath: str | None = None
    imageWidth: Pixels | None = None
    imageHeight: Pixels | None = None


class RawNamed(msgspec.Struct):
    label: str


_shape = msgspec.json.Decoder(RawShape)
_named = msgspec.json.Decoder(RawNamed)
_NO_AREA = frozenset({"point", "points", "line", "linestrip"})


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the declared categories in their order, or else all names that occur, sorted."""
    names = source.labels or sorted(
        {name for file in _files(source, root) for name in _names(source, root, file)}
    )
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in names))


def _names(source: Source, root: Root, file: str) -> set[str]:
    try:
        raw = _document(file, root)
    except Quarantine:
        return set()
    found = {_label(data) for data in raw.shapes}
    return {name for name in found if name and name not in source.ignored}


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds labelme's files: a JSON with shapes and imagePath for each picture."""
    files = [file for file in listing.ending(".json") if {"shapes", "imagePath"} <= listing.keys(file)]
    if not files:
        return "no JSON file has shapes and imagePath"
    splits, masked = [], False
    # The first file of each folder speaks for it.
    firsts = {text_layouts.parent(file): file for file in reversed(files)}
    for folder, file in sorted(firsts.items())[:_FOLDERS]:
        keys = _picture_keys(listing, file)
        if keys is not None:
            splits.append((folder or "train", {"annotations": folder, **keys}))
        masked = masked or listing.first(file, "shapes").get("shape_type") not in ("rectangle", "point")
    if not splits:
        return f"{files[0]}: no picture is called as it says, nor as itself"
    tasks = ("detection", "instance_segmentation") if masked else ("detection",)
    return Fit(
        splits=name_splits(splits), tasks=tasks, why=f"{several(files)}: shapes and imagePath", certainty=3
    )


_FOLDERS = 50


def _picture_keys(listing: Listing, file: str) -> dict[str, str] | None:
    """Return the keys that find the picture of a file, or None."""
    head = listing.json(file)
    try:
        name = msgspec.json.decode(head["imagePath"], type=str) if isinstance(head, dict) else ""
    except msgspec.DecodeError:
        name = ""
    try:
        if name and _path(Source(), RawFile(shapes=[], imagePath=name), file) in listing.pictures:
            return {}
    except Quarantine:
        pass
    stem = f"{PurePosixPath(file).stem}.jpg"
    for stated, keys in ((PurePosixPath(name.replace("\\", "/")).name, {}), (stem, {"media": "stem"})):
        folder = listing.picture_folder(stated) if stated else None
        if folder is not None:
            return {"images": folder, **keys}
    return None


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a file, in the order of the names, and a rejection a defective shape."""
    for file in _files(source, root):
        key = str(PurePosixPath(file).relative_to(PurePosixPath(source.annotations)).with_suffix(""))
        origin = Origin(file=file, record="document")
        try:
            yield from _annotate(source, root, _document(file, root), key, origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)


def _files(source: Source, root: Root) -> list[str]:
    folder = PurePosixPath(source.annotations)
    root.annotation(str(folder), "annotations")
    files = root.glob(f"{folder}/**/*.json")
    if not files:
        raise SourceError(f"{root.directory / folder}: no JSON file; the spec needs it as source.annotations")
    return files


def _document(file: str, root: Root) -> RawFile:
    return document(file, root, "annotations", RawFile, "a labelme file: shapes, imagePath")


def _label(data: msgspec.Raw) -> str:
    try:
        return decode(data, _named).label.strip()
    except Quarantine:
        return ""


def _annotate(
    source: Source, root: Root, raw: RawFile, key: str, origin: Origin
) -> Iterator[Annotation | Rejected]:
    image = Image(
        path=_path(source, raw, origin.file), width=raw.imageWidth or None, height=raw.imageHeight or None
    )
    size = size_of(image, root)
    found = gather(
        ((f"shapes[{number}]", data) for number, data in enumerate(raw.shapes)),
        lambda place, data: _instance(source, place, decode(data, _shape), size),
        lambda data: _category(source, _label(data)),
        key,
        origin.file,
    )
    yield Annotation(
        key=key,
        images=(image,),
        instances=tuple(united(found.instances)),
        exhaustive=source.exhaustive and found.known,
        origin=origin,
    )
    yield from found.rejected


def _path(source: Source, raw: RawFile, file: str) -> str:
    """Return the picture's path inside the root. Raises Quarantine `field.missing`."""
    if source.media == "stem":
        name = f"{PurePosixPath(file).stem}.{source.extension}"
    else:
        name = (raw.imagePath or "").replace("\\", "/")
        if not name:
            raise Quarantine("field.missing", "the file names no imagePath")
    if source.images is not None:
        return str(PurePosixPath(source.images) / PurePosixPath(name).name)
    parts: list[str] = []
    for part in (PurePosixPath(file).parent / name).parts:
        # A step up and down again stays inside; one that climbs out is for the root to refuse.
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        else:
            parts.append(part)
    return str(PurePosixPath(*parts))


def _category(source: Source, label: str) -> str | None:
    known = label and label not in source.ignored and (not source.labels or label in source.labels)
    return label if known else None


def _instance(source: Source, place: str, raw: RawShape, size: Size) -> Instance:
    label = raw.label.strip()
    ignored = label in source.ignored
    if not ignored and _category(source, label) is None:
        raise Quarantine(*(("category.unknown", f"{label!r} is not among the labels") if label
                           else ("schema", "the shape has no label")))  # fmt: skip
    box, mask = _geometry(raw, size)
    return Instance(
        id=place if raw.group_id is None or ignored else f"{label}/{raw.group_id}",
        category=None if ignored else label,
        box=box,
        mask=mask,
        quad=_quad(raw),
        attributes={"description": raw.description} if raw.description else {},
        ignore=ignored,
    )


def _quad(raw: RawShape) -> tuple[float, float, float, float, float, float, float, float] | None:
    if raw.shape_type != "oriented_rectangle" or len(raw.points) != 4:
        return None
    a, b, c, d, e, f, g, h = finite((value for point in raw.points for value in point), "points")
    return (a, b, c, d, e, f, g, h)


def _geometry(raw: RawShape, size: Size) -> tuple[Box | None, Rle | None]:
    """Return the box and the mask of a shape, as far as it has them. Raises Quarantine."""
    outline: Outline = finite((value for point in raw.points for value in point), "points")
    points = list(zip(outline[0::2], outline[1::2], strict=True))
    kind = raw.shape_type or "polygon"
    if kind in _NO_AREA:
        return None, None
    wanted = {"rectangle": 2, "circle": 2, "mask": 2, "oriented_rectangle": 4}.get(kind)
    if wanted is not None and len(points) != wanted and not (kind == "rectangle" and len(points) == 4):
        raise Quarantine("polygon.invalid", f"the {kind} has {len(points)} points, expected {wanted}")
    match kind:
        case "rectangle":
            # Newer versions write all four corners.
            return (corners_box(*points) if len(points) == 2 else quad_box(outline)), None
        case "circle":
            radius = math.dist(*points)
            outline = ellipse(points[0], (radius, radius))
        case "mask":
            mask = _drawn(raw.mask or "", corners_box(*points), size)
            return rle_box(mask), mask
        case "polygon" | "oriented_rectangle":
            pass
        case _:
            raise Quarantine("schema", f"shape_type is {kind!r}, which no version of labelme writes")
    return outlines_box([outline]), outline_mask([outline], size)


def _drawn(text: str, box: Box, size: Size) -> Rle:
    """Return the mask that a base64 picture of a part of the image shows. Raises Quarantine `mask.invalid`."""
    try:
        drawn = decode_picture(base64.b64decode(text, validate=True))[:, :, 0] > 0
    except (binascii.Error, ValueError) as error:
        raise Quarantine("mask.invalid", f"the mask is no base64: {error}") from error
    except Quarantine as error:
        raise Quarantine("mask.invalid", f"the mask is no picture: {error.detail}") from error
    height, width = drawn.shape
    x, y = round(box[0]), round(box[1])
    if x < 0 or y < 0 or x + width > size[0] or y + height > size[1]:
        raise Quarantine("mask.invalid", f"the mask is {width} x {height} at {x}, {y} and leaves the picture")
    whole = np.zeros((size[1], size[0]), np.uint8)
    whole[y : y + height, x : x + width] = drawn
    return rle_from_mask(whole)
