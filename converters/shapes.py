"""What annotation tools draw (outlines, ellipses, masks) as boxes and masks, one picture at a time.

A drawing that cannot be used is rejected, and its object stays in the picture as an ignored one: an answer must neither
count it as background nor say that its category is absent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from converters.json_files import parse
from dataengine.annotation import Box, Image, Instance, Origin, Rejected, Rle
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.geometry import mask_from_rle, quad_box, rle_from_counts, rle_from_mask, rle_from_polygons
from dataengine.images import probe

T = TypeVar("T")
Point = tuple[float, float]
Size = tuple[int, int]
Outline = list[float]
# An outline of so many corners is a pixel off a circle of 4,000 pixels, and nothing off a smaller one.
CORNERS = 64


class Gathered(NamedTuple):
    """The objects of a picture, the rejections of those that are none, and whether the classes of all are known."""

    instances: tuple[Instance, ...]
    rejected: tuple[Rejected, ...]
    known: bool


def gather(
    records: Iterable[tuple[str, T]],
    make: Callable[[str, T], Instance],
    category: Callable[[T], str | None],
    key: str,
    file: str,
) -> Gathered:
    """Make an object of each (place, record); one that raises Quarantine is rejected and stays as an ignored object.

    `category` says of a rejected record what it would have been, if that is still known.
    """
    instances, rejected, known = [], [], True
    for place, record in records:
        try:
            instances.append(make(place, record))
        except Quarantine as error:
            origin = Origin(file=file, record=place)
            rejected.append(
                Rejected(key=f"{key}.{place}", reason=error.reason, detail=error.detail, origin=origin)
            )
            name = category(record)
            instances.append(Instance(id=place, category=name, ignore=True))
            known = known and name is not None
    return Gathered(tuple(instances), tuple(rejected), known)


def document(file: str, root: Root, needed_as: str, kind: type[T], expected: str) -> T:
    """Return the JSON document of one picture. Raises Quarantine `schema`; SourceError where it cannot be opened."""
    data = root.read(file, needed_as)
    try:
        return parse(data, file, kind, expected)
    except SourceError as error:
        raise Quarantine("schema", str(error)) from error


def size_of(image: Image, root: Root) -> Size:
    """Return (width, height) as stated, or as the picture's header says. Raises Quarantine `image.*`."""
    if image.width and image.height:
        return image.width, image.height
    try:
        found = probe(root.inside(image.path))
    except Quarantine as error:
        raise Quarantine(
            error.reason, f"{image.path}: {error.detail}; its size is not stated either"
        ) from error
    return found.width, found.height


def finite(values: Iterable[float | None], what: str) -> list[float]:
    """Return numbers as they stand. Raises Quarantine `schema` for one that is none or is not finite."""
    found = list(values)
    for value in found:
        if value is None or not math.isfinite(value):
            raise Quarantine("schema", f"{what} holds {value!r}, expected finite numbers")
    return [float(value) for value in found if value is not None]


def corners_box(first: Point, second: Point) -> Box:
    """Return the box between two opposite corners, whichever they are."""
    (x0, y0), (x1, y1) = first, second
    return (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def outline_mask(outlines: Sequence[Outline], size: Size) -> Rle:
    """Return the union of outlines (flat x, y lists). Raises Quarantine `polygon.invalid`."""
    try:
        return rle_from_polygons(outlines, *size)
    except ValueError as error:
        raise Quarantine("polygon.invalid", str(error)) from error


def outlines_box(outlines: Sequence[Outline]) -> Box:
    """Return the tight box of outlines. Raises Quarantine `polygon.invalid` where there is no point."""
    points = [value for outline in outlines for value in outline]
    if len(points) < 2:
        raise Quarantine("polygon.invalid", "the outline has no point")
    return quad_box(points)


def code_mask(counts: Sequence[int] | str, stated: Sequence[int], size: Size | None) -> Rle:
    """Return a run-length code of `stated` (height, width). Raises Quarantine `rle.size_mismatch`.

    `size` is the picture's (width, height), if it is known.
    """
    if size and tuple(stated) != (size[1], size[0]):
        raise Quarantine(
            "rle.size_mismatch", f"size is {list(stated)}, but the image is [{size[1]}, {size[0]}]"
        )
    try:
        return rle_from_counts(counts, stated)
    except (ValueError, OverflowError) as error:
        raise Quarantine("rle.size_mismatch", str(error)) from error


def ellipse(center: Point, radii: Point, degrees: float = 0.0) -> Outline:
    """Return the outline of an ellipse, turned clockwise as one sees it. Raises Quarantine `polygon.invalid`."""
    if not math.isfinite(degrees):
        raise Quarantine("polygon.invalid", f"the ellipse is turned by {degrees}, expected an angle")
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    flat: Outline = []
    for number in range(CORNERS):
        angle = 2 * math.pi * number / CORNERS
        x, y = radii[0] * math.cos(angle), radii[1] * math.sin(angle)
        flat += [center[0] + x * cos - y * sin, center[1] + x * sin + y * cos]
    return flat


def united(instances: tuple[Instance, ...]) -> Iterator[Instance]:
    """Yield the objects, the parts that share an id as one; it has a mask if all parts that have an area have one."""
    groups: dict[str, list[Instance]] = {}
    for item in instances:
        groups.setdefault(item.id, []).append(item)
    for name, parts in groups.items():
        if len(parts) == 1:
            yield parts[0]
            continue
        boxes = [part.box for part in parts if part.box is not None]
        masks = [part.mask for part in parts if part.box is not None]
        yield msgspec.structs.replace(
            parts[0],
            id=name,
            box=quad_box([value for box in boxes for value in box]) if boxes else None,
            mask=_union([mask for mask in masks if mask is not None])
            if boxes and None not in masks
            else None,
            quad=None,
        )


def _union(masks: list[Rle]) -> Rle:
    whole = mask_from_rle(masks[0])
    for mask in masks[1:]:
        whole = whole | mask_from_rle(mask)
    return rle_from_mask(whole)
