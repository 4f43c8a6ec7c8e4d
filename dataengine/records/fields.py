"""From a record to an annotation: every fact that the spec declares is looked up, converted and checked."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
import xxhash

from dataengine.annotation import (
    Annotation,
    Caption,
    Dialog,
    Edit,
    Expression,
    Image,
    Instance,
    Measure,
    Origin,
    Question,
    Turn,
)
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import quad_box
from dataengine.records import operations, shapes, values
from dataengine.records.conditions import holds
from dataengine.records.facts import (
    ROLES,
    CaptionFact,
    DialogFact,
    Fact,
    Fields,
    ImageFact,
    InstanceFact,
    QuestionFact,
)
from dataengine.records.paths import MISSING, fill, find, kind, parse_path
from dataengine.records.shapes import Canvas
from dataengine.records.values import Scope, Source, Value
from dataengine.tokens import IMAGE

_LETTER = re.compile(r"[\s(\[]*([A-Za-z])[\s)\].:]*")


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a record is read with: the names that `labels` gives (None: any), and the root, for sizes of pictures."""

    images: tuple[ImageFact, ...]
    captions: tuple[CaptionFact, ...]
    names: tuple[str, ...] | None
    root: Root


F = TypeVar("F", bound=Fact)


def annotate(fields: Fields, scope: Scope, key: str, origin: Origin, context: Context) -> Annotation:
    """Return the annotation that a record states. Raises Quarantine with the reason why there is none."""
    images = tuple(_images(context.images, scope))
    instances = list(_instances(fields, scope, images, context))
    expressions = tuple(_expressions(fields, scope, images, instances, context))
    return Annotation(
        key=key,
        images=images,
        origin=origin,
        instances=tuple(instances),
        captions=tuple(_captions(context.captions, scope)),
        expressions=expressions,
        questions=tuple(_questions(fields, scope, key)),
        dialogs=tuple(_dialogs(fields, scope)),
        labels=_labels(fields, scope, context),
        maps={name: _file(path, scope, f"maps.{name}") for name, path in fields.maps.items()},
        edits=tuple(_edits(fields, scope, len(images))),
        negatives=values.texts(fields.negatives, scope, "negatives"),
        exhaustive=fields.exhaustive,
    )


def made(facts: F | tuple[F, ...], scope: Scope, name: str) -> Iterator[tuple[F, Scope, str]]:
    """Yield each fact with the scope that it is read in, and what to call it in a complaint."""
    entries = facts if isinstance(facts, tuple) else (facts,)
    for number, fact in enumerate(entries):
        place = f"{name}[{number}]" if len(entries) > 1 else name
        if fact.each is None:
            if fact.when is None or holds(fact.when, scope):
                yield fact, scope, place
            continue
        path = first_path(fact.each)
        for position, item in members(fact.each, scope, place):
            inner = {**scope, fact.as_: item, f"${fact.as_}": position}
            if fact.when is None or holds(fact.when, inner):
                yield fact, inner, f"{place} {path}[{position}]"


def first_path(lists: str | tuple[str, ...]) -> str:
    """Return the path by which a complaint names lists that are walked in step."""
    return lists if isinstance(lists, str) else lists[0]


def members(lists: str | tuple[str, ...], scope: Scope, name: str) -> list[tuple[str | int, Any]]:
    """Return the elements at a path, or what stands side by side at several. Raises Quarantine.

    Lists that are walked in step have one length; with another, nobody can say what belongs to what.
    """
    if isinstance(lists, str):
        return elements(_found(lists, scope, name), f"{name} {lists}")
    columns: list[list[Any]] = []
    for path in lists:
        found = _found(path, scope, name)
        if not isinstance(found, list):
            raise Quarantine("schema", f"{name} {path} is {kind(found)}, expected a list")
        columns.append(found)
    if len({len(column) for column in columns}) > 1:
        lengths = ", ".join(f"{len(column)} {path}" for path, column in zip(lists, columns, strict=True))
        raise Quarantine("schema", f"{name}: {lengths}; expected as many of each")
    return [(number, list(row)) for number, row in enumerate(zip(*columns, strict=True))]


