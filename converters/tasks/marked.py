"""Say what drawn marks show: the category of each marked object, or the text that stands there, a round each."""

from __future__ import annotations

import random

import msgspec

from converters.pointing import DRAWN, Fact, Shown, answer, choose_kind, choose_some, point_at
from dataengine.annotation import Annotation, Turn
from dataengine.errors import Skip
from dataengine.marks import MAX_MARKS
from dataengine.prompts import choose
from dataengine.sample import Prompt, Rendering, TextTargets
from dataengine.task import Task, Unit
from dataengine.wording import pictures, sentence

VERSION = "1"
NEEDS_BANK = True


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`fact`: what is asked of an object; `show`: the kinds of marks, one of them a picture; `max_marks` a picture."""

    fact: Fact
    show: tuple[Shown, ...] = DRAWN
    max_marks: int = MAX_MARKS

    def __post_init__(self) -> None:
        if not self.show or "region" in self.show:
            raise ValueError(f"show: {list(self.show)}, expected kinds of drawn marks: {', '.join(DRAWN)}")
        if not 1 <= self.max_marks <= MAX_MARKS:
            raise ValueError(f"max_marks: {self.max_marks}, expected 1 to {MAX_MARKS}")


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Mark some objects, each in a colour of its own, and ask for each of them by its mark."""
    options: Options = task.options
    if len(annotation.images) != 1:
        raise Skip("media.several", f"{len(annotation.images)} pictures, expected one")
    items = choose_some(annotation, options.fact, options.max_marks, rng)
    kind = choose_kind(options.show, items, rng)
    if kind is None:
        raise Skip("object.incomplete", "an object has no mask")
    pointed = point_at(annotation, items, kind, 0, rng)
    assert task.bank is not None
    # One template for all rounds, so that the sample's record of it is whole.
    question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
    turns: list[Turn] = []
    for item, words in zip(items, pointed.words, strict=True):
        shown = "" if turns else pictures(annotation)
        said = answer(item, options.fact)
        turns.append(Turn("user", shown + question.fill(mark=f"the {words}")))
        turns.append(Turn("assistant", sentence(said) if options.fact == "category" else said))
    return Rendering(
        conversation=tuple(turns),
        targets=TextTargets(answers=(answer(items[0], options.fact),) if len(items) == 1 else ()),
        marks=pointed.marks,
        prompt=Prompt(bank=task.bank.id, question=question.id),
    )
