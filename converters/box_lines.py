"""Label files with one object a line: what the readers of YOLO, KITTI, VisDrone and MOTChallenge share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from glob import escape
from typing import NamedTuple

from dataengine.annotation import Annotation, Box, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root


class Row(NamedTuple):
    """A line that is not blank: its number from 1, and its cells."""

    number: int
    cells: list[str]


class Picture(NamedTuple):
    """The picture that some rows are about, and the place that speaks of it."""

    key: str
    image: Image
    file: str
    record: str


Make = Callable[[list[str], str, str], Sequence[Instance]]


def rows(file: str, root: Root, needed_as: str, separator: str | None = None) -> list[Row]:
    """Return the rows of a label file; `separator` None is white space, and separators at the end of a line are none.

    Raises Quarantine `id.orphan` where there is no such file.
    """
    if not root.inside(file).is_file():
        root.glob(escape(file))  # remembers that it was not there: a file that comes later is a change
        raise Quarantine("id.orphan", f"no such file: {file}")
    found = []
    for number, data in root.lines(file, needed_as):
        # Bytes that are no UTF-8 become a mark that no name and no number has: they cost one line, not the file.
        text = data.decode("utf-8-sig", errors="replace").strip().rstrip(separator)
        if text:
            found.append(Row(number, [cell.strip() for cell in text.split(separator)]))
    return found


def floats(cells: Sequence[str], names: str) -> list[float]:
    """Return cells as numbers. Raises Quarantine `schema`, or `box.nonfinite` for NaN and infinity."""
    try:
        values = [float(cell) for cell in cells]
    except ValueError as error:
        raise Quarantine("schema", f"{str(error)[:120]}, expected {names}") from error
    if not all(map(math.isfinite, values)):
        raise Quarantine("box.nonfinite", f"{' '.join(cells)[:120]!r}, expected {names}")
    return values


def whole(cell: str, name: str) -> int:
    """Return a cell as a whole number, `2.0` too. Raises Quarantine `schema`."""
    (value,) = floats([cell], name)
    if not value.is_integer():
        raise Quarantine("schema", f"{name} is {cell[:40]!r}, expected a whole number")
    return int(value)


def expect(cells: Sequence[str], counts: Iterable[int], layout: str) -> None:
    """Raise Quarantine `schema` where a row has another number of cells."""
    allowed = list(counts)
    if len(cells) not in allowed:
        stated = " or ".join(map(str, allowed))
        raise Quarantine("schema", f"{len(cells)} cells, expected {stated} ({layout})")


def ignored(identity: str, box: Box, categories: Sequence[str]) -> list[Instance]:
    """Return a region that is neither object nor background for any category: one ignored object for each."""
    return [Instance(id=f"{identity}.{name}", category=name, box=box, ignore=True) for name in categories]


def annotate(
    picture: Picture,
    found: Iterable[Row],
    categories: Sequence[str],
    category_of: Callable[[list[str]], str],
    make: Make,
    *,
    exhaustive: bool = True,
) -> Iterator[Annotation | Rejected]:
    """Yield a picture's annotation, and a rejection for each row that is no object.

    `category_of` names what a row is about, `make(cells, id, category)` the objects that it states; both may raise
    Quarantine. A rejected row's object stays as an ignored one without a place; where its category is not known, no
    category without an object is absent for certain.
    """
    instances: list[Instance] = []
    rejected = []
    for row in found:
        identity, category = str(row.number), ""
        try:
            category = category_of(row.cells)
            instances += make(row.cells, identity, category)
        except Quarantine as error:
            place = Origin(file=picture.file, record=f"line {row.number}")
            rejected.append(
                Rejected(
                    key=f"{picture.key}.{identity}", reason=error.reason, detail=error.detail, origin=place
                )
            )
            known = category in categories
            instances.append(Instance(id=identity, category=category if known else None, ignore=True))
            exhaustive = exhaustive and known
    yield Annotation(
        key=picture.key,
        images=(picture.image,),
        instances=tuple(instances),
        exhaustive=exhaustive,
        origin=Origin(file=picture.file, record=picture.record),
    )
    yield from rejected


def by_frame(
    found: Iterable[Row], file: str, sequence: str, frame_of: Callable[[list[str]], int]
) -> tuple[dict[int, list[Row]], list[Rejected]]:
    """Return the rows of a video by frame, in the order of the frames, and a rejection for each that has none."""
    frames: dict[int, list[Row]] = {}
    rejected = []
    for row in found:
        try:
            frame = frame_of(row.cells)
            if not 0 <= frame < 10**9:
                raise Quarantine("schema", f"frame is {str(row.cells[0])[:40]}, expected 0 or more")
            frames.setdefault(frame, []).append(row)
        except Quarantine as error:
            place = Origin(file=file, record=f"line {row.number}")
            key = f"{sequence}.line{row.number}"
            rejected.append(Rejected(key=key, reason=error.reason, detail=error.detail, origin=place))
    return dict(sorted(frames.items())), rejected


def space(categories: Iterable[str]) -> LabelSpace:
    """Return the label space of some names, each once."""
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in dict.fromkeys(categories)))


def pixels(value: str | None) -> int | None:
    """Return a stated size in pixels; what is no size says nothing."""
    try:
        number = float(value or "")
    except ValueError:
        return None
    return int(number) if number.is_integer() and 0 < number <= 1_000_000 else None


def shown(name: str) -> str:
    """Return a file's name with marks in place of bytes that are no UTF-8, which no manifest can hold."""
    return name.encode(errors="replace").decode()
