"""CelebA: tables of text with boxes, five landmarks and attributes of faces, joined by the picture's name.

Conventions (the README of CelebA): a table begins with the count of its rows and a line of column names; boxes are x,
y, width, height, and landmarks x y, in pixels of the pictures in the wild; `list_landmarks_align_celeba.txt` is for
the aligned ones, which need no box. Attributes are 1 or -1. `list_eval_partition.txt` says 0 to train on, 1 to
validate and 2 to test. Its `lefteye` is on the left of the picture: it is the right eye of whoever looks out of it,
as other sets of faces call it, and so it is called here. Who it is stands in a table that is not read. Nobody says
whether pixels count from 0 or 1: numbers are taken as they stand, from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from converters import text_files
from converters.formats.coco_keypoints import flip_pairs
from converters.landmarks import numbers, visible
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine, SourceError, nearest
from dataengine.files import Root
from dataengine.geometry import from_xywh

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`images` is the folder of the pictures; the other keys are tables, of which those not given are left alone.

    The first of `partition`, `attributes`, `landmarks` and `boxes` that is given says which pictures there are.
    `part` takes one part of the partition. `classes` are the attributes that classify a picture, by their names in the
    table: those that hold are its classes, the others are known to be absent.
    """

    images: str
    partition: str | None = None
    part: Literal["train", "val", "test"] | None = None
    attributes: str | None = None
    classes: tuple[str, ...] = ()
    landmarks: str | None = None
    boxes: str | None = None

    def __post_init__(self) -> None:
        if not (self.partition or self.attributes or self.landmarks or self.boxes):
            raise ValueError("no table, expected partition, attributes, landmarks or boxes")
        if self.part and not self.partition:
            raise ValueError("part needs partition, the table that says which pictures belong to it")
        if self.classes and not self.attributes:
            raise ValueError("classes are columns of attributes, expected that table")


class Table(msgspec.Struct, frozen=True):
    """The column names of a table (none where it has no header), and its rows by picture with their places."""

    columns: list[str]
    rows: dict[str, tuple[str, list[str]]]
    twice: list[tuple[str, str]]


LANDMARKS = ("right_eye", "left_eye", "nose", "right_mouth_corner", "left_mouth_corner")
_PARTS = {"train": "0", "val": "1", "test": "2"}
FACE = "face"


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the face with its five landmarks, and the attributes that classify pictures."""
    face = Label(name=FACE, keypoints=LANDMARKS, flip_pairs=flip_pairs(LANDMARKS))
    return LabelSpace(id="celeba", labels=(face, *(Label(name=name) for name in source.classes)))


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture, in the order of the first table."""
    tables = {
        name: _table(file, root, name)
        for name in ("partition", "attributes", "landmarks", "boxes")
        if (file := getattr(source, name)) is not None
    }
    if "attributes" in tables:
        _check_classes(source, tables["attributes"])
    first = next(iter(tables))
    file = str(getattr(source, first))
    for place, name in tables[first].twice:
        origin = Origin(file=file, record=place)
        yield Rejected(key=name, reason="id.duplicate", detail=f"{name!r} came before", origin=origin)
    for name, (place, cells) in tables[first].rows.items():
        origin = Origin(file=file, record=place)
        try:
            if source.part and cells != [_PARTS[source.part]]:
                raise Quarantine("split.other", f"the partition says {' '.join(cells)!r:.20}")
            face = _face(tables, name)
            held, absent = _classes(source, tables, name)
        except Quarantine as error:
            yield Rejected(key=name, reason=error.reason, detail=error.detail, origin=origin)
            continue
        yield Annotation(
            key=name,
            images=(Image(path=f"{source.images}/{name}" if source.images else name),),
            instances=(face,) if face else (),
            labels=held,
            negatives=absent,
            # Other faces of a picture in the wild are not annotated.
            exhaustive=False,
            origin=origin,
        )


def _table(file: str, root: Root, needed_as: str) -> Table:
    columns: list[str] = []
    rows: dict[str, tuple[str, list[str]]] = {}
    twice = []
    for number, line in text_files.lines(file, root, needed_as):
        words = line.split()
        if not rows and len(words) == 1 and words[0].isdecimal():
            continue  # the count of rows
        if not rows and not columns and "." not in words[0]:
            columns = words[1:] if words[0] == "image_id" else words
        elif words[0] in rows:
            twice.append((f"line {number}", words[0]))
        else:
            rows[words[0]] = (f"line {number}", words[1:])
    if not rows:
        raise SourceError(f"{file}: no row with a picture's name; expected a table of CelebA")
    return Table(columns, rows, twice)


def _check_classes(source: Source, table: Table) -> None:
    for name in source.classes:
        if name not in table.columns:
            raise SourceError(f"{source.attributes}: no column {name!r}{nearest(name, table.columns)}")


def _face(tables: dict[str, Table], name: str) -> Instance | None:
    """Return the face that a picture was taken for, or None where no table places it."""
    box = points = None
    if "boxes" in tables and name in tables["boxes"].rows:
        values = numbers(tables["boxes"].rows[name][1])
        if len(values) != 4:
            raise Quarantine("schema", f"box has {len(values)} numbers, expected x, y, width, height")
        box = from_xywh(values)
    if "landmarks" in tables and name in tables["landmarks"].rows:
        values = numbers(tables["landmarks"].rows[name][1])
        if len(values) != 2 * len(LANDMARKS):
            raise Quarantine("keypoint.count", f"{len(values)} numbers, expected {2 * len(LANDMARKS)}")
        points = visible(values, 0)
    return Instance(id="0", category=FACE, box=box, keypoints=points) if box or points else None


def _classes(source: Source, tables: dict[str, Table], name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes that hold for a picture, and those that do not. Raises Quarantine `schema`."""
    if not source.classes or name not in tables["attributes"].rows:
        return (), ()
    columns, cells = tables["attributes"].columns, tables["attributes"].rows[name][1]
    if len(cells) != len(columns) or not set(cells) <= {"1", "-1"}:
        raise Quarantine("schema", f"{len(cells)} attributes, expected {len(columns)} of 1 or -1")
    holds = dict(zip(columns, cells, strict=True))
    return (
        tuple(one for one in source.classes if holds[one] == "1"),
        tuple(one for one in source.classes if holds[one] == "-1"),
    )
