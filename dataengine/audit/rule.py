"""What a rule is, and what it looks at."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import msgspec

from dataengine.annotation import Annotation, Box, Instance, LabelSpace
from dataengine.errors import Quarantine
from dataengine.images import Probe
from dataengine.sample import InstanceTargets, KeypointTargets, Sample, TargetInstance, check
from dataengine.tokens import IMAGE

Severity = Literal["error", "warn", "info"]
Action = Literal["fix", "drop", "skip", "quarantine", "fail", "warn"]
Sizes = list[tuple[int, int] | None]
# What a hit lies in, of which an audit counts how many it looked at.
Place = Literal[
    "annotation",
    "box",
    "outline",
    "mask",
    "quad",
    "pose",
    "text",
    "sample",
    "target",
    "unit",
    "picture",
    "subject",
]
# The lists of Facts that a rule can be about, with what their members are; "annotation" is never empty.
LISTS: dict[str, Place] = {
    "boxes": "box",
    "odd_boxes": "box",
    "endless": "box",
    "outlined": "outline",
    "masked": "mask",
    "quads": "quad",
    "posed": "pose",
    "texts": "text",
}
HUGE = 10**9


class Hit(msgspec.Struct, frozen=True):
    """One place where a rule is broken; `box` is where to look in picture number `image`."""

    detail: str
    box: Box | None = None
    image: int = 0


class Part(NamedTuple):
    """A polygon of an object, by its x and y, with the box around it."""

    item: Instance
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    box: Box


class Facts:
    """An annotation with the (width, height) of its pictures, None where unknown, and what several rules ask of it.

    `boxes` are the objects whose box is of finite numbers; `odd_boxes` those whose box is not plainly sound (nearly all
    are, and one look at the numbers is enough for them); `endless` have a box of other numbers. `outlined`, `masked`,
    `quads` and `posed` are the objects that have polygons, a run-length code, four corners or keypoints.
    """

    def __init__(self, annotation: Annotation, sizes: Sizes) -> None:
        self.annotation = annotation
        self.sizes = sizes
        self.boxes: list[tuple[Instance, Box]] = []
        self.odd_boxes: list[tuple[Instance, Box]] = []
        self.endless: list[Instance] = []
        self.outlined: list[Instance] = []
        self.masked: list[Instance] = []
        self.quads: list[Instance] = []
        self.posed: list[Instance] = []
        for item in annotation.instances:
            if item.box is not None:
                self._box(item, item.box)
            if item.polygons:
                self.outlined.append(item)
            if item.mask is not None:
                self.masked.append(item)
            if item.quad is not None:
                self.quads.append(item)
            if item.keypoints is not None:
                self.posed.append(item)

    @property
    def counted(self) -> tuple[tuple[Place, Sized], ...]:
        """What an audit says how many it looked at: all in which a hit can lie."""
        boxes = (*self.boxes, *self.endless) if self.endless else self.boxes
        return (
            ("box", boxes),
            ("outline", self.outlined),
            ("mask", self.masked),
            ("quad", self.quads),
            ("pose", self.posed),
        )

    def _box(self, item: Instance, box: Box) -> None:
        x0, y0, x1, y1 = box
        width, height = self.size_of(item) or (HUGE, HUGE)
        pair = (item, box)
        # Whatever compares with NaN is false: such a box is odd.
        if -1 <= x0 < x1 <= width + 1 and -1 <= y0 < y1 <= height + 1:
            self.boxes.append(pair)
            return
        if all(map(math.isfinite, box)):
            self.boxes.append(pair)
            self.odd_boxes.append(pair)
        else:
            self.endless.append(item)

    def size_of(self, item: Instance) -> tuple[int, int] | None:
        """Return the size of the picture that an object lies on, None where it is not known."""
        return self.sizes[item.image] if 0 <= item.image < len(self.sizes) else None

    @cached_property
    def parts(self) -> list[Part]:
        """Every polygon, in the order of the objects."""
        found = []
        for item in self.outlined:
            for polygon in item.polygons:
                xs, ys = polygon[0::2], polygon[1::2]
                found.append(Part(item, xs, ys, (min(xs), min(ys), max(xs), max(ys))))
        return found

    @cached_property
    def texts(self) -> list[tuple[str, str]]:
        """Every text with what it is called."""
        of = self.annotation
        texts = [(f"caption {one.id}", one.text) for one in of.captions]
        texts += [(f"expression {one.id}", one.text) for one in of.expressions]
        for question in of.questions:
            texts.append((f"question {question.id}", question.text))
            texts += [
                (f"answer of {question.id}", answer) for answer in (*question.answers, *question.choices)
            ]
        texts += [(f"edit {one.id}", one.instruction) for one in of.edits]
        texts += [(f"text of {one.id}", one.text) for one in of.instances if one.text is not None]
        for dialog in of.dialogs:
            # A turn that only shows a picture is not empty.
            texts += [(f"turn of {dialog.id}", turn.text.replace(IMAGE, " x ")) for turn in dialog.turns]
        return texts


class SampleFacts:
    """A sample, and what several rules ask of it."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample

    @cached_property
    def contradiction(self) -> tuple[str, str] | None:
        """The reason and detail of what contradicts in the sample, None where nothing does."""
        try:
            check(self.sample)
        except Quarantine as error:
            return error.reason, error.detail
        return None

    @cached_property
    def targets(self) -> tuple[TargetInstance, ...]:
        """The objects to find, where there is a picture that they lie on."""
        targets = self.sample.targets
        if isinstance(targets, InstanceTargets | KeypointTargets) and self.sample.images:
            return targets.instances
        return ()


class Whole(msgspec.Struct, frozen=True):
    """What an audit has counted when it has seen all of a subject: `counts` are objects, or pictures, by class."""

    labels: LabelSpace | None
    counts: Counter[str]


class Corpus(Protocol):
    """A check of a subject as a whole, which holds no more than a few bytes a record."""

    def add(self, facts: Facts) -> None:
        """Look at one annotation."""
        ...

    def hits(self) -> Iterable[Hit]:
        """Return what all of them show together."""
        ...


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule: what a hit means, how bad it is, and what conversion does about it by default.

    It looks at the facts of one `annotation` or one `sample`, at a `picture`'s name and header, at what was counted of
    the `whole` subject, or, by a `corpus` that is made for each subject, at all its annotations. A rule that looks at
    none of them is a reason that a reader, a builder or the audit itself gives.

    `among` is the list of Facts without which an annotation has nothing to look at, and in whose members hits lie.
    `budget` is the share of places that may break it where a spec says nothing; None: any. `known` are public datasets
    that break it.
    """

    id: str
    severity: Severity
    action: Action
    says: str
    budget: float | None = None
    known: tuple[str, ...] = ()
    among: str = "annotation"
    annotation: Callable[[Facts], Iterable[Hit]] | None = None
    sample: Callable[[SampleFacts], Iterable[Hit]] | None = None
    picture: Callable[[str, Probe], Iterable[Hit]] | None = None
    whole: Callable[[Whole], Iterable[Hit]] | None = None
    corpus: Callable[[], Corpus] | None = None

    @property
    def place(self) -> Place:
        """What a hit in an annotation lies in."""
        return LISTS.get(self.among, "annotation")
