"""SWiG, grounded situations: one JSON mapping from a picture to its verb, the fillers of its roles and their boxes.

Conventions (allenai/swig, README): `bb` gives for each role x1, y1, x2, y2 in pixels (taken as they stand: from 0,
the end exclusive), or four times -1 where it is not in the picture; `frames` are three people's answers, a WordNet
number a role, "" where nobody fills it; `imsitu_space.json` says what the numbers mean (`nouns`, `gloss`) and which
verbs there are. What most people said counts, of a tie the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from converters.formats import coco_instances as coco
from converters.json_files import UNREADABLE, load
from converters.json_rows import corners
from dataengine.annotation import Annotation, Expression, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is a split's JSON, `space` the file of verbs and nouns, `images` the folder of the pictures.

    Without `space` fillers have no words, so that there are no expressions, and the verbs are those of the split.
    """

    annotations: str
    space: str | None = None
    images: str = ""


class RawPicture(msgspec.Struct):
    verb: str
    width: coco.Pixels
    height: coco.Pixels
    bb: dict[str, list[float]] = {}
    frames: list[dict[str, str]] = []


class RawNoun(msgspec.Struct):
    gloss: list[str] = []


class RawSpace(msgspec.Struct):
    nouns: dict[str, RawNoun]
    verbs: dict[str, msgspec.Raw]


class RawVerb(msgspec.Struct):
    verb: str


_picture = msgspec.json.Decoder(RawPicture)
_verb = msgspec.json.Decoder(RawVerb)


def _space(source: Source, root: Root) -> RawSpace:
    if source.space is None:
        return RawSpace({}, {})
    return load(source.space, root, "space", RawSpace, "imsitu_space.json: nouns and verbs")


def _load(source: Source, root: Root) -> dict[str, msgspec.Raw]:
    return load(source.annotations, root, "annotations", dict[str, msgspec.Raw], "a mapping of pictures")


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the verbs, sorted."""
    names = set(_space(source, root).verbs)
    if not names:
        for data in _load(source, root).values():
            try:
                names.add(_verb.decode(data).verb)
            except UNREADABLE:
                continue  # `read` rejects it
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in sorted(names) if name))


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture: its verb as label, an object and an expression a role with a box."""
    nouns = _space(source, root).nouns
    for name, data in _load(source, root).items():
        origin = Origin(file=source.annotations, record=name)
        try:
            yield _annotation(source, name, _picture.decode(data), nouns, origin)
        except UNREADABLE as error:
            yield Rejected(key=name, reason="schema", detail=str(error), origin=origin)
        except Quarantine as error:
            yield Rejected(key=name, reason=error.reason, detail=error.detail, origin=origin)


def _annotation(
    source: Source, name: str, picture: RawPicture, nouns: dict[str, RawNoun], origin: Origin
) -> Annotation:
    if not name or not picture.verb.strip():
        raise Quarantine("schema", "a picture needs a name and a verb")
    verb = picture.verb.strip()
    instances: list[Instance] = []
    expressions: list[Expression] = []
    for role, values in picture.bb.items():
        box = corners(values, f"bb.{role}")
        if box == (-1, -1, -1, -1):
            continue
        word = _word(role, picture.frames, nouns)
        if word:
            text = f"{word}, the {role} of {verb}"
            expressions.append(Expression(id=role, text=text, instances=(len(instances),)))
        instances.append(Instance(id=role, box=box, text=word, attributes={"role": role}))
    return Annotation(
        key=name,
        images=(
            Image(
                path=f"{source.images}/{name}" if source.images else name,
                width=picture.width or None,
                height=picture.height or None,
            ),
        ),
        instances=tuple(instances),
        expressions=tuple(expressions),
        labels=(verb,),
        origin=origin,
    )


def _word(role: str, frames: list[dict[str, str]], nouns: dict[str, RawNoun]) -> str | None:
    """Return the word that most people filled a role with, or None where nobody did."""
    said = Counter(frame[role] for frame in frames if frame.get(role))
    if not said:
        return None
    known = nouns.get(said.most_common(1)[0][0])
    return known.gloss[0].strip() or None if known and known.gloss else None
