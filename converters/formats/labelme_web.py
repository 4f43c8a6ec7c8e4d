"""LabelMe's older web tool: an XML for each picture, whose objects are polygons, or masks in files of their own.

Conventions (labelme.csail.mit.edu, the tool's annotation format): points are pixels of the picture as it is seen, from
0; `type` `bounding_box` says that a polygon of four corners is a box and no outline. An object of `segm` has a mask in
a picture as large as the annotated one, every pixel that is not black. `deleted` is 1 where somebody took an object
back. `parts` says which objects are parts of which: each is an object. Names are free text, and nobody checked that
everything in a picture has an outline.

It is another layout than `labelme`, which the tool of that name writes as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from glob import escape
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

import msgspec
import numpy as np

from converters import pixel_maps
from converters.formats.voc_xml import parse
from converters.shapes import Size, finite, gather, outline_mask, outlines_box, size_of
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.geometry import rle_box, rle_from_mask
from dataengine.listing import Fit, Listing, name_splits, several

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the folder of the XML files, with the folders in it; `images` and `masks` have the same folders.

    `labels` are the categories; without them they are the names that occur in the files of the split. `exhaustive` as
    in `coco_instances`.
    """

    annotations: str = "Annotations"
    images: str = "Images"
    masks: str = "Masks"
    labels: tuple[str, ...] = ()
    exhaustive: bool = False


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the declared categories, or all names that occur, sorted. Raises SourceError."""
    found = dict.fromkeys(source.labels)
    if not found:
        names = {_name(item) for file in _files(source, root) for item in _objects(source, root, file)}
        found = dict.fromkeys(sorted(names - {""}))
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in found))


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds XML files with polygons of objects, and the pictures that they name."""
    files, folders = [], dict[tuple[str, str], None]()
    for file in listing.ending(".xml")[:50]:
        try:
            document = parse(listing.read(file))
        except Quarantine:
            continue
        if document.find("imagesize") is None and document.find("object/polygon/pt") is None:
            continue
        folder = listing.picture_folder(_text(document, "filename"))
        if folder is not None:
            files.append(file)
            folders.setdefault(_tops(PurePosixPath(file).parent, PurePosixPath(folder)))
    if not files:
        return "no XML file has objects with polygons and a picture in the folder"
    splits: list[tuple[str, dict[str, object]]] = [
        (inner, {"annotations": inner, "images": folder}) for inner, folder in folders
    ]
    return Fit(
        splits=name_splits(splits),
        tasks=("detection", "instance_segmentation"),
        why=f"{several(files)}: objects with polygons",
        certainty=3,
    )


def _tops(annotations: PurePosixPath, images: PurePosixPath) -> tuple[str, str]:
    """Return two folders without the folders in them that have the same names."""
    while annotations.name and annotations.name == images.name:
        annotations, images = annotations.parent, images.parent
    return str(annotations), str(images)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a file, in the order of their names, and a rejection a defective object."""
    names = frozenset(labels(source, root).names)
    for file in _files(source, root):
        key = _below(source, file).removesuffix(".xml")
        try:
            yield from _annotate(source, root, names, file, key)
        except Quarantine as error:
            origin = Origin(file=file, record="file")
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)


def _files(source: Source, root: Root) -> list[str]:
    found = root.glob(str(PurePosixPath(escape(source.annotations)) / "**" / "*.xml"))
    if not found:
        raise SourceError(
            f"{root.directory / source.annotations}: no XML file; the spec needs it as source.annotations"
        )
    return found


def _below(source: Source, file: str) -> str:
    return PurePosixPath(file).relative_to(source.annotations).as_posix()


def _objects(source: Source, root: Root, file: str) -> list[Element]:
    """Return the objects of a file that nobody took back, and none of one that cannot be read."""
    try:
        return _present(parse(root.read(file, "annotations")))
    except Quarantine:
        return []


def _present(document: Element) -> list[Element]:
    return [item for item in document.iterfind("object") if _text(item, "deleted") != "1"]


def _annotate(
    source: Source, root: Root, names: frozenset[str], file: str, key: str
) -> Iterator[Annotation | Rejected]:
    document = parse(root.read(file, "annotations"))
    name = _text(document, "filename")
    if not name:
        raise Quarantine("field.missing", "the file names no picture")
    folder = PurePosixPath(_below(source, file)).parent
    image = Image(
        path=str(PurePosixPath(source.images) / folder / name),
        width=_number(document, "imagesize/ncols"),
        height=_number(document, "imagesize/nrows"),
    )
    found = gather(
        ((f"object[{number}]", item) for number, item in enumerate(_present(document))),
        lambda place, item: _instance(root, names, image, f"{source.masks}/{folder}", place, item),
        lambda item: _name(item) if _name(item) in names else None,
        key,
        file,
    )
    yield Annotation(
        key=key,
        images=(image,),
        instances=found.instances,
        exhaustive=source.exhaustive and found.known,
        origin=Origin(file=file, record="file"),
    )
    yield from found.rejected


def _instance(
    root: Root, names: frozenset[str], image: Image, masks: str, place: str, item: Element
) -> Instance:
    name = _name(item)
    if name not in names:
        raise Quarantine("category.unknown", f"{name!r} is not among the labels")
    attributes = {"occluded": "1"} if _text(item, "occluded") == "yes" else {}
    if stated := _text(item, "attributes"):
        attributes["attributes"] = stated
    made = Instance(id=_text(item, "id") or place, category=name, attributes=attributes)
    if item.find("segm") is not None:
        mask = _mask(root, f"{masks}/{_text(item, 'segm/mask')}", size_of(image, root))
        code = rle_from_mask(mask)
        return msgspec.structs.replace(made, box=rle_box(code), mask=code)
    outline = [
        value
        for point in item.iterfind("polygon/pt")
        for value in finite((_float(point, "x"), _float(point, "y")), "polygon")
    ]
    if not outline:
        raise Quarantine("schema", "the object has neither a polygon nor a mask")
    box = outlines_box([outline])
    if _text(item, "type") == "bounding_box":
        return msgspec.structs.replace(made, box=box)
    return msgspec.structs.replace(made, box=box, mask=outline_mask([outline], size_of(image, root)))


def _mask(root: Root, file: str, size: Size) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    drawn = (pixel_maps.brightness(pixel_maps.load(file, root, "masks")) > 0).astype(np.uint8)
    if drawn.shape != (size[1], size[0]):
        raise Quarantine(
            "map.size_mismatch",
            f"{file} is {drawn.shape[1]} x {drawn.shape[0]}, and the picture is {size[0]} x {size[1]}",
        )
    if not drawn.any():
        raise Quarantine("mask.empty", f"{file} is black")
    return drawn


def _name(item: Element) -> str:
    return _text(item, "name")


def _text(item: Element, path: str) -> str:
    return (item.findtext(path) or "").strip()


def _float(point: Element, key: str) -> float | None:
    try:
        return float(_text(point, key))
    except ValueError:
        return None


def _number(document: Element, path: str) -> int | None:
    """Return a stated size in pixels; 0 and anything that is no number say nothing."""
    text = _text(document, path)
    return int(text) if text.isdecimal() and len(text) < 8 and 0 < int(text) <= 1_000_000 else None
