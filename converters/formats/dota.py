"""DOTA: one text file a picture, one turned object a line.

Conventions (captain-whu.github.io/DOTA, "Annotation format"; DOTA_devkit): x1 y1 x2 y2 x3 y3 x4 y4 category difficult,
pixels from 0, corners in order around the object; the first lines may say `imagesource:` and `gsd:`. Names of
categories hold hyphens, and in look-alikes blanks. A difficult object is 1 (or 2, in later versions); the flag may be
missing. Corners of split pictures lie beyond their edges.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from converters import text_layouts
from converters.file_pairs import Pair, pairs, sized
from converters.outlines import Size, numbers, outline
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.json_text import BOM
from dataengine.listing import Fit, Listing, name_splits, several

VERSION = "1"

_HEADER = re.compile(r"(imagesource|gsd|acquisition dates)\s*:", re.IGNORECASE)


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the folder of the text files, `images` the folder or folders of the pictures of the same names.

    `labels` are the categories; without them they are the names that occur in the files of the split. `exhaustive` as
    in `coco_instances`.
    """

    annotations: str = "labelTxt"
    images: str | tuple[str, ...] = "images"
    extensions: tuple[str, ...] = ("png",)
    labels: tuple[str, ...] = ()
    exhaustive: bool = True


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the declared categories in their order, or else all names that occur, sorted."""
    names = source.labels or sorted(
        {
            item.category
            for pair in _pairs(source, root)
            if isinstance(pair, Pair)
            for item in _objects(source, root, pair, None)[0]
            if item.category is not None
        }
    )
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in names))


def _pairs(source: Source, root: Root) -> Iterator[Pair | Rejected]:
    return pairs(root, source.annotations, source.images, suffix=".txt", extensions=source.extensions)


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds DOTA's text files: four corners, a category, and whether it is difficult."""
    found = text_layouts.label_folders(listing, _looks_like_a_row)
    if not found:
        return "no text file beside a picture has lines of four corners and a category"
    splits = [
        (
            one.folder or "train",
            {"annotations": one.folder, "images": one.images, "extensions": [one.extension]},
        )
        for one in found
    ]
    why = f"{several([one.file for one in found])}: four corners and a category"
    return Fit(splits=name_splits(splits), tasks=("oriented_detection", "detection"), why=why)


def _looks_like_a_row(cells: list[str]) -> bool:
    if _HEADER.match(" ".join(cells)):
        return True
    numbers_first = len(cells) in (9, 10) and all(map(text_layouts.is_number, cells[:8]))
    return numbers_first and not text_layouts.is_number(cells[8]) and cells[9:] in ([], ["0"], ["1"], ["2"])


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation a text file, and a rejection a line that is no object."""
    for item in sized(_pairs(source, root), root):
        if isinstance(item, Rejected):
            yield item
            continue
        pair, size = item
        instances, rejected = _objects(source, root, pair, size)
        known = all(one.category is not None for one in instances)
        yield Annotation(
            key=pair.stem,
            images=(Image(path=pair.image),),
            instances=tuple(instances),
            exhaustive=source.exhaustive and known,
            origin=pair.origin("file"),
        )
        yield from rejected


def _objects(
    source: Source, root: Root, pair: Pair, size: Size | None
) -> tuple[list[Instance], list[Rejected]]:
    """Return the objects of a file; one that is rejected stays as an ignored one."""
    instances, rejected = list[Instance](), list[Rejected]()
    for number, data in root.lines(pair.file, "annotations"):
        name = None
        try:
            cells = _decode(data).split()
            if not cells or _HEADER.match(" ".join(cells)):
                continue
            name, difficult = _category(source, cells)
            instances.append(_object(cells, str(number), name, difficult, size))
        except Quarantine as error:
            rejected.append(pair.reject(f"line {number}", error))
            instances.append(Instance(id=str(number), category=name, ignore=True))
    return instances, rejected


def _decode(data: bytes) -> str:
    try:
        return data.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        raise Quarantine("schema", str(error)) from error


def _category(source: Source, cells: list[str]) -> tuple[str, bool]:
    """Return the category of a line, and whether the object is difficult. Raises Quarantine."""
    words = cells[8:]
    flag = words.pop() if len(words) > 1 and words[-1].lstrip("-").isdigit() else "0"
    name = " ".join(words)
    if not name:
        raise Quarantine("schema", f"{len(cells)} columns, expected 8 numbers, a category and a flag")
    if source.labels and name not in source.labels:
        raise Quarantine("category.unknown", f"{name!r} is not among the labels")
    return name, flag.strip("-0") != ""


def _object(cells: list[str], number: str, name: str, difficult: bool, size: Size | None) -> Instance:
    shape = outline(numbers(cells[:8]), size)
    return Instance(
        id=number, category=name, box=shape.box, quad=shape.quad, mask=shape.mask, difficult=difficult
    )
