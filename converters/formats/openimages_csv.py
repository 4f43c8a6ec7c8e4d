"""Open Images: a table of boxes, a table of classes, and one of classes that people confirmed or denied in a picture.

Conventions (Open Images V7, download page, data formats): ImageID names the picture; XMin, XMax, YMin, YMax are shares
of its sides in this order, so its header has to be read; LabelName is a code that the table of classes translates;
IsGroupOf marks a box around more than five objects that touch: a crowd. Flags are 1, 0, or -1 where nobody said. The
table of object segmentations says BoxXMin and so on, and MaskPath names a black and white picture of the object, which
may be of another size than the photograph.

A class is known to be absent only where the table of image labels denies it (Confidence 0); what it confirms
(Confidence 1) are labels of the picture; other confidences are a machine's and say nothing here, nor do classes that
the table of classes lacks.

A box has the most special class that people chose, so a man is a person whom no box of Person marks. The hierarchy
(LabelName, and under Subcategory its kinds) says so: with it, a box is there once more as an ignored one for each class
above its own, which then is neither counted nor called absent. Nothing else is concluded from it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec
import numpy as np
from PIL import Image as Pillow

from converters import box_lines, pixel_maps, text_layouts
from converters.box_lines import Picture, floats
from converters.json_files import load
from dataengine.annotation import Annotation, Image, Instance, LabelSpace, Origin, Rejected, Rle
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.geometry import rle_from_mask
from dataengine.images import Probe, probe
from dataengine.listing import Fit, Listing, name_splits, several, split_name
from dataengine.records.tables import Row, Table, read_rows

VERSION = "1"
_BOXES = ("LabelName", "XMin", "XMax", "YMin", "YMax")
_FLAGS = ("IsOccluded", "IsTruncated", "IsDepiction", "IsInside")
_GROUP = "IsGroupOf"
# Boxes may stick out a little by rounding; beyond these they were never shares.
_LEAST, _MOST = -0.01, 1.01


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` are the boxes, `classes` the names of the codes, `image_labels` what people confirmed or denied.

    `hierarchy` is the tree of the classes. The rows of a picture stand together, as they do in the original files.
    `images` is the folder of the pictures. With `masks`, the folder of the mask files, `annotations` is the table of
    object segmentations.
    """

    annotations: str
    classes: str
    image_labels: str | None = None
    hierarchy: str | None = None
    images: str = ""
    extension: str = "jpg"
    masks: str | None = None


class RawClass(msgspec.Struct):
    LabelName: str
    Subcategory: list[RawClass] = []


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the names of the classes in the order of their table. Raises SourceError."""
    return box_lines.space(_classes(source, root).values())


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds Open Images' tables: boxes with ImageID and XMin, and the names of the classes."""
    heads = {file: _first_rows(listing, file) for file in listing.ending(".csv")}
    boxes = [file for file, rows in heads.items() if rows and {"ImageID", *_BOXES} <= set(rows[0])]
    if not boxes:
        return "no table has the columns ImageID, LabelName, XMin"
    classes = [file for file in heads if "class-descriptions" in PurePosixPath(file).name.lower()]
    if not classes:
        return f"{boxes[0]}: no class-descriptions table names the classes"
    said = {
        split_name(file): file
        for file, rows in heads.items()
        if rows and {"ImageID", "LabelName", "Confidence"} <= set(rows[0]) and "XMin" not in rows[0]
    }
    stems = {PurePosixPath(picture).stem: PurePosixPath(picture) for picture in listing.pictures}
    splits = []
    for file in boxes:
        place = heads[file][0].index("ImageID")
        picture = next(
            (stems[row[place]] for row in heads[file][1:] if row[place:] and row[place] in stems), None
        )
        if picture is not None:
            keys = {
                "annotations": file,
                "classes": text_layouts.nearest(file, classes),
                "images": text_layouts.parent(str(picture)),
                "extension": picture.suffix.removeprefix("."),
            }
            if split_name(file) in said:
                keys["image_labels"] = said[split_name(file)]
            splits.append((file, keys))
    if not splits:
        return f"{boxes[0]}: its pictures are not in the folder"
    return Fit(splits=name_splits(splits), tasks=("detection",), why=f"{several(boxes)}: boxes", certainty=3)


