"""Masks as run lengths in a table: one object a row, as in Kaggle's competitions (SIIM-ACR, Severstal, UW-Madison).

Conventions (the data pages of these competitions): a code is pairs of numbers, start and length of a run, in pixels
that count from 1 and down the columns, or along the rows (`order: rows`). SIIM-ACR's codes are relative: a start counts
from the end of the run before, the first from 0. -1, or an empty cell, says that there is no object. A code does not
say how large its picture is, so the picture's header has to be read.

Rows of a picture need not stand together; its annotation comes where its first row stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

import msgspec
import numpy as np

from converters.shapes import Size, size_of
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin, Rejected, Rle
from dataengine.errors import Quarantine, SourceError, nearest
from dataengine.files import Root
from dataengine.geometry import MAX_MASK_PIXELS, rle_box, rle_from_mask
from dataengine.records.tables import Row, Table, read_rows

VERSION = "1"
_NONE = frozenset({"", "-1"})


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the table; `image`, `code` and `class` are its columns of the picture, the runs and the class.

    A picture is the cell below `images`, with `extension` where it has none. `category` is the class of all objects
    where there is no such column, and `names` say what the cells of one mean (`{"1": pitted}`). `exhaustive` as in
    `coco_instances`.
    """

    annotations: str
    images: str = ""
    image: str = "ImageId"
    code: str = "EncodedPixels"
    class_: str | None = msgspec.field(name="class", default=None)
    category: str | None = None
    names: dict[str, str] = {}
    coding: Literal["absolute", "relative"] = "absolute"
    order: Literal["columns", "rows"] = "columns"
    extension: str = "png"
    exhaustive: bool = True

    def __post_init__(self) -> None:
        if (self.category is None) == (self.class_ is None):
            raise ValueError(
                "category: expected either one class for all, or the column 'class' that says it"
            )
        if self.class_ is not None and not self.names:
            raise ValueError("names: missing; they say what the cells of 'class' mean")


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the classes in their order."""
    names = [source.category] if source.category else list(dict.fromkeys(source.names.values()))
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in names))


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture, in the order of their first rows, and one a defective row."""
    pictures: dict[str, list[Row]] = {}
    for row in read_rows(Table(path=source.annotations, kind="csv"), root, "annotations", frozenset()):
        if isinstance(row, Rejected):
            yield row
            continue
        missing = {source.image, source.code, source.class_} - {None, *row.cells}
        if missing:
            lost = min(map(str, missing))
            raise SourceError(f"{source.annotations}: has no column {lost!r}{nearest(lost, row.cells)}")
        pictures.setdefault(row.cells[source.image].strip(), []).append(row)
    for name, rows in pictures.items():
        try:
            yield from _annotate(source, root, name, rows)
        except Quarantine as error:
            origin = Origin(file=source.annotations, record=rows[0].place)
            yield Rejected(key=name or rows[0].place, reason=error.reason, detail=error.detail, origin=origin)


def _annotate(source: Source, root: Root, name: str, rows: list[Row]) -> Iterator[Annotation | Rejected]:
    if not name:
        raise Quarantine("field.missing", "the row names no picture")
    file = name if name.endswith(f".{source.extension}") else f"{name}.{source.extension}"
    path = str(PurePosixPath(source.images) / file)
    size = size_of(Image(path=path), root)
    instances, rejected, known = [], [], True
    for row in rows:
        category: str | None = source.category
        try:
            if source.class_ is not None:
                stated = str(row.cells[source.class_]).strip()
                category = source.names.get(stated)
                if category is None:
                    raise Quarantine("category.unknown", f"{stated[:40]!r} is not among the names")
            if row.cells[source.code].strip() in _NONE:
                continue
            mask = _mask(row.cells[source.code], source.coding, source.order, size)
            instances.append(Instance(id=row.place, category=category, box=rle_box(mask), mask=mask))
        except Quarantine as error:
            origin = Origin(file=source.annotations, record=row.place)
            rejected.append(
                Rejected(key=f"{name}.{row.place}", reason=error.reason, detail=error.detail, origin=origin)
            )
            instances.append(Instance(id=row.place, category=category, ignore=True))
            known = known and category is not None
    yield Annotation(
        key=name,
        images=(Image(path=path, width=size[0], height=size[1]),),
        instances=tuple(instances),
        exhaustive=source.exhaustive and known,
        origin=Origin(file=source.annotations, record=rows[0].place),
    )
    yield from rejected


def _mask(code: str, coding: str, order: str, size: Size) -> Rle:
    """Return the mask of a code in a picture of (width, height). Raises Quarantine `schema`, `rle.size_mismatch`."""
    width, height = size
    try:
        numbers = np.array([int(number) for number in code.split()], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise Quarantine("schema", f"{code[:40]!r}: {error}, expected pairs of start and length") from error
    if len(numbers) % 2 or not len(numbers) or numbers.min() < 0 or width * height > MAX_MASK_PIXELS:
        raise Quarantine("schema", f"{len(numbers)} numbers, expected pairs of start and length")
    starts, lengths = numbers[::2], numbers[1::2]
    before = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    starts = np.cumsum(starts) + before if coding == "relative" else starts - 1
    ends = starts + lengths
    if starts.min() < 0 or (starts[1:] < ends[:-1]).any() or ends.max() > width * height:
        raise Quarantine(
            "rle.size_mismatch", f"runs overlap, or end at {ends.max()}; the picture is {width} x {height}"
        )
    flat = np.zeros(width * height, np.uint8)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        flat[start:end] = 1
    drawn = flat.reshape(width, height).T if order == "columns" else flat.reshape(height, width)
    return rle_from_mask(np.ascontiguousarray(drawn))
