"""KITTI: label_2, one text file a picture, and tracking's label_02, one a video with frame and track id in front.

Conventions (KITTI object and tracking development kits, readme.txt): type, truncated, occluded, alpha, then left, top,
right, bottom of the box in pixels from 0, then size, place and angle of the 3D box, and a score where a program wrote
the file. The kit's own evaluation takes a box's area as (right - left) * (bottom - top), so the numbers stand as they
are. `DontCare` is a region where nobody labelled anything: it is an ignored object of every category. The 3D box is
left out.

Of a video only frames that have a row are read: nobody says of the others that they were looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

import msgspec

from converters import box_lines, text_layouts
from converters.box_lines import Picture, Row, expect, floats, whole
from converters.file_pairs import pairs
from dataengine.annotation import Annotation, Image, Instance, LabelSpace, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.listing import Fit, Listing, name_splits, several

VERSION = "1"
CATEGORIES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
_IGNORED = "DontCare"
# Cells before the first of KITTI's own: frame and track id.
_SKIP = {"object": 0, "tracking": 2}


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the folder of the text files, `images` the one of the pictures, `image_set` a list of names.

    Without `image_set` every text file of the folder is read. `layout: tracking` reads `0001.txt` with the pictures
    `0001/000000.png`. `categories` are the types that count; another one is rejected.
    """

    annotations: str = "training/label_2"
    images: str = "training/image_2"
    image_set: str | None = None
    layout: Literal["object", "tracking"] = "object"
    extension: str = "png"
    categories: tuple[str, ...] = CATEGORIES


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the declared categories in their order."""
    return box_lines.space(source.categories)


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds KITTI's text files: a type, fourteen numbers, and perhaps a score."""
    found = text_layouts.label_folders(listing, _looks_like_a_row)
    if not found:
        return "no text file beside a picture has lines of a type and fourteen numbers"
    splits = []
    for one in found:
        files = [file for file in listing.ending(".txt") if text_layouts.parent(file) == one.folder]
        names = {cells[0] for file in files[:1000] for cells in text_layouts.rows(listing, file)} - {_IGNORED}
        keys: dict[str, object] = {
            "annotations": one.folder, "images": one.images, "extension": one.extension,
        }  # fmt: skip
        if not names <= set(CATEGORIES):
            keys["categories"] = sorted(names)
        splits.append((one.folder or "train", keys))
    why = f"{several([one.file for one in found])}: types and fourteen numbers"
    return Fit(splits=name_splits(splits), tasks=("detection",), why=why)


def _looks_like_a_row(cells: list[str]) -> bool:
    numbers = all(map(text_layouts.is_number, cells[1:]))
    return len(cells) in (15, 16) and numbers and not text_layouts.is_number(cells[0])


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation a picture, in the order of the files, and a rejection a defective row."""
    for pair in pairs(
        root,
        source.annotations,
        source.images,
        suffix=".txt",
        extensions=(source.extension,),
        image_set=source.image_set,
    ):
        if isinstance(pair, Rejected):
            yield pair
            continue
        found = box_lines.rows(pair.file, root, "annotations")
        if source.layout == "object":
            picture = Picture(pair.stem, Image(path=pair.image), pair.file, "file")
            yield from _annotate(source, picture, found)
            continue
        frames, rejected = box_lines.by_frame(
            found, pair.file, pair.stem, lambda cells: whole(cells[0], "frame")
        )
        for frame, rows in frames.items():
            key = f"{pair.stem}/{frame:06d}"
            image = Image(path=str(PurePosixPath(source.images) / f"{key}.{source.extension}"))
            yield from _annotate(source, Picture(key, image, pair.file, f"frame {frame}"), rows)
        yield from rejected


def _annotate(source: Source, picture: Picture, found: list[Row]) -> Iterator[Annotation | Rejected]:
    first = _SKIP[source.layout]

    def category_of(cells: list[str]) -> str:
        expect(cells, (first + 15, first + 16), "KITTI's columns, with or without a score")
        name = cells[first]
        if name != _IGNORED and name not in source.categories:
            raise Quarantine("category.unknown", f"{name[:40]!r} is not among the categories")
        return name

    def make(cells: list[str], identity: str, category: str) -> list[Instance]:
        x0, y0, x1, y1 = floats(cells[first + 4 : first + 8], "left, top, right, bottom")
        box = (x0, y0, x1, y1)
        if category == _IGNORED:
            return box_lines.ignored(identity, box, source.categories)
        stated = {"truncated": cells[first + 1], "occluded": cells[first + 2]}
        if first:
            stated["track"] = cells[1]
        return [Instance(id=identity, category=category, box=box, attributes=stated)]

    return box_lines.annotate(picture, found, source.categories, category_of, make)
