"""HierText: one JSON document of paragraphs that hold lines that hold words, for all pictures of a split.

Conventions (github.com/google-research-datasets/hiertext, "Annotations"): the file ends in .jsonl and is one JSON
object; vertices are pixels from 0, tight outlines of words and loose ones of lines. Words of a line stand in reading
order, lines of a paragraph need not. What is not `legible` has no text; a paragraph or line that nobody can read may
hold no word at all: its own outline is then ignored. The picture is `image_id`.jpg.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from converters.formats.coco_instances import Pixels, reject
from converters.json_files import UNREADABLE, decode, load
from converters.outlines import TEXT, TEXT_LABELS, Size, word
from dataengine.annotation import Annotation, Image, Instance, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the unpacked JSON file, `images` the folder of the pictures.

    `level` says what an object is: a word or a whole line. Words carry the number of their line as an attribute.
    """

    annotations: str
    images: str = ""
    extension: str = "jpg"
    level: Literal["word", "line"] = "word"


class RawFile(msgspec.Struct):
    annotations: list[msgspec.Raw]


class RawText(msgspec.Struct):
    """A paragraph, line or word; what is inside stays raw, so that one bad record costs no other."""

    vertices: list[tuple[float, float]] = []
    text: str | None = None
    legible: bool = True
    handwritten: bool = False
    vertical: bool = False
    lines: list[msgspec.Raw] = []
    words: list[msgspec.Raw] = []


class RawPicture(msgspec.Struct):
    image_id: str
    image_width: Pixels | None = None
    image_height: Pixels | None = None
    paragraphs: list[msgspec.Raw] = []


class _Piece(NamedTuple):
    place: str
    line: str
    data: msgspec.Raw


_picture = msgspec.json.Decoder(RawPicture)
_text = msgspec.json.Decoder(RawText)


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the one category that there is: text."""
    return TEXT_LABELS


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation an image, in file order, and a rejection for each text that cannot be used."""
    expected = "HierText's document: annotations with paragraphs"
    raw = load(source.annotations, root, "annotations", RawFile, expected)
    seen = set[str]()
    for number, data in enumerate(raw.annotations):
        place = f"annotations[{number}]"
        try:
            picture = _picture.decode(data)
        except UNREADABLE as error:
            yield reject(source.annotations, place, "schema", str(error))
            continue
        if picture.image_id in seen:
            detail = f"an image with id {picture.image_id} came before"
            yield reject(source.annotations, place, "id.duplicate", detail)
            continue
        seen.add(picture.image_id)
        yield from _annotate(source, place, picture)


def _annotate(source: Source, place: str, picture: RawPicture) -> Iterator[Annotation | Rejected]:
    name = f"{picture.image_id}.{source.extension}"
    image = Image(
        path=f"{source.images}/{name}" if source.images else name,
        width=picture.image_width or None,
        height=picture.image_height or None,
    )
    size = (image.width, image.height) if image.width and image.height else None
    instances, rejected = list[Instance](), list[Rejected]()
    pieces = [_Piece(f"paragraphs[{n}]", "", data) for n, data in enumerate(picture.paragraphs)]
    # Depth first, so that texts come in the order of the file.
    pieces.reverse()
    while pieces:
        piece = pieces.pop()
        try:
            text = decode(piece.data, _text)
            inside = list(_inside(source, piece, text))
            if inside:
                pieces += reversed(inside)
            else:
                instances.append(_instance(source, piece, text, size))
        except Quarantine as error:
            rejected.append(reject(source.annotations, f"{place}.{piece.place}", error.reason, error.detail))
            instances.append(Instance(id=piece.place, category=TEXT, ignore=True))
    yield Annotation(
        key=picture.image_id,
        images=(image,),
        instances=tuple(instances),
        origin=Origin(file=source.annotations, record=place),
    )
    yield from rejected


def _inside(source: Source, piece: _Piece, text: RawText) -> Iterator[_Piece]:
    """Yield the parts of a piece down to the level asked for."""
    if not piece.line:
        for number, data in enumerate(text.lines):
            yield _Piece(f"{piece.place}.lines[{number}]", f"{piece.place}.{number}", data)
    elif source.level == "word":
        for number, data in enumerate(text.words):
            yield _Piece(f"{piece.place}.words[{number}]", piece.line, data)


def _instance(source: Source, piece: _Piece, text: RawText, size: Size | None) -> Instance:
    """Return a text; a paragraph or line that stands for words that nobody can read is ignored."""
    whole = piece.place.count(".") == (2 if source.level == "word" else 1)
    flags = {name: "1" for name in ("handwritten", "vertical") if getattr(text, name)}
    attributes = {**({"line": piece.line} if source.level == "word" and whole else {}), **flags}
    points = [value for point in text.vertices for value in point]
    return word(piece.place, points, text.text if text.legible and whole else None, size, attributes)
