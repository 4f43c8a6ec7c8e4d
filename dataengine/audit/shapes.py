"""The objects of findings as they are drawn: outlines, mask and keypoints, beside the box that a finding names."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from dataengine.annotation import Box, Instance, Keypoint, LabelSpace, Rle
from dataengine.audit.findings import Finding
from dataengine.audit.rule import Hit
from dataengine.geometry import rle_box
from dataengine.images import MAX_PIXELS
from dataengine.sample import TargetInstance

PICTURED = 8  # findings of a rule that are drawn
MOST_POINTS = 4000  # of an outline: no thumbnail shows more
Object = Instance | TargetInstance
Name = tuple[str, str, str, str, str]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What an object is beside its box: polygons as flat x, y lists, a mask, keypoints with the pairs to join."""

    polygons: tuple[tuple[float, ...], ...] = ()
    mask: Rle | None = None
    keypoints: tuple[Keypoint, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()

    @property
    def box(self) -> Box | None:
        """The box around all of it, xyxy; None where there is nothing finite."""
        pairs = [pair for one in self.polygons for pair in zip(one[0::2], one[1::2], strict=False)]
        pairs += [(x, y) for x, y, v in self.keypoints if v or x or y]
        if self.mask is not None:
            x0, y0, x1, y1 = rle_box(self.mask)
            pairs += [(x0, y0), (x1, y1)] if x1 > x0 and y1 > y0 else []
        pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
        if not pairs:
            return None
        xs, ys = zip(*pairs, strict=True)
        return (min(xs), min(ys), max(xs), max(ys))


class Shapes:
    """The shapes of the first findings of each rule that lie on a picture, by what tells a finding from all others."""

    def __init__(self) -> None:
        self.of: dict[Name, Shape] = {}
        self._seen: Counter[str] = Counter()

    def add(self, finding: Finding, hit: Hit, objects: Iterable[Object], labels: LabelSpace | None) -> None:
        """Note what the object that a hit names looks like, where it is one of the first of its rule."""
        if not finding.image or self._seen[finding.rule] >= PICTURED:
            return
        self._seen[finding.rule] += 1
        meant = _meant(hit, objects)
        shape = shape_of(meant, labels) if meant is not None else None
        if shape is not None:
            self.of[name_of(finding)] = shape

    def extend(self, others: Mapping[Name, Shape]) -> None:
        """Note those of another audit, as long as there is room."""
        for name, shape in others.items():
            self._seen[name[0]] += 1
            if self._seen[name[0]] <= PICTURED:
                self.of[name] = shape


def name_of(finding: Finding) -> Name:
    """Return what tells a finding from all others."""
    return finding.rule, finding.subject, finding.key, finding.image, finding.detail


def shape_of(item: Object, labels: LabelSpace | None) -> Shape | None:
    """Return how an object is drawn beside its box, None where it has nothing but that."""
    mask = item.mask if item.mask is not None and math.prod(item.mask.size) <= MAX_PIXELS else None
    polygons = getattr(item, "polygons", ()) or _sides(getattr(item, "quad", None))
    if not (mask or polygons or item.keypoints):
        return None
    label = item.category if isinstance(item, Instance) else item.label
    known = labels.find(label) if labels is not None and label is not None else None
    return Shape(
        polygons=tuple(map(_thinned, polygons)),
        mask=mask,
        keypoints=item.keypoints or (),
        skeleton=known.skeleton if known is not None and item.keypoints else (),
    )


def _sides(quad: tuple[float, ...] | None) -> tuple[tuple[float, ...], ...]:
    return () if quad is None else (quad,)


def _thinned(polygon: tuple[float, ...]) -> tuple[float, ...]:
    """Return an outline with no more points than a thumbnail can show."""
    every = -(-len(polygon) // (2 * MOST_POINTS))
    if every <= 1:
        return polygon
    pairs = zip(polygon[0::2], polygon[1::2], strict=False)
    return tuple(value for place, pair in enumerate(pairs) if place % every == 0 for value in pair)


def _meant(hit: Hit, objects: Iterable[Object]) -> Object | None:
    """Return the object that a hit names, or else one that has its box."""
    there = [one for one in objects if getattr(one, "image", hit.image) == hit.image]
    boxed = [one for one in there if hit.box is not None and one.box == hit.box]
    # A name may begin with another one.
    named = sorted((one for one in there if _is_named(hit.detail, one.id)), key=lambda one: -len(one.id))
    return next(iter([one for one in named if one in boxed] or named or boxed), None)


def _is_named(detail: str, of: str) -> bool:
    return any(f"{detail} ".startswith((f"{what} {of}:", f"{what} {of} ")) for what in ("instance", "target"))
