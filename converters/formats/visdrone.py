"""VisDrone: one text file a picture, one object a line, eight numbers between commas.

Conventions (VisDrone challenge, results format, aiskyeye.com): left, top, width, height in pixels (taken as they
stand: from 0), score, category, truncation, occlusion; some lines end in a comma. Category 0 is a region that does
not count, 11 an object of none of the ten classes: both are ignored objects of every class. A row with score 0 does
not count either.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from converters import box_lines, text_layouts
from converters.box_lines import Picture, expect, floats, whole
from converters.file_pairs import pairs
from dataengine.annotation import Annotation, Image, Instance, LabelSpace, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import from_xywh
from dataengine.listing import Fit, Listing, name_splits, several

VERSION = "1"
CATEGORIES = (
    "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle", "bus", "motor",
)  # fmt: skip
_NONE, _OTHERS = 0, 11
_ANY = ""
_COLUMNS = "left, top, width, height, score, category, truncation, occlusion"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the folder of the text files, `images` the one of the pictures, `image_set` a list of names."""

    annotations: str = "annotations"
    images: str = "images"
    image_set: str | None = None
    extension: str = "jpg"


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the ten classes in the order of their numbers, which begin with 1."""
    return box_lines.space(CATEGORIES)


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds VisDrone's text files: eight whole numbers between commas."""
    found = text_layouts.label_folders(listing, _looks_like_a_row, ",")
    if not found:
        return "no text file beside a picture has lines of eight whole numbers between commas"
    splits = [
        (one.folder or "train", {"annotations": one.folder, "images": one.images, "extension": one.extension})
        for one in found
    ]
    why = f"{several([one.file for one in found])}: eight whole numbers between commas"
    return Fit(splits=name_splits(splits), tasks=("detection",), why=why)


def _looks_like_a_row(cells: list[str]) -> bool:
    whole_numbers = len(cells) == 8 and all(cell.removeprefix("-").isdecimal() for cell in cells)
    return whole_numbers and cells[4] in ("0", "1") and 0 <= int(cells[5][:9]) <= _OTHERS


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
        found = box_lines.rows(pair.file, root, "annotations", ",")
        picture = Picture(pair.stem, Image(path=pair.image), pair.file, "file")
        yield from box_lines.annotate(picture, found, CATEGORIES, _category, _instances)


def _category(cells: list[str]) -> str:
    """Return a row's class; nothing where the row is about all of them."""
    expect(cells, (8,), _COLUMNS)
    number = whole(cells[5], "category")
    if number in (_NONE, _OTHERS):
        return _ANY
    if not 1 <= number <= len(CATEGORIES):
        raise Quarantine("category.unknown", f"category is {cells[5][:40]}, expected 0 to {_OTHERS}")
    return CATEGORIES[number - 1]


def _instances(cells: list[str], identity: str, category: str) -> list[Instance]:
    box = from_xywh(floats(cells[:4], _COLUMNS))
    if category == _ANY:
        return box_lines.ignored(identity, box, CATEGORIES)
    (score,) = floats(cells[4:5], "score")
    return [
        Instance(
            id=identity,
            category=category,
            box=box,
            attributes={"truncation": cells[6], "occlusion": cells[7]},
            ignore=score == 0,
        )
    ]
