"""Say what marked regions are: region captions, and region recognition in one round a region."""

from __future__ import annotations

import random
from typing import Literal

import msgspec

from converters.tasks.grounding import referents
from dataengine.annotation import Annotation, Expression, Instance, Turn
from dataengine.errors import Skip
from dataengine.prompts import Choice, choose
from dataengine.regions import box_region, mask_region
from dataengine.sample import Prompt, Region, Rendering, TextTargets
from dataengine.task import Task, Unit, objects
from dataengine.tokens import region_text
from dataengine.wording import described, joined, num_words, pictures, sentence

VERSION = "2"
NEEDS_BANK = True


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`answer`: whether a region is captioned (unit: expression), several are in one round (unit: image), or each is
    named by its category (unit: image).

    `prompts` are the kinds of region, each as likely as the others to train; evaluation takes the first that an object
    has. `min_words` of a caption and `max_objects` of an image hold in training only. `describe`: what the label space
    says of a category follows its name; objects of one without a description are not asked for.
    """

    answer: Literal["caption", "captions", "category"]
    prompts: tuple[Literal["box", "mask"], ...] = ("box", "mask")
    min_words: int = 3
    max_objects: int = 15
    describe: bool = False


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Ask what one region shows, what several show, or for the category of each of several."""
    options: Options = task.options
    match options.answer:
        case "caption":
            assert isinstance(unit, Expression)
            return _caption(annotation, unit, task, rng)
        case "captions":
            return _captions(annotation, task, rng)
        case "category":
            return _recognise(annotation, task, rng)


def _caption(annotation: Annotation, unit: Expression, task: Task, rng: random.Random) -> Rendering:
    options: Options = task.options
    text = sentence(unit.text, task.lang)
    if not text:
        raise Skip("text.empty")
    if task.train and num_words(text) < options.min_words:
        raise Skip("text.too_short", f"{text!r} has fewer than {options.min_words} words")
    found = referents(annotation, unit, task.spec.requires)
    if len(found) > 1:
        raise Skip("expression.many_objects", f"{unit.text!r} names {len(found)} objects")
    region = region_of(found[0], task, rng)
    question = _question(task, rng)
    return Rendering(
        conversation=(
            Turn("user", pictures(annotation) + question.fill(region=region_text(1))),
            Turn("assistant", text),
        ),
        targets=TextTargets(answers=(text,)),
        regions=(region,),
        prompt=Prompt(bank=task.bank.id if task.bank else "", question=question.id),
    )


def _captions(annotation: Annotation, task: Task, rng: random.Random) -> Rendering:
    """Ask for all regions at once; the answer is a line a region, `region1: …`. One caption an object."""
    options: Options = task.options
    told: dict[str, tuple[Instance, str]] = {}
    for unit in annotation.expressions:
        text = sentence(unit.text, task.lang)
        if not text or not unit.instances or (task.train and num_words(text) < options.min_words):
            continue
        found = referents(annotation, unit, task.spec.requires)
        if len(found) == 1:
            told.setdefault(found[0].id, (found[0], text))
    if len(told) < 2:
        raise Skip("region.too_few", f"{len(told)} objects have a caption of their own, expected two or more")
    chosen = list(told.values())
    if task.train:
        chosen = rng.sample(chosen, min(len(chosen), options.max_objects))
    question = _question(task, rng)
    named = joined((region_text(number) for number in range(1, len(chosen) + 1)), question.lang)
    answer = "\n".join(f"region{number}: {text}" for number, (_, text) in enumerate(chosen, start=1))
    return Rendering(
        conversation=(
            Turn("user", pictures(annotation) + question.fill(regions=named)),
            Turn("assistant", answer),
        ),
        targets=TextTargets(answers=(answer,)),
        regions=tuple(region_of(item, task, rng) for item, _ in chosen),
        prompt=Prompt(bank=task.bank.id if task.bank else "", question=question.id),
    )


def _recognise(annotation: Annotation, task: Task, rng: random.Random) -> Rendering:
    options: Options = task.options
    found = [item for item in objects(annotation, task.spec.requires) if item.category]
    if not found:
        raise Skip("object.none", "no object with a category")
    meanings = _meanings(task) if options.describe else {}
    if options.describe:
        found = [item for item in found if item.category in meanings]
        if not found:
            raise Skip("label.no_description", "the label space says nothing of these objects")
    if task.train:
        found = rng.sample(found, min(len(found), options.max_objects))
    # One template for all rounds, so that the sample's record of it is whole.
    question = _question(task, rng)
    turns: list[Turn] = []
    for number, item in enumerate(found, start=1):
        shown = pictures(annotation) if number == 1 else ""
        turns.append(Turn("user", shown + question.fill(region=region_text(number))))
        named = item.category or ""
        turns.append(Turn("assistant", described(named, meanings.get(named, ""), question.lang)))
    return Rendering(
        conversation=tuple(turns),
        targets=TextTargets(),
        regions=tuple(region_of(item, task, rng) for item in found),
        prompt=Prompt(bank=task.bank.id if task.bank else "", question=question.id),
    )


def _meanings(task: Task) -> dict[str, str]:
    labels = task.labels.labels if task.labels is not None else ()
    return {label.name: label.description for label in labels if label.description}


def _question(task: Task, rng: random.Random) -> Choice:
    assert task.bank is not None
    return choose(task.bank.questions, rng, train=task.train, lang=task.lang)


def region_of(item: Instance, task: Task, rng: random.Random) -> Region:
    """Return the object's region, of a kind that it has. Raises Skip where it has none of the kinds asked for."""
    options: Options = task.options
    kinds = [kind for kind in options.prompts if getattr(item, kind) is not None]
    if not kinds:
        raise Skip("object.incomplete", f"instance {item.id} has no {' or '.join(options.prompts)}")
    kind = rng.choice(kinds) if task.train else kinds[0]
    if kind == "mask":
        assert item.mask is not None
        return mask_region(item.mask, item.image)
    assert item.box is not None
    return box_region(item.box, item.image)