def _found(path: str, scope: Scope, name: str) -> Any:
    found = find(scope, parse_path(path))
    if found is MISSING:
        raise Quarantine("field.missing", f"{name}: no {path}")
    return found


def elements(found: Any, name: str) -> list[tuple[str | int, Any]]:
    """Return the elements of a list with their positions, or of a mapping with their keys. Raises Quarantine."""
    match found:
        case None:
            return []
        case list():
            return list(enumerate(found))
        case dict():
            return list(found.items())
    raise Quarantine("schema", f"{name} is {kind(found)}, expected a list or a mapping")


def _file(source: Source, scope: Scope, name: str) -> str:
    if isinstance(source, Value):
        return values.text(source, scope, name).removeprefix("./")
    try:
        return fill(source, scope).removeprefix("./")
    except Quarantine as error:
        raise Quarantine(error.reason, f"{name}: {error.detail}") from error


def _images(facts: tuple[ImageFact, ...], scope: Scope) -> Iterator[Image]:
    for fact, inner, name in _shown(facts, scope):
        yield Image(
            path=_file(fact.path, inner, name),
            width=values.optional_int(fact.width, inner, f"{name}.width") or None,
            height=values.optional_int(fact.height, inner, f"{name}.height") or None,
            role=fact.role,
            license=values.optional_text(fact.license, inner, f"{name}.license"),
            measure=_measure(fact, inner, f"{name}.measure"),
        )


def _shown(facts: tuple[ImageFact, ...], scope: Scope) -> Iterator[tuple[ImageFact, Scope, str]]:
    """Yield what each picture is read with: one a fact, an element or a frame."""
    for number, fact in enumerate(facts):
        found = list(made(fact, scope, f"images[{number}]" if len(facts) > 1 else "images"))
        if fact.most is not None and found:
            found = [found[place] for place in evenly(0, len(found) - 1, fact.most)]
        for _, inner, name in found:
            if fact.frames is None:
                yield fact, inner, name
                continue
            first = values.optional_int(fact.frames.first, inner, f"{name}.frames.first") or 0
            last = values.optional_int(fact.frames.last, inner, f"{name}.frames.last")
            last = first + fact.frames.count - 1 if last is None else last
            if last < first:
                raise Quarantine("schema", f"{name}.frames: from {first} to {last}, expected at least one")
            for frame in evenly(first, last, fact.frames.count):
                yield fact, {**inner, "$frame": frame}, f"{name}.frames {frame}"


