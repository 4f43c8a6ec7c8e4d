"""GranD: one JSON a picture of SA-1B, with objects, captions and which of their phrases mean which objects.

Conventions (the annotation files themselves, and GLaMM's GranD/prepare_annotations): a file is a mapping from the
picture's name to its facts; `bbox` is x1, y1, x2, y2 in pixels (taken as they stand: from 0, the end exclusive);
`labels` are guesses, the best first, and `attributes` are phrases about the object, as a text or a list. `captions`
are texts whose phrases are in `relationships.grounding`, with `object_ids`; later files have `short_captions` and
`dense_caption`, with `details` (`phrase`, `ids`). All of it was made by models: `score` is kept as an attribute.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from converters.json_files import decode
from converters.json_rows import corners, shape
from dataengine.annotation import Annotation, Caption, Expression, Image, Instance, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.spill import Keys

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is a pattern of the JSON files, `images` the folder of the pictures.

    Objects with a `score` below `min_score` become ignored ones, without text.
    """

    annotations: str = "*.json"
    images: str = ""
    min_score: float = 0.0


class RawObject(msgspec.Struct):
    id: int
    bbox: list[float]
    labels: list[str] = []
    attributes: list[str] | str | None = None
    score: float | None = None
    segmentation: msgspec.Raw = msgspec.Raw(b"")


class RawPhrase(msgspec.Struct):
    phrase: str = ""
    object_ids: list[int] = []
    ids: list[int] = []


class RawRelationships(msgspec.Struct):
    grounding: list[RawPhrase] = []


class RawCaption(msgspec.Struct):
    caption: str
    details: list[RawPhrase] = []


class RawPicture(msgspec.Struct):
    objects: list[RawObject] = []
    floating_objects: list[RawObject] = []
    relationships: RawRelationships | None = None
    captions: list[str] = []
    short_captions: list[RawCaption] = []
    dense_caption: RawCaption | None = None


_file = msgspec.json.Decoder(dict[str, RawPicture])


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture, file by file in the order of their names."""
    files = root.glob(source.annotations)
    if not files:
        raise SourceError(
            f"{root.directory / source.annotations}: no file; source.annotations is their pattern"
        )
    seen = Keys()
    for file in files:
        try:
            pictures = decode(root.read(file, "annotations"), _file)
        except Quarantine as error:
            origin = Origin(file=file, record=".")
            yield Rejected(key=file, reason=error.reason, detail=error.detail, origin=origin)
            continue
        for name, picture in pictures.items():
            origin = Origin(file=file, record=name)
            try:
                if name in seen:
                    raise Quarantine("id.duplicate", f"{name!r} came before")
                seen.add(name)
                yield _annotation(source, name, picture, origin)
            except Quarantine as error:
                yield Rejected(key=f"{file}:{name}", reason=error.reason, detail=error.detail, origin=origin)


def _annotation(source: Source, name: str, picture: RawPicture, origin: Origin) -> Annotation:
    if not name:
        raise Quarantine("schema", "the picture has no name")
    instances: list[Instance] = []
    expressions: list[Expression] = []
    places: dict[int, int] = {}
    for one in (*picture.objects, *picture.floating_objects):
        if one.id in places:
            raise Quarantine("id.duplicate", f"two objects have id {one.id}")
        place = places[one.id] = len(instances)
        made = _instance(source, one)
        instances.append(made)
        stated = [one.attributes] if isinstance(one.attributes, str) else one.attributes or []
        for number, text in enumerate(stated):
            words = " ".join(text.removeprefix("Assistant:").split())
            if words and not made.ignore:
                expressions.append(Expression(id=f"o{one.id}-{number}", text=words, instances=(place,)))
    shared = picture.relationships.grounding if picture.relationships else []
    captions = [RawCaption(text, shared) for text in picture.captions]
    captions += [*picture.short_captions, *([picture.dense_caption] if picture.dense_caption else [])]
    for number, caption in enumerate(captions):
        for phrase in caption.details:
            found = _phrase(caption.caption, phrase, places, f"{number}.{len(expressions)}")
            if found is not None:
                expressions.append(found)
    return Annotation(
        key=name.rpartition("/")[2].partition(".")[0],
        images=(Image(path=f"{source.images}/{name}" if source.images else name),),
        instances=tuple(instances),
        captions=tuple(
            Caption(id=str(number), text=item.caption)
            for number, item in enumerate(captions)
            if item.caption.strip()
        ),
        expressions=tuple(expressions),
        exhaustive=False,
        origin=origin,
    )


def _instance(source: Source, one: RawObject) -> Instance:
    box = corners(one.bbox, f"bbox of object {one.id}")
    outline = shape(one.id, None, one.segmentation, (None, None))
    weak = one.score is not None and one.score < source.min_score
    label = one.labels[0].replace("_", " ") if one.labels else None
    attributes = {} if one.score is None else {"score": f"{one.score:g}"}
    text = None if weak else label
    return msgspec.structs.replace(outline, box=box, text=text, ignore=weak, attributes=attributes)


def _phrase(caption: str, phrase: RawPhrase, places: dict[int, int], name: str) -> Expression | None:
    """Return a phrase of a caption with its place, or None where the caption does not hold it."""
    words = " ".join(phrase.phrase.split())
    start = caption.lower().find(words.lower()) if words else -1
    if start < 0:
        return None
    wanted = phrase.object_ids or phrase.ids
    lost = [number for number in wanted if number not in places]
    if lost:
        raise Quarantine("id.orphan", f"phrase {words!r} points to object {lost[0]}, which is not there")
    spans = ((start, start + len(words)),)
    return Expression(id=name, text=words, instances=tuple(places[number] for number in wanted), spans=spans)
