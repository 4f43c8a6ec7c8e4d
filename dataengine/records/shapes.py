"""Boxes, corners, outlines, masks and keypoints of a record, in pixels from 0 with the end exclusive."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from dataengine.annotation import Box, Image, Keypoint, Rle
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import check_polygons, from_cxcywh, from_xywh, rle_from_counts
from dataengine.images import probe
from dataengine.records import operations, values
from dataengine.records.facts import BoxFact, Coordinates, KeypointsFact
from dataengine.records.paths import kind
from dataengine.records.values import Scope, Source

COCO_VISIBILITY: dict[str, Literal[0, 1, 2]] = {"0": 0, "1": 1, "2": 2}


class Canvas(NamedTuple):
    """The picture that numbers are about: its position among the record's pictures, and the root they lie in."""

    images: tuple[Image, ...]
    number: int
    root: Root

    def size(self, name: str) -> tuple[int, int]:
        """Return (width, height) as the record states it, or else as the picture's header does. Raises Quarantine."""
        if not 0 <= self.number < len(self.images):
            raise Quarantine("schema", f"{name}: image {self.number}, but there are {len(self.images)}")
        image = self.images[self.number]
        if image.width and image.height:
            return image.width, image.height
        try:
            found = probe(self.root.inside(image.path))
        except Quarantine as error:
            raise Quarantine(
                error.reason, f"{image.path}: {error.detail}; {name} is relative to its size"
            ) from error
        return found.width, found.height


def box(fact: BoxFact | None, scope: Scope, name: str, canvas: Canvas) -> Box | None:
    """Return a box; None where the fact is not declared or null. Raises Quarantine."""
    value, sx, sy = _numbers(fact, scope, name, canvas)
    if fact is None or value is None:
        return None
    numbers = _floats(value, name)
    if len(numbers) != 4:
        raise Quarantine("schema", f"{name} has {len(numbers)} numbers, expected 4 ({fact.format})")
    a, b, c, d = numbers
    match fact.format:
        case "xywh":
            x0, y0, x1, y1 = from_xywh(numbers)
        case "cxcywh":
            x0, y0, x1, y1 = from_cxcywh(numbers)
        case "xyxy":
            x0, y0, x1, y1 = a, b, c, d
        case "yxyx":
            y0, x0, y1, x1 = a, b, c, d
        case "xxyy":
            x0, x1, y0, y1 = a, b, c, d
    past = 1.0 if fact.end == "inclusive" else 0.0
    shift = float(fact.origin)
    return (x0 * sx - shift, y0 * sy - shift, x1 * sx - shift + past, y1 * sy - shift + past)


def quad(
    fact: Coordinates | None, scope: Scope, name: str, canvas: Canvas
) -> tuple[float, float, float, float, float, float, float, float] | None:
    """Return four corners; None where the fact is not declared or null. Raises Quarantine."""
    value, sx, sy = _numbers(fact, scope, name, canvas)
    if fact is None or value is None:
        return None
    points = _points(fact, _floats(value, name), sx, sy)
    if len(points) != 8:
        raise Quarantine("schema", f"{name} has {len(points)} numbers, expected 8 (four corners)")
    x0, y0, x1, y1, x2, y2, x3, y3 = points
    return (x0, y0, x1, y1, x2, y2, x3, y3)


def outlines(
    fact: Coordinates | None, scope: Scope, name: str, canvas: Canvas
) -> tuple[tuple[float, ...], ...]:
    """Return the polygons of an object, none where the fact is not declared or empty. Raises Quarantine.

    They stay outlines: whether one crosses itself or leaves its picture shows in no mask.
    """
    value, sx, sy = _numbers(fact, scope, name, canvas)
    if fact is None or value is None or value == []:
        return ()
    if not isinstance(value, list):
        raise Quarantine("schema", f"{name} is {kind(value)}, expected a list of numbers or points")
    # One polygon of numbers or of points, or several of either.
    several = isinstance(value[0], list) and (len(value[0]) > 2 or isinstance(value[0][0], list))
    polygons = [_points(fact, _floats(item, name), sx, sy) for item in (value if several else [value])]
    try:
        check_polygons(polygons)
    except ValueError as error:
        raise Quarantine("polygon.invalid", f"{name}: {error}") from error
    return tuple(map(tuple, polygons))


