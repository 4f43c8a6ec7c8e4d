"""Find every object of the named classes: detection and instance segmentation.

The class list of a prompt follows VisionLLM v2's converters: half of the training prompts name every class of the label
space, the others the classes that are there and a random number of classes that are not; never more than `max_classes`.
The answer names each class with its routing token, so the same list stands in question and answer, in one order.
"""

from __future__ import annotations

import random

import msgspec

from dataengine.annotation import Annotation, Turn
from dataengine.errors import Skip
from dataengine.geometry import box_area, rle_area
from dataengine.prompts import choose
from dataengine.sample import InstanceTargets, Prompt, Rendering, Route, TargetInstance
from dataengine.task import Task, Unit, objects
from dataengine.tokens import IMAGE


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`max_classes` a prompt, `all_ratio`: the share of training prompts that name the whole label space."""

    max_classes: int = 100
    all_ratio: float = 0.5


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Ask for all objects of some classes; the answer routes once a class."""
    found = objects(annotation, task.spec.requires)
    classes = choose_classes(annotation, task, rng)
    token = task.spec.routing[0]
    named = ", ".join(classes)
    assert task.bank is not None
    question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
    answer = choose(task.bank.answers, rng, train=task.train, lang=task.lang)
    routed = ", ".join(f"{name}{token}" for name in classes)
    ids = {item.id for item in found}
    targets = tuple(
        TargetInstance(
            id=item.id,
            label=item.category,
            box=item.box,
            area=rle_area(item.mask) if item.mask else box_area(item.box),
            mask=item.mask if "mask" in task.spec.requires else None,
            ignore=item.id not in ids,
        )
        for item in annotation.instances
        if item.category in classes and item.box is not None
    )
    return Rendering(
        conversation=(
            Turn("user", f"{IMAGE}\n{question.fill(classes=named)}"),
            Turn("assistant", answer.fill(classes=routed)),
        ),
        routes=tuple(Route(token=token, kind="category", name=name) for name in classes),
        targets=InstanceTargets(
            instances=targets,
            negatives=tuple(sorted(annotation.negatives)),
            exhaustive=annotation.exhaustive,
        ),
        prompt=Prompt(bank=task.bank.id, question=question.id, answer=answer.id),
    )


def choose_classes(annotation: Annotation, task: Task, rng: random.Random) -> list[str]:
    """Return the classes to name, shuffled to train: those present, and some that are known to be absent.

    A class that has only crowds, ignored or difficult objects is neither. Raises Skip where a present class would have
    to be left out of an exhaustive answer's prompt, or where nothing could be asked truthfully.
    """
    options: Options = task.options
    present, unsure = set[str](), set[str]()
    for item in annotation.instances:
        if item.category is not None:
            (unsure if item.crowd or item.ignore or item.difficult else present).add(item.category)
    unsure -= present
    order = (
        list(task.labels.names) if task.labels is not None else sorted(present | set(annotation.negatives))
    )
    absent = [
        name
        for name in order
        if name not in present
        and name not in unsure
        and (annotation.exhaustive or name in annotation.negatives)
    ]
    positives = [name for name in order if name in present]
    if task.train:
        rng.shuffle(positives)
        rng.shuffle(absent)
    positives = positives[: options.max_classes]
    room = options.max_classes - len(positives)
    if not task.train or rng.random() < options.all_ratio:
        count = room
    else:
        # With nothing there, at least one class is asked for: the sample teaches to answer "none".
        count = rng.randint(0 if positives else 1, max(room, 1))
    chosen = positives + absent[:count]
    if not chosen:
        raise Skip("category.none", "no class is known to be present or absent")
    if task.train:
        rng.shuffle(chosen)
    else:
        rank = {name: position for position, name in enumerate(order)}
        chosen.sort(key=rank.__getitem__)
    return chosen
