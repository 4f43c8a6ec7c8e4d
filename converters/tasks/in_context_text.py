"""Answer about a picture as the examples before it are answered: a class, a caption, a question, a marked object.

Prompts are those of VisionLLM v2's in-context set: pictures and words take turns, a region stands as
`<reg>region<region></reg>`. An example shows its picture and its answer; the picture that is asked about comes last.
"""

from __future__ import annotations

import random
from typing import Literal, NamedTuple

import msgspec

from converters import in_context
from converters.pointing import DRAWN, Fact, Shown, answer, choose_kind, choose_some, point_at
from dataengine import examples
from dataengine.annotation import Annotation, Turn
from dataengine.errors import Quarantine, Skip
from dataengine.marks import MAX_MARKS
from dataengine.prompts import choose
from dataengine.sample import Mark, Prompt, Region, Rendering, TextTargets
from dataengine.task import Task, Unit
from dataengine.tokens import IMAGE
from dataengine.wording import sentence, spoken

VERSION = "1"
NEEDS_BANK = True
TAKES_EXAMPLES = True


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`fact`: what an example teaches and the last picture is asked for; `conversation` keeps the source's own words.

    Objects (`category`, `text`) are shown by marks or a region, one kind of `show` a sample; a picture has at most
    `max_marks` marks, or one region.
    """

    fact: Literal["conversation", "label", "caption", "question", "dialog", "category", "text"] = (
        "conversation"
    )
    show: tuple[Shown, ...] = (*DRAWN, "region")
    max_marks: int = MAX_MARKS

    def __post_init__(self) -> None:
        if not self.show:
            raise ValueError("show: is empty, expected at least one kind")
        if not 1 <= self.max_marks <= MAX_MARKS:
            raise ValueError(f"max_marks: {self.max_marks}, expected 1 to {MAX_MARKS}")


class Part(NamedTuple):
    """One picture of the sample: what stands below it as an example, or what is asked below it and the answers."""

    told: str
    question: str
    answers: tuple[str, ...]
    marks: tuple[Mark, ...] = ()
    regions: tuple[Region, ...] = ()


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Show the examples with their answers, then ask about the last picture."""
    options: Options = task.options
    if options.fact == "conversation":
        return in_context.conversation(annotation, None)
    if not annotation.examples:
        raise Skip("gather.no_example", "the item has no examples; the spec's task needs the key gather")
    if options.fact in ("category", "text"):
        parts = _pointed(annotation, options.fact, options, rng)
    else:
        parts = [
            _part(item, annotation.shared, options.fact, task, rng)
            for item in (*annotation.examples, annotation)
        ]
    assert task.bank is not None
    question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
    *shown, last = parts
    told = "\n".join(f"{IMAGE}\n{part.told}" for part in shown)
    asked = f"{IMAGE}\n{last.question}" if last.question else IMAGE
    return Rendering(
        conversation=(
            Turn("user", question.fill(examples=told, asked=asked)),
            Turn("assistant", last.answers[0]),
        ),
        targets=TextTargets(answers=last.answers),
        regions=tuple(region for part in parts for region in part.regions),
        marks=tuple(mark for part in parts for mark in part.marks),
        prompt=Prompt(bank=task.bank.id, question=question.id),
    )


def _part(item: Annotation, shared: str, fact: str, task: Task, rng: random.Random) -> Part:
    """Return what a whole picture is asked and answers; to evaluate it is the first of several facts."""
    found = examples.FACTS[fact](item)
    if not found:
        raise Skip("gather.no_example", f"item {item.key} has no {fact}")
    if fact == "label":
        # Of several classes the one that the examples were chosen by, where the picture has it.
        name = shared if shared in found else found[0]
        if task.labels is not None and task.labels.find(name) is None:
            raise Quarantine("category.unknown", f"{name!r} is not in the label space {task.labels.id!r}")
        return Part(spoken(name), "", (spoken(name),))
    one = rng.choice(found) if task.train else found[0]
    if fact == "caption":
        said = sentence(one.text)
        return Part(said, "", tuple(dict.fromkeys((said, *(sentence(caption.text) for caption in found)))))
    return Part(f"{one.text}\n{one.answers[0]}", one.text, one.answers)


def _pointed(annotation: Annotation, fact: Fact, options: Options, rng: random.Random) -> list[Part]:
    """Return the parts of pictures whose objects are shown, all in one way."""
    shown = (*annotation.examples, annotation)
    chosen = [choose_some(item, fact, options.max_marks, rng, annotation.shared) for item in shown]
    kind = choose_kind(options.show, [one for items in chosen for one in items], rng)
    if kind is None:
        raise Skip("object.incomplete", "an object has no mask")
    parts = []
    for number, (item, items) in enumerate(zip(shown, chosen, strict=True)):
        pointed = point_at(item, items[:1] if kind == "region" else items, kind, number, rng)
        answers = [answer(one, fact) for one in pointed.items]
        told = ", ".join(f"{words}: {said}" for words, said in zip(pointed.words, answers, strict=True))
        right = (answers[0],) if len(answers) == 1 else (told,)
        parts.append(Part(told, f"{', '.join(pointed.words)}:", right, pointed.marks, pointed.regions))
    return parts
