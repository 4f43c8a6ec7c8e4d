"""Questions and conversations about marked regions, answered in text.

In the text of a source item `<region1>` is the first of its objects, `<region2>` the second: of the objects that a
question names, or of the annotation's where a dialog speaks. The first mention by the user shows the region, as
`<reg>region1<region></reg>`; every later one, by whomever, says `region1`. Regions are numbered as they appear.
"""

from __future__ import annotations

import random
import re
from typing import Literal

import msgspec

from converters.tasks.region import region_of
from dataengine.annotation import Annotation, Dialog, Instance, Question, Turn
from dataengine.errors import Quarantine, Skip
from dataengine.prompts import choose
from dataengine.sample import Prompt, Rendering, TextTargets
from dataengine.task import Task, Unit
from dataengine.tokens import region_text
from dataengine.wording import joined, pictures

VERSION = "2"
NEEDS_BANK = True

_MARK = re.compile(r"<region(\d{1,6})>")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`prompts` as in `region`. The bank shows regions that a question or a dialog does not show
    in its own text: the objects of the question, those that the dialog speaks of, or else all."""

    prompts: tuple[Literal["box", "mask"], ...] = ("box", "mask")


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Ask about regions: one question, or a whole conversation."""
    if isinstance(unit, Dialog):
        return _conversation(annotation, unit, task, rng)
    assert isinstance(unit, Question)
    return _question(annotation, unit, task, rng)


def _question(annotation: Annotation, unit: Question, task: Task, rng: random.Random) -> Rendering:
    text = unit.text.strip()
    if not text:
        raise Skip("text.empty")
    if not unit.instances:
        raise Skip("question.no_region", "it is about no object")
    answers = tuple(dict.fromkeys(answer.strip() for answer in unit.answers if answer.strip()))
    if not answers and unit.choices and unit.answer_index is not None:
        answers = tuple(unit.choices[unit.answer_index : unit.answer_index + 1])
    if not answers:
        raise Skip("question.no_answer")
    known = [_object(annotation, index) for index in unit.instances]
    shown: dict[int, int] = {}
    prompt = Prompt()
    if not marks(text):
        assert task.bank is not None
        template = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
        named = joined((f"<region{number}>" for number in range(1, len(known) + 1)), template.lang)
        text = template.fill(regions=named, question=text)
        prompt = Prompt(bank=task.bank.id, question=template.id)
    asked = show(text, len(known), shown)
    answers = tuple(recall(answer, shown) for answer in answers)
    return Rendering(
        conversation=(Turn("user", pictures(annotation) + asked), Turn("assistant", answers[0])),
        targets=TextTargets(answers=answers),
        regions=tuple(region_of(known[number - 1], task, rng) for number in shown),
        prompt=prompt,
    )


def _conversation(annotation: Annotation, unit: Dialog, task: Task, rng: random.Random) -> Rendering:
    if not annotation.instances:
        raise Skip("question.no_region", "there is no object")
    texts = [turn.text.strip() for turn in unit.turns]
    prompt = Prompt()
    first = next((index for index, turn in enumerate(unit.turns) if turn.role == "user"), None)
    if first is not None and not _told([turn.role for turn in unit.turns], texts):
        assert task.bank is not None
        template = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
        known = sorted({number for text in texts for number in marks(text)})
        numbers = known or range(1, len(annotation.instances) + 1)
        named = joined((f"<region{number}>" for number in numbers), template.lang)
        texts[first] = template.fill(regions=named, question=texts[first])
        prompt = Prompt(bank=task.bank.id, question=template.id)
    shown: dict[int, int] = {}
    turns = []
    for turn, text in zip(unit.turns, texts, strict=True):
        if turn.role == "assistant":
            turns.append(Turn(turn.role, recall(text, shown)))
        else:
            turns.append(Turn(turn.role, show(text, len(annotation.instances), shown)))
    return Rendering(
        conversation=with_pictures(annotation, turns),
        targets=TextTargets(),
        regions=tuple(region_of(annotation.instances[number - 1], task, rng) for number in shown),
        prompt=prompt,
    )


def _told(roles: list[str], texts: list[str]) -> bool:
    """Say whether the user shows every region before an answer speaks of it, and any at all."""
    seen = set[int]()
    for role, text in zip(roles, texts, strict=True):
        if role == "assistant" and not seen.issuperset(marks(text)):
            return False
        seen.update(marks(text))
    return bool(seen)


def marks(text: str) -> list[int]:
    """Return the numbers of all regions that a text names, in order."""
    return [int(match[1]) for match in _MARK.finditer(text)]


def show(text: str, total: int, shown: dict[int, int]) -> str:
    """Return a user's text with its marks written out; `shown` remembers what number each object got.

    Raises Quarantine `region.unknown` for a mark beyond the `total` objects.
    """

    def write(match: re.Match[str]) -> str:
        number = int(match[1])
        if not 1 <= number <= total:
            raise Quarantine(
                "region.unknown", f"{match[0]!r} stands in the text, and there are {total} objects"
            )
        if number in shown:
            return f"region{shown[number]}"
        shown[number] = len(shown) + 1
        return region_text(shown[number])

    return _MARK.sub(write, text)


def recall(text: str, shown: dict[int, int]) -> str:
    """Return an answer with its marks by name. Raises Skip `region.unshown` for one that no question has shown."""

    def write(match: re.Match[str]) -> str:
        number = shown.get(int(match[1]))
        if number is None:
            raise Skip("region.unshown", f"the answer speaks of {match[0]!r}, which no question shows")
        return f"region{number}"

    return _MARK.sub(write, text)


def with_pictures(annotation: Annotation, turns: list[Turn]) -> tuple[Turn, ...]:
    """Return the turns with all pictures before the first question."""
    first = next((index for index, turn in enumerate(turns) if turn.role == "user"), None)
    if first is None:
        raise Quarantine("turn.structure", "no turn is the user's")
    shown = Turn("user", pictures(annotation) + turns[first].text)
    return (*turns[:first], shown, *turns[first + 1 :])


def _object(annotation: Annotation, index: int) -> Instance:
    if not 0 <= index < len(annotation.instances):
        raise Quarantine("id.orphan", f"the question points to object {index}, which is not there")
    return annotation.instances[index]
