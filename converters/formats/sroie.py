"""SROIE: scanned receipts, each with a text file of its lines and a JSON of four key facts.

Conventions (ICDAR 2019 competition on scanned receipts, rrc.cvc.uab.es/?ch=13, tasks 1 to 3): lines of text as in
`icdar_quads` (x1,y1,…,x4,y4,text, commas inside the text, no line unreadable); the key file holds `company`, `date`,
`address` and `total` as they are printed. Lines stand from top to bottom. Its facts become questions, worded here.
"""

from __future__ import annotations

from collections.abc import Iterator
from glob import escape
from pathlib import PurePosixPath
from typing import Literal

import msgspec

from converters.file_pairs import Pair, pairs, sized
from converters.formats import icdar_quads
from converters.json_files import UNREADABLE
from converters.outlines import TEXT_LABELS
from dataengine.annotation import Annotation, Image, LabelSpace, Question, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.json_text import BOM

VERSION = "1"

QUESTIONS = {
    "company": "Which company issued this receipt?",
    "date": "What is the date on this receipt?",
    "address": "What is the address of the company on this receipt?",
    "total": "What is the total amount on this receipt?",
}


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the folder of the text files name + `suffix`, `images` that of the pictures of the same names.

    `keys` is the folder of the key files name + `key_suffix`; without it there are no questions.
    """

    annotations: str
    images: str = ""
    keys: str | None = None
    suffix: str = ".txt"
    key_suffix: str = ".txt"
    extensions: tuple[str, ...] = ("jpg",)
    encoding: Literal["utf-8", "latin-1"] = "utf-8"


_facts = msgspec.json.Decoder(dict[str, str | None])


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the one category that there is: text."""
    return TEXT_LABELS


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation a receipt, and a rejection for each line that is no text and each key file that is none."""
    layout = icdar_quads.Source(
        annotations=source.annotations,
        unreadable=(),
        encoding=source.encoding,
    )
    found = pairs(root, source.annotations, source.images, suffix=source.suffix, extensions=source.extensions)
    for item in sized(found, root):
        if isinstance(item, Rejected):
            yield item
            continue
        pair, size = item
        words, rejected = icdar_quads.read_words(layout, root, pair, size)
        questions: tuple[Question, ...] = ()
        if source.keys is not None:
            file = str(PurePosixPath(source.keys) / f"{pair.stem}{source.key_suffix}")
            try:
                questions = _questions(file, root)
            except Quarantine as error:
                rejected.append(Pair(pair.stem, file, pair.image).reject("file", error))
        yield Annotation(
            key=pair.stem,
            images=(Image(path=pair.image),),
            instances=words,
            questions=questions,
            origin=pair.origin("file"),
        )
        yield from rejected


def _questions(file: str, root: Root) -> tuple[Question, ...]:
    """Return the facts of a key file that are stated. Raises Quarantine."""
    if not root.inside(file).is_file():
        root.glob(escape(file))  # remembers that it was not there: a file that comes later is a change
        raise Quarantine("id.orphan", f"no such file: {file}")
    try:
        facts = _facts.decode(root.read(file, "keys").removeprefix(BOM))
    except UNREADABLE as error:
        raise Quarantine("schema", str(error)) from error
    stated = {name: " ".join((facts.get(name) or "").split()) for name in QUESTIONS}
    return tuple(
        Question(id=name, text=QUESTIONS[name], answers=(text,)) for name, text in stated.items() if text
    )
