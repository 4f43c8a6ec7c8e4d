"""FUNSD: one JSON a scanned form, with entities, the words that they are made of, and links between them.

Conventions (guillaumejaume.github.io/FUNSD): `form` is a list of entities with `box` (x1, y1, x2, y2 in pixels from
0, the end taken as exclusive), `text`, `label` (question, answer, header, other), `words` with boxes of their own,
and `linking`, pairs of entity ids, which both ends of a link state. Empty text marks a field that is not filled in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from converters.file_pairs import Pair, pairs, sized
from converters.json_files import decode
from converters.outlines import TEXT, TEXT_LABELS, Size, box_corners, word
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.json_text import BOM, without_nan

VERSION = "1"

LINK = "linked to"
ENTITIES = LabelSpace(
    id="source", labels=tuple(Label(name=name) for name in ("header", "question", "answer", "other"))
)


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the folder of the JSON files, `images` that of the pictures of the same names.

    `level` says what an object is: an entity with its label, or a word of an entity, as text.
    """

    annotations: str
    images: str = ""
    extensions: tuple[str, ...] = ("png",)
    level: Literal["entity", "word"] = "entity"


class RawWord(msgspec.Struct):
    box: tuple[float, float, float, float]
    text: str = ""


class RawEntity(RawWord):
    id: int | str | None = None
    label: str = ""
    words: list[msgspec.Raw] = []
    linking: list[tuple[int | str, int | str]] = []


class RawFile(msgspec.Struct):
    form: list[msgspec.Raw]


_file = msgspec.json.Decoder(RawFile)
_entity = msgspec.json.Decoder(RawEntity)
_word = msgspec.json.Decoder(RawWord)


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the labels of entities, or the one category that words have: text."""
    return ENTITIES if source.level == "entity" else TEXT_LABELS


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a form, and a rejection a defective entity or word, which stays ignored."""
    found = pairs(root, source.annotations, source.images, suffix=".json", extensions=source.extensions)
    for item in sized(found, root):
        if isinstance(item, Rejected):
            yield item
            continue
        pair, size = item
        data = root.read(pair.file, "annotations").removeprefix(BOM)
        try:
            raw = decode(without_nan(data) or data, _file)
        except Quarantine as error:
            yield Rejected(
                key=pair.stem, reason=error.reason, detail=error.detail, origin=pair.origin("file")
            )
            continue
        yield from _annotate(source, pair, raw, size)


def _annotate(source: Source, pair: Pair, raw: RawFile, size: Size | None) -> Iterator[Annotation | Rejected]:
    instances, rejected = list[Instance](), list[Rejected]()
    places: dict[str, int] = {}
    links: list[tuple[str, str]] = []
    for number, data in enumerate(raw.form):
        place = f"form[{number}]"
        try:
            entity = decode(data, _entity)
            if source.level == "word":
                for inner, one in enumerate(entity.words):
                    place = f"form[{number}].words[{inner}]"
                    try:
                        found = decode(one, _word)
                        instances.append(
                            word(place, box_corners(found.box), found.text, size, {"line": str(number)})
                        )
                    except Quarantine as error:
                        rejected.append(pair.reject(place, error))
                        instances.append(Instance(id=place, category=TEXT, ignore=True))
                continue
            if entity.label not in ENTITIES.names:
                raise Quarantine("category.unknown", f"{entity.label!r} is no label of an entity")
            made = word(place, box_corners(entity.box), entity.text, size)
            places.setdefault(str(entity.id), len(instances))
            links += [(str(a), str(b)) for a, b in entity.linking]
            instances.append(msgspec.structs.replace(made, category=entity.label))
        except Quarantine as error:
            rejected.append(pair.reject(place, error))
            category = TEXT if source.level == "word" else None
            instances.append(Instance(id=place, category=category, ignore=True))
    yield Annotation(
        key=pair.stem,
        images=(Image(path=pair.image),),
        instances=tuple(instances),
        relations=tuple(
            (places[a], LINK, places[b]) for a, b in dict.fromkeys(links) if {a, b} <= places.keys()
        ),
        exhaustive=all(item.category is not None for item in instances),
        origin=pair.origin("file"),
    )
    yield from rejected