def rle(source: Source | None, scope: Scope, name: str) -> Rle | None:
    """Return the mask of a COCO run-length code. Raises Quarantine `schema` or `rle.invalid`."""
    if source is None:
        return None
    match values.get(source, scope, name):
        case {"size": [int(height), int(width)], "counts": str() | list() as counts}:
            try:
                return rle_from_counts(counts, (height, width))
            except (ValueError, TypeError) as error:
                raise Quarantine("rle.invalid", f"{name}: {error}") from error
    raise Quarantine("schema", f"{name}: expected {{size: [height, width], counts: text or runs}}")


def keypoints(
    fact: KeypointsFact | None, scope: Scope, name: str, canvas: Canvas
) -> tuple[Keypoint, ...] | None:
    """Return the points of a skeleton, those that the source leaves open as (0, 0, 0). Raises Quarantine."""
    value, sx, sy = _numbers(fact, scope, name, canvas)
    if fact is None or value is None:
        return None
    step = len(fact.format)
    numbers = _floats(value, name, point=step)
    if not numbers or len(numbers) % step:
        raise Quarantine(
            "schema", f"{name} has {len(numbers)} numbers, expected {step} a point ({fact.format})"
        )
    rows = [numbers[start : start + step] for start in range(0, len(numbers), step)]
    return tuple(_keypoint(fact, row, sx, sy, f"{name}[{number}]") for number, row in enumerate(rows))


def _keypoint(fact: KeypointsFact, row: list[float], sx: float, sy: float, name: str) -> Keypoint:
    x, y = row[:2]
    if not (math.isfinite(x) and math.isfinite(y)) or (x in fact.absent and y in fact.absent):
        return (0.0, 0.0, 0)
    visible = 2
    if fact.format == "xyv":
        stated, known = f"{row[2]:g}", fact.visible or COCO_VISIBILITY
        if stated not in known:
            raise Quarantine(
                "keypoint.visibility", f"{name}: visibility is {stated}, expected one of {', '.join(known)}"
            )
        visible = known[stated]
    if not visible:
        return (0.0, 0.0, 0)
    x, y = _points(fact, [x, y], sx, sy)
    return (x, y, visible)


def _numbers(fact: Coordinates | None, scope: Scope, name: str, canvas: Canvas) -> tuple[Any, float, float]:
    """Return the numbers, lists in lists as they stand, with the factors of x and y that make pixels of them."""
    value = values.get(fact, scope, name) if fact is not None else None
    if fact is None or value is None:
        return None, 1.0, 1.0
    if fact.unit == "px":
        return value, fact.scale, fact.scale
    width, height = canvas.size(name)
    share = fact.scale / (1000 if fact.unit == "thousandth" else 1)
    return value, width * share, height * share


def _floats(value: Any, name: str, *, point: int = 0) -> list[float]:
    """Return a flat list of numbers, points in it unfolded. Raises Quarantine `schema`.

    Where points of so many numbers may be open, a null is a number that nobody knows, NaN; in the place of a point it
    is all of its numbers.
    """
    if not isinstance(value, list):
        raise Quarantine("schema", f"{name} is {kind(value)}, expected a list of numbers")
    if point and any(isinstance(item, list) for item in value):
        value = [[None] * point if item is None else item for item in value]
    flat: list[Any] = []
    for item in value:
        flat += item if isinstance(item, list) else [item]
    if point:
        flat = [math.nan if item is None else item for item in flat]
    try:
        return [item if type(item) is float else float(operations.apply(("float",), item)) for item in flat]
    except (Quarantine, TypeError) as error:
        raise Quarantine("schema", f"{name} is {str(value)[:80]}, expected numbers") from error


def _points(fact: Coordinates, numbers: list[float], sx: float, sy: float) -> list[float]:
    return [number * (sy if position % 2 else sx) - fact.origin for position, number in enumerate(numbers)]
