"""What a rule is, and what it looks at."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import msgspec
import numpy as np

from dataengine.annotation import (
    Annotation,
    Box,
    Instance,
    LabelSpace,
    Measure,
)
from dataengine.audit.block import Block
from dataengine.audit.plain import TextKind, is_plain
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.images import Pixels, Probe, Stored, probe, survey
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
    "question",
    "expression",
    "dialog",
    "edit",
    "sample",
    "target",
    "unit",
    "picture",
    "subject",
]
# What a rule can be about, with what a hit lies in. It is asked only where an annotation may break it, as
# `dataengine.audit.doubts` tells; many together show it of most at one look.
LISTS: dict[str, Place] = {
    "odd_boxes": "box",
    "near_boxes": "box",
    "boxes": "box",
    "outlined": "outline",
    "drawn": "annotation",
    "masked": "mask",
    "quads": "quad",
    "posed": "pose",
    "odd_texts": "text",
    "odd_questions": "question",
    "expressions": "expression",
    "odd_turns": "dialog",
    "odd_placeholders": "dialog",
    "edits": "edit",
    "none_named": "annotation",
    "pointing": "annotation",
    "negatives": "annotation",
    "odd_names": "annotation",
    "odd_licenses": "annotation",
    "paired": "annotation",
}
HUGE = 10**9
# Languages that are written in Latin letters.
LATIN = frozenset(
    [
        "ca", "cs", "da", "de", "en", "es", "et", "eu", "fi", "fr", "gl", "hr", "hu", "id", "it", "lt", "lv", "ms",
        "nb", "nl", "nn", "no", "pl", "pt", "ro", "sk", "sl", "sv", "tr", "vi",
    ]
)  # fmt: skip
# Levels, of 256: pixels that differ by no more are one colour to whoever looks at them.
BLANK_SPREAD = 8


class Hit(msgspec.Struct, frozen=True):
    """One place where a rule is broken; `box` is where to look in picture number `image`."""

    detail: str
    box: Box | None = None
    image: int = 0


class Text(NamedTuple):
    """A text of an annotation: what it is, the id of what it belongs to, and its language where it states one."""

    kind: TextKind
    of: str
    text: str
    lang: str | None = None

    @property
    def name(self) -> str:
        """How a report names it."""
        return f"{self.kind} {self.of}".strip()


class Part(NamedTuple):
    """A polygon of an object, by its x and y, with the box around it."""

    item: Instance
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    box: Box


def is_outline(polygon: Sequence[float]) -> bool:
    """Say whether numbers are x and y of three points at least; no reader should give others."""
    return len(polygon) >= 6 and not len(polygon) % 2


class Facts:
    """An annotation with the (width, height) of its pictures, None where unknown, and what several rules ask of it.

    `boxes` are the objects whose box is of finite numbers; `odd_boxes` those whose box is not plainly sound (nearly
    all are, and one look at the numbers is enough for them); `endless` have a box of other numbers. `outlined`,
    `masked`, `quads`, `posed` and `worded` are the objects that have polygons, a run-length code, four corners,
    keypoints or a text. `lang` is the language that the split declares, `root` where its files lie; both None where
    nothing says so.
    """

    def __init__(
        self, annotation: Annotation, sizes: Sizes, lang: str | None = None, root: Root | None = None
    ) -> None:
        self.annotation = annotation
        self.sizes = sizes
        self.lang = lang
        self.root = root
        self.boxes: list[tuple[Instance, Box]] = []
        self.odd_boxes: list[tuple[Instance, Box]] = []
        self.endless: list[Instance] = []
        self.outlined: list[Instance] = []
        self.masked: list[Instance] = []
        self.quads: list[Instance] = []
        self.posed: list[Instance] = []
        self.worded: list[Instance] = []
        self._sort()

    def _sort(self) -> None:
        """Sort the objects by what they have."""
        for item in self.annotation.instances:
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
            if item.text is not None:
                self.worded.append(item)

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
        """Every polygon of three points and more, in the order of the objects."""
        found = []
        for item in self.outlined:
            for polygon in filter(is_outline, item.polygons):
                xs, ys = polygon[0::2], polygon[1::2]
                found.append(Part(item, xs, ys, (min(xs), min(ys), max(xs), max(ys))))
        return found

    @cached_property
    def texts(self) -> list[Text]:
        """Every text."""
        of = self.annotation
        texts = [Text("caption", one.id, one.text, one.lang) for one in of.captions]
        texts += [Text("expression", one.id, one.text) for one in of.expressions]
        for question in of.questions:
            texts.append(Text("question", question.id, question.text))
            texts += [Text("answer", question.id, answer) for answer in question.answers]
            texts += [Text("choice", question.id, choice) for choice in question.choices]
        texts += [Text("edit", one.id, one.instruction) for one in of.edits]
        texts += [Text("word", one.id, one.text) for one in self.worded if one.text is not None]
        for dialog in of.dialogs:
            # A turn that only shows a picture is not empty.
            texts += [Text("turn", dialog.id, turn.text.replace(IMAGE, "x")) for turn in dialog.turns]
        return texts

    @cached_property
    def odd_texts(self) -> list[Text]:
        """The texts that are not plainly sound: of nearly all, one look at the letters is enough."""
        plain = self.lang is None or self.lang in LATIN
        return [
            one
            for one in self.texts
            if not ((plain if one.lang is None else one.lang in LATIN) and is_plain(one.kind, one.text))
        ]

    @cached_property
    def written(self) -> str:
        """All of these, one a line: a rule looks at each only where this shows that one may break it."""
        return "\n".join([one.text for one in self.odd_texts])

    def size_of_file(self, path: str) -> tuple[int, int] | None:
        """Return the (width, height) of a picture of the root, None where it is none."""
        try:
            header = probe(self.root.inside(path)) if self.root is not None else None
        except Quarantine:
            return None
        return (header.width, header.height) if header is not None else None


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


class PictureFacts:
    """A picture's name and bytes, what its numbers mean where they are no brightness, and what its rules ask of it.

    Its properties raise Quarantine as `dataengine.images.probe` and `decode` do.
    """

    def __init__(self, path: str, data: bytes, measure: Measure | None = None) -> None:
        self.path = path
        self.data = data
        self.measure = measure

    @cached_property
    def header(self) -> Probe:
        """Size, format and orientation."""
        return probe(self.data)

    @cached_property
    def _survey(self) -> tuple[Stored, Pixels]:
        return survey(self.data, self.header)

    @property
    def stored(self) -> Stored:
        """How its pixels are stored."""
        return self._survey[0]

    @property
    def small(self) -> Pixels:
        """The picture at an eighth of its size, RGB uint8 [height, width, 3], decoded to its last row."""
        return self._survey[1]

    @cached_property
    def spread(self) -> int:
        """The largest difference between two pixels of the small copy, in one colour, from 0 to 255.

        Where some pixels of a grid already differ by more than BLANK_SPREAD, no others are looked at.
        """
        rows, columns = (max(1, side // 16) for side in self.small.shape[:2])
        for pixels in (self.small[::rows, ::columns], self.small):
            spread = max(int(np.ptp(pixels[..., channel])) for channel in range(3))
            if spread > BLANK_SPREAD:
                break
        return spread


class Whole(msgspec.Struct, frozen=True):
    """What an audit has counted when it has seen all of a subject: `counts` are objects, or pictures, by class."""

    labels: LabelSpace | None
    counts: Counter[str]


class Corpus(Protocol):
    """A check of a subject as a whole, which holds no more than a few bytes a record."""

    def add(self, block: Block) -> None:
        """Look at some annotations."""
        ...

    def hits(self) -> Iterable[Hit]:
        """Return what all of them show together."""
        ...


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule: what a hit means, how bad it is, and what conversion does about it by default.

    It looks at the facts of one `annotation` or one `sample`, at a `picture`, at what was counted of
    the `whole` subject, or, by a `corpus` that is made for each subject, at all its annotations. A rule that looks at
    none of them is a reason that a reader, a builder or the audit itself gives.

    `among` is what it is about, without which there is nothing to ask, and in what a hit lies.
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
    picture: Callable[[PictureFacts], Iterable[Hit]] | None = None
    whole: Callable[[Whole], Iterable[Hit]] | None = None
    corpus: Callable[[], Corpus] | None = None

    @property
    def place(self) -> Place:
        """What a hit in an annotation lies in."""
        return LISTS.get(self.among, "annotation")
