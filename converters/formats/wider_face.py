"""WIDER FACE: one text file for all pictures: a picture's path, the number of its faces, and a line for each face.

Conventions (readme.txt of the annotations): left, top, width, height in pixels from 0, then blur, expression,
illumination, invalid, occlusion, pose. A picture without faces has the number 0 and one line of zeros all the same. An
invalid face is too small or too unclear to be asked for: it is an ignored one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec

from converters import box_lines, text_files, text_layouts
from converters.box_lines import Picture, Row, expect, floats
from dataengine.annotation import Annotation, Image, Instance, LabelSpace, Origin, Rejected
from dataengine.files import Root
from dataengine.geometry import from_xywh
from dataengine.images import EXTENSIONS
from dataengine.listing import Fit, Listing, name_splits, several
from dataengine.spill import Keys

VERSION = "1"
CATEGORY = "face"
_COLUMNS = "left, top, width, height, blur, expression, illumination, invalid, occlusion, pose"
_INVALID = 7
# What the numbers mean, by column; the first of each says nothing special and is left out.
MEANINGS = {
    "blur": (4, ("", "normal", "heavy")),
    "expression": (5, ("", "exaggerated")),
    "illumination": (6, ("", "extreme")),
    "occlusion": (8, ("", "partial", "heavy")),
    "pose": (9, ("", "atypical")),
}


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the text file, `images` the folder that its paths stand in."""

    annotations: str
    images: str = ""


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the one category, `face`."""
    return box_lines.space((CATEGORY,))


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds WIDER FACE's lists: a picture, a number, and ten numbers a face."""
    files, splits = [], []
    for file in listing.ending(".txt"):
        rows = text_layouts.rows(listing, file)[:3]
        if [len(cells) for cells in rows] != [1, 1, 10] or not rows[1][0].isdecimal():
            continue
        if not all(map(text_layouts.is_number, rows[2])):
            continue
        files.append(file)
        lines = text_layouts.rows(listing, file)
        folders = [listing.picture_folder(cells[0]) for cells in lines if len(cells) == 1]
        folder = next((one for one in folders if one is not None), None)
        if folder is not None:
            splits.append((file, {"annotations": file, **({"images": folder} if folder else {})}))
    if not splits:
        return f"{files[0]}: its pictures are not in the folder" if files else "no list of pictures and faces"
    why = f"{several(files)}: pictures, numbers of faces, faces"
    return Fit(splits=name_splits(splits), tasks=("detection",), why=why, certainty=3)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture, in the order of the file, and a rejection a defective line."""
    seen = Keys()
    for number, name, lines in _blocks(source, root):
        origin = Origin(file=source.annotations, record=f"line {number}")
        found = _faces(lines)
        if not name:
            yield Rejected(
                key=f"line {number}", reason="schema", detail="no picture's path stands before", origin=origin
            )
        elif name in seen:
            yield Rejected(
                key=f"{name}~line {number}",
                reason="id.duplicate",
                detail=f"{name!r} came before",
                origin=origin,
            )
        elif isinstance(found, str):
            yield Rejected(key=name, reason="schema", detail=found, origin=origin)
        else:
            image = Image(path=str(PurePosixPath(source.images) / name))
            picture = Picture(name, image, source.annotations, origin.record)
            yield from box_lines.annotate(picture, found, (CATEGORY,), lambda _: CATEGORY, _instances)
        seen.add(name)


def _blocks(source: Source, root: Root) -> Iterator[tuple[int, str, list[tuple[int, str]]]]:
    """Yield (line, path, the lines that follow) of each picture; lines before the first have an empty path."""
    start, name, lines = 1, "", list[tuple[int, str]]()
    for number, text in text_files.lines(source.annotations, root, "annotations"):
        if PurePosixPath(text).suffix.lower().removeprefix(".") in EXTENSIONS:
            if name or lines:
                yield start, name, lines
            start, name, lines = number, text, []
        else:
            lines.append((number, text))
    if name or lines:
        yield start, name, lines


def _faces(lines: list[tuple[int, str]]) -> list[Row] | str:
    """Return the rows of a picture's faces, or what is wrong with them as a whole."""
    if not lines or not lines[0][1].isdecimal():
        return f"{lines[0][1][:40]!r} follows the path, expected the number of faces" if lines else "cut off"
    stated, found = int(lines[0][1][:9]), [Row(number, text.split()) for number, text in lines[1:]]
    if not stated and len(found) == 1 and not set(found[0].cells) - {"0"}:
        return []
    return found if len(found) == stated else f"{stated} faces stated, {len(found)} lines follow"


def _instances(cells: list[str], identity: str, category: str) -> list[Instance]:
    expect(cells, (10,), _COLUMNS)
    numbers = floats(cells, _COLUMNS)
    attributes = {
        key: words[int(numbers[column])]
        for key, (column, words) in MEANINGS.items()
        if 0 < numbers[column] < len(words)
    }
    return [
        Instance(
            id=identity,
            category=category,
            box=from_xywh(numbers[:4]),
            attributes=attributes,
            ignore=numbers[_INVALID] != 0,
        )
    ]
