"""Pascal VOC: one XML a picture, and a list file that says which pictures belong to a split.

Conventions (VOC devkit documentation, section 8): the top left pixel is (1, 1) and both corners belong to the box, so
(xmin - 1, ymin - 1, xmax, ymax) is the box with origin 0 and an exclusive end. Look-alikes count from 0: `origin: 0`
takes their numbers as they stand. Parts of an object (head, hands) are no objects of their own and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from glob import escape
from pathlib import PurePosixPath
from typing import Literal
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import msgspec

from converters.box_lines import pixels
from dataengine.annotation import Annotation, Box, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.listing import PICTURE_ENDINGS, Fit, Listing, name_splits, several
from dataengine.spill import Keys

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the folder of the XML files, `images` the one of the pictures, `image_set` the list file.

    Without `image_set` every XML in the folder is read. A picture is named by the XML's own name and `extension`
    (`media: stem`), or by what it states (`media: filename`). `labels` are the categories; without them they are the
    names that occur in the files of the split. `exhaustive` as in `coco_instances`.
    """

    annotations: str = "Annotations"
    images: str = "JPEGImages"
    image_set: str | None = None
    origin: Literal[0, 1] = 1
    media: Literal["stem", "filename"] = "stem"
    extension: str = "jpg"
    labels: tuple[str, ...] = ()
    exhaustive: bool = True


