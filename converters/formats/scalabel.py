"""Scalabel: frames with labels (box2d, poly2d, rle), as BDD100K keeps its objects.

Conventions (scalabel/scalabel, scalabel/label/transforms.py): pixels from 0, and both corners of `box2d` belong to the
box, so (x1, y1, x2 + 1, y2 + 1) is the box with an exclusive end. `types` of a poly2d has a letter for each vertex: L
is a corner, and a C begins a cubic Bezier curve, two control points and the end, whatever letters the other two have.
`closed` says whether the outline is an area; panoptic files of BDD100K say false and mean areas (`open_areas: true`).
A frame without `labels` was not labelled; one with an empty list shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from converters.formats.coco_instances import Pixels
from converters.json_files import decode, load, unique
from converters.shapes import Outline, Size, code_mask, finite, gather, outline_mask, outlines_box, size_of
from dataengine.annotation import (
    Annotation,
    Box,
    Image,
    Instance,
    Label,
    LabelSpace,
    Origin,
    Rejected,
    Rle,
)
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root

VERSION = "1"
# A cubic curve becomes so many straight pieces.
PIECES = 16


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON file, or a pattern of several (one a video); `images` the folder of the pictures.

    A picture is `name`, or `videoName/name` (`media: video`). `width` and `height` are those of all pictures, where the
    frames do not say. `labels` are the categories; without them they are the names that occur. `rename` gives old names
    new ones, `ignored` says which classes are to be ignored, and as what. `exhaustive` as in `coco_instances`.
    """

    annotations: str
    images: str = ""
    media: Literal["name", "video"] = "name"
    width: Pixels | None = None
    height: Pixels | None = None
    end: Literal["inclusive", "exclusive"] = "inclusive"
    open_areas: bool = False
    labels: tuple[str, ...] = ()
    rename: dict[str, str] = {}
    ignored: dict[str, str] = {}
    exhaustive: bool = True


class RawBox(msgspec.Struct):
    x1: float
    y1: float
    x2: float
    y2: float


class RawPoly(msgspec.Struct):
    vertices: list[tuple[float, float]]
    types: str
    closed: bool


class RawRle(msgspec.Struct):
    size: tuple[int, int]
    counts: str


class RawLabel(msgspec.Struct):
    id: str | int | None = None
    category: str | None = None
    attributes: dict[str, Any] | None = None
    box2d: RawBox | None = None
    poly2d: list[RawPoly] | None = None
    rle: RawRle | None = None


class RawSize(msgspec.Struct):
    width: Pixels
    height: Pixels


class RawFrame(msgspec.Struct):
    name: str
    videoName: str | None = None
    size: RawSize | None = None
    labels: list[msgspec.Raw] | None = None


class RawFile(msgspec.Struct):
    frames: list[msgspec.Raw]


class RawNamed(msgspec.Struct):
    category: str | None = None


_frame = msgspec.json.Decoder(RawFrame)
_label = msgspec.json.Decoder(RawLabel)
_named = msgspec.json.Decoder(RawNamed)


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the declared categories in their order, or else all names that occur, sorted."""
    if source.labels:
        return LabelSpace(id="source", labels=tuple(Label(name=name) for name in source.labels))
    names = set[str]()
    for found in _frames(source, root):
        if isinstance(found, Rejected):
            continue
        try:
            frame = decode(found[2], _frame)
        except Quarantine:
            continue
        names |= {name for item in frame.labels or () if (name := _category(source, item))}
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in sorted(names)))


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a frame, in file order, and a rejection a defective label."""
    seen = set[str]()
    for found in _frames(source, root):
        if isinstance(found, Rejected):
            yield found
            continue
        file, place, data = found
        origin, key = Origin(file=file, record=place), f"{file}.{place}"
        try:
            frame = decode(data, _frame)
            key = _key(source, frame)
            if key in seen:
                raise Quarantine("id.duplicate", f"a frame {key!r} came before")
            seen.add(key)
            yield from _annotate(source, root, frame, key, origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)


def _frames(source: Source, root: Root) -> Iterator[tuple[str, str, msgspec.Raw] | Rejected]:
    """Yield (file, place, record) of each frame, and a rejection of a file among others that is none.

    Raises SourceError.
    """
    files = root.glob(source.annotations) if "*" in source.annotations else [source.annotations]
    if not files:
        raise SourceError(
            f"{root.directory}: no file matches {source.annotations!r}; the spec needs it as source.annotations"
        )
    for file in files:
        expected = "a Scalabel file: a list of frames, or a mapping with frames"
        kind: type[RawFile | list[msgspec.Raw]] = RawFile | list[msgspec.Raw]  # type: ignore[assignment]
        try:
            raw = load(file, root, "annotations", kind, expected)
        except SourceError as error:
            if len(files) == 1:
                raise
            origin = Origin(file=file, record="file")
            yield Rejected(key=file, reason="schema", detail=str(error), origin=origin)
            continue
        frames = raw.frames if isinstance(raw, RawFile) else raw
        yield from ((file, f"[{number}]", data) for number, data in enumerate(frames))


