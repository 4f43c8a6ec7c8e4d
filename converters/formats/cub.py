"""CUB-200-2011 and NABirds: tables of text that are joined by the picture's id.

Conventions (the README of CUB-200-2011): `images.txt` holds `id path`, and beside it `image_class_labels.txt`,
`train_test_split.txt` (1: to train on), `bounding_boxes.txt` (x, y, width, height in pixels) and
`parts/part_locs.txt` (`id part x y visible`, zeros where a part is hidden) hold one line a picture, or one a part;
`classes.txt` and `parts/parts.txt` name the numbers. A picture shows one bird. Whether pixels count from 0 or 1 is
not said: numbers are taken as they stand, from 0. CUB counts its classes in front of their names, with underscores
for blanks: `001.Black_footed_Albatross` is "Black footed Albatross".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from converters import text_files
from converters.formats.coco_keypoints import flip_pairs
from converters.landmarks import numbers
from dataengine.annotation import Annotation, Image, Instance, Keypoint, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.geometry import from_xywh
from dataengine.spill import Keys

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`folder` holds the tables, `images` (seen from there) the pictures; `part` is one half of the official split.

    The class of the picture is its species. That of the object is the same, or `category`, one name for all.
    """

    folder: str = ""
    images: str = "images"
    part: Literal["train", "test"] | None = None
    category: str | None = None


class Parts(NamedTuple):
    """The names of the parts by their ids in order, and the places of each picture's parts by part, as written."""

    names: dict[str, str]
    places: dict[str, dict[str, str]]


_COUNT = re.compile(r"^\d+\.(?=\D)")


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the species (or the one `category`), with the names of the parts as keypoints."""
    points = tuple(dict.fromkeys(_table(source, root, "parts/parts.txt").values()))
    pairs = flip_pairs(points)
    species = dict.fromkeys(_species(source, root).values())
    names = list(species) if source.category is None else [source.category, *species]
    # Species that are no object's class name no keypoint.
    return LabelSpace(
        id="source",
        labels=tuple(
            Label(name=name, keypoints=points, flip_pairs=pairs)
            if source.category in (None, name)
            else Label(name=name)
            for name in names
        ),
    )


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a line of `images.txt`."""
    species = _species(source, root)
    classes = _table(source, root, "image_class_labels.txt")
    halves = _table(source, root, "train_test_split.txt") if source.part else {}
    boxes = _table(source, root, "bounding_boxes.txt")
    parts = _parts(source, root)
    file = _path(source, "images.txt")
    seen = Keys()
    for number, line in text_files.lines(file, root, "folder"):
        origin = Origin(file=file, record=f"line {number}")
        key, _, path = (word.strip() for word in line.partition(" "))
        try:
            if not path:
                raise Quarantine("schema", "one column, expected an id and a path")
            if source.part is not None:
                half = halves.get(key)
                if half != ("1" if source.part == "train" else "0"):
                    raise Quarantine("split.other", f"train_test_split says {half!r}")
            if key in seen:
                raise Quarantine("id.duplicate", f"a picture with id {key} came before")
            seen.add(key)
            name = species.get(classes.get(key, ""))
            if name is None:
                raise Quarantine("category.unknown", f"class {classes.get(key)!r} is not in classes.txt")
            bird = _bird(source, name, boxes.get(key), parts, key)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
            continue
        yield Annotation(
            key=key,
            images=(Image(path=_path(source, f"{source.images}/{path}" if source.images else path)),),
            instances=(bird,),
            labels=(name,),
            origin=origin,
        )


def _bird(source: Source, name: str, box: str | None, parts: Parts, key: str) -> Instance:
    """Return the bird of a picture. Raises Quarantine `id.orphan`, `schema`, `keypoint.nonfinite`."""
    if box is None:
        raise Quarantine("id.orphan", f"bounding_boxes.txt has no id {key}")
    values = numbers(box.split())
    if len(values) != 4:
        raise Quarantine("schema", f"box has {len(values)} numbers, expected x, y, width, height")
    places = parts.places.get(key, {})
    points = tuple(_point(places.get(part)) for part in parts.names)
    return Instance(
        id="0",
        category=source.category or name,
        box=from_xywh(values),
        keypoints=points if points and places else None,
    )


def _point(place: str | None) -> Keypoint:
    if place is None:
        return (0.0, 0.0, 0)
    values = numbers(place.split())
    if len(values) != 3:
        raise Quarantine("schema", f"a part has {len(values)} numbers, expected x, y, visible")
    return (values[0], values[1], 2) if values[2] else (0.0, 0.0, 0)


def _path(source: Source, name: str) -> str:
    return f"{source.folder}/{name}" if source.folder else name


def _table(source: Source, root: Root, name: str) -> dict[str, str]:
    """Return what stands behind the id in each line, the first where an id stands twice. Raises SourceError."""
    table: dict[str, str] = {}
    for _, line in text_files.lines(_path(source, name), root, "folder"):
        key, _, rest = line.partition(" ")
        table.setdefault(key, rest.strip())
    if not table:
        raise SourceError(f"{_path(source, name)}: no line; expected an id and a value each")
    return table


def _species(source: Source, root: Root) -> dict[str, str]:
    table = _table(source, root, "classes.txt")
    return {key: _COUNT.sub("", name).replace("_", " ") or key for key, name in table.items()}


def _parts(source: Source, root: Root) -> Parts:
    places: dict[str, dict[str, str]] = {}
    for _, line in text_files.lines(_path(source, "parts/part_locs.txt"), root, "folder"):
        words = line.split(maxsplit=2)
        if len(words) == 3:
            places.setdefault(words[0], {}).setdefault(words[1], words[2])
    return Parts(_table(source, root, "parts/parts.txt"), places)