def _first_rows(listing: Listing, file: str) -> list[list[str]]:
    return text_layouts.rows(listing, file, ",")


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture: those with boxes in order, then those with labels alone.

    A row that is no box is a rejection of its own.
    """
    names = _classes(source, root)
    order = tuple(dict.fromkeys(names.values()))
    above = _above(source, root, names)
    stated: dict[str, array[int]] = {}
    if source.image_labels is not None:
        yield from _image_labels(source.image_labels, root, names, order, stated)
    seen = set[str]()
    for group in _groups(source.annotations, root, _columns(source)):
        if isinstance(group, Rejected):
            yield group
            continue
        identity, rows = group
        record = rows[0].place
        origin = Origin(file=source.annotations, record=record)
        if identity in seen:
            detail = f"rows of {identity!r} came before; sort the table by ImageID"
            yield Rejected(key=f"{identity}~{record}", reason="id.duplicate", detail=detail, origin=origin)
            continue
        seen.add(identity)
        try:
            yield from _annotate(
                source, root, identity, rows, names, above, _said(stated.get(identity), order)
            )
        except Quarantine as error:
            yield Rejected(key=identity, reason=error.reason, detail=error.detail, origin=origin)
    for identity, codes in stated.items():
        if identity not in seen:
            present, absent = _said(codes, order)
            yield Annotation(
                key=identity,
                images=(Image(path=_path(source, identity)),),
                labels=present,
                negatives=absent,
                exhaustive=False,
                origin=Origin(file=source.image_labels or "", record=identity),
            )


def _classes(source: Source, root: Root) -> dict[str, str]:
    """Return the names by code; newer files have a header, which is no class."""
    table = Table(path=source.classes, kind="csv", header=False, columns=("LabelName", "DisplayName"))
    names = {}
    for row in read_rows(table, root, "classes", frozenset()):
        if isinstance(row, Rejected):
            raise SourceError(f"{source.classes}: {row.origin.record}: {row.detail}")
        if row.cells["LabelName"] != "LabelName":
            names[row.cells["LabelName"]] = row.cells["DisplayName"].strip()
    return names


def _above(source: Source, root: Root, names: dict[str, str]) -> dict[str, list[str]]:
    """Return the names of the classes above each that has some, the nearest last. Raises SourceError."""
    found: dict[str, list[str]] = {}
    if source.hierarchy is None:
        return found
    tree = load(source.hierarchy, root, "hierarchy", RawClass, "LabelName, and under Subcategory its kinds")
    pending: list[tuple[RawClass, tuple[str, ...]]] = [(tree, ())]
    while pending:
        item, path = pending.pop()
        name = names.get(item.LabelName)
        if name is not None:
            # A class may stand under several others.
            more = [one for one in path if one != name and one not in found.get(name, ())]
            if more:
                found.setdefault(name, []).extend(more)
            path = (*path, name)
        pending += [(kind, path) for kind in reversed(item.Subcategory)]
    return found


def _table(file: str, root: Root, needed_as: str, columns: tuple[str, ...]) -> Iterator[Row | Rejected]:
    """Yield the rows of a table that has some columns. Raises SourceError where it lacks one."""
    checked = False
    for row in read_rows(Table(path=file, kind="csv"), root, needed_as, frozenset()):
        if not checked and isinstance(row, Row):
            if lost := [name for name in columns if name not in row.cells]:
                raise SourceError(f"{file}: has no column {lost[0]!r}; source.{needed_as} needs it")
            checked = True
        yield row


def _image_labels(
    file: str, root: Root, names: dict[str, str], order: tuple[str, ...], stated: dict[str, array[int]]
) -> Iterator[Rejected]:
    """Fill `stated` by picture with 1 + the position of a class that is there, or its negative; yield rejections."""
    rank = {name: number for number, name in enumerate(order, 1)}
    position = {code: rank[name] for code, name in names.items()}
    for row in _table(file, root, "image_labels", ("ImageID", "LabelName", "Confidence")):
        if isinstance(row, Rejected):
            yield row
            continue
        try:
            (confidence,) = floats([row.cells["Confidence"]], "Confidence")
        except Quarantine as error:
            origin = Origin(file=file, record=row.place)
            key = f"{PurePosixPath(file).stem} {row.place}"
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
            continue
        number = position.get(row.cells["LabelName"])
        if number is not None and confidence in (0, 1):
            codes = stated.setdefault(row.cells["ImageID"], array("i"))
            codes.append(number if confidence else -number)


def _said(codes: array[int] | None, order: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes that were confirmed, and those that were denied and not confirmed as well."""
    present = {code for code in codes or () if code > 0}
    absent = {-code for code in codes or () if code < 0} - present
    return tuple(order[code - 1] for code in sorted(present)), tuple(
        order[code - 1] for code in sorted(absent)
    )


