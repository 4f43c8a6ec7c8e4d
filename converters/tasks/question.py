"""Answer a question about a picture, in a few words or by the letter of an option."""

from __future__ import annotations

import random
import re
import string
from collections import Counter
from collections.abc import Collection
from itertools import repeat
from typing import Literal

import msgspec

from dataengine.annotation import Annotation, Question, Turn
from dataengine.errors import Quarantine, Skip
from dataengine.prompts import Choice, choose
from dataengine.sample import Prompt, Rendering, Sample, TextTargets
from dataengine.task import Task, Unit
from dataengine.tokens import IMAGE
from dataengine.wording import apart, lettered, one_line, pictures

VERSION = "1"

# "All of the above", "both A and C", "option B", or a choice that is a letter: another order would make them untrue.
_PLACE = re.compile(
    r"\b(?:above|below|former|latter|preceding|previous|options?|choices?)\b|以上|以下|上述|选项|選項|前者|后者|後者",
    re.IGNORECASE,
)
_LETTER = re.compile(r"\b[B-HJ-Z]\b|\bA\b(?!\s+[a-z])|^\s*[A-Za-z]\s*$")
# A question that lists its options in its own words, "(A) a cat (B) a dog".
_LISTED = re.compile(r"\([A-Za-z]\)|\b[A-Z][.):：、]|\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)s? [A-Z]\b|选项|選項")
_CHOICES = r"A\. [^\n]*(?:\n[B-Z]\. [^\n]*)+"


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`form`: a short answer asked for by a template, an open one to the bare question, or the letter of a choice.

    `shuffle_choices`: to train, the choices come in a random order, unless one of them or the question speaks of their
    places or letters.
    """

    form: Literal["short", "open", "choices"] = "short"
    shuffle_choices: bool = False


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Ask the question; the first accepted answer is taught."""
    assert isinstance(unit, Question)
    options: Options = task.options
    asked = unit.text.strip()
    if not asked:
        raise Skip("text.empty")
    match options.form:
        case "choices":
            targets = _choice(unit)
            if task.train and options.shuffle_choices:
                targets = _shuffled(targets, asked, rng)
            assert targets.answer_index is not None
            slots = {"question": asked, "choices": lettered(targets.choices)}
            answer = string.ascii_uppercase[targets.answer_index]
        case "short" | "open":
            targets = _answers(unit)
            slots, answer = {"question": asked}, targets.answers[0]
    if options.form != "open":
        assert task.bank is not None
        question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
        asked, prompt = question.fill(**slots), Prompt(bank=task.bank.id, question=question.id)
    else:
        prompt = Prompt()
    return Rendering(
        conversation=(Turn("user", pictures(annotation) + asked), Turn("assistant", answer)),
        targets=targets,
        prompt=prompt,
    )


def recover(
    annotation: Annotation, sample: Sample, task: Task, unsure: Collection[str] | None
) -> tuple[Annotation, Unit] | None:
    """Return the question of a sample with its choices, so that `build` can shuffle them; None for one without."""
    options: Options = task.options
    targets, bank, template = sample.targets, task.bank, sample.prompt.question
    if options.form != "choices" or not isinstance(targets, TextTargets) or bank is None:
        return None
    if bank.id != sample.prompt.bank or template not in bank.questions:
        return None
    _, words = apart(sample.conversation[0].text, sum(turn.text.count(IMAGE) for turn in sample.conversation))
    values = Choice(template, bank.questions[template]).read(words, {"choices": _CHOICES})
    if values is None or values["choices"] != lettered(targets.choices):
        return None
    unit = Question(
        id="", text=values["question"], choices=targets.choices, answer_index=targets.answer_index
    )
    return annotation, unit


def _shuffled(targets: TextTargets, asked: str, rng: random.Random) -> TextTargets:
    """Return the choices in a random order, the right one with its letter; as they are where their order is meant."""
    if _LISTED.search(asked) or any(_PLACE.search(one) or _LETTER.search(one) for one in targets.choices):
        return targets
    order = rng.sample(range(len(targets.choices)), len(targets.choices))
    assert targets.answer_index is not None
    return TextTargets(
        answers=targets.answers,
        choices=tuple(targets.choices[number] for number in order),
        answer_index=order.index(targets.answer_index),
    )


def _answers(unit: Question) -> TextTargets:
    """Return the accepted answers, the most frequent first and else in the source's order; a question that has only
    choices is answered by its right one.
    """
    votes = Counter[str]()
    for answer, count in zip(unit.answers, unit.votes or repeat(1), strict=False):
        if text := answer.strip():
            votes[text] += count
    counted = bool(unit.votes) or any(count > 1 for count in votes.values())
    if votes:
        ranked = votes.most_common()
        return TextTargets(
            answers=tuple(text for text, _ in ranked),
            votes=tuple(count for _, count in ranked) if counted else msgspec.UNSET,
        )
    if unit.choices and unit.answer_index is not None:
        return TextTargets(answers=_choice(unit).answers)
    raise Skip("question.no_answer")


def _choice(unit: Question) -> TextTargets:
    """Return the choices and the right one. Raises Skip where none is said to be right, Quarantine where none can."""
    if not unit.choices and unit.answer_index is None:
        raise Skip("question.no_choices")
    choices = tuple(one_line(choice) for choice in unit.choices)
    if not 2 <= len(choices) <= len(string.ascii_uppercase):
        raise Quarantine("qa.format", f"{len(choices)} choices, expected 2 to {len(string.ascii_uppercase)}")
    if not all(choices):
        raise Quarantine("qa.format", f"choice {choices.index('')} is empty")
    index = unit.answer_index
    if index is None:
        answers = [one_line(answer) for answer in unit.answers]
        if not any(answers):
            raise Skip("question.no_answer")
        found = [number for number, choice in enumerate(choices) if choice in answers]
        if len(found) != 1:
            raise Quarantine(
                "qa.format", f"the answer {answers[0]!r} is {len(found)} of the choices, expected one"
            )
        index = found[0]
    if not 0 <= index < len(choices):
        raise Quarantine("qa.format", f"answer index {index}, expected 0 to {len(choices) - 1}")
    return TextTargets(answers=(choices[index],), choices=choices, answer_index=index)
