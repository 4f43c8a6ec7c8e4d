"""ReasonSeg: beside each picture a JSON with questions (`text`) and the outlines of what they mean (`shapes`).

Conventions (LISA's own reader, dvlab-research/LISA, utils/data_processing.py): all texts of a file mean the same
object, which is the union of the outlines labelled `target`. Outlines labelled `ignore` are ambiguous ground, those
labelled `flag` mean nothing. Where they overlap the smaller one counts. `is_sentence` says whether the texts are whole
questions or phrases. Points are pixels from 0. Some files are Windows-1252 and not UTF-8. `explanatory/train.json`
explains the answers of some pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

import msgspec
import numpy as np

from converters.json_files import decode, load, parse
from converters.shapes import Outline, Size, finite, outline_mask, size_of
from dataengine.annotation import Annotation, Expression, Image, Instance, Origin, Rejected, Rle
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.geometry import mask_from_rle, rle_area, rle_from_mask

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the folder of pictures and JSON files; a picture has the file's name and `extension`.

    `explanations` is the file that explains answers. `texts` takes whole questions only, or phrases only: a question
    can be asked as it stands, a phrase cannot.
    """

    annotations: str
    extension: str = "jpg"
    explanations: str | None = None
    texts: Literal["all", "sentences", "phrases"] = "all"


class RawShape(msgspec.Struct):
    label: str
    points: list[tuple[float | None, float | None]]


class RawFile(msgspec.Struct):
    shapes: list[RawShape]
    text: list[str]
    is_sentence: bool


class RawExplanation(msgspec.Struct):
    image: str
    outputs: str


_explanation = msgspec.json.Decoder(RawExplanation)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a JSON file, in the order of the names. Raises SourceError."""
    folder = PurePosixPath(source.annotations)
    files = root.glob(f"{folder}/*.json")
    if not files:
        raise SourceError(f"{root.directory / folder}: no JSON file; the spec needs it as source.annotations")
    explained, rejected = _explanations(source, root)
    yield from rejected
    for file in files:
        key, origin = PurePosixPath(file).stem, Origin(file=file, record="document")
        try:
            yield _annotate(source, root, key, origin, explained)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)


def _explanations(source: Source, root: Root) -> tuple[dict[str, str], list[Rejected]]:
    """Return the explanations by name of the picture, and a rejection of each that is none. Raises SourceError."""
    found: dict[str, str] = {}
    rejected: list[Rejected] = []
    if source.explanations is None:
        return found, rejected
    expected = "a JSON list of records with image, query and outputs"
    items = load(source.explanations, root, "explanations", list[msgspec.Raw], expected)
    for number, data in enumerate(items):
        try:
            item = decode(data, _explanation)
            found[item.image] = item.outputs
        except Quarantine as error:
            origin = Origin(file=source.explanations, record=f"[{number}]")
            key = f"{source.explanations}[{number}]"
            rejected.append(Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin))
    return found, rejected


def _annotate(source: Source, root: Root, key: str, origin: Origin, explained: dict[str, str]) -> Annotation:
    raw = _document(origin.file, root)
    image = Image(path=str(PurePosixPath(origin.file).with_suffix(f".{source.extension}")))
    target, ignored = _regions(raw, size_of(image, root))
    if not rle_area(target):
        raise Quarantine("mask.empty", "no outline labelled 'target' covers a pixel that counts")
    wanted = source.texts == "all" or (source.texts == "sentences") == raw.is_sentence
    texts = raw.text if wanted else []
    regions = [Instance(id="target", mask=target)]
    if rle_area(ignored):
        regions.append(Instance(id="ignore", mask=ignored, ignore=True))
    return Annotation(
        key=key,
        images=(image,),
        instances=tuple(regions),
        expressions=tuple(
            Expression(
                id=f"t{number}",
                text=text,
                instances=(0,),
                answer=explained.get(PurePosixPath(image.path).name),
            )
            for number, text in enumerate(texts)
        ),
        exhaustive=False,
        origin=origin,
    )


def _document(file: str, root: Root) -> RawFile:
    """Return the file, in either encoding. Raises Quarantine `schema`."""
    data = root.read(file, "annotations")
    try:
        data.decode()
    except UnicodeDecodeError:
        # Five bytes mean nothing there; one of them in a question is no reason to lose it.
        data = data.decode("cp1252", errors="replace").encode()
    try:
        return parse(data, file, RawFile, "a ReasonSeg file: shapes, text, is_sentence")
    except SourceError as error:
        raise Quarantine("schema", str(error)) from error


def _regions(raw: RawFile, size: Size) -> tuple[Rle, Rle]:
    """Return the masks of what is meant and of what does not count. Raises Quarantine `schema`, `polygon.invalid`."""
    drawn = []
    for number, shape in enumerate(raw.shapes):
        if shape.label.lower() == "flag":
            continue
        outline: Outline = finite((value for point in shape.points for value in point), f"shapes[{number}]")
        mask = outline_mask([outline], size)
        drawn.append((rle_area(mask), "ignore" in shape.label.lower(), mask))
    width, height = size
    target = np.zeros((height, width), np.uint8)
    ignored = np.zeros((height, width), np.uint8)
    for _, ignore, mask in sorted(drawn, key=lambda item: -item[0]):
        inside = mask_from_rle(mask).astype(bool)
        target[inside] = not ignore
        ignored[inside] = ignore
    return rle_from_mask(target), rle_from_mask(ignored)