def evenly(first: int, last: int, count: int) -> list[int]:
    """Return the middle of each of `count` equal parts of the numbers from first to last, or all where they are fewer.

    So do the video models of the field (Temporal Segment Networks, Wang et al. 2016, when they test).
    """
    total = last - first + 1
    if total <= count:
        return list(range(first, last + 1))
    return [first + (2 * part + 1) * total // (2 * count) for part in range(count)]


def _measure(fact: ImageFact, scope: Scope, name: str) -> Measure | None:
    if fact.measure is None:
        return None
    scale = fact.measure.scale
    if not isinstance(scale, int | float):
        found = values.get(scale, scope, f"{name}.scale")
        scale = float(operations.apply(("float",), found)) if found is not None else math.nan
    try:
        return fact.measure.made(scale)
    except ValueError as error:
        raise Quarantine("schema", f"{name}: {error}") from error


def _captions(facts: tuple[CaptionFact, ...], scope: Scope) -> Iterator[Caption]:
    number = 0
    for fact, inner, name in made(facts, scope, "captions"):
        for text in values.texts(fact.text, inner, f"{name}.text"):
            yield Caption(id=f"c{number}", text=text, lang=fact.lang)
            number += 1


def _instances(
    fields: Fields, scope: Scope, images: tuple[Image, ...], context: Context
) -> Iterator[Instance]:
    for number, (fact, inner, name) in enumerate(made(fields.instances, scope, "instances")):
        if fact.rle is not None and not values.get(fact.rle, inner, f"{name}.rle"):
            continue  # an object that this picture does not show
        image = values.optional_int(fact.image, inner, f"{name}.image") or 0
        canvas = Canvas(images, image, context.root)
        quad = shapes.quad(fact.quad, inner, f"{name}.quad", canvas)
        box = shapes.box(fact.box, inner, f"{name}.box", canvas)
        yield Instance(
            id=values.optional_text(fact.id, inner, f"{name}.id") or str(number),
            category=_category(fact, inner, f"{name}.category", context),
            box=box if box is not None or quad is None else quad_box(quad),
            mask=shapes.rle(fact.rle, inner, f"{name}.rle"),
            polygons=shapes.outlines(fact.polygon, inner, f"{name}.polygon", canvas),
            keypoints=shapes.keypoints(fact.keypoints, inner, f"{name}.keypoints", canvas),
            quad=quad,
            text=values.optional_text(fact.text, inner, f"{name}.text"),
            attributes=dict(_attributes(fact, inner, name)),
            image=image,
            crowd=fact.crowd is not None and holds(fact.crowd, inner),
            ignore=fact.ignore is not None and holds(fact.ignore, inner),
            difficult=fact.difficult is not None and holds(fact.difficult, inner),
        )


def _attributes(fact: InstanceFact, scope: Scope, name: str) -> Iterator[tuple[str, str]]:
    for key, source in fact.attributes.items():
        value = values.optional_text(source, scope, f"{name}.attributes.{key}")
        if value is not None:
            yield key, value


def _category(fact: InstanceFact, scope: Scope, name: str, context: Context) -> str | None:
    if fact.category is None:
        return None
    value = values.get(fact.category, scope, name)
    return None if value is None else _named(value, fact.names, name, context)


def _named(value: Any, origin: int | None, name: str, context: Context) -> str:
    """Return a category's name, from its name or its position. Raises Quarantine `category.unknown`."""
    if origin is None:
        text = values.as_text(value, name)
        if context.names is not None and text not in context.names:
            raise Quarantine("category.unknown", f"{name}: {text!r} is not among the labels")
        return text
    index = int(operations.apply(("int",), value)) - origin
    names = context.names or ()
    if not 0 <= index < len(names):
        raise Quarantine("category.unknown", f"{name}: {value!r} is not among the {len(names)} labels")
    return names[index]


def _labels(fields: Fields, scope: Scope, context: Context) -> tuple[str, ...]:
    value = values.get(fields.labels, scope, "labels") if fields.labels is not None else None
    if value is None:
        return ()
    items = value if isinstance(value, list) else [value]
    return tuple(_named(item, fields.label_names, "labels", context) for item in items)


def _expressions(
    fields: Fields,
    scope: Scope,
    images: tuple[Image, ...],
    instances: list[Instance],
    context: Context,
) -> Iterator[Expression]:
    """Yield the expressions; an object that an expression's own box makes is added to `instances`."""
    known: dict[str, int] = {}
    for position, item in enumerate(instances):
        known.setdefault(item.id, position)
    for number, (fact, inner, name) in enumerate(made(fields.expressions, scope, "expressions")):
        text = values.text(fact.text, inner, f"{name}.text")
        if fact.box is not None:
            image = values.optional_int(fact.image, inner, f"{name}.image") or 0
            box = shapes.box(fact.box, inner, f"{name}.box", Canvas(images, image, context.root))
            meant: tuple[int, ...] = ()
            if box is not None:
                meant = (len(instances),)
                instances.append(Instance(id=f"e{number}", box=box, image=image))
        else:
            ids = values.texts(fact.instances, inner, f"{name}.instances")
            lost = [one for one in ids if one not in known]
            if lost:
                raise Quarantine("id.orphan", f"{name}: no instance has id {lost[0]}")
            meant = tuple(known[one] for one in ids)
        yield Expression(
            id=values.optional_text(fact.id, inner, f"{name}.id") or f"e{number}", text=text, instances=meant
        )


def _questions(fields: Fields, scope: Scope, key: str) -> Iterator[Question]:
    for number, (fact, inner, name) in enumerate(made(fields.questions, scope, "questions")):
        text = values.text(fact.text, inner, f"{name}.text")
        identity = values.optional_text(fact.id, inner, f"{name}.id") or f"q{number}"
        answers = values.texts(fact.answers, inner, f"{name}.answers")
        choices = values.texts(fact.choices, inner, f"{name}.choices")
        index = _answer_index(fact, inner, name)
        if index is not None and not 0 <= index < len(choices):
            raise Quarantine("qa.format", f"{name}: the answer is choice {index} of {len(choices)}")
        if index is not None and not answers:
            answers = (choices[index],)
        if fact.shuffle_choices and choices:
            order = list(range(len(choices)))
            random.Random(xxhash.xxh3_64_intdigest(f"{key}/{identity}".encode())).shuffle(order)
            index = order.index(index) if index is not None else None
            choices = tuple(choices[place] for place in order)
        yield Question(
            id=identity,
            text=text,
            answers=answers,
            choices=choices,
            answer_index=index,
            rationale=values.optional_text(fact.rationale, inner, f"{name}.rationale"),
        )


def _answer_index(fact: QuestionFact, scope: Scope, name: str) -> int | None:
    if fact.answer_index is not None:
        index = values.optional_int(fact.answer_index, scope, f"{name}.answer_index")
        return None if index is None else index - fact.index_origin
    letter = values.optional_text(fact.answer_letter, scope, f"{name}.answer_letter")
    if letter is None:
        return None
    match = _LETTER.fullmatch(letter)
    if match is None:
        raise Quarantine("qa.format", f"{name}: answer_letter is {letter[:40]!r}, expected a letter")
    return ord(match[1].upper()) - ord("A")


def _dialogs(fields: Fields, scope: Scope) -> Iterator[Dialog]:
    for number, (fact, inner, name) in enumerate(made(fields.dialogs, scope, "dialogs")):
        yield Dialog(
            id=values.optional_text(fact.id, inner, f"{name}.id") or f"d{number}",
            turns=tuple(_turns(fact, inner, name)),
        )


def _turns(fact: DialogFact, scope: Scope, name: str) -> Iterator[Turn]:
    if fact.question is not None and fact.answer is not None:
        asked = values.get(fact.question, scope, f"{name}.question")
        answered = values.get(fact.answer, scope, f"{name}.answer")
        yield Turn("user", _said(asked, f"{name}.question", fact.image_tokens))
        yield Turn("assistant", _said(answered, f"{name}.answer", fact.image_tokens))
        return
    assert fact.turns is not None and fact.role is not None and fact.text is not None
    found = find(scope, parse_path(fact.turns))
    if found is MISSING or found is None:
        raise Quarantine("field.missing", f"{name}: no {fact.turns}")
    for position, item in elements(found, f"{name}.turns"):
        inner = {**scope, "turn": item, "$turn": position}
        place = f"{name}.turns[{position}]"
        role = values.text(fact.role, inner, f"{place}.role")
        known = {**ROLES, **fact.roles}
        if role not in known:
            raise Quarantine("turn.role", f"{place}: {role[:40]!r}, expected one of {', '.join(known)}")
        said = values.get(fact.text, inner, f"{place}.text")
        yield Turn(known[role], _said(said, place, fact.image_tokens))


def _said(value: Any, name: str, image_tokens: tuple[str, ...]) -> str:
    """Return what a turn says, from text or from a list of parts."""
    if value is None:
        raise Quarantine("field.missing", f"{name}: its text is null")
    if isinstance(value, list):
        value = "\n".join(_part(part, f"{name} part {number}") for number, part in enumerate(value))
    text = values.as_text(value, name)
    for token in image_tokens:
        text = text.replace(token, IMAGE)
    return text


def _part(part: Any, name: str) -> str:
    match part:
        case str():
            return part
        case {"type": "image" | "image_url"}:
            return IMAGE
        case {"type": "text", "text": str(text)}:
            return text
    raise Quarantine("schema", f"{name} is neither text nor an image")


def _edits(fields: Fields, scope: Scope, num_images: int) -> Iterator[Edit]:
    for number, (fact, inner, name) in enumerate(made(fields.edits, scope, "edits")):
        if not (0 <= fact.before < num_images and 0 <= fact.after < num_images):
            raise Quarantine(
                "schema", f"{name}: before {fact.before}, after {fact.after} of {num_images} images"
            )
        yield Edit(
            id=values.optional_text(fact.id, inner, f"{name}.id") or f"d{number}",
            instruction=values.text(fact.instruction, inner, f"{name}.instruction"),
            before=fact.before,
            after=fact.after,
        )