def _columns(source: Source) -> tuple[str, ...]:
    """Return the columns of the label and the box, and of the mask where there are masks."""
    if source.masks is None:
        return _BOXES
    return (_BOXES[0], *(f"Box{name}" for name in _BOXES[1:]), "MaskPath")


def _groups(file: str, root: Root, columns: tuple[str, ...]) -> Iterator[tuple[str, list[Row]] | Rejected]:
    """Yield (ImageID, rows) of rows that stand together."""
    identity, rows = "", list[Row]()
    for row in _table(file, root, "annotations", ("ImageID", *columns)):
        if isinstance(row, Rejected):
            yield row
            continue
        if row.cells["ImageID"] != identity:
            if rows:
                yield identity, rows
            identity, rows = row.cells["ImageID"], []
        rows.append(row)
    if rows:
        yield identity, rows


def _path(source: Source, identity: str) -> str:
    return str(PurePosixPath(source.images) / f"{identity}.{source.extension}")


def _annotate(
    source: Source,
    root: Root,
    identity: str,
    rows: list[Row],
    names: dict[str, str],
    above: dict[str, list[str]],
    said: tuple[tuple[str, ...], tuple[str, ...]],
) -> Iterator[Annotation | Rejected]:
    """Yield a picture's annotation and the rejections of its rows. Raises Quarantine where it cannot be read."""
    path = _path(source, identity)
    try:
        size = probe(root.inside(path))
    except Quarantine as error:
        raise Quarantine(error.reason, f"{path}: {error.detail}; its boxes are shares of it") from error
    columns = (*_columns(source)[:5], _GROUP, *_FLAGS, "MaskPath")
    found = [
        box_lines.Row(int(row.key), [str(row.cells.get(name, "")).strip() for name in columns])
        for row in rows
    ]

    def category_of(cells: list[str]) -> str:
        if not (name := names.get(cells[0])):
            raise Quarantine("category.unknown", f"{cells[0][:40]!r} is not in the table of classes")
        return name

    def make(cells: list[str], number: str, category: str) -> list[Instance]:
        x0, x1, y0, y1 = numbers = floats(cells[1:5], "XMin, XMax, YMin, YMax")
        if not all(_LEAST <= value <= _MOST for value in numbers):
            raise Quarantine("box.not_normalised", f"{' '.join(cells[1:5])!r}, expected shares from 0 to 1")
        flags = zip(_FLAGS, cells[len(_BOXES) + 1 : -1], strict=True)
        box = (x0 * size.width, y0 * size.height, x1 * size.width, y1 * size.height)
        made = Instance(
            id=number,
            category=category,
            box=box,
            mask=None if source.masks is None else _mask(f"{source.masks}/{cells[-1]}", root, size),
            crowd=cells[len(_BOXES)] == "1",
            attributes={name.removeprefix("Is").lower(): "1" for name, flag in flags if flag == "1"},
        )
        kinds = [
            Instance(id=f"{number} as {one}", category=one, box=box, ignore=True)
            for one in above.get(category, ())
        ]
        return [made, *kinds]

    picture = Picture(
        identity,
        Image(path=path, width=size.width, height=size.height),
        source.annotations,
        rows[0].place,
    )
    present, absent = said
    for item in box_lines.annotate(
        picture, found, tuple(names.values()), category_of, make, exhaustive=False
    ):
        if isinstance(item, Annotation):
            item = msgspec.structs.replace(item, labels=present, negatives=absent)
        yield item


def _mask(file: str, root: Root, size: Probe) -> Rle:
    """Return the mask in a file, stretched to the size of its picture. Raises Quarantine `map.*`."""
    drawn = Pillow.fromarray(
        (pixel_maps.brightness(pixel_maps.load(file, root, "masks")) > 127).astype(np.uint8)
    )
    if drawn.size != (size.width, size.height):
        drawn = drawn.resize((size.width, size.height), Pillow.Resampling.NEAREST)
    return rle_from_mask(np.asarray(drawn))
