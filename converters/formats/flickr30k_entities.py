"""Flickr30k Entities: captions whose phrases are marked, and boxes for the marks, one XML a picture.

Conventions (the data set's README and its flickr30k_entities_utils.py): `Sentences/<id>.txt` holds a caption a line,
with `[/EN#<chain>/<type> words]` around each phrase; `Annotations/<id>.xml` holds objects that name one chain or
several, each with a `bndbox`, or a flag that the chain is the whole scene or has no box. Pixels count from 1 and both
corners belong to the box. A phrase whose chain has no box (chain 0 never has one) stays plain text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

import msgspec

from converters.box_lines import pixels
from converters.formats.voc_xml import parse
from dataengine.annotation import Annotation, Box, Caption, Expression, Image, Instance, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.spill import Keys

VERSION = "1"

# No blank is tried twice: a line of them would take for ever.
_PHRASE = re.compile(r"\[/EN#(?P<chain>\w+)(?P<types>(?:/[^/\s\]]+)*)\s++(?P<words>[^\[\]]*+)\]")


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` and `sentences` are the folders of the XML and text files, `images` that of the pictures.

    `image_set` is the list of a split's ids; without it every text file is read. `unrelated` lists captions that do not
    fit their picture, one `<id> <number from 1>` a line; they are left out as `where.filtered`.
    """

    annotations: str = "Annotations"
    sentences: str = "Sentences"
    images: str = "flickr30k-images"
    image_set: str | None = None
    unrelated: str | None = None


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture, in the order of the list: its captions, phrases and boxes.

    A caption that is empty or broken is a rejection of its own. Raises SourceError where a list cannot be read.
    """
    unrelated = _unrelated(source, root)
    seen = Keys()
    for name, origin in _names(source, root):
        try:
            if name in seen:
                raise Quarantine("id.duplicate", f"{name!r} came before")
            seen.add(name)
            instances, chains, size = _objects(root, f"{source.annotations}/{name}.xml")
            lines = _lines(root, f"{source.sentences}/{name}.txt")
        except Quarantine as error:
            yield Rejected(key=name, reason=error.reason, detail=error.detail, origin=origin)
            continue
        captions: list[Caption] = []
        expressions: list[Expression] = []
        rejected: list[Rejected] = []
        for number, line in enumerate(lines):
            place = Origin(file=f"{source.sentences}/{name}.txt", record=f"line {number + 1}")
            try:
                if (name, str(number + 1)) in unrelated:
                    raise Quarantine("where.filtered", "the caption is listed as unrelated")
                text, found = caption(line, str(number), chains)
            except Quarantine as error:
                rejected.append(
                    Rejected(key=f"{name}.{number}", reason=error.reason, detail=error.detail, origin=place)
                )
                continue
            captions.append(Caption(id=str(number), text=text))
            expressions += found
        yield Annotation(
            key=name,
            images=(Image(path=f"{source.images}/{name}.jpg", width=size[0], height=size[1]),),
            instances=tuple(instances),
            captions=tuple(captions),
            expressions=tuple(expressions),
            exhaustive=False,
            origin=Origin(file=f"{source.sentences}/{name}.txt", record="file"),
        )
        yield from rejected


def caption(line: str, number: str, chains: dict[str, list[int]]) -> tuple[str, list[Expression]]:
    """Return a caption's words without the marks, and its phrases that have objects, `<number>.<count>` by id.

    Raises Quarantine `text.empty`, or `schema` where a bracket is left over.
    """
    words, end = "", 0
    expressions: list[Expression] = []
    for match in _PHRASE.finditer(line):
        words += line[end : match.start()]
        end = match.end()
        text = match["words"].strip()
        start = len(words)
        words += text
        if text and chains.get(match["chain"]):
            expressions.append(
                Expression(
                    id=f"{number}.{len(expressions)}",
                    text=text,
                    instances=tuple(chains[match["chain"]]),
                    spans=((start, len(words)),),
                )
            )
    words += line[end:]
    if "[/EN#" in words:
        raise Quarantine("schema", f"a mark does not close: {words[words.index('[/EN#') :][:60]!r}")
    if not words.strip():
        raise Quarantine("text.empty", "the caption is empty")
    return words, expressions


def _names(source: Source, root: Root) -> Iterator[tuple[str, Origin]]:
    if source.image_set is None:
        found = root.glob(f"{source.sentences}/*.txt")
        if not found:
            raise SourceError(f"{root.directory / source.sentences}: no text file; source.sentences names it")
        for file in found:
            yield PurePosixPath(file).stem, Origin(file=file, record="file")
        return
    for number, line in root.lines(source.image_set, "image_set"):
        name = line.decode("utf-8-sig", "replace").strip().removesuffix(".jpg")
        if name:
            yield name, Origin(file=source.image_set, record=f"line {number}")


def _unrelated(source: Source, root: Root) -> set[tuple[str, str]]:
    if source.unrelated is None:
        return set()
    found = set()
    for _, line in root.lines(source.unrelated, "unrelated"):
        parts = line.decode("utf-8-sig", "replace").split()
        # The list has a heading.
        if len(parts) == 2 and parts[1].isdecimal():
            found.add((parts[0], parts[1]))
    return found


def _text(root: Root, file: str) -> bytes:
    if not root.inside(file).is_file():
        root.glob(re.sub(r"([\[*?])", r"[\1]", file))  # a file that comes later is a change
        raise Quarantine("id.orphan", f"no such file: {file}")
    return root.read(file, "annotations")


def _lines(root: Root, file: str) -> list[str]:
    try:
        text = _text(root, file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Quarantine("schema", f"{file}: {error}, expected UTF-8") from error
    lines = [line.strip() for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def _objects(
    root: Root, file: str
) -> tuple[list[Instance], dict[str, list[int]], tuple[int | None, int | None]]:
    """Return the boxes, the positions of each chain's boxes, and the stated size of the picture."""
    document = parse(_text(root, file))
    instances: list[Instance] = []
    chains: dict[str, list[int]] = defaultdict(list)
    for item in document.findall("object"):
        if item.find("bndbox") is None:
            continue
        names = [(name.text or "").strip() for name in item.findall("name")]
        for name in names:
            chains[name].append(len(instances))
        instances.append(
            Instance(id=str(len(instances)), box=_box(item), attributes={"chain": " ".join(names)})
        )
    return (
        instances,
        chains,
        (pixels(document.findtext("size/width")), pixels(document.findtext("size/height"))),
    )


def _box(item: Element) -> Box:
    try:
        x0, y0, x1, y1 = (
            float(item.findtext(f"bndbox/{key}") or "") for key in ("xmin", "ymin", "xmax", "ymax")
        )
    except ValueError as error:
        raise Quarantine("schema", f"bndbox: {error}, expected xmin, ymin, xmax, ymax") from error
    return (x0 - 1, y0 - 1, x1, y1)
