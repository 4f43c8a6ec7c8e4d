"""Say what a picture shows."""

from __future__ import annotations

import random

import msgspec

from dataengine.annotation import Annotation, Caption, Turn
from dataengine.errors import Quarantine, Skip
from dataengine.prompts import choose
from dataengine.sample import Prompt, Rendering, TextTargets
from dataengine.task import Task, Unit
from dataengine.wording import one_line, pictures

VERSION = "2"
NEEDS_BANK = True


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """There is nothing to choose."""


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Ask for a caption, in the caption's language; all captions of the picture are accepted, this one first."""
    assert isinstance(unit, Caption)
    text = one_line(unit.text)
    if not text:
        raise Skip("text.empty")
    shown = pictures(annotation)
    if not shown:
        raise Quarantine("media.role", "no input picture that could be described")
    assert task.bank is not None
    lang = unit.lang or task.lang
    question = choose(task.bank.questions, rng, train=task.train, lang=lang)
    others = (
        one_line(caption.text) for caption in annotation.captions if (caption.lang or task.lang) == lang
    )
    return Rendering(
        conversation=(Turn("user", shown + question.text), Turn("assistant", text)),
        targets=TextTargets(answers=tuple(dict.fromkeys((text, *filter(None, others))))),
        prompt=Prompt(bank=task.bank.id, question=question.id),
    )
