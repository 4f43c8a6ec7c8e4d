"""Classes of pictures in MATLAB files: Stanford Cars (with boxes), Oxford Flowers-102, Stanford Dogs.

Conventions (the README of each set): labels count from 1. Stanford Cars: `annotations` is an array of structs with
`fname`, `class` and `bbox_x1` to `bbox_y2`, corners in pixels from 1, both inside; `class_names` of another file names
the classes. Flowers: `labels` holds the class of every picture, numbered from 1, and `setid.mat` the numbers of a
split's. Dogs: `file_list` and `labels` side by side, the file in its class's folder. A picture has one class.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from converters import mat_files
from dataengine.annotation import Annotation, Box, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the MATLAB file, `images` the folder of the pictures.

    Rows are the structs of a variable (`rows`), or stand side by side in two variables (`files`, or `numbered`, a
    template such as `image_{:05d}.jpg`, and `classes`). `ids` is a file, and `ids_of` its variable, with the numbers of
    the rows of a split. `names` is a file, and `names_of` its variable, that names the classes; `labels` names them
    here; with neither, they are the folders of the pictures, without what stands before the first `-`.
    """

    annotations: str
    images: str = ""
    rows: str | None = None
    files: str | None = None
    numbered: str | None = None
    classes: str = "labels"
    ids: str | None = None
    ids_of: str = ""
    names: str | None = None
    names_of: str = "class_names"
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.rows, self.files, self.numbered).count(None) != 2:
            raise ValueError("expected one of rows, files and numbered")
        try:
            if self.numbered is not None and self.numbered.format(1) == self.numbered:
                raise ValueError("numbered: names one picture for all rows, expected {:05d} in it")
        except (LookupError, AttributeError) as error:
            raise ValueError(f"numbered: {error}") from error


class Row(NamedTuple):
    """One picture as the file states it: its name, the number of its class, and its box where there is one."""

    file: Any
    number: Any
    record: dict[str, Any]


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the classes in the order of their numbers."""
    names = _names(source, root)
    if not names:
        found: dict[int, str] = {}
        for _, row in _rows(source, root):
            if isinstance(row.number, int) and isinstance(row.file, str):
                found.setdefault(row.number, _folder(row.file))
        names = [found[number] for number in sorted(found)]
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in dict.fromkeys(names) if name))


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a row, in the order of the file."""
    names = _names(source, root)
    wanted = _wanted(source, root)
    seen = set[str]()
    for number, row in _rows(source, root):
        place = f"row {number}"
        key, origin = place, Origin(file=source.annotations, record=place)
        try:
            if wanted is not None and number not in wanted:
                raise Quarantine("split.other", f"{source.ids_of} lacks {number}")
            if not isinstance(row.file, str) or not row.file:
                raise Quarantine("schema", f"file is {row.file!r:.60}, expected a name")
            key = row.file
            if key in seen:
                raise Quarantine("id.duplicate", f"{key!r} came before")
            seen.add(key)
            name = _class(row, names)
            box = _box(row.record)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
            continue
        yield Annotation(
            key=key,
            images=(Image(path=f"{source.images}/{key}" if source.images else key),),
            instances=(Instance(id="0", category=name, box=box),) if box else (),
            labels=(name,),
            # Without a box, nobody says that the picture shows nothing else.
            exhaustive=box is not None,
            origin=origin,
        )


def _rows(source: Source, root: Root) -> Iterator[tuple[int, Row]]:
    """Yield (number from 1, row). Raises SourceError where the variables are missing or do not match."""
    content = mat_files.load(source.annotations, root, "annotations")
    if source.rows is not None:
        for number, record in enumerate(_variable(content, source.rows, source.annotations), 1):
            fields = record if isinstance(record, dict) else {}
            yield number, Row(fields.get("fname"), fields.get("class"), fields)
        return
    classes = _variable(content, source.classes, source.annotations)
    if source.files is None:
        assert source.numbered is not None
        files: list[Any] = [source.numbered.format(number) for number in range(1, len(classes) + 1)]
    else:
        files = _variable(content, source.files, source.annotations)
    if len(files) != len(classes):
        raise SourceError(
            f"{source.annotations}: {len(files)} in {source.files}, {len(classes)} in {source.classes}; "
            "expected as many"
        )
    for number, (file, label) in enumerate(zip(files, classes, strict=True), 1):
        yield number, Row(file, int(label) if isinstance(label, float) and label.is_integer() else label, {})


def _variable(content: dict[str, Any], name: str, file: str) -> list[Any]:
    found = mat_files.as_list(content.get(name))
    if not found:
        raise SourceError(f"{file}: no variable {name!r}; it holds {', '.join(sorted(content)) or 'none'}")
    return found


def _wanted(source: Source, root: Root) -> set[int] | None:
    if source.ids is None:
        return None
    found = _variable(mat_files.load(source.ids, root, "ids"), source.ids_of, source.ids)
    return {int(one) for one in found if isinstance(one, int | float) and one == one and abs(one) < 1e9}


def _names(source: Source, root: Root) -> list[str]:
    if source.names is None:
        return list(source.labels)
    found = _variable(mat_files.load(source.names, root, "names"), source.names_of, source.names)
    if not all(isinstance(name, str) for name in found):
        raise SourceError(f"{source.names}: {source.names_of} holds something else than names")
    return [name.strip() for name in found]


def _folder(file: str) -> str:
    folder = file.rpartition("/")[0]
    return folder.partition("-")[2] or folder


def _class(row: Row, names: list[str]) -> str:
    if not names:
        name = _folder(row.file)
        if not name:
            raise Quarantine("label.missing", f"{row.file!r} lies in no folder, which would name the class")
        return name
    if type(row.number) is not int or not 1 <= row.number <= len(names):
        raise Quarantine("category.unknown", f"class is {row.number!r:.60}, expected 1 to {len(names)}")
    return names[row.number - 1]


def _box(record: dict[str, Any]) -> Box | None:
    values = [record.get(f"bbox_{corner}") for corner in ("x1", "y1", "x2", "y2")]
    if values == [None] * 4:
        return None
    if not all(type(value) in (int, float) for value in values):
        raise Quarantine("schema", f"box is {values!r:.80}, expected four numbers")
    x0, y0, x1, y1 = (float(value) for value in values if value is not None)
    return (x0 - 1.0, y0 - 1.0, x1, y1)
