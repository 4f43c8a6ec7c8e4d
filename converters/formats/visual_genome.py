"""Visual Genome: one JSON list for each kind of fact (regions, objects, relationships, …), with an item a picture.

Conventions (visualgenome.org, API and data pages): boxes are x, y, width and height in pixels from 0, and some leave
the picture. A picture is named by the last two parts of its address, `VG_100K/1.jpg`. `image_id` is Visual Genome's
own: half of the pictures are COCO's, and `image_data.json` says which (`coco_id`). Nobody annotated everything in a
picture. Objects of a relationship that the list of objects lacks are taken from the relationship itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from converters.formats import coco_instances as coco
from converters.json_files import UNREADABLE, load
from dataengine.annotation import Annotation, Expression, Image, Instance, Origin, Question, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import from_xywh

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`image_data` lists the pictures, `images` is the folder above VG_100K and VG_100K_2.

    The other files are read where they are named. `image_set` is a list of picture ids, one a line; the others are
    reported as `split.other`.
    """

    image_data: str = "image_data.json"
    images: str = ""
    regions: str | None = None
    objects: str | None = None
    attributes: str | None = None
    relationships: str | None = None
    questions: str | None = None
    image_set: str | None = None


class RawImage(msgspec.Struct):
    image_id: int | str
    width: coco.Pixels | None = None
    height: coco.Pixels | None = None
    url: str = ""
    coco_id: int | None = None


class RawLink(msgspec.Struct):
    """What every item has: its picture, by one of two names."""

    image_id: int | str | None = None
    id: int | str | None = None


class RawRegion(msgspec.Struct):
    phrase: str
    x: float
    y: float
    width: float
    height: float
    region_id: int | str | None = None


class RawObject(msgspec.Struct):
    object_id: int | str
    x: float
    y: float
    w: float
    h: float
    names: list[str] = []
    name: str = ""
    attributes: list[str] | None = None


class RawRelation(msgspec.Struct):
    predicate: str
    subject: RawObject
    object: RawObject


class RawQuestion(msgspec.Struct):
    question: str
    answer: str
    qa_id: int | str | None = None


class RawItem(RawLink):
    """One item of any of the lists."""

    regions: list[RawRegion] = []
    objects: list[RawObject] = []
    attributes: list[RawObject] = []
    relationships: list[RawRelation] = []
    qas: list[RawQuestion] = []


