"""Name the class, or the classes, of a whole picture: in free words, or as one of listed choices."""

from __future__ import annotations

import random
from typing import Literal

import msgspec

from dataengine.annotation import Annotation, Turn
from dataengine.errors import Quarantine, Skip
from dataengine.prompts import choose
from dataengine.sample import Prompt, Rendering, TextTargets
from dataengine.task import Task, Unit
from dataengine.wording import described, joined, one_line, pictures, sentence

VERSION = "2"
NEEDS_BANK = True


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`form`: the classes are asked for openly, or chosen among the names that the question lists.

    The list holds the whole label space where it has no more than `max_choices` names, else the right ones and random
    others that are known to be wrong. `describe`: the descriptions of the label space are said as well, behind the name
    in an open answer, or else behind the question, one line a listed class.
    """

    form: Literal["open", "choices"] = "open"
    max_choices: int = 20
    describe: bool = False


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Ask for the classes of the picture; several are answered in the order of the source."""
    options: Options = task.options
    right = list(dict.fromkeys(annotation.labels))
    if not right:
        raise Skip("label.none", "the picture has no class")
    if task.labels is not None:
        unknown = sorted(set(right) - set(task.labels.names))
        if unknown:
            raise Quarantine(
                "category.unknown", f"{unknown[0]!r} is not in the label space {task.labels.id!r}"
            )
    names = [_spoken(name) for name in right]
    if not all(names):
        raise Quarantine("text.empty", "a class has no name")
    assert task.bank is not None
    question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
    slots: dict[str, str] = {}
    choices: list[str] = []
    if options.form == "choices":
        choices = [_spoken(name) for name in _choices(annotation, right, task, rng)]
        slots["choices"] = joined(choices, question.lang)
    asked, answer = question.fill(**slots), sentence(joined(names, question.lang), question.lang)
    answers = (joined(names, question.lang),)
    if options.describe:
        meanings = _meanings(task)
        told = [described(name, meanings.get(name, ""), question.lang) for name in choices or names]
        if not any(name in meanings for name in choices or names):
            raise Skip("label.no_description", f"the label space says nothing of {names[0]!r}")
        if choices:
            asked = "\n".join((asked, *told))
        else:
            answer = " ".join(told)
            answers = (answer,)
    return Rendering(
        conversation=(
            Turn("user", pictures(annotation) + asked),
            Turn("assistant", answer),
        ),
        targets=TextTargets(
            answers=answers,
            choices=tuple(choices),
            answer_index=choices.index(names[0]) if choices and len(names) == 1 else None,
        ),
        prompt=Prompt(bank=task.bank.id, question=question.id),
    )


def _choices(annotation: Annotation, right: list[str], task: Task, rng: random.Random) -> list[str]:
    """Return the names to list: the right ones, and others that are wrong for sure."""
    options: Options = task.options
    space = list(task.labels.names) if task.labels is not None else []
    known = set(space) if annotation.exhaustive else set(annotation.negatives)
    wrong = [name for name in space if name in known and name not in right]
    room = options.max_choices - len(right)
    if len(wrong) > room:
        wrong = rng.sample(wrong, max(room, 0))
    if not wrong:
        raise Skip("label.no_choices", "no other class is known to be wrong")
    listed = [*right, *wrong]
    if task.train:
        rng.shuffle(listed)
    else:
        listed.sort(key=space.index)
    return listed


def _meanings(task: Task) -> dict[str, str]:
    """Return the description of each class that has one, by its name as prompts write it."""
    labels = task.labels.labels if task.labels is not None else ()
    return {_spoken(label.name): label.description for label in labels if label.description}


def _spoken(name: str) -> str:
    return one_line(name.replace("_", " "))
