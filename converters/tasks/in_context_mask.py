"""Segment in the last picture what the examples show as regions: VisionLLM v2's in-context detection and segmentation.

The examples teach what to look for; no word of the prompt names it. As in the paper, all objects of the class are one
mask, in each example and in the answer.
"""

from __future__ import annotations

import random

import msgspec

from converters import in_context
from dataengine import examples
from dataengine.annotation import Annotation, Instance, Turn
from dataengine.errors import Skip
from dataengine.geometry import rle_box, rle_union
from dataengine.prompts import choose
from dataengine.regions import mask_region
from dataengine.sample import InstanceTargets, Prompt, Region, Rendering
from dataengine.task import Task, Unit
from dataengine.tokens import IMAGE, region_text

VERSION = "1"
NEEDS_BANK = True
TAKES_EXAMPLES = True


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`merge: false` keeps the objects of a picture apart: several regions an example, a target for each object."""

    merge: bool = True


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Show the class in the examples, then route once for all of it that the last picture shows.

    An item without examples that has a conversation is asked in its own words.
    """
    options: Options = task.options
    token = task.spec.routing[0]
    if annotation.dialogs and not annotation.examples:
        return in_context.conversation(annotation, token)
    if not annotation.examples:
        raise Skip("gather.no_example", "the item has no examples; the spec's task needs the key gather")
    regions: list[Region] = []
    told = []
    for number, example in enumerate(annotation.examples):
        masks = [item.mask for item in _objects(example, annotation.shared, options.merge) if item.mask]
        regions += [mask_region(mask, number) for mask in masks]
        told.append(f"{IMAGE}\n{', '.join([region_text(None)] * len(masks))}")
    wanted = _objects(annotation, annotation.shared, options.merge)
    assert task.bank is not None
    question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
    reply = choose(task.bank.answers, rng, train=task.train, lang=task.lang)
    return Rendering(
        conversation=(
            Turn("user", question.fill(examples="\n".join(told), asked=IMAGE)),
            Turn("assistant", reply.fill(mask=token)),
        ),
        targets=InstanceTargets(
            instances=tuple(map(in_context.target, wanted)), exhaustive=annotation.exhaustive
        ),
        routes=(in_context.route(token),),
        regions=tuple(regions),
        prompt=Prompt(bank=task.bank.id, question=question.id, answer=reply.id),
    )


def _objects(item: Annotation, name: str, merge: bool) -> list[Instance]:
    """Return the objects of a class, or one that is all of them. Raises Skip where one of them has no usable mask."""
    found = [one for one in item.instances if one.category == name]
    if name not in examples.categories(item):
        raise Skip(
            "object.incomplete", f"item {item.key}: an object of the class cannot be used, or there is none"
        )
    masks = [one.mask for one in found if one.mask is not None]
    if len(masks) < len(found):
        raise Skip("object.incomplete", f"item {item.key}: an object of the class has no mask")
    if not merge or len(found) == 1:
        return found
    union = rle_union(masks)
    return [msgspec.structs.replace(found[0], id="", box=rle_box(union), mask=union)]
