"""Visual Relationship Detection: the relationships of each picture, with both of their objects.

Conventions: in the original JSON (the data set's README) a box is [ymin, ymax, xmin, xmax] in pixels, `category` and
`predicate` are positions in lists of names, and equal category and box are one object. Vrd-dsr's Python 2 pickle
lists for each picture `boxes` (xmin, ymin, xmax, ymax), their `classes`, and for each pair `ix1`, `ix2` its
`rel_classes`; a picture without relationships is None there, without a name. Its names are lines of a text file, and
it holds NumPy arrays, which are read as plain data: nothing is imported or called. Neither source says whether pixels
count from 0 or 1 and whether the end belongs to a box: numbers are taken as they stand, from 0 and with an exclusive
end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from converters import array_pickle
from converters.json_files import UNREADABLE, load
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is a split's JSON or pickle (`.pkl`), `images` the folder of the pictures.

    `objects` and `predicates` are the lists of names, as JSON or as lines of text (`.txt`).
    """

    annotations: str
    objects: str = "objects.json"
    predicates: str = "predicates.json"
    images: str = ""


class RawObject(msgspec.Struct):
    category: int
    bbox: tuple[float, float, float, float]


class RawRelation(msgspec.Struct):
    subject: RawObject
    object: RawObject
    predicate: int


class RawEntry(msgspec.Struct):
    """A picture of the pickle."""

    img_path: str
    boxes: list[tuple[float, float, float, float]]
    classes: list[int]
    ix1: list[int]
    ix2: list[int]
    rel_classes: list[list[int]]


_relations = msgspec.json.Decoder(list[RawRelation])


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the object categories in their order."""
    names = dict.fromkeys(_names(source.objects, root, "objects"))
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in names))


def _names(file: str, root: Root, needed_as: str) -> list[str]:
    if file.endswith(".txt"):
        lines = (line.decode("utf-8-sig", "replace").strip() for _, line in root.lines(file, needed_as))
        return [line for line in lines if line]
    return [name.strip() for name in load(file, root, needed_as, list[str], "a list of names")]


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture, in file order. Nobody annotated every object, or every relation."""
    names = _names(source.objects, root, "objects")
    predicates = _names(source.predicates, root, "predicates")
    for name, place, rows in _pictures(source, root):
        origin = Origin(file=source.annotations, record=place)
        try:
            if rows is None:
                raise Quarantine("unit.none", "the picture has no relationships and no name")
            if not name:
                raise Quarantine("schema", "a picture has no name")
            yield _annotation(source, name, rows(), names, predicates, origin)
        except UNREADABLE as error:
            yield Rejected(key=name or place, reason="schema", detail=str(error), origin=origin)
        except Quarantine as error:
            yield Rejected(key=name or place, reason=error.reason, detail=error.detail, origin=origin)


Rows = Callable[[], list[RawRelation]] | None


def _pictures(source: Source, root: Root) -> Iterator[tuple[str, str, Rows]]:
    """Yield each picture's name, its place in the file, and what decodes its relationships."""
    if not source.annotations.endswith(".pkl"):
        pictures = load(
            source.annotations, root, "annotations", dict[str, msgspec.Raw], "a mapping of pictures"
        )
        for name, data in pictures.items():
            yield name, name, lambda data=data: _relations.decode(data)  # type: ignore[misc]
        return
    for number, entry in enumerate(
        _unpickled(source.annotations, root.read(source.annotations, "annotations"))
    ):
        stated = entry.get("img_path") if isinstance(entry, dict) else None
        name = stated.replace("\\", "/").rpartition("/")[2] if isinstance(stated, str) else ""
        rows = None if entry is None else lambda entry=entry: _rows(entry)
        yield name, f"[{number}]", rows


def _rows(entry: object) -> list[RawRelation]:
    """Return the relationships of a picture of the pickle. Raises Quarantine, or what msgspec raises."""
    raw = msgspec.convert(entry, RawEntry)
    if len(raw.boxes) != len(raw.classes) or not len(raw.ix1) == len(raw.ix2) == len(raw.rel_classes):
        raise Quarantine(
            "schema", "boxes and classes, or the ends and names of relationships, differ in number"
        )
    objects = [
        RawObject(category, (top, bottom, left, right))
        for category, (left, top, right, bottom) in zip(raw.classes, raw.boxes, strict=True)
    ]
    if any(not 0 <= index < len(objects) for index in (*raw.ix1, *raw.ix2)):
        raise Quarantine("id.orphan", f"a relationship points beyond the {len(objects)} objects")
    return [
        RawRelation(objects[subject], objects[target], predicate)
        for subject, target, predicates in zip(raw.ix1, raw.ix2, raw.rel_classes, strict=True)
        for predicate in predicates
    ]


def _unpickled(file: str, data: bytes) -> list[object]:
    """Return the pickle's list, arrays as lists. Raises SourceError."""
    value = array_pickle.load(file, data)
    if not isinstance(value, list):
        raise SourceError(f"{file}: holds one {type(value).__name__}, expected a list of pictures")
    return [_listed(item) for item in value]


def _listed(item: object) -> object:
    """Return a picture's dictionary with its arrays as lists."""
    if not isinstance(item, dict):
        return item
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in item.items()}


def _annotation(
    source: Source,
    name: str,
    rows: list[RawRelation],
    names: list[str],
    predicates: list[str],
    origin: Origin,
) -> Annotation:
    instances: list[Instance] = []
    places: dict[tuple[int, tuple[float, ...]], int] = {}

    def place(one: RawObject) -> int:
        if not 0 <= one.category < len(names):
            raise Quarantine("category.unknown", f"category {one.category} is not among the objects")
        key = (one.category, one.bbox)
        if key not in places:
            places[key] = len(instances)
            top, bottom, left, right = one.bbox
            box = (left, top, right, bottom)
            instances.append(Instance(id=str(len(instances)), category=names[one.category], box=box))
        return places[key]

    relations = []
    for row in rows:
        if not 0 <= row.predicate < len(predicates):
            raise Quarantine("category.unknown", f"predicate {row.predicate} is not among the predicates")
        relations.append((place(row.subject), predicates[row.predicate], place(row.object)))
    return Annotation(
        key=name,
        images=(Image(path=f"{source.images}/{name}" if source.images else name),),
        instances=tuple(instances),
        relations=tuple(dict.fromkeys(relations)),
        exhaustive=False,
        origin=origin,
    )
