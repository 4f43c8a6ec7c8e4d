"""PubTabNet: pictures of tables and their HTML, in pieces: structure tokens, and the tokens of each cell.

Conventions (github.com/ibm-aur-nlp/PubTabNet, annotation structure): JSON Lines with `filename`, `split` and `html`;
`structure.tokens` holds the tags, a cell with spans in parts (`<td`, ` colspan="2"`, `>`), and `cells` the content of
each cell in the order of the `</td>`. A cell's `bbox` (x1, y1, x2, y2 in pixels, taken as they stand: from 0, the end
exclusive) frames its content; an empty one has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from converters.json_files import decode, records
from dataengine.annotation import Annotation, Image, Instance, Origin, Question, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root

VERSION = "1"

QUESTION = "What is the HTML of this table?"
_TAG = re.compile(r"</?[a-zA-Z]+>")


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON Lines file, `images` the folder of the pictures; `split` takes its records
    alone; others are left out as `split.other`."""

    annotations: str
    images: str = ""
    split: str | None = None


class RawCell(msgspec.Struct):
    tokens: list[str] = []
    bbox: tuple[float, float, float, float] | None = None


class RawStructure(msgspec.Struct):
    tokens: list[str]


class RawHtml(msgspec.Struct):
    structure: RawStructure
    cells: list[RawCell]


class RawTable(msgspec.Struct):
    filename: str
    html: RawHtml
    split: str | None = None


_table = msgspec.json.Decoder(RawTable)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a table of the split; its question asks for the HTML."""
    seen = set[str]()
    for place, data in records(source.annotations, root, "annotations"):
        origin = Origin(file=source.annotations, record=place)
        try:
            raw = decode(data, _table)
            if source.split is not None and raw.split != source.split:
                raise Quarantine("split.other", f"split is {raw.split!r}")
            if not raw.filename:
                raise Quarantine("schema", "the record has no filename")
            if raw.filename in seen:
                raise Quarantine("id.duplicate", f"{raw.filename!r} came before")
            html = _html(raw.html)
        except Quarantine as error:
            yield Rejected(key=place, reason=error.reason, detail=error.detail, origin=origin)
            continue
        seen.add(raw.filename)
        yield Annotation(
            key=raw.filename,
            images=(Image(path=f"{source.images}/{raw.filename}" if source.images else raw.filename),),
            instances=tuple(_cells(raw.html.cells)),
            questions=(Question(id="html", text=QUESTION, answers=(html,)),),
            origin=origin,
        )


def _html(raw: RawHtml) -> str:
    """Return the whole HTML. Raises Quarantine where cells and structure do not match."""
    num_cells = raw.structure.tokens.count("</td>")
    if num_cells != len(raw.cells):
        raise Quarantine("schema", f"{len(raw.cells)} cells, but {num_cells} in the structure")
    cells = iter(raw.cells)
    parts = [
        "".join(next(cells).tokens) + token if token == "</td>" else token for token in raw.structure.tokens
    ]
    return f"<table>{''.join(parts)}</table>"


def _cells(cells: list[RawCell]) -> Iterator[Instance]:
    for number, cell in enumerate(cells):
        if cell.bbox is not None:
            text = " ".join(_TAG.sub("", "".join(cell.tokens)).split())
            yield Instance(id=str(number), category="cell", box=cell.bbox, text=text or None, ignore=not text)