_ENCODING = re.compile(rb"""^<\?xml[^>]*?\sencoding=["']([A-Za-z][\w.-]*)["']""")


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the declared categories in their order, or else all names that occur, sorted."""
    names = source.labels or sorted(
        {name for stem, _ in _stems(source, root) for name in _names(_document(source, root, stem)) if name}
    )
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in names))


def _names(document: Element | Rejected) -> list[str]:
    if isinstance(document, Rejected):
        return []
    return [_text(item, "name") for item in document.findall("object")]


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds Pascal VOC's XML: documents named annotation, and their pictures."""
    files = listing.ending(".xml")
    roots = {}
    for file in files[:50]:
        try:
            roots[file] = parse(listing.read(file))
        except Quarantine:
            continue
    if not roots:
        return "no XML file is an <annotation>" if files else "no XML file"
    file, document = next(iter(roots.items()))
    annotations = str(PurePosixPath(file).parent)
    stem = PurePosixPath(file).stem
    for media, names in (
        ("filename", [_text(document, "filename")]),
        ("stem", [f"{stem}{ending}" for ending in PICTURE_ENDINGS]),
    ):
        for name in names:
            folder = listing.picture_folder(name) if name else None
            if folder is None:
                continue
            keys = {"annotations": annotations, "images": folder, "media": media}
            if media == "stem":
                keys["extension"] = PurePosixPath(name).suffix.removeprefix(".")
            lists = [
                one for one in listing.ending(".txt") if "imagesets/main" in one.lower() and "_" not in one
            ]
            splits = [(one, {**keys, "image_set": one}) for one in lists] or [("train", keys)]
            why = f"{several(files)}: an <annotation> of {name}"
            return Fit(splits=name_splits(splits), tasks=("detection",), why=why)
    return f"{file}: no picture is called as it says, nor as itself"


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture of the list, in its order, and a rejection a defective object."""
    seen = Keys()
    for stem, origin in _stems(source, root):
        if stem in seen:
            yield Rejected(key=stem, reason="id.duplicate", detail=f"{stem!r} came before", origin=origin)
            continue
        seen.add(stem)
        document = _document(source, root, stem)
        if isinstance(document, Rejected):
            yield document
        else:
            yield from _annotate(source, stem, document)


def _stems(source: Source, root: Root) -> Iterator[tuple[str, Origin]]:
    """Yield the name of each XML file without its ending, and where it is listed."""
    if source.image_set is None:
        folder = PurePosixPath(source.annotations)
        root.annotation(str(folder), "annotations")
        found = root.glob(f"{folder}/**/*.xml")
        if not found:
            raise SourceError(
                f"{root.directory / folder}: no XML file; the spec needs it as source.annotations"
            )
        for file in found:
            stem = PurePosixPath(file).relative_to(folder).as_posix().removesuffix(".xml")
            yield stem, Origin(file=file, record="annotation")
        return
    for number, line in root.lines(source.image_set, "image_set"):
        try:
            text = line.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{source.image_set}: line {number}: {error}; expected one name a line in UTF-8"
            ) from error
        # The list of one class says -1, 0 or 1 behind each name.
        name, _, flag = text.rpartition(" ")
        stem = name.strip() if name and flag in ("-1", "0", "1") else text
        if stem:
            yield stem, Origin(file=source.image_set, record=f"line {number}")


def _file(source: Source, stem: str) -> str:
    return str(PurePosixPath(source.annotations) / f"{stem}.xml")


def _document(source: Source, root: Root, stem: str) -> Element | Rejected:
    file = _file(source, stem)
    try:
        if not root.inside(file).is_file():
            root.glob(escape(file))  # remembers that it was not there: a file that comes later is a change
            raise Quarantine("id.orphan", f"no such file: {file}")
        return parse(root.read(file, "annotations"))
    except Quarantine as error:
        origin = Origin(file=file, record="annotation")
        return Rejected(key=stem, reason=error.reason, detail=error.detail, origin=origin)


def parse(data: bytes, tag: str = "annotation") -> Element:
    """Return the root element of a VOC file, or of another XML file whose root is a `tag`.

    Raises Quarantine `xml.doctype` where a document type is declared (the door to entities), `xml.malformed` and
    `schema` where it is another document.
    """
    builder = TreeBuilder()
    # expat knows few encodings by itself, and none with several bytes a character but UTF-8 and UTF-16.
    declared = _ENCODING.match(data[:200])
    try:
        if declared and declared[1].lower() not in (b"utf-8", b"utf-16"):
            data = data.decode(declared[1].decode("ascii")).encode()
            parser = expat.ParserCreate("utf-8")
        else:
            parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = _refuse
        parser.StartElementHandler = builder.start
        parser.EndElementHandler = builder.end
        parser.CharacterDataHandler = builder.data
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise Quarantine("xml.malformed", str(error)) from error
    element = builder.close()
    if element.tag != tag:
        raise Quarantine("schema", f"the document is <{element.tag}>, expected <{tag}>")
    return element


def _refuse(name: str, *_: object) -> None:
    raise Quarantine("xml.doctype", f"a document type {name!r} is declared, which no VOC file needs")


def _annotate(source: Source, stem: str, document: Element) -> Iterator[Annotation | Rejected]:
    file = _file(source, stem)
    instances, rejected, known = [], [], True
    for number, item in enumerate(document.findall("object")):
        place = f"object[{number}]"
        name = _text(item, "name")
        if source.labels and name not in source.labels:
            name = ""
        try:
            instances.append(_instance(source, item, str(number), name))
        except Quarantine as error:
            origin = Origin(file=file, record=place)
            rejected.append(
                Rejected(key=f"{stem}.{number}", reason=error.reason, detail=error.detail, origin=origin)
            )
            # It is neither background nor a proof that its category is absent.
            instances.append(Instance(id=str(number), category=name or None, ignore=True))
            known = known and bool(name)
    yield Annotation(
        key=stem,
        images=(_image(source, stem, document),),
        instances=tuple(instances),
        exhaustive=source.exhaustive and known,
        origin=Origin(file=file, record="annotation"),
    )
    yield from rejected


def _image(source: Source, stem: str, document: Element) -> Image:
    stated = _text(document, "filename")
    if source.media == "stem" or not stated:
        name = f"{stem}.{source.extension}"
    else:
        name = stated if PurePosixPath(stated).suffix else f"{stated}.{source.extension}"
    return Image(
        path=f"{source.images}/{name}" if source.images else name,
        width=pixels(_text(document, "size/width")),
        height=pixels(_text(document, "size/height")),
    )


def _instance(source: Source, item: Element, number: str, name: str) -> Instance:
    if not name:
        stated = _text(item, "name")
        raise Quarantine(*(("category.unknown", f"{stated!r} is not among the labels") if stated
                           else ("schema", "the object has no name")))  # fmt: skip
    return Instance(
        id=number,
        category=name,
        box=_box(source, item),
        attributes=_attributes(item),
        difficult=_flag(item, "difficult"),
    )


def _box(source: Source, item: Element) -> Box:
    box = item.find("bndbox")
    if box is None:
        raise Quarantine("schema", "the object has no bndbox")
    try:
        x0, y0, x1, y1 = (float(_text(box, key)) for key in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError as error:
        raise Quarantine("schema", f"bndbox: {error}, expected xmin, ymin, xmax, ymax") from error
    return (x0 - source.origin, y0 - source.origin, x1, y1)


def _attributes(item: Element) -> dict[str, str]:
    found = {"pose": _text(item, "pose")}
    found |= {key: "1" if _flag(item, key) else "" for key in ("truncated", "occluded")}
    found |= {_text(entry, "name"): _text(entry, "value") for entry in item.iterfind("attributes/attribute")}
    return {key: value for key, value in found.items() if key and value and value != "Unspecified"}


def _flag(item: Element, key: str) -> bool:
    return _text(item, key).lower() not in ("", "0", "false", "no", "unspecified")


def _text(item: Element, path: str) -> str:
    return (item.findtext(path) or "").strip()
