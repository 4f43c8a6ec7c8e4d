"""A list with one picture a line and its class behind it: `path label`, or the label alone where pictures are numbered.

There is no standard. IP102, DomainNet and Places365 write a number behind the path, which is a position in a file of
names (from 0 or from 1); RAF-DB and Kaggle's ImageNet write the class or its id. ImageNet's own development kit lists
labels alone: line 7 is about picture 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

import msgspec

from converters import class_names, text_files
from dataengine.annotation import Annotation, Image, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.images import EXTENSIONS

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`image_set` is the list, `images` the folder of the pictures.

    A line is split at `delimiter`: the path stands in column `path`, the class in column `label` (-1: the last).
    Without a delimiter the path is all that stands before the last white space, or behind the first where `label` is 0.
    `extension` is added to a path that has none. With `numbered`, a template such as `val_{line:08d}.JPEG`, the list
    holds labels alone. `header: true` leaves the first line out. `pattern` finds the class in its column: the first
    group of a regular expression.

    `names` and `cut` as in `imagefolder`: the file says what the classes are called. `numbers: 0` (or 1) says that a
    label is a position in it, or in `labels`, counted from there; otherwise it is an id of that file, or, without one,
    the class itself. `exhaustive: true` says that a picture of one class is none of any other.
    """

    image_set: str
    images: str = ""
    delimiter: str | None = None
    path: int = 0
    label: int = -1
    header: bool = False
    numbered: str | None = None
    extension: str = "jpg"
    pattern: str | None = None
    names: str | None = None
    cut: str | None = None
    numbers: Literal[0, 1] | None = None
    labels: tuple[str, ...] = ()
    exhaustive: bool = False

    def __post_init__(self) -> None:
        if self.delimiter == "":
            raise ValueError("delimiter is empty, expected a character or none at all")
        if self.numbers is not None and not (self.names or self.labels):
            raise ValueError("numbers are positions in names or labels, expected one of these")
        try:
            if self.numbered is not None and self.numbered.format(line=1) == self.numbered:
                raise ValueError("numbered: names one picture for all lines, expected {line} in it")
            groups = re.compile(self.pattern or "()").groups
        except (re.error, KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"numbered or pattern: {error}") from error
        if groups < 1:
            raise ValueError("pattern: has no group, expected (…) around the class")


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the declared classes, those of the names file, or else all that the list names, sorted."""
    pairs = _pairs(source, root)
    found = [name for _, name in pairs]
    if not found:
        for _, line in _lines(source, root):
            try:
                found.append(_columns(source, 0, line)[1])
            except Quarantine:
                continue
        found.sort()
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in dict.fromkeys(found)))


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a line, in the order of the list."""
    pairs = _pairs(source, root)
    if source.numbers is None:
        known = dict(reversed(pairs))
    else:
        known = {str(position): name for position, (_, name) in enumerate(pairs, source.numbers)}
    seen = set[str]()
    for number, line in _lines(source, root):
        place = f"line {number}"
        key, origin = place, Origin(file=source.image_set, record=place)
        try:
            path, label = _columns(source, number - source.header, line)
            key = path
            if known and label not in known:
                raise Quarantine("category.unknown", f"{label!r} is not among the names")
            if path in seen:
                raise Quarantine("id.duplicate", f"{path!r} came before")
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
            continue
        seen.add(path)
        yield Annotation(
            key=path,
            images=(Image(path=f"{source.images}/{path}" if source.images else path),),
            labels=(known.get(label, label),),
            exhaustive=source.exhaustive,
            origin=origin,
        )


def _pairs(source: Source, root: Root) -> list[tuple[str, str]]:
    """Return (id, name) of each class in its order; nothing where the list itself names them."""
    if source.names is not None:
        return class_names.load(source.names, root, source.cut)
    return [(name, name) for name in source.labels]


def _lines(source: Source, root: Root) -> Iterator[tuple[int, str]]:
    lines = text_files.lines(source.image_set, root, "image_set")
    empty = True
    for number, line in lines:
        if number > 1 or not source.header:
            empty = False
            yield number, line
    if empty:
        raise SourceError(f"{source.image_set}: no line; expected one picture a line")


def _columns(source: Source, number: int, line: str) -> tuple[str, str]:
    """Return the path below `images` and the label of a line. Raises Quarantine `schema` or `label.missing`."""
    if source.numbered is not None:
        path, label = source.numbered.format(line=number), line
    elif source.delimiter is not None:
        cells = [cell.strip() for cell in line.split(source.delimiter)]
        try:
            path, label = cells[source.path], cells[source.label]
        except IndexError:
            raise Quarantine("schema", f"{len(cells)} columns, expected a path and a label") from None
    else:
        words = line.split(maxsplit=1) if source.label == 0 else line.rsplit(maxsplit=1)
        if len(words) != 2:
            raise Quarantine("schema", "one column, expected a path and a label")
        path, label = (words[1], words[0]) if source.label == 0 else (words[0], words[1])
    path = path.replace("\\", "/").removeprefix("./").lstrip("/")
    if source.pattern and (found := re.search(source.pattern, label)) is not None:
        label = found[1] or ""
    elif source.pattern:
        label = ""
    if not label or not path:
        raise Quarantine("label.missing", f"path {path!r:.80}, label {label!r:.80}; expected both")
    if PurePosixPath(path).suffix[1:].lower() not in EXTENSIONS:
        path = f"{path}.{source.extension}"
    return path, label
