"""COCO-Text and TextOCR: one JSON with `imgs` and `anns`, mappings by id, one annotation a word.

Conventions (COCO-Text v2, bgshih.github.io/cocotext; TextOCR, textvqa.org/textocr): pixels from 0. COCO-Text outlines a
word by `mask`, TextOCR by `points`, both flat lists x1, y1, x2, y2, …; `bbox` (x, y, width, height) serves where there
is none. COCO-Text says `legibility: illegible` or leaves `utf8_string` out where nobody can read a word, TextOCR writes
a single full stop: such words are ignored. Images of all splits stand in one file and say which `set` they are of.
Images without annotations show no text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from converters.formats.coco_instances import Pixels, reject
from converters.json_files import UNREADABLE, decode, load
from converters.outlines import TEXT, TEXT_LABELS, Size, box_corners, word
from dataengine.annotation import Annotation, Image, Instance, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import from_xywh

VERSION = "1"

Id = int | str


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON file, `images` the folder of the pictures, `strip` a start of names that it lacks.

    `set` takes the images of one set alone; others are left out as `split.other`. `unreadable` are the texts that stand
    for a word that nobody can read.
    """

    annotations: str
    images: str = ""
    strip: str = ""
    set: str | None = None
    unreadable: tuple[str, ...] = (".",)


class RawFile(msgspec.Struct):
    imgs: dict[str, msgspec.Raw]
    anns: dict[str, msgspec.Raw]


class RawPicture(msgspec.Struct):
    id: Id
    file_name: str | None = None
    filename: str | None = None
    width: Pixels | None = None
    height: Pixels | None = None
    set: str | None = None


class RawLink(msgspec.Struct):
    """What every annotation record has: its image."""

    image_id: Id


class RawWord(RawLink):
    points: list[float] | None = None
    mask: list[float] | None = None
    polygon: list[float] | None = None
    bbox: list[float] | None = None
    utf8_string: str | None = None
    legibility: str | None = None
    language: str | None = None


_picture = msgspec.json.Decoder(RawPicture)
_link = msgspec.json.Decoder(RawLink)
_word = msgspec.json.Decoder(RawWord)


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the one category that there is: text."""
    return TEXT_LABELS


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation an image of the set, in file order, and a rejection for every record that fits nowhere."""
    raw = load(
        source.annotations, root, "annotations", RawFile, "a COCO-Text file: imgs and anns, mappings by id"
    )
    file = source.annotations
    words: dict[str, list[tuple[str, msgspec.Raw]]] = defaultdict(list)
    for key, data in raw.anns.items():
        place = f"anns.{key}"
        try:
            words[str(_link.decode(data).image_id)].append((place, data))
        except UNREADABLE as error:
            yield reject(file, place, "schema", str(error))
    for key, data in raw.imgs.items():
        place = f"imgs.{key}"
        try:
            picture = _picture.decode(data)
            name = (picture.file_name or picture.filename or "").removeprefix(source.strip)
            if not name:
                raise Quarantine("schema", "no file_name")
            if str(picture.id) != key:
                raise Quarantine("schema", f"id is {picture.id}, but the image stands under {key}")
        except UNREADABLE as error:
            yield reject(file, place, "schema", str(error))
            continue
        except Quarantine as error:
            yield reject(file, place, error.reason, error.detail)
            continue
        records = words.pop(key, [])
        if source.set is not None and picture.set != source.set:
            yield reject(file, place, "split.other", f"set is {picture.set!r}")
            continue
        path = f"{source.images}/{name}" if source.images else name
        image = Image(path=path, width=picture.width or None, height=picture.height or None)
        yield from _annotate(source, key, image, records)
    for image_id, records in words.items():
        for place, _ in records:
            yield reject(file, place, "id.orphan", f"no image has id {image_id}")


def _annotate(
    source: Source, key: str, image: Image, records: list[tuple[str, msgspec.Raw]]
) -> Iterator[Annotation | Rejected]:
    size = (image.width, image.height) if image.width and image.height else None
    instances, rejected = list[Instance](), list[Rejected]()
    for place, data in records:
        identity = place.removeprefix("anns.")
        try:
            instances.append(_instance(source, data, identity, size))
        except Quarantine as error:
            rejected.append(reject(source.annotations, place, error.reason, error.detail))
            instances.append(Instance(id=identity, category=TEXT, ignore=True))
    yield Annotation(
        key=key,
        images=(image,),
        instances=tuple(instances),
        origin=Origin(file=source.annotations, record=f"imgs.{key}"),
    )
    yield from rejected


def _instance(source: Source, data: msgspec.Raw, identity: str, size: Size | None) -> Instance:
    """Return a word. Raises Quarantine `schema` or `polygon.invalid`."""
    raw = decode(data, _word)
    points = raw.points or raw.mask or raw.polygon
    if not points:
        if raw.bbox is None or len(raw.bbox) != 4:
            raise Quarantine("schema", "no outline and no bbox of 4 numbers")
        points = box_corners(from_xywh(raw.bbox))
    unreadable = raw.legibility == "illegible" or raw.utf8_string in source.unreadable
    attributes = {"language": raw.language} if raw.language else None
    return word(identity, points, None if unreadable else raw.utf8_string, size, attributes)
