"""Pointing at objects of a picture, and speaking of them: by marks drawn on its pixels, or by a region prompt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, NamedTuple

from dataengine import examples
from dataengine.annotation import Annotation, Instance
from dataengine.errors import Skip
from dataengine.geometry import box_iou
from dataengine.marks import KINDS, mark_all, name
from dataengine.regions import box_region, mask_region
from dataengine.sample import Mark, Region
from dataengine.tokens import region_text
from dataengine.wording import one_line, spoken

Shown = Literal["circle", "hand_circle", "arrow", "box", "mask", "region"]
DRAWN: tuple[Shown, ...] = KINDS
Fact = Literal["category", "text"]
MIN_SIDE = 0.03  # an object's short side as a share of the picture's long one
MAX_IOU = 0.5


class Pointed(NamedTuple):
    """Objects with the words that point at them, and what makes those words true: marks or regions."""

    items: tuple[Instance, ...]
    words: tuple[str, ...]
    marks: tuple[Mark, ...] = ()
    regions: tuple[Region, ...] = ()


def nameable(annotation: Annotation, fact: Fact) -> list[Instance]:
    """Return the objects with a place and an answer: real ones, named or readable."""
    return [
        item
        for item in annotation.instances
        if item.box is not None and examples.real(item) and examples.plain(answer(item, fact))
    ]


def answer(item: Instance, fact: Fact) -> str:
    """Return what an object is, or what it says."""
    return spoken(item.category or "") if fact == "category" else one_line(item.text or "")


def choose_kind(kinds: Sequence[Shown], items: Sequence[Instance], rng: random.Random) -> Shown | None:
    """Return how all of some objects can be shown: a mask mark needs masks. None where no kind is left."""
    fit = [kind for kind in kinds if kind != "mask" or all(item.mask is not None for item in items)]
    return rng.choice(fit) if fit else None


def point_at(
    annotation: Annotation, items: Sequence[Instance], kind: Shown, image: int, rng: random.Random
) -> Pointed:
    """Point at objects of the annotation's one picture, which is number `image` of the sample."""
    if kind == "region":
        regions = tuple(
            mask_region(item.mask, image) if item.mask is not None else box_region(item.box, image)
            for item in items
            if item.box is not None
        )
        return Pointed(tuple(items), (region_text(None),) * len(regions), regions=regions)
    picture = annotation.images[0]
    assert picture.width is not None and picture.height is not None
    marks = mark_all(items, kind, (picture.width, picture.height), image, rng)
    return Pointed(tuple(items), tuple(map(name, marks)), marks=marks)


def choose_some(
    annotation: Annotation, fact: Fact, most: int, rng: random.Random, category: str | None = None
) -> list[Instance]:
    """Return a random number of objects, at most `most`; the first is of `category`, where there is one.

    What is large enough to be seen comes before what is not, and no two are in the same place: nobody could tell which
    one is meant. Raises Skip where no object can be named.
    """
    found = nameable(annotation, fact)
    if not found:
        raise Skip("object.none", f"item {annotation.key} has no object with a {fact}")
    rng.shuffle(found)
    found.sort(key=lambda item: (item.category != category, not _seen(item, annotation)))
    first, *rest = found
    rest.sort(key=lambda item: not _seen(item, annotation))
    chosen = [first]
    count = rng.randint(1, most)
    for item in rest:
        if len(chosen) == count or not _seen(item, annotation):
            break
        if all(_apart(item, other) for other in chosen):
            chosen.append(item)
    return chosen


def _seen(item: Instance, annotation: Annotation) -> bool:
    picture, box = annotation.images[0], item.box
    assert picture.width is not None and picture.height is not None and box is not None
    return min(box[2] - box[0], box[3] - box[1]) >= MIN_SIDE * max(picture.width, picture.height)


def _apart(item: Instance, other: Instance) -> bool:
    return item.box is None or other.box is None or box_iou(item.box, other.box) < MAX_IOU
