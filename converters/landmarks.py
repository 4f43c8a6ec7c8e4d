"""Landmarks of a face or a body, as numbers in a text: pixels in pairs, without a flag that says what is hidden."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dataengine.annotation import Box, Keypoint
from dataengine.errors import Quarantine


def numbers(words: Sequence[str]) -> list[float]:
    """Return words as finite numbers. Raises Quarantine `schema` or `keypoint.nonfinite`."""
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise Quarantine("schema", f"{error}") from error
    if not all(math.isfinite(value) for value in values):
        raise Quarantine("keypoint.nonfinite", "a place is no finite number")
    return values


def visible(values: Sequence[float], origin: int) -> tuple[Keypoint, ...]:
    """Return x1, y1, x2, y2, … as visible keypoints, their first pixel number `origin`."""
    pairs = zip(values[0::2], values[1::2], strict=True)
    return tuple((x - origin, y - origin, 2) for x, y in pairs)


def box_around(points: Sequence[Keypoint]) -> Box | None:
    """Return the smallest box that holds the labelled keypoints, or None where none is labelled."""
    xs = [x for x, _, v in points if v]
    ys = [y for _, y, v in points if v]
    return (min(xs), min(ys), max(xs) + 1.0, max(ys) + 1.0) if xs else None