def _key(source: Source, frame: RawFrame) -> str:
    if source.media == "name":
        return frame.name
    if not frame.videoName:
        raise Quarantine("field.missing", "the frame has no videoName")
    return f"{frame.videoName}/{frame.name}"


def _annotate(
    source: Source, root: Root, frame: RawFrame, key: str, origin: Origin
) -> Iterator[Annotation | Rejected]:
    size = frame.size
    image = Image(
        path=f"{source.images}/{key}" if source.images else key,
        width=size.width if size else source.width,
        height=size.height if size else source.height,
    )
    seen: dict[str, int] = {}

    def make(place: str, data: msgspec.Raw) -> Instance:
        made = _instance(source, root, image, place, decode(data, _label))
        return msgspec.structs.replace(made, id=unique(made.id, seen))

    found = gather(
        ((f"{origin.record}.labels[{number}]", data) for number, data in enumerate(frame.labels or ())),
        make,
        lambda data: _category(source, data),
        key,
        origin.file,
    )
    yield Annotation(
        key=key,
        images=(image,),
        instances=found.instances,
        exhaustive=source.exhaustive and found.known and frame.labels is not None,
        origin=origin,
    )
    yield from found.rejected


def _category(source: Source, data: msgspec.Raw) -> str | None:
    """Return the class that a label counts as, or None where it is none of the classes."""
    try:
        stated = decode(data, _named).category or ""
    except Quarantine:
        return None
    name = source.ignored.get(stated, source.rename.get(stated, stated))
    return name if name and (not source.labels or name in source.labels) else None


def _instance(source: Source, root: Root, image: Image, place: str, raw: RawLabel) -> Instance:
    stated = raw.category or ""
    name = source.ignored.get(stated, source.rename.get(stated, stated))
    if not name or (source.labels and name not in source.labels):
        raise Quarantine(*(("category.unknown", f"{stated!r} is not among the labels") if stated
                           else ("schema", "the label has no category")))  # fmt: skip
    attributes = raw.attributes or {}
    outlines, mask = _area(source, root, image, raw)
    box = _box(source, raw.box2d) if raw.box2d else outlines_box(outlines) if outlines else None
    return Instance(
        id=str(raw.id) if raw.id is not None else place,
        category=name,
        box=box,
        mask=mask,
        attributes={key: str(value) for key, value in attributes.items() if isinstance(value, str | bool)},
        crowd=attributes.get("crowd") is True,
        ignore=stated in source.ignored or attributes.get("ignored") is True,
    )


def _box(source: Source, raw: RawBox) -> Box:
    x0, y0, x1, y1 = finite((raw.x1, raw.y1, raw.x2, raw.y2), "box2d")
    end = 1 if source.end == "inclusive" else 0
    return (x0, y0, x1 + end, y1 + end)


def _area(source: Source, root: Root, image: Image, raw: RawLabel) -> tuple[list[Outline], Rle | None]:
    """Return the outlines of a label's area, and its mask. Raises Quarantine."""
    outlines = [_outline(poly) for poly in raw.poly2d or () if poly.closed or source.open_areas]
    if raw.rle is not None:
        size: Size | None = (image.width, image.height) if image.width and image.height else None
        return outlines, code_mask(raw.rle.counts, raw.rle.size, size)
    return outlines, outline_mask(outlines, size_of(image, root)) if outlines else None


def _outline(raw: RawPoly) -> Outline:
    """Return the outline with its curves as straight pieces. Raises Quarantine `polygon.invalid`."""
    points = raw.vertices
    if len(raw.types) != len(points) or set(raw.types) - {"L", "C"}:
        raise Quarantine("polygon.invalid", f"{len(points)} vertices have the types {raw.types[:40]!r}")
    finite((value for point in points for value in point), "poly2d")
    flat: Outline = []
    number = 0
    while number < len(points):
        if raw.types[number] == "L" or number == 0:
            flat += points[number]
            number += 1
            continue
        # The curve that closes an outline ends where it began.
        end = points[number + 2] if number + 2 < len(points) else points[0]
        if number + 1 >= len(points):
            raise Quarantine("polygon.invalid", "a curve has one control point, expected two")
        start = (flat[-2], flat[-1])
        for piece in range(1, PIECES + 1):
            flat += _curve(start, points[number], points[number + 1], end, piece / PIECES)
        number += 3
    return flat


def _curve(
    a: tuple[float, float], b: tuple[float, float], c: tuple[float, float], d: tuple[float, float], t: float
) -> tuple[float, float]:
    """Return the point at `t` (0 to 1) of the cubic Bezier curve from a to d with the control points b and c."""
    s = 1 - t
    x, y = (
        s**3 * a[axis] + 3 * s**2 * t * b[axis] + 3 * s * t**2 * c[axis] + t**3 * d[axis] for axis in (0, 1)
    )
    return (x, y)
