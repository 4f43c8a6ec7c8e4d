"""Find every object of the named classes: detection and instance segmentation.

The class list of a prompt follows VisionLLM v2's converters: half of the training prompts name every class of the label
space, the others the classes that are there and a random number of classes that are not; never more than `max_classes`.
The answer names each class with its routing token, so the same list stands in question and answer, in one order.
"""

from __future__ import annotations

import random
from collections.abc import Collection

import msgspec

from dataengine.annotation import Annotation, Rle, Turn
from dataengine.errors import Quarantine, Skip
from dataengine.geometry import box_area, rle_area, rle_union
from dataengine.permute import shuffle
from dataengine.prompts import choose
from dataengine.sample import (
    InstanceTargets,
    KeypointTargets,
    Prompt,
    Rendering,
    Route,
    Sample,
    TargetInstance,
)
from dataengine.task import Task, Unit, objects
from dataengine.wording import joined, pictures

VERSION = "2"
NEEDS_BANK = True


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`max_classes` a prompt; `all_ratio`: the share of training prompts that name the whole label space."""

    max_classes: int = 100
    all_ratio: float = 0.5


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Ask for all objects of some classes; the answer routes once a class."""
    options: Options = task.options
    shown = last_input(annotation)
    found = objects(annotation, task.spec.requires)
    order = class_order(annotation, task)
    classes = choose_classes(
        annotation,
        order,
        rng,
        train=task.train,
        max_classes=options.max_classes,
        all_ratio=options.all_ratio,
    )
    token = task.spec.routing[0]
    assert task.bank is not None
    question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
    answer = choose(task.bank.answers, rng, train=task.train, lang=task.lang)
    routed = joined((name + token for name in classes), answer.lang)
    ids, asked = {item.id for item in found}, set(classes)
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
        if item.category in asked and item.box is not None
    )
    seen = {item.category for item in annotation.instances}
    return Rendering(
        conversation=(
            Turn("user", f"{shown}{question.fill(classes=joined(classes, question.lang))}"),
            Turn("assistant", answer.fill(classes=routed)),
        ),
        routes=tuple(Route(token=token, kind="category", name=name) for name in classes),
        targets=InstanceTargets(
            instances=targets,
            negatives=tuple(sorted(set(annotation.negatives) - seen)),
            exhaustive=annotation.exhaustive,
            void=_void(annotation) if "mask" in task.spec.requires else None,
        ),
        prompt=Prompt(bank=task.bank.id, question=question.id, answer=answer.id),
        unsure=unsure_classes(annotation, classes),
    )


def unsure_classes(annotation: Annotation, named: Collection[str]) -> tuple[str, ...] | None:
    """Return the classes of objects that are not asked for; None where labels say nothing of what has no object.

    They have crowds or objects that cannot be used, or were too many for a prompt.
    """
    if not annotation.exhaustive:
        return None
    seen = {item.category for item in annotation.instances if item.category is not None}
    return tuple(sorted(seen - set(named)))


def recover(
    annotation: Annotation, sample: Sample, task: Task, unsure: Collection[str] | None
) -> tuple[Annotation, Unit]:
    """Return the facts of a sample from which `build` names other classes: those that may be named are negatives.

    `annotation` is what the sample says of its pictures, `unsure` as in `dataengine.render.rerender`.
    """
    names = task.labels.names if task.labels is not None else ()
    known = with_absent(annotation, sample, names, unsure)
    return known, known


def with_absent(
    annotation: Annotation, sample: Sample, names: Collection[str], unsure: Collection[str] | None
) -> Annotation:
    """Return the annotation with all classes that are absent for sure as negatives, and no others absent.

    Those are the classes that the sample names as absent, and its verified ones; where its labels are exhaustive, and
    `unsure` says of which classes that does not hold, all other `names` too.
    """
    targets = sample.targets
    assert isinstance(targets, InstanceTargets | KeypointTargets)
    present = {item.label for item in targets.instances}
    absent = {route.name for route in sample.routes if route.kind == "category"}
    if isinstance(targets, InstanceTargets):
        absent |= set(targets.negatives)
    # Where labels are not exhaustive, the builder has told nothing of what is unsure.
    if unsure is not None:
        absent |= set(names) - set(unsure)
    return msgspec.structs.replace(annotation, negatives=tuple(sorted(absent - present)), exhaustive=False)


def _void(annotation: Annotation) -> Rle | None:
    """Return the pixels that the source leaves open: those of ignored objects without a class."""
    masks = [
        item.mask
        for item in annotation.instances
        if item.ignore and item.category is None and item.mask is not None
    ]
    return rle_union(masks) if masks else None


def last_input(annotation: Annotation) -> str:
    """Return the lines that show the pictures. Raises Quarantine `media.role` for an object that is not on the last.

    Boxes and masks of a sample name no picture: they lie on the last one that is shown.
    """
    inputs = [number for number, image in enumerate(annotation.images) if image.role == "input"]
    lost = [item for item in annotation.instances if item.box is not None and [item.image] != inputs[-1:]]
    if lost:
        raise Quarantine(
            "media.role", f"instance {lost[0].id} is on image {lost[0].image}, not on the last input"
        )
    return pictures(annotation)


def class_order(annotation: Annotation, task: Task) -> list[str]:
    """Return the classes that can be named, in the order of the label space.

    Without a label space these are the classes of the annotation. Raises Quarantine for an object whose class the label
    space lacks: a prompt that names "all classes" would be untrue.
    """
    named = {item.category for item in annotation.instances if item.category is not None}
    if task.labels is None:
        return sorted(named | set(annotation.negatives))
    order = list(task.labels.names)
    unknown = sorted(named - set(order))
    if unknown:
        raise Quarantine("category.unknown", f"{unknown[0]!r} is not in the label space {task.labels.id!r}")
    return order


def choose_classes(
    annotation: Annotation,
    order: list[str],
    rng: random.Random,
    *,
    train: bool,
    max_classes: int,
    all_ratio: float,
    max_absent: int | None = None,
) -> list[str]:
    """Return the classes of `order` to name: those present, and some that are known to be absent.

    To train they are shuffled, and all of them with the chance `all_ratio`, or else at most `max_absent` absent ones;
    to evaluate they are all, in order. Never more than `max_classes`, the present ones first. A class that has only
    crowds, ignored or difficult objects is neither present nor absent. Raises Skip where nothing can truly be asked.
    """
    present, unsure = set[str](), set[str]()
    for item in annotation.instances:
        if item.category is not None:
            (unsure if item.crowd or item.ignore or item.difficult else present).add(item.category)
    absent = [name for name in order if name not in present and name not in unsure]
    if not annotation.exhaustive:
        verified = frozenset(annotation.negatives)
        absent = [name for name in absent if name in verified]
    positives = [name for name in order if name in present]
    if train:
        shuffle(positives, rng)
        shuffle(absent, rng)
    positives = positives[:max_classes]
    room = max_classes - len(positives)
    if not train or rng.random() < all_ratio:
        count = room
    else:
        most = room if max_absent is None else min(room, max_absent)
        # With nothing there, at least one class is asked for: the sample teaches to answer "none".
        count = rng.randint(0 if positives else 1, max(min(most, len(absent)), 0 if positives else 1))
    chosen = positives + absent[:count]
    if not chosen:
        raise Skip("category.none", "no class is known to be present or absent")
    if train:
        shuffle(chosen, rng)
    else:
        rank = {name: position for position, name in enumerate(order)}
        chosen.sort(key=rank.__getitem__)
    return chosen
