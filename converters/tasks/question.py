"""Answer a question about a picture, in a few words or by the letter of an option."""

from __future__ import annotations

import random
import string
from typing import Literal

import msgspec

from dataengine.annotation import Annotation, Question, Turn
from dataengine.errors import Quarantine, Skip
from dataengine.prompts import choose
from dataengine.sample import Prompt, Rendering, TextTargets
from dataengine.task import Task, Unit
from dataengine.wording import lettered, one_line, pictures

VERSION = "1"


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`form`: a short answer asked for by a template, an open one to the bare question, or the letter of a choice."""

    form: Literal["short", "open", "choices"] = "short"


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
            assert targets.answer_index is not None
            slots = {"question": asked, "choices": lettered(targets.choices)}
            answer = string.ascii_uppercase[targets.answer_index]
        case "short" | "open":
            targets = TextTargets(answers=_answers(unit))
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


def _answers(unit: Question) -> tuple[str, ...]:
    """Return the accepted answers, the best first; a question that has only choices is answered by its right one."""
    answers = tuple(dict.fromkeys(text.strip() for text in unit.answers if text.strip()))
    if answers:
        return answers
    if unit.choices and unit.answer_index is not None:
        return _choice(unit).answers
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
