"""Text files of the ICDAR reading competitions: one a picture, one word a line.

Conventions (rrc.cvc.uab.es, the tasks pages of challenges 2, 4, 8, 13 and 15): pixels from 0; four corners clockwise
from the word's top left, x1,y1,x2,y2,x3,y3,x4,y4, or (2013) the corners left,top,right,bottom of an upright box. The
text is the last column and may hold commas, so that a line is split only as often as there are columns before it. MLT
puts the script before the text; RCTW a flag for words that are hard to read. `###` stands for words that nobody can
read: they are no targets, and no background either. Files come with byte order marks and both kinds of line ends. The
numbers belong to the pixels as stored, so that a picture that its EXIF data turns is rejected.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

import msgspec

from converters import text_layouts
from converters.file_pairs import Pair, pairs, sized
from converters.outlines import TEXT, TEXT_LABELS, Size, box_corners, numbers, word
from dataengine.annotation import Annotation, Image, Instance, LabelSpace, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.json_text import BOM
from dataengine.listing import Fit, Listing, name_splits, several

VERSION = "1"

Column = Literal["quad", "rect", "script", "difficult", "text"]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the folder of the text files PREFIX + name + SUFFIX, `images` the folder or folders of pictures.

    A picture has the text file's name and one of the `extensions`. `columns` says what a line holds, in order: `quad`
    or `rect` first, `text` last; `delimiter` what stands between. `quoted`: the text stands in double quotes.
    `unreadable` are the texts that stand for a word that nobody can read. A line of bytes that are not in `encoding`
    is rejected.
    """

    annotations: str
    images: str | tuple[str, ...] = ""
    prefix: str = "gt_"
    suffix: str = ".txt"
    extensions: tuple[str, ...] = ("jpg",)
    columns: tuple[Column, ...] = ("quad", "text")
    delimiter: Literal[",", " "] = ","
    quoted: bool = False
    unreadable: tuple[str, ...] = ("###",)
    encoding: Literal["utf-8", "latin-1"] = "utf-8"

    def __post_init__(self) -> None:
        if len(self.columns) < 2 or self.columns[0] not in ("quad", "rect") or self.columns[-1] != "text":
            raise ValueError("columns: expected 'quad' or 'rect' first and 'text' last")
        if set(self.columns[1:-1]) & {"quad", "rect", "text"} or len(set(self.columns)) != len(self.columns):
            raise ValueError("columns: expected each once")
        if not self.extensions:
            raise ValueError("extensions: expected at least one")


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the one category that there is: text."""
    return TEXT_LABELS


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds text files of ICDAR's competitions: four corners, then a word, between commas."""
    prefixes = ("", "gt_", "poly_gt_", "tr_")
    found = text_layouts.label_folders(listing, _looks_like_a_row, ",", prefixes)
    if not found:
        return "no text file beside a picture has lines of four corners and a word between commas"
    splits = []
    for one in found:
        stem, name = PurePosixPath(one.file).stem, PurePosixPath(one.picture).stem
        script = all(len(cells) > 9 and cells[8] in _SCRIPTS for cells in one.rows)
        keys = {
            "annotations": one.folder, "images": one.images, "prefix": stem.removesuffix(name),
            "extensions": [one.extension], **({"columns": ["quad", "script", "text"]} if script else {}),
        }  # fmt: skip
        splits.append((one.folder or "train", keys))
    why = f"{several([one.file for one in found])}: four corners and a word"
    return Fit(splits=name_splits(splits), tasks=("text_spotting", "region_ocr", "detection"), why=why)


_SCRIPTS = {
    "Arabic", "Bangla", "Chinese", "Hindi", "Japanese", "Korean", "Latin", "Mixed", "None", "Symbols",
}  # fmt: skip


def _looks_like_a_row(cells: list[str]) -> bool:
    corners = len(cells) > 8 and all(cell.removeprefix("-").isdecimal() for cell in cells[:8])
    return corners and bool(cells[8])


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation a text file, and a rejection a line that is no word."""
    found = pairs(
        root,
        source.annotations,
        source.images,
        prefix=source.prefix,
        suffix=source.suffix,
        extensions=source.extensions,
    )
    for item in sized(found, root):
        if isinstance(item, Rejected):
            yield item
            continue
        pair, size = item
        words, rejected = read_words(source, root, pair, size)
        yield Annotation(
            key=pair.stem,
            images=(Image(path=pair.image),),
            instances=words,
            origin=pair.origin("file"),
        )
        yield from rejected


def read_words(
    source: Source, root: Root, pair: Pair, size: Size | None
) -> tuple[tuple[Instance, ...], list[Rejected]]:
    """Return the words of a text file in its order, and the rejections; a rejected line leaves an ignored word."""
    words, rejected = list[Instance](), list[Rejected]()
    for number, data in root.lines(pair.file, "annotations"):
        place = f"line {number}"
        try:
            line = _decode(data, source.encoding)
            if line:
                words.append(_word(source, line, str(number), size))
        except Quarantine as error:
            rejected.append(pair.reject(place, error))
            words.append(Instance(id=str(number), category=TEXT, ignore=True))
    return tuple(words), rejected


def _decode(data: bytes, encoding: str) -> str:
    try:
        return data.removeprefix(BOM).decode(encoding).strip()
    except UnicodeDecodeError as error:
        raise Quarantine("schema", str(error)) from error


def _word(source: Source, line: str, number: str, size: Size | None) -> Instance:
    """Return the word of a line. Raises Quarantine `schema` or `polygon.invalid`."""
    count = 8 if source.columns[0] == "quad" else 4
    others = source.columns[1:]
    cells = line.split(None if source.delimiter == " " else source.delimiter, count + len(others) - 1)
    # A word without text may lack even the delimiter before it.
    if len(cells) < count + len(others) - 1:
        raise Quarantine("schema", f"{len(cells)} columns, expected {count + len(others)}")
    points = numbers(cells[:count])
    facts = dict(zip(others, (cell.strip() for cell in cells[count:]), strict=False))
    text = facts.get("text", "")
    if source.quoted:
        text = text.removeprefix('"').removesuffix('"')
    found = word(
        number,
        points if count == 8 else box_corners(points),
        "" if text in source.unreadable else text,
        size,
        {"script": facts["script"]} if "script" in facts else None,
    )
    return msgspec.structs.replace(found, difficult=facts.get("difficult", "0") != "0")
