"""IM2LATEX-100K: pictures of formulas, a list of their sources, and lists that say which picture shows which.

Conventions (zenodo.org/records/56198; harvardnlp/im2markup): a formula is a line of the formula file, counted from 0,
lines parted by line feeds alone; bytes are not always UTF-8 and are then Latin-1. A line of a split's list is the
formula's number, the picture's name without its ending, and how it was set. A label inside a formula, which no
picture shows, is taken out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from converters import text_files
from dataengine.annotation import Annotation, Image, Origin, Question, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root

VERSION = "1"

_LABEL = re.compile(r"\\label\s*\{[^{}]*\}")
QUESTION = "Which LaTeX source gives the formula in this picture?"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`formulas` is the formula file, `pairs` the split's list, `images` the folder of the pictures."""

    formulas: str
    pairs: str
    images: str = ""
    extension: str = "png"


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a line of the list: its question asks for the formula's source."""
    formulas = [_decode(line) for _, line in root.lines(source.formulas, "formulas")]
    seen = set[str]()
    for number, line in text_files.lines(source.pairs, root, "pairs"):
        origin = Origin(file=source.pairs, record=f"line {number}")
        try:
            name, latex = _pair(line, formulas)
            if name in seen:
                raise Quarantine("id.duplicate", f"{name!r} came before")
        except Quarantine as error:
            yield Rejected(key=f"line {number}", reason=error.reason, detail=error.detail, origin=origin)
            continue
        seen.add(name)
        file = f"{name}.{source.extension}"
        yield Annotation(
            key=name,
            images=(Image(path=f"{source.images}/{file}" if source.images else file),),
            questions=(Question(id="latex", text=QUESTION, answers=(latex,)),),
            origin=origin,
        )


def _decode(line: bytes) -> str:
    try:
        return line.decode().strip()
    except UnicodeDecodeError:
        return line.decode("latin-1").strip()


def _pair(line: str, formulas: list[str]) -> tuple[str, str]:
    """Return a picture's name and its formula. Raises Quarantine."""
    cells = line.split()
    if len(cells) < 2 or not (cells[0].isascii() and cells[0].isdigit() and len(cells[0]) < 10):
        raise Quarantine("schema", f"{line[:80]!r}, expected a number, a name and a kind")
    number = int(cells[0])
    if number >= len(formulas):
        raise Quarantine("id.orphan", f"formula {number} of {len(formulas)}")
    latex = _LABEL.sub("", formulas[number]).strip()
    if not latex:
        raise Quarantine("text.empty", f"formula {number} is empty")
    return cells[1], latex