_image = msgspec.json.Decoder(RawImage)
_link = msgspec.json.Decoder(RawLink)
_item = msgspec.json.Decoder(RawItem)
# Items by picture, with the place of each.
Index = dict[str, list[tuple[str, msgspec.Raw]]]


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture of `image_data`, and a rejection for each item without a picture."""
    files = {
        name: getattr(source, name)
        for name in ("regions", "objects", "attributes", "relationships", "questions")
        if getattr(source, name)
    }
    wanted = _wanted(source, root)
    indices: dict[str, Index] = {}
    for name, file in files.items():
        indices[name], broken = _index(file, root, name)
        yield from broken
    pictures = load(source.image_data, root, "image_data", list[msgspec.Raw], "a list of pictures")
    seen = set[str]()
    for number, data in enumerate(pictures):
        origin = Origin(file=source.image_data, record=f"[{number}]")
        key = origin.record
        try:
            image = _image.decode(data)
            key = str(image.image_id)
            if key in seen:
                raise Quarantine("id.duplicate", f"a picture with id {key} came before")
            seen.add(key)
            items = {name: index.pop(key, []) for name, index in indices.items()}
            if wanted is not None and key not in wanted:
                raise Quarantine("split.other", "the split's list lacks it")
            yield _annotation(source, image, items, origin)
        except UNREADABLE as error:
            yield Rejected(key=key, reason="schema", detail=str(error), origin=origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
    for name, index in indices.items():
        for picture, rows in index.items():
            for place, _ in rows:
                detail = f"no picture has id {picture}"
                yield coco.reject(files[name], f"{name} {place}", "id.orphan", detail)


def _wanted(source: Source, root: Root) -> set[str] | None:
    if source.image_set is None:
        return None
    lines = root.lines(source.image_set, "image_set")
    return {line.decode("utf-8-sig", "replace").strip() for _, line in lines}


def _index(file: str, root: Root, name: str) -> tuple[Index, list[Rejected]]:
    rows = load(file, root, name, list[msgspec.Raw], f"a list with the {name} of each picture")
    index: Index = {}
    broken = []
    for number, data in enumerate(rows):
        place = f"[{number}]"
        try:
            link = _link.decode(data)
        except UNREADABLE as error:
            broken.append(coco.reject(file, f"{name} {place}", "schema", str(error)))
            continue
        picture = link.image_id if link.image_id is not None else link.id
        index.setdefault(str(picture), []).append((place, data))
    return index, broken


def _annotation(
    source: Source, image: RawImage, items: dict[str, list[tuple[str, msgspec.Raw]]], origin: Origin
) -> Annotation:
    """Return the facts of one picture. Raises Quarantine `schema` where it has no address or an item is broken."""
    path = "/".join(image.url.split("/")[-2:])
    if not path:
        raise Quarantine("schema", "the picture has no url, which names its file")
    instances: list[Instance] = []
    expressions: list[Expression] = []
    questions: list[Question] = []
    relations: list[tuple[int, str, int]] = []
    places: dict[str, int] = {}
    raw = [_decode(data, f"{name} {place}") for name, rows in items.items() for place, data in rows]
    for region in (one for item in raw for one in item.regions):
        name = f"r{region.region_id if region.region_id is not None else len(instances)}"
        phrase = " ".join(region.phrase.split())
        box = from_xywh((region.x, region.y, region.width, region.height))
        expressions.append(Expression(id=name, text=phrase, instances=(len(instances),)))
        instances.append(Instance(id=name, box=box, text=phrase))
    for one in (one for item in raw for one in (*item.objects, *item.attributes)):
        _place(one, instances, places)
    for link in (one for item in raw for one in item.relationships):
        ends = (_place(link.subject, instances, places), _place(link.object, instances, places))
        predicate = " ".join(link.predicate.split()).lower()
        if predicate:
            relations.append((ends[0], predicate, ends[1]))
    for number, asked in enumerate(one for item in raw for one in item.qas):
        name = str(asked.qa_id) if asked.qa_id is not None else f"q{number}"
        questions.append(Question(id=name, text=asked.question, answers=(asked.answer,)))
    return Annotation(
        key=str(image.image_id),
        images=(
            Image(
                path=f"{source.images}/{path}" if source.images else path,
                width=image.width or None,
                height=image.height or None,
            ),
        ),
        instances=tuple(instances),
        expressions=tuple(expressions),
        questions=tuple(questions),
        relations=tuple(dict.fromkeys(relations)),
        exhaustive=False,
        origin=origin,
    )


def _decode(data: msgspec.Raw, place: str) -> RawItem:
    try:
        return _item.decode(data)
    except UNREADABLE as error:
        raise Quarantine("schema", f"{place}: {error}") from error


def _place(one: RawObject, instances: list[Instance], places: dict[str, int]) -> int:
    """Return the position of an object, which is added where it is new; attributes add up."""
    key = str(one.object_id)
    name = next((" ".join(text.split()) for text in (*one.names, one.name) if text.strip()), None)
    if key not in places:
        places[key] = len(instances)
        box = from_xywh((one.x, one.y, one.w, one.h))
        instances.append(Instance(id=f"o{key}", category=name, box=box))
    if one.attributes:
        known = instances[places[key]]
        words = [known.attributes.get("attributes", ""), *(text.strip() for text in one.attributes)]
        text = ", ".join(dict.fromkeys(word for word in words if word))
        instances[places[key]] = msgspec.structs.replace(known, attributes={"attributes": text})
    return places[key]
