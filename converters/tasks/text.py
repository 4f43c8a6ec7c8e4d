"""Read the text of a picture: all of it, that of one region, or every word with its place.

To spot words, the answer says each text once, in quotes and in the order of the source, followed by its routing token;
the token's targets are all places where that text stands. Text that nobody can read has no place among them: it cannot
be said, and what it says may be anything.
"""

from __future__ import annotations

import random
from itertools import groupby
from typing import Literal

import msgspec

from dataengine.annotation import Annotation, Instance, Turn
from dataengine.errors import Skip
from dataengine.geometry import box_area, rle_area
from dataengine.prompts import choose
from dataengine.regions import box_region
from dataengine.sample import InstanceTargets, Prompt, Rendering, Route, TargetInstance, TextTargets
from dataengine.task import Task, Unit, objects
from dataengine.tokens import region_text
from dataengine.wording import joined, one_line, pictures, quoted

VERSION = "2"
NEEDS_BANK = True
LINE = "line"  # the attribute by which readers say which words stand in one line


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`answer`: the text alone, of the picture (unit: image) or a region (unit: instance), or the words with places.

    A picture with more than `max_words` different texts is skipped by the latter: an answer that stops is untrue.
    """

    answer: Literal["text", "places"]
    max_words: int = 100


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Ask for the text of a picture or a region, or for every word and where it stands."""
    options: Options = task.options
    if isinstance(unit, Instance):
        return _region(annotation, unit, task, rng)
    found = objects(annotation, task.spec.requires)
    if not found:
        raise Skip("text.none", "no text that can be read")
    return (
        _places(annotation, found, task, rng)
        if options.answer == "places"
        else _whole(annotation, found, task, rng)
    )


def _whole(annotation: Annotation, found: list[Instance], task: Task, rng: random.Random) -> Rendering:
    """Words of one line are joined by blanks; without lines, each text is a line of its own."""
    lines = []
    for _, words in groupby(enumerate(found), lambda pair: pair[1].attributes.get(LINE, pair[0])):
        lines.append(" ".join(one_line(item.text or "") for _, item in words))
    text = "\n".join(line for line in lines if line)
    return _said(annotation, text, task, rng)


def _region(annotation: Annotation, unit: Instance, task: Task, rng: random.Random) -> Rendering:
    if unit.ignore or unit.crowd or unit.difficult:
        raise Skip("text.unreadable", f"instance {unit.id} is not to be read")
    for fact in task.spec.requires:
        if getattr(unit, fact) is None:
            raise Skip("object.incomplete", f"instance {unit.id} has no {fact}")
    assert unit.box is not None
    rendering = _said(annotation, one_line(unit.text or ""), task, rng, region=region_text(1))
    return msgspec.structs.replace(rendering, regions=(box_region(unit.box, unit.image),))


def _said(annotation: Annotation, text: str, task: Task, rng: random.Random, **slots: str) -> Rendering:
    if not text:
        raise Skip("text.empty")
    assert task.bank is not None
    question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
    return Rendering(
        conversation=(Turn("user", pictures(annotation) + question.fill(**slots)), Turn("assistant", text)),
        targets=TextTargets(answers=(text,)),
        prompt=Prompt(bank=task.bank.id, question=question.id),
    )


def _places(annotation: Annotation, found: list[Instance], task: Task, rng: random.Random) -> Rendering:
    options: Options = task.options
    texts = [one_line(item.text or "") for item in found]
    if not all(texts):
        raise Skip("text.empty")
    names = tuple(dict.fromkeys(texts))
    if len(names) > options.max_words:
        raise Skip("text.too_many", f"{len(names)} different texts, at most {options.max_words}")
    token = task.spec.routing[0]
    assert task.bank is not None
    question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
    answer = choose(task.bank.answers, rng, train=task.train, lang=task.lang)
    routed = joined((quoted(name, answer.lang) + token for name in names), answer.lang)
    return Rendering(
        conversation=(
            Turn("user", pictures(annotation) + question.text),
            Turn("assistant", answer.fill(words=routed)),
        ),
        routes=tuple(Route(token=token, kind="category", name=name) for name in names),
        targets=InstanceTargets(
            instances=tuple(_target(item, text) for item, text in zip(found, texts, strict=True))
        ),
        prompt=Prompt(bank=task.bank.id, question=question.id, answer=answer.id),
    )


def _target(item: Instance, text: str) -> TargetInstance:
    assert item.box is not None
    return TargetInstance(
        id=item.id,
        label=text,
        box=item.box,
        area=rle_area(item.mask) if item.mask else box_area(item.box),
        mask=item.mask,
    )
