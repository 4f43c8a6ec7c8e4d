"""How two objects relate: named for marked pairs, or found for a named relation."""

from __future__ import annotations

import random
from typing import Literal

import msgspec

from converters.tasks.grounding import target_of
from converters.tasks.region import region_of
from dataengine.annotation import Annotation, Instance, Turn
from dataengine.errors import Quarantine, Skip
from dataengine.prompts import choose
from dataengine.sample import InstanceTargets, Prompt, Region, Rendering, Route, TextTargets
from dataengine.task import Task, Unit
from dataengine.tokens import region_text
from dataengine.wording import joined, phrase, pictures, sentence

VERSION = "2"
NEEDS_BANK = True

Triple = tuple[int, str, int]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`form`: say how marked pairs relate, one round a pair, or find the objects of one named relation.

    `prompts` as in `region`. `max_pairs` of an image holds in training only.
    """

    form: Literal["name", "find"] = "name"
    prompts: tuple[Literal["box", "mask"], ...] = ("box", "mask")
    max_pairs: int = 10


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Ask about relations between objects of the picture. Only relations that the source states are asked for."""
    options: Options = task.options
    found = _relations(annotation, task.spec.requires)
    return (_name if options.form == "name" else _find)(annotation, found, task, rng)


def _relations(annotation: Annotation, requires: tuple[str, ...]) -> list[Triple]:
    """Return the relations whose objects are whole, each once. Raises Skip where there is none."""
    found = []
    for subject, predicate, target in dict.fromkeys(annotation.relations):
        for index in (subject, target):
            if not 0 <= index < len(annotation.instances):
                raise Quarantine("id.orphan", f"a relation points to object {index}, which is not there")
        ends = (annotation.instances[subject], annotation.instances[target])
        if predicate.strip() and subject != target and all(_usable(item, requires) for item in ends):
            found.append((subject, predicate, target))
    if not found:
        raise Skip("relation.none", "no relation between two objects that can be shown")
    return found


def _usable(item: Instance, requires: tuple[str, ...]) -> bool:
    whole = all(getattr(item, fact) is not None for fact in requires)
    return whole and not (item.crowd or item.ignore)


def _name(annotation: Annotation, found: list[Triple], task: Task, rng: random.Random) -> Rendering:
    options: Options = task.options
    pairs: dict[tuple[int, int], list[str]] = {}
    for subject, predicate, target in found:
        pairs.setdefault((subject, target), []).append(phrase(predicate, task.lang))
    chosen = list(pairs)
    if task.train:
        chosen = rng.sample(chosen, min(len(chosen), options.max_pairs))
    assert task.bank is not None
    question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
    turns: list[Turn] = []
    regions: list[Region] = []
    shown: dict[int, str] = {}
    for number, (subject, target) in enumerate(chosen):
        names = []
        for index in (subject, target):
            # A region is shown once; later rounds call it by its name.
            first = index not in shown
            if first:
                regions.append(region_of(annotation.instances[index], task, rng))
                shown[index] = f"region{len(regions)}"
            names.append(region_text(len(regions)) if first else shown[index])
        before = pictures(annotation) if number == 0 else ""
        turns.append(Turn("user", before + question.fill(subject=names[0], object=names[1])))
        turns.append(
            Turn(
                "assistant",
                sentence(joined(dict.fromkeys(pairs[subject, target]), question.lang), question.lang),
            )
        )
    single = tuple(sentence(text, question.lang) for text in pairs[chosen[0]]) if len(chosen) == 1 else ()
    return Rendering(
        conversation=tuple(turns),
        targets=TextTargets(answers=tuple(dict.fromkeys((turns[1].text, *single))) if single else ()),
        regions=tuple(regions),
        prompt=Prompt(bank=task.bank.id, question=question.id),
    )


def _find(annotation: Annotation, found: list[Triple], task: Task, rng: random.Random) -> Rendering:
    """Ask for one relation by its words; all pairs that the source states for these words are the answer."""
    worded: dict[tuple[str, str, str], list[Triple]] = {}
    for triple in found:
        subject, target = (annotation.instances[index].category for index in (triple[0], triple[2]))
        if subject and target:
            words = (
                phrase(subject, task.lang),
                phrase(triple[1], task.lang),
                phrase(target, task.lang),
            )
            if all(words):
                worded.setdefault(words, []).append(triple)
    if not worded:
        raise Skip("relation.unnamed", "no relation between two objects with categories")
    words = rng.choice(list(worded)) if task.train else next(iter(worded))
    token, masked = task.spec.routing[0], "mask" in task.spec.requires
    names = (words[0], words[2] if words[2] != words[0] else f"{words[2]} (2)")
    assert task.bank is not None
    question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
    answer = choose(task.bank.answers, rng, train=task.train, lang=task.lang)
    # An object that takes part in several such pairs is one target.
    ends = (
        dict.fromkeys(subject for subject, _, _ in worded[words]),
        dict.fromkeys(target for _, _, target in worded[words]),
    )
    return Rendering(
        conversation=(
            Turn("user", pictures(annotation) + question.fill(relation=" ".join(words))),
            Turn("assistant", answer.fill(subject=words[0] + token, object=words[2] + token)),
        ),
        routes=tuple(Route(token=token, kind="expression", name=name) for name in names),
        targets=InstanceTargets(
            instances=tuple(
                target_of(annotation.instances[index], name, masked)
                for name, indices in zip(names, ends, strict=True)
                for index in indices
            )
        ),
        prompt=Prompt(bank=task.bank.id, question=question.id, answer=answer.id),
    )
