"""Annotations that are looked at together: what several rules ask of them is computed once, for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from dataengine.annotation import Annotation, Box, Caption, Dialog, Image, Instance, Question, Turn
from dataengine.audit.plain import Joined, Places, TextKind
from dataengine.conventions import Flags, Numbers, Sizes, numbers
from dataengine.tokens import IMAGE

# Two boxes of one class that share so much are one object, drawn twice.
SAME_IOU = 0.98
_UNKNOWN = (math.nan, math.nan)


class Boxes(NamedTuple):
    """The boxes of a block.

    `rows` are x0, y0, x1, y1 and the (width, height) of the picture, NaN where that is not known [n, 6], `owners` the
    places of their annotations [n], and `everywhere` says of which are of crowds or ignored: they may lie anywhere [n].
    """

    objects: list[Instance]
    boxes: list[Box]
    rows: Numbers
    owners: Places
    crowd: Flags
    everywhere: Flags


class Block:
    """Annotations with the (width, height) of their pictures, None where unknown. A place is that of an annotation.

    `lang` is the language of what states none, None where nothing says it.
    """

    def __init__(self, items: Sequence[Annotation], sizes: Sequence[Sizes], lang: str | None = None) -> None:
        self.items = items
        self.sizes = sizes
        self.lang = lang
        self.objects: list[Instance] = [one for item in items for one in item.instances]
        self.images: list[Image] = [one for item in items for one in item.images]
        self.captions: list[Caption] = [one for item in items for one in item.captions]
        self.questions: list[Question] = [one for item in items for one in item.questions]
        self.dialogs: list[Dialog] = [one for item in items for one in item.dialogs]
        self.turns: list[Turn] = [turn for one in self.dialogs for turn in one.turns]
        self.paths = [image.path for image in self.images]

    @cached_property
    def owners(self) -> Places:
        """The place of each object's annotation [objects]."""
        return self.places("instances")

    def places(self, name: str) -> Places:
        """Return the place of the annotation of each of its captions, questions, … [these]."""
        get = attrgetter(name)
        return np.repeat(np.arange(len(self.items)), [len(get(item)) for item in self.items])

    @cached_property
    def joined(self) -> dict[TextKind, Joined]:
        """All texts by kind, of those kinds that there are."""
        items = self.items
        texts: dict[TextKind, list[str]] = {
            "caption": [one.text for one in self.captions],
            "expression": [one.text for item in items for one in item.expressions],
            "question": [one.text for one in self.questions],
            "answer": [text for one in self.questions for text in one.answers],
            "choice": [text for one in self.questions for text in one.choices],
            "edit": [one.instruction for item in items for one in item.edits],
            "word": [text for text in self.words if text is not None],
            "turn": [one.text for one in self.turns],
        }
        return {kind: Joined(some, IMAGE if kind == "turn" else "") for kind, some in texts.items() if some}

    @cached_property
    def categories(self) -> list[str | None]:
        """The class of each object."""
        return [one.category for one in self.objects]

    @cached_property
    def words(self) -> list[str | None]:
        """The text of each object."""
        return [one.text for one in self.objects]

    @cached_property
    def outlined(self) -> list[tuple[int, Instance]]:
        """The objects that have polygons, each with the place of its annotation."""
        objects = [one for one in self.objects if one.polygons]
        if len(objects) < len(self.objects):
            owners = self.owners[[bool(one.polygons) for one in self.objects]]
        else:
            owners = self.owners
        return list(zip(owners.tolist(), objects, strict=True))

    @cached_property
    def ids(self) -> list[str]:
        """The id of each object."""
        return [one.id for one in self.objects]

    def having(self, name: str) -> list[int]:
        """Return the places of the annotations of all objects that have something, once for each of these."""
        values = list(map(attrgetter(name), self.objects))
        if values.count(None) == len(values):
            return []
        places: list[int] = self.owners[[value is not None for value in values]].tolist()
        return places

    def size_of(self, place: int, one: Instance) -> tuple[int, int] | None:
        """Return the size of the picture that an object lies on, None where it is not known."""
        sizes = self.sizes[place]
        return sizes[one.image] if 0 <= one.image < len(sizes) else None

    @cached_property
    def boxes(self) -> Boxes:
        """All boxes, of whatever numbers."""
        objects, owners = self.objects, self.owners
        if None in (boxes := [one.box for one in objects]):
            has = np.array([box is not None for box in boxes], bool)
            objects, owners = [one for one in objects if one.box is not None], owners[has]
        found = [one.box for one in objects if one.box is not None]
        first = [(sizes[0] if sizes else None) or _UNKNOWN for sizes in self.sizes]
        rows = np.empty((len(found), 6))
        rows[:, :4] = numbers(list(chain.from_iterable(found))).reshape(-1, 4)
        rows[:, 4:] = numbers(list(chain.from_iterable(first))).reshape(-1, 2)[owners]
        if any(images := [one.image for one in objects]):
            for row in np.flatnonzero(images).tolist():
                rows[row, 4:] = numbers(self.size_of(int(owners[row]), objects[row]) or _UNKNOWN)
        crowd = _flags([one.crowd for one in objects])
        everywhere = crowd | _flags([one.ignore for one in objects])
        return Boxes(objects, found, rows, owners, crowd, everywhere)

    @cached_property
    def finite(self) -> Flags:
        """Of which boxes all numbers are finite [boxes]."""
        found: Flags = np.logical_and.reduce(np.isfinite(self.boxes.rows[:, :4]), axis=1)
        return found

    @cached_property
    def num_boxes(self) -> Places:
        """How many boxes of finite numbers each annotation has [annotations]."""
        return np.bincount(self.boxes.owners[self.finite], minlength=len(self.items))

    @cached_property
    def near(self) -> list[int]:
        """The places of annotations with boxes of which one may be another once more.

        From left to right: whoever shares nearly all of a box begins within a fiftieth of its width.
        """
        rows, owners = self.boxes.rows, self.boxes.owners
        order = np.lexsort((rows[:, 0], owners))
        owners, left, right = owners[order], rows[order, 0], rows[order, 2]
        with np.errstate(all="ignore"):
            # Whatever compares with NaN is false.
            apart = left[1:] - left[:-1] > (1 - SAME_IOU) * (right - left)[:-1]
        places: list[int] = owners[1:][(owners[1:] == owners[:-1]) & ~apart].tolist()
        return places


def _flags(values: list[bool]) -> Flags:
    return np.array(values, bool) if any(values) else np.zeros(len(values), bool)
