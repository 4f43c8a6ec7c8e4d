"""What a rule is, and what it looks at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import msgspec

from dataengine.annotation import Annotation, Box, Instance
from dataengine.errors import Quarantine
from dataengine.images import Probe
from dataengine.sample import InstanceTargets, KeypointTargets, Sample, TargetInstance, check
from dataengine.tokens import IMAGE

Severity = Literal["error", "warn", "info"]
Action = Literal["fix", "drop", "skip", "quarantine", "fail", "warn"]
Sizes = list[tuple[int, int] | None]


class Hit(msgspec.Struct, frozen=True):
    """One place where a rule is broken; `box` is where to look in picture number `image`."""

    detail: str
    box: Box | None = None
    image: int = 0


class Facts:
    """An annotation with the (width, height) of its pictures, None where unknown, and what several rules ask of it."""

    def __init__(self, annotation: Annotation, sizes: Sizes) -> None:
        self.annotation = annotation
        self.sizes = sizes

    def size_of(self, item: Instance) -> tuple[int, int] | None:
        """Return the size of the picture that an object lies on, None where it is not known."""
        return self.sizes[item.image] if item.image < len(self.sizes) else None

    @cached_property
    def boxes(self) -> list[tuple[Instance, Box]]:
        """The objects whose box is of finite numbers."""
        return [
            (item, item.box)
            for item in self.annotation.instances
            if item.box is not None and all(map(math.isfinite, item.box))
        ]

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


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule: what a hit means, how bad it is, and what conversion does about it by default.

    It looks at the facts of one `annotation` or one `sample`, or at a `picture`'s name and header. A rule that looks at
    none of them is a reason that a reader, a builder or the audit itself gives. `budget` is the share of places that
    may break it where a spec says nothing; None: any. `known` are public datasets that break it.
    """

    id: str
    severity: Severity
    action: Action
    says: str
    budget: float | None = None
    known: tuple[str, ...] = ()
    annotation: Callable[[Facts], Iterable[Hit]] | None = None
    sample: Callable[[SampleFacts], Iterable[Hit]] | None = None
    picture: Callable[[str, Probe], Iterable[Hit]] | None = None
