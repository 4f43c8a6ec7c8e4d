"""Describe a picture, or talk about it, and localize what is named: a routing token follows each phrase.

A caption's phrases are the annotation's expressions with spans; with several captions, expression `c.1` belongs to
caption `c`. In a dialog the assistant's `<p>a cat</p><region1><region2>` is a phrase and the objects that it means,
numbered as in `region_qa`; a phrase without objects is plain text.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Literal, NamedTuple

import msgspec

from converters.tasks.grounding import referents, target_of
from converters.tasks.region import region_of
from converters.tasks.region_qa import marks, recall, show, with_pictures
from dataengine.annotation import Annotation, Caption, Dialog, Expression, Instance, Turn
from dataengine.errors import Quarantine, Skip
from dataengine.prompts import choose
from dataengine.sample import InstanceTargets, Prompt, Rendering, Route, TargetInstance
from dataengine.task import Task, Unit
from dataengine.wording import one_line, phrase, pictures, sentence

VERSION = "2"
NEEDS_BANK = True

_PHRASE = re.compile(r"<p>(?P<text>.*?)</p>(?P<marks>(?:\s*<region\d{1,6}>)*)", re.DOTALL)
# Tokenised sources put a space before their punctuation.
_LOOSE = re.compile(r"\s+([.,;:!?])(?=\s|$)")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`prompts`: how a user's turn of a dialog shows a region, as in `region`."""

    prompts: tuple[Literal["box", "mask"], ...] = ("box", "mask")


class Phrase(NamedTuple):
    """A phrase of an answer, and the objects that it means."""

    text: str
    found: list[Instance]


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Ask for a caption, or hold a conversation; every phrase with objects is routed."""
    if isinstance(unit, Dialog):
        return _conversation(annotation, unit, task, rng)
    assert isinstance(unit, Caption)
    return _caption(annotation, unit, task, rng)


def _caption(annotation: Annotation, unit: Caption, task: Task, rng: random.Random) -> Rendering:
    phrases = [item for item in _phrases(annotation, unit) if item.instances]
    if not phrases:
        raise Skip("phrase.none", "no phrase of the caption means an object")
    token = task.spec.routing[0]
    text = unit.text
    # From the last to the first, so that a token moves no position that is still needed.
    for item in reversed(phrases):
        end = _end(item)
        text = f"{text[:end]}{token}{text[end:]}"
    lang = unit.lang or task.lang
    answer = sentence(_LOOSE.sub(r"\1", text), lang)
    assert task.bank is not None
    question = choose(task.bank.questions, rng, train=task.train, lang=lang)
    found = [Phrase(item.text, referents(annotation, item, task.spec.requires)) for item in phrases]
    routes, targets = _routed(found, task, lang)
    return Rendering(
        conversation=(Turn("user", pictures(annotation) + question.text), Turn("assistant", answer)),
        routes=routes,
        targets=InstanceTargets(instances=targets),
        prompt=Prompt(bank=task.bank.id, question=question.id),
    )


def _phrases(annotation: Annotation, unit: Caption) -> list[Expression]:
    """Return the caption's phrases in the order of their ends. Raises Quarantine `span.invalid`."""
    alone = len(annotation.captions) == 1
    found = []
    for item in annotation.expressions:
        if not item.spans or not (alone or item.id.rpartition(".")[0] == unit.id):
            continue
        for start, end in item.spans:
            if not 0 <= start < end <= len(unit.text):
                raise Quarantine(
                    "span.invalid", f"phrase {item.id}: [{start}, {end}) of a caption of {len(unit.text)}"
                )
        found.append(item)
    # Of two that end together the inner one comes first.
    found.sort(key=lambda item: (_end(item), -min(start for start, _ in item.spans)))
    return found


def _end(item: Expression) -> int:
    return max(end for _, end in item.spans)


def _routed(
    phrases: list[Phrase], task: Task, lang: str
) -> tuple[tuple[Route, ...], tuple[TargetInstance, ...]]:
    """Return the routes and their answers; a phrase that comes again gets a name of its own."""
    token, masked = task.spec.routing[0], "mask" in task.spec.requires
    times: Counter[str] = Counter()
    routes, targets = [], []
    for item in phrases:
        name = phrase(item.text, lang)
        if not name:
            raise Skip("text.empty", "a phrase has no words")
        times[name] += 1
        label = name if times[name] == 1 else f"{name} ({times[name]})"
        routes.append(Route(token=token, kind="expression", name=label))
        targets += [target_of(one, label, masked) for one in item.found]
    return tuple(routes), tuple(targets)


def _conversation(annotation: Annotation, unit: Dialog, task: Task, rng: random.Random) -> Rendering:
    shown: dict[int, int] = {}
    phrases: list[Phrase] = []
    turns = []
    for turn in unit.turns:
        text = turn.text.strip()
        if turn.role == "assistant":
            text = recall(_ground(text, annotation, task, phrases), shown)
        else:
            text = show(_plain(text), len(annotation.instances), shown)
        turns.append(Turn(turn.role, text))
    if not phrases:
        raise Skip("phrase.none", "no answer means an object")
    routes, targets = _routed(phrases, task, task.lang)
    return Rendering(
        conversation=with_pictures(annotation, turns),
        routes=routes,
        targets=InstanceTargets(instances=targets),
        regions=tuple(region_of(annotation.instances[number - 1], task, rng) for number in shown),
    )


def _ground(text: str, annotation: Annotation, task: Task, phrases: list[Phrase]) -> str:
    """Return an answer with a routing token behind each phrase that has objects, which are added to `phrases`."""

    def write(match: re.Match[str]) -> str:
        words = one_line(match["text"])
        numbers = marks(match["marks"])
        if not numbers:
            return words
        wanted = Expression(id=words, text=words, instances=tuple(number - 1 for number in numbers))
        phrases.append(Phrase(words, referents(annotation, wanted, task.spec.requires)))
        return words + task.spec.routing[0]

    return _PHRASE.sub(write, text)


def _plain(text: str) -> str:
    """Return a user's text without the brackets around its phrases."""
    return _PHRASE.sub(lambda match: " ".join((match["text"], match["marks"].strip())).strip(), text)
