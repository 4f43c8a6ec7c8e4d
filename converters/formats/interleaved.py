"""Documents of text with pictures in between: OBELICS (Parquet) and MMC4 (JSON Lines).

Conventions (the datasets' own pages): a row of OBELICS has `images` and `texts` of one length, and at each position
exactly one of them is not null; pictures are addresses. A row of MMC4 has `text_list` and `image_info`, whose
`matched_text_index` says which text a picture belongs to; it is put before that text, pictures of one text by name.

A document becomes a conversation: pictures are shown, and the text up to the next ones is the answer; text before the
first picture stands before it. Pictures that no text follows ask nothing and are left out. A document of many pictures
is cut into parts of at most `max_images`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from dataengine.annotation import Annotation, Dialog, Image, Origin, Rejected, Turn
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.listing import Fit, Listing, name_splits, several
from dataengine.records.tables import Row, Table, read_rows
from dataengine.tokens import IMAGE, special_tokens

VERSION = "1"

_LAYOUTS = {"obelics": ("parquet", {"images", "texts"}), "mmc4": ("jsonl", {"text_list", "image_info"})}


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the file, or a pattern of files; `images` the folder of the pictures.

    MMC4 names its pictures. Those of OBELICS lie where whoever fetched them put them: `images`/FILE_ROW/POSITION.jpg,
    FILE without its ending, both numbers from 0.
    """

    annotations: str
    layout: Literal["obelics", "mmc4"]
    images: str = "images"
    max_images: int = 8

    def __post_init__(self) -> None:
        if self.max_images < 1:
            raise ValueError(f"max_images: {self.max_images}, expected at least one")


class RawPicture(msgspec.Struct):
    image_name: str
    matched_text_index: int


class RawMmc4(msgspec.Struct):
    text_list: list[str]
    image_info: list[RawPicture]


class RawObelics(msgspec.Struct):
    images: list[str | None]
    texts: list[str | None]


# A piece of a document: a text, or the file of a picture.
Piece = tuple[Literal["text", "image"], str]


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds MMC4's JSON Lines: `text_list` and `image_info`."""
    found = [file for file in listing.ending(".jsonl") if _is_mmc4(listing.read(file))]
    if not found:
        return "no JSON Lines with text_list and image_info"
    splits = [(file.removesuffix(".jsonl"), {"annotations": file, "layout": "mmc4"}) for file in found]
    why = f"{several(found)}: text_list and image_info"
    return Fit(splits=name_splits(splits), tasks=("conversation",), why=why, certainty=3)


def _is_mmc4(data: bytes) -> bool:
    """Say whether the first line of a file is a row of MMC4."""
    try:
        msgspec.json.decode(data.partition(b"\n")[0], type=RawMmc4)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield annotations, one a part of a document, or a rejection a row, in the order of the files."""
    kind, words = _LAYOUTS[source.layout]
    table = msgspec.convert({"path": source.annotations, "kind": kind}, Table)
    for row in read_rows(table, root, "annotations", frozenset(words)):
        if isinstance(row, Rejected):
            yield row
            continue
        stem = row.file.rsplit("/", 1)[-1].partition(".")[0]
        key, origin = f"{stem}_{row.key}", Origin(file=row.file, record=row.place)
        try:
            rounds = list(_rounds(_pieces(source, row, key)))
            if not rounds:
                raise Quarantine("dialog.no_answer", "no text follows a picture")
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
            continue
        for number, part in enumerate(_parts(rounds, source.max_images)):
            yield Annotation(
                key=f"{key}.{number}",
                images=tuple(Image(path=file) for files, _, _ in part for file in files),
                dialogs=(Dialog(id="", turns=tuple(_turns(part))),),
                exhaustive=False,
                origin=origin,
            )


def _pieces(source: Source, row: Row, key: str) -> list[Piece]:
    """Return a document's texts and pictures in order. Raises Quarantine `schema` or `text.special_token`."""
    if source.layout == "obelics":
        found = _as(row.cells, RawObelics)
        if len(found.images) != len(found.texts):
            raise Quarantine("schema", f"{len(found.images)} images, but {len(found.texts)} texts")
        pieces: list[Piece] = []
        for place, (image, text) in enumerate(zip(found.images, found.texts, strict=True)):
            if (image is None) == (text is None):
                raise Quarantine("schema", f"position {place} has both image and text, or neither")
            pieces.append(("text", text) if text is not None else ("image", f"{key}/{place}.jpg"))
    else:
        document = _as(row.cells, RawMmc4)
        strange = [
            one for one in document.image_info if not 0 <= one.matched_text_index < len(document.text_list)
        ]
        if strange:
            raise Quarantine("schema", f"{strange[0].image_name} belongs to a text that is not there")
        pieces = []
        for place, text in enumerate(document.text_list):
            names = sorted(one.image_name for one in document.image_info if one.matched_text_index == place)
            pieces += [("image", name) for name in names]
            pieces.append(("text", text))
    if found_token := [token for kind, text in pieces if kind == "text" for token in special_tokens(text)]:
        raise Quarantine("text.special_token", f"{found_token[0]!r} stands in the source text")
    return [(kind, f"{source.images}/{text}" if kind == "image" else text) for kind, text in pieces]


def _as(cells: dict[str, Any], kind: Any) -> Any:
    try:
        return msgspec.convert(cells, kind)
    except msgspec.ValidationError as error:
        raise Quarantine("schema", str(error)) from error


# What one question and its answer are made of: the files of its pictures, the text before them, the text after.
Round = tuple[list[str], str, str]


def _rounds(pieces: list[Piece]) -> Iterator[Round]:
    """Yield runs of pictures with the text after them; the first with the text before it too."""
    files: list[str] = []
    before: list[str] = []
    after: list[str] = []
    for kind, text in [*pieces, ("image", "")]:
        if kind == "text":
            if text.strip():
                (after if files else before).append(text.strip())
            continue
        if after:
            yield files, "\n".join(before), "\n".join(after)
            files, before, after = [], [], []
        if text:
            files = [*files, text]


def _parts(rounds: list[Round], most: int) -> Iterator[list[Round]]:
    """Yield the rounds in groups of at most `most` pictures; one round that has more stands alone."""
    part: list[Round] = []
    for one in rounds:
        if part and sum(len(files) for files, _, _ in part) + len(one[0]) > most:
            yield part
            part = []
        part.append(one)
    yield part


def _turns(part: list[Round]) -> Iterator[Turn]:
    for files, before, after in part:
        shown = "\n".join([IMAGE] * len(files))
        yield Turn("user", f"{before}\n{shown}" if before else shown)
        yield Turn("assistant", after)
