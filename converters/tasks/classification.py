"""Name the class, or the classes, of a whole picture: in free words, or as one of listed choices."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Literal

import msgspec

from dataengine.annotation import Annotation, Turn
from dataengine.errors import Quarantine, Skip
from dataengine.prompts import choose
from dataengine.sample import Prompt, Rendering, Sample, TextTargets
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
        unsure=() if choices and annotation.exhaustive else None,
    )


def recover(
    annotation: Annotation, sample: Sample, task: Task, unsure: Collection[str] | None
) -> tuple[Annotation, Unit] | None:
    """Return the classes of a sample, so that `build` can list other wrong ones; None where it lists none.

    Wrong for sure are the others that the sample lists, or all of the label space that are not `unsure`. A name that
    two classes of the label space share in prompts cannot be told from the words: None.
    """
    options: Options = task.options
    targets, space = sample.targets, task.labels.names if task.labels is not None else ()
    if options.form != "choices" or not isinstance(targets, TextTargets):
        return None
    names = {_spoken(name): name for name in space}
    right = _right(targets, sample.prompt.question[:2])
    if len(names) < len(space) or not right or not names.keys() >= {*targets.choices}:
        return None
    wrong = set(targets.choices) - set(right)
    if unsure is not None:
        wrong = names.keys() - set(right) - set(map(_spoken, unsure))
    known = msgspec.structs.replace(
        annotation,
        labels=tuple(names[name] for name in right),
        negatives=tuple(sorted(names[name] for name in wrong)),
        exhaustive=False,
    )
    return known, known


def _right(targets: TextTargets, lang: str) -> list[str]:
    """Return the right ones of listed choices, as prompts write them; none where the answer is not made of them."""
    mark = joined(("", ""), lang)
    rest, right = targets.answers[0] + mark, list[str]()
    while rest:
        fit = [name for name in targets.choices if name not in right and rest.startswith(name + mark)]
        if not fit:
            return []
        right.append(max(fit, key=len))
        rest = rest[len(right[-1] + mark) :]
    return right


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
