"""Find what a phrase refers to: grounding by box, referring and reasoning segmentation."""

from __future__ import annotations

import random

import msgspec

from dataengine.annotation import Annotation, Expression, Instance, Turn
from dataengine.errors import Quarantine, Skip
from dataengine.geometry import box_area, rle_area
from dataengine.prompts import choose
from dataengine.sample import InstanceTargets, Prompt, Rendering, Route, TargetInstance
from dataengine.task import Task, Unit
from dataengine.tokens import IMAGE
from dataengine.wording import one_line, phrase

VERSION = "2"
_SURE = {"en": "Sure, it is {}.", "zh": "好的，就是{}。"}


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`verbatim`: the source's text is a whole question, to be asked in its own words, without a template."""

    verbatim: bool = False


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Ask for one expression; the answer is the object, or the objects, that it names."""
    assert isinstance(unit, Expression)
    options: Options = task.options
    name = one_line(unit.text) if options.verbatim else phrase(unit.text, task.lang)
    if not name:
        raise Skip("text.empty")
    found = referents(annotation, unit, task.spec.requires)
    token = task.spec.routing[0]
    if options.verbatim:
        asked, answered, prompt = name, _explained(unit, token, task), Prompt()
    else:
        assert task.bank is not None
        question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
        answer = choose(task.bank.answers, rng, train=task.train, lang=task.lang)
        asked, answered = question.fill(expression=name), answer.fill(target=token)
        prompt = Prompt(bank=task.bank.id, question=question.id, answer=answer.id)
    return Rendering(
        conversation=(Turn("user", f"{IMAGE}\n{asked}"), Turn("assistant", answered)),
        routes=(Route(token=token, kind="expression", name=name),),
        targets=InstanceTargets(
            instances=tuple(target_of(item, name, "mask" in task.spec.requires) for item in found)
        ),
        prompt=prompt,
    )


def referents(annotation: Annotation, unit: Expression, requires: tuple[str, ...]) -> list[Instance]:
    """Return the objects that an expression names, each once.

    A crowd or a difficult object can be named like any other. Raises Skip where the expression names none, or one
    without a required fact, and Quarantine where it points beyond the annotation's objects.
    """
    if not unit.instances:
        raise Skip("expression.no_object", f"{unit.text!r} names nothing here")
    found = []
    for index in dict.fromkeys(unit.instances):
        if not 0 <= index < len(annotation.instances):
            raise Quarantine(
                "id.orphan", f"expression {unit.id} points to object {index}, which is not there"
            )
        item = annotation.instances[index]
        for fact in requires:
            if getattr(item, fact) is None:
                raise Skip("object.incomplete", f"instance {item.id} has no {fact}")
        found.append(item)
    return found


def _explained(unit: Expression, token: str, task: Task) -> str:
    """Return the answer to a reasoning question; the source's explanation follows the object, to train alone."""
    explanation = one_line(unit.answer or "") if task.train else ""
    return f"{_SURE.get(task.lang, _SURE['en']).format(token)} {explanation}".rstrip()


def target_of(item: Instance, label: str, masked: bool) -> TargetInstance:
    """Return an object as an answer to the route of that label, with its mask only where one is asked for."""
    assert item.box is not None
    return TargetInstance(
        id=item.id,
        label=label,
        box=item.box,
        area=rle_area(item.mask) if item.mask else box_area(item.box),
        mask=item.mask if masked else None,
    )
