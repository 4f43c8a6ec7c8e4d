"""GRIT (Kosmos-2): a table with a caption a row, and boxes for its noun chunks and for its referring expressions.

Conventions (the card of zzliang/GRIT): `noun_chunks` and `ref_exps` are lists of [start, end, x1, y1, x2, y2, score];
start and end count the characters of `caption`, end exclusive; the corners are shares of the picture's sides. A chunk
that is found several times has several boxes. Pictures are addresses, which img2dataset fetches; their sizes are those
of the files that came.

A referring expression often ends where another does, and holds noun chunks. So the noun chunks are the places of a
grounded caption, a chunk that overlaps one before it is left without a place, and a referring expression has none.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import xxhash

from dataengine.annotation import Annotation, Box, Caption, Expression, Image, Instance, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.images import Probe, probe
from dataengine.records.conditions import holds, parse_condition
from dataengine.records.paths import fill, parse_template
from dataengine.records.steps import row_scope
from dataengine.records.tables import Row, Table, read_rows, reject, spelled

VERSION = "1"

Span = tuple[int, int]
_COLUMNS = ("caption", "noun_chunks", "ref_exps")


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`table`, `images` (a template), `key` and `where` as in `records`; `min_score` leaves out boxes below it."""

    table: Table
    images: str
    key: str = "{key}"
    where: str | None = None
    min_score: float = 0.0

    def __post_init__(self) -> None:
        for template in (self.images, self.key):
            parse_template(template)
        if self.where is not None:
            parse_condition(self.where)


class RawRow(msgspec.Struct):
    caption: str
    noun_chunks: list[list[float]] | None = None
    ref_exps: list[list[float]] | None = None


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a row, in the order of the table."""
    words = spelled([*_COLUMNS, source.images, source.key, source.where or ""])
    seen = set[int]()
    for row in read_rows(source.table, root, "table.path", words):
        if isinstance(row, Rejected):
            yield row
            continue
        key = row.place
        try:
            scope = row_scope(row, {})
            if source.where is not None and not holds(source.where, scope):
                raise Quarantine("where.filtered", source.where)
            key = fill(source.key, scope)
            digest = xxhash.xxh3_128_intdigest(key.encode())
            if digest in seen:
                raise Quarantine("id.duplicate", f"a row with key {key!r} came before")
            seen.add(digest)
            yield _annotation(source, row, fill(source.images, scope), key, root)
        except Quarantine as error:
            yield reject(row.file, row.place, error.reason, error.detail, key)


def _annotation(source: Source, row: Row, path: str, key: str, root: Root) -> Annotation:
    try:
        raw = msgspec.convert(row.cells, RawRow, strict=False)
    except msgspec.ValidationError as error:
        raise Quarantine("schema", str(error)) from error
    if not raw.caption.strip():
        raise Quarantine("text.empty", "the caption is empty")
    size = probe(root.inside(path))
    chunks = _boxes(raw.noun_chunks or [], raw.caption, source.min_score, "noun_chunks")
    phrases = _boxes(raw.ref_exps or [], raw.caption, source.min_score, "ref_exps")
    instances: list[Instance] = []
    expressions: list[Expression] = []
    end = 0
    for span, boxes in sorted(chunks.items()):
        places = (span,) if span[0] >= end else ()
        expressions.append(_expression(raw.caption, span, places, boxes, instances, size))
        end = max(end, span[1])
    for span, boxes in phrases.items():
        if span not in chunks:
            expressions.append(_expression(raw.caption, span, (), boxes, instances, size))
    if not expressions:
        raise Quarantine("box.missing", f"no box with a score of at least {source.min_score}")
    return Annotation(
        key=key,
        images=(Image(path=path),),
        instances=tuple(instances),
        captions=(Caption(id="0", text=raw.caption),),
        expressions=tuple(
            msgspec.structs.replace(item, id=f"0.{number}") for number, item in enumerate(expressions)
        ),
        exhaustive=False,
        origin=Origin(file=row.file, record=row.place),
    )


def _boxes(rows: list[list[float]], caption: str, min_score: float, name: str) -> dict[Span, list[Box]]:
    """Return the boxes of each place in the caption, as shares of the sides. Raises Quarantine."""
    found: dict[Span, list[Box]] = {}
    for number, values in enumerate(rows):
        if len(values) != 7:
            raise Quarantine("schema", f"{name}[{number}] has {len(values)} numbers, expected 7")
        start, end, x0, y0, x1, y1, score = values
        if not (start.is_integer() and end.is_integer() and 0 <= start < end <= len(caption)):
            detail = f"{name}[{number}]: [{start:g}, {end:g}) in a caption of {len(caption)} characters"
            raise Quarantine("span.invalid", detail)
        if score >= min_score:
            found.setdefault((int(start), int(end)), []).append((x0, y0, x1, y1))
    return found


def _expression(
    caption: str,
    span: Span,
    places: tuple[Span, ...],
    boxes: list[Box],
    instances: list[Instance],
    size: Probe,
) -> Expression:
    """Add the objects of a phrase in pixels, and return the phrase."""
    first = len(instances)
    for number, (x0, y0, x1, y1) in enumerate(boxes, start=first):
        box = (x0 * size.width, y0 * size.height, x1 * size.width, y1 * size.height)
        instances.append(Instance(id=str(number), box=box))
    text = " ".join(caption[span[0] : span[1]].split())
    return Expression(id="", text=text, instances=tuple(range(first, len(instances))), spans=places)
