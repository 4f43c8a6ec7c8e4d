"""Segment the objects that a user marks: each mark is a region, and each region an object of its own.

The marks are drawn from the masks, unless the source has stored marks of its own (PSALM's COCO-Interactive): these are
the benchmark, so then no other is drawn, and evaluation asks for every object.
"""

from __future__ import annotations

import random

import msgspec

from dataengine.annotation import Annotation, Instance, Turn
from dataengine.errors import Skip
from dataengine.geometry import rle_area
from dataengine.prompts import choose
from dataengine.regions import KINDS, Kind, draw, stored
from dataengine.sample import InstanceTargets, Prompt, Region, Rendering, Route, TargetInstance
from dataengine.task import Task, Unit
from dataengine.tokens import IMAGE, region_text
from dataengine.wording import joined

VERSION = "2"
NEEDS_BANK = True


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`prompts`: the kinds of marks, each as likely as the others; `max_objects`: how many objects are marked."""

    prompts: tuple[Kind, ...] = KINDS
    max_objects: int = 20


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Mark some objects and ask for the mask of each.

    To train they are random ones, shuffled; to evaluate the first ones. An object without a mark is left out of prompt
    and targets together: one that is too small for it, or whose stored marks are all empty.
    """
    options: Options = task.options
    own = any(item.prompts for item in annotation.instances)
    found = [
        item
        for item in annotation.instances
        if not (item.crowd or item.ignore or item.difficult)
        and item.box is not None
        and item.mask is not None
    ]
    if task.train:
        rng.shuffle(found)
    regions: list[Region] = []
    targets: list[TargetInstance] = []
    for item in found if own and not task.train else found[: options.max_objects]:
        region = _stored(item, task, rng) if own else draw(item, rng.choice(options.prompts), rng)
        if region is None:
            continue
        assert item.box is not None and item.mask is not None
        regions.append(region)
        targets.append(
            TargetInstance(
                id=item.id,
                label=f"region{len(regions)}",
                box=item.box,
                area=rle_area(item.mask),
                mask=item.mask,
            )
        )
    if not regions:
        raise Skip("region.none", "no object has a mask that is large enough to be marked")
    token = task.spec.routing[0]
    assert task.bank is not None
    question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
    answer = choose(task.bank.answers, rng, train=task.train, lang=task.lang)
    marked = joined((region_text(number) for number in range(1, len(regions) + 1)), question.lang)
    routed = joined((target.label + token for target in targets), answer.lang)
    return Rendering(
        conversation=(
            Turn("user", f"{IMAGE}\n{question.fill(regions=marked)}"),
            Turn("assistant", answer.fill(regions=routed)),
        ),
        routes=tuple(Route(token=token, kind="region", name=target.label) for target in targets),
        regions=tuple(regions),
        targets=InstanceTargets(instances=tuple(targets)),
        prompt=Prompt(bank=task.bank.id, question=question.id, answer=answer.id),
    )


def _stored(item: Instance, task: Task, rng: random.Random) -> Region | None:
    """Return one of the object's stored marks: a random one to train, the first of `prompts` to evaluate."""
    options: Options = task.options
    regions = [region for kind in options.prompts if (region := stored(item, kind)) is not None]
    if not regions:
        return None
    return rng.choice(regions) if task.train else regions[0]
