"""CVAT 1.1: one XML with the labels in `meta`, and an `image` with its drawings for each picture, or tracks of a video.

Conventions (docs.cvat.ai, XML annotation format): pixels from 0, fractions allowed. `rotation` turns a box or an
ellipse clockwise about its center, in degrees. The runs of a mask begin with background, go row by row, and are those
of the rectangle at `left`, `top`; a mask can have holes, a polygon has none. A `tag` is about the whole picture. Lines,
points and skeletons have no area: such an object is there, but nobody said where it ends. In a file of a video a
`track` has a label and a drawing for each of its frames; `outside` says that the object has left the picture. Only
frames that a track speaks of are read: nobody says of the others that they were looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.etree.ElementTree import Element

import msgspec
import numpy as np

from converters.formats.voc_xml import parse
from converters.outlines import turned
from converters.shapes import Outline, Size, ellipse, finite, gather, outline_mask, outlines_box, size_of
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
from dataengine.geometry import MAX_MASK_PIXELS, quad_box, rle_box, rle_from_mask
from dataengine.listing import Fit, Listing, name_splits, several

VERSION = "1"
# No picture is wider or higher.
MAX_SIDE = 1_000_000
_DRAWINGS = frozenset({"box", "polygon", "polyline", "points", "cuboid", "ellipse", "mask", "skeleton"})


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the XML file, `images` the folder of the pictures.

    `subset` takes the pictures of one subset of a project; the others are skipped as `split.other`. `labels` are the
    categories; without them they are those that the file declares. `frames` names the picture of a video's frame by its
    number: `frame_{:06d}.png`. `exhaustive` as in `coco_instances`.
    """

    annotations: str = "annotations.xml"
    images: str = "images"
    subset: str | None = None
    labels: tuple[str, ...] = ()
    frames: str | None = None
    exhaustive: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError where `frames` is no template of a number."""
        if self.frames is not None:
            try:
                if self.frames.format(1) == self.frames:
                    raise ValueError("names no number")
            except (ValueError, LookupError) as error:
                raise ValueError(
                    f"frames: {self.frames!r}: {error}; expected 'frame_{{:06d}}.png'"
                ) from error


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the declared categories in their order. Raises SourceError."""
    return LabelSpace(
        id="source", labels=tuple(Label(name=name) for name in _names(source, _document(source, root)))
    )


def _names(source: Source, document: Element) -> tuple[str, ...]:
    if source.labels:
        return source.labels
    found = []
    for place in ("meta/task/labels/label", "meta/project/labels/label", "meta/job/labels/label"):
        # The points of a skeleton are labels that name their parent.
        found += [_text(item, "name") for item in document.iterfind(place) if not _text(item, "parent")]
    return tuple(dict.fromkeys(name for name in found if name))


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds CVAT's XML for images."""
    splits, files, masked = [], [], False
    for file in listing.ending(".xml")[:50]:
        try:
            document = parse(listing.read(file), "annotations")
        except Quarantine:
            continue
        pictures = document.findall("image")
        if not pictures:
            continue
        files.append(file)
        masked = masked or any(
            item.find(kind) is not None for item in pictures for kind in ("polygon", "mask")
        )
        subsets = dict.fromkeys(item.get("subset") for item in pictures)
        for subset in subsets:
            own = (item for item in pictures if item.get("subset") == subset)
            folders = (listing.picture_folder(item.get("name") or "") for item in own)
            folder = next((one for one in folders if one is not None), None)
            if folder is not None:
                keys = {"annotations": file, "images": folder}
                splits.append((subset or file, {**keys, "subset": subset} if subset else keys))
    if not splits:
        return (
            f"{files[0]}: its pictures are not in the folder" if files else "no XML file of CVAT for images"
        )
    tasks = ("detection", "instance_segmentation") if masked else ("detection",)
    return Fit(
        splits=name_splits(splits), tasks=tasks, why=f"{several(files)}: images in <annotations>", certainty=3
    )


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture, in file order, and a rejection a defective drawing."""
    document = _document(source, root)
    names = frozenset(_names(source, document))
    images = [(f"image[{number}]", item) for number, item in enumerate(document.findall("image"))]
    if not images and document.find("track") is not None:
        images = _frames(source, document)
    seen = set[str]()
    for record, item in images:
        origin = Origin(file=source.annotations, record=record)
        key = item.get("name", "").strip() or origin.record
        try:
            if source.subset is not None and item.get("subset") != source.subset:
                raise Quarantine("split.other", f"the picture is of the subset {item.get('subset')!r}")
            if key in seen:
                raise Quarantine("id.duplicate", f"a picture {key!r} came before")
            seen.add(key)
            yield from _annotate(source, root, names, item, key, origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)


def _frames(source: Source, document: Element) -> list[tuple[str, Element]]:
    """Return the frames that tracks speak of, as pictures, in their order. Raises SourceError."""
    if source.frames is None:
        raise SourceError(
            f"{source.annotations}: holds the tracks of a video; say what its frames are called as source.frames"
        )
    width, height = (
        _text(document, f"meta/task/original_size/{side}") or _text(document, f"meta/original_size/{side}")
        for side in ("width", "height")
    )
    found: dict[int, Element] = {}
    for number, track in enumerate(document.iterfind("track")):
        for child in track:
            if child.tag not in _DRAWINGS:
                continue
            try:
                frame = int(child.get("frame", ""))
            except ValueError as error:
                raise SourceError(f"{source.annotations}: track[{number}]: frame: {error}") from error
            if frame not in found:
                stated = {"name": source.frames.format(frame), "width": width, "height": height}
                found[frame] = Element("image", stated)
            if child.get("outside") != "1":
                child.set("label", track.get("label", ""))
                found[frame].append(child)
    return [(f"frame {frame}", found[frame]) for frame in sorted(found)]


def _document(source: Source, root: Root) -> Element:
    try:
        return parse(root.read(source.annotations, "annotations"), "annotations")
    except Quarantine as error:
        raise SourceError(
            f"{source.annotations}: {error.detail}; expected a file of 'CVAT for images 1.1'"
        ) from error


def _annotate(
    source: Source, root: Root, names: frozenset[str], item: Element, key: str, origin: Origin
) -> Iterator[Annotation | Rejected]:
    if not item.get("name", "").strip():
        raise Quarantine("field.missing", "the picture has no name")
    image = Image(
        path=f"{source.images}/{key}" if source.images else key,
        width=_size(item, "width"),
        height=_size(item, "height"),
    )
    drawings = [child for child in item if child.tag in _DRAWINGS]
    found = gather(
        ((f"{origin.record}.{child.tag}[{number}]", child) for number, child in enumerate(drawings)),
        lambda place, child: _instance(root, names, image, place, child),
        lambda child: _known(names, child),
        key,
        origin.file,
    )
    tags = [(child, _known(names, child)) for child in item.iterfind("tag")]
    yield Annotation(
        key=key,
        images=(image,),
        instances=found.instances,
        labels=tuple(dict.fromkeys(name for _, name in tags if name)),
        exhaustive=source.exhaustive and found.known,
        origin=origin,
    )
    yield from found.rejected
    for number, (child, name) in enumerate(tags):
        if name is None:
            place = f"{origin.record}.tag[{number}]"
            yield Rejected(
                key=f"{key}.{place}",
                reason="category.unknown",
                detail=f"{child.get('label')!r} is not among the labels",
                origin=Origin(file=origin.file, record=place),
            )


def _known(names: frozenset[str], child: Element) -> str | None:
    label = child.get("label", "").strip()
    return label if label in names else None


def _instance(root: Root, names: frozenset[str], image: Image, place: str, child: Element) -> Instance:
    label = child.get("label", "").strip()
    if label not in names:
        raise Quarantine(*(("category.unknown", f"{label!r} is not among the labels") if label
                           else ("schema", f"the {child.tag} has no label")))  # fmt: skip
    attributes = {_name(one): (one.text or "").strip() for one in child.iterfind("attribute")}
    if child.get("occluded") == "1":
        attributes["occluded"] = "1"
    item = Instance(
        id=place,
        category=label,
        attributes={key: value for key, value in attributes.items() if key and value},
    )
    match child.tag:
        case "box":
            return _boxed(item, child)
        case "polygon" | "ellipse":
            outline = _points(child) if child.tag == "polygon" else _ellipse(child)
            mask = outline_mask([outline], size_of(image, root))
            return msgspec.structs.replace(item, box=outlines_box([outline]), mask=mask)
        case "mask":
            mask = _mask(child, size_of(image, root))
            return msgspec.structs.replace(item, box=rle_box(mask), mask=mask)
    return item


def _name(attribute: Element) -> str:
    return attribute.get("name", "").strip()


def _boxed(item: Instance, child: Element) -> Instance:
    """Return the object with its box; a turned one has the corners as they are and the upright box around them."""
    x0, y0, x1, y1 = _numbers(child, "xtl", "ytl", "xbr", "ybr")
    box: Box = (x0, y0, x1, y1)
    (degrees,) = _numbers(child, "rotation") if child.get("rotation") else (0.0,)
    if degrees % 360 == 0:
        return msgspec.structs.replace(item, box=box)
    a, b, c, d, e, f, g, h = turned((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, math.radians(degrees))
    return msgspec.structs.replace(
        item, box=quad_box((a, b, c, d, e, f, g, h)), quad=(a, b, c, d, e, f, g, h)
    )


def _ellipse(child: Element) -> Outline:
    cx, cy, rx, ry = _numbers(child, "cx", "cy", "rx", "ry")
    (degrees,) = _numbers(child, "rotation") if child.get("rotation") else (0.0,)
    return ellipse((cx, cy), (rx, ry), degrees)


def _points(child: Element) -> Outline:
    flat: Outline = []
    for point in child.get("points", "").split(";"):
        x, _, y = point.partition(",")
        try:
            flat += [float(x), float(y)]
        except ValueError as error:
            raise Quarantine("schema", f"points: {point[:40]!r}, expected x,y;x,y;…") from error
    return finite(flat, "points")


def _mask(child: Element, size: Size) -> Rle:
    """Return a mask of the whole picture. Raises Quarantine `schema`, `rle.size_mismatch`."""
    left, top, width, height = (_whole(child, key) for key in ("left", "top", "width", "height"))
    if min(left, top) < 0 or min(width, height) < 1 or left + width > size[0] or top + height > size[1]:
        raise Quarantine(
            "rle.size_mismatch",
            f"the mask is {width} x {height} at {left}, {top}, and the picture is {size[0]} x {size[1]}",
        )
    try:
        runs = [int(run) for run in child.get("rle", "").split(",")]
    except ValueError as error:
        raise Quarantine("schema", f"rle: {error}, expected runs with commas between them") from error
    if min(runs) < 0 or sum(runs) != width * height:
        raise Quarantine("rle.size_mismatch", f"runs add up to {sum(runs)}, expected {width} x {height}")
    if size[0] * size[1] > MAX_MASK_PIXELS:
        raise Quarantine(
            "rle.size_mismatch", f"the picture is {size[0]} x {size[1]}, more than a mask may have"
        )
    drawn = np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8)
    whole = np.zeros((size[1], size[0]), np.uint8)
    whole[top : top + height, left : left + width] = drawn.reshape(height, width)
    return rle_from_mask(whole)


def _numbers(child: Element, *keys: str) -> list[float]:
    try:
        return finite((float(child.get(key, "")) for key in keys), child.tag)
    except ValueError as error:
        raise Quarantine("schema", f"{child.tag}: {error}, expected {', '.join(keys)}") from error


def _whole(child: Element, key: str) -> int:
    try:
        return int(child.get(key, ""))
    except ValueError as error:
        raise Quarantine("schema", f"{child.tag}: {key}: {error}") from error


def _size(item: Element, key: str) -> int | None:
    """Return a stated size in pixels; 0, anything that is no number and what no picture has say nothing."""
    try:
        value = int(item.get(key, ""))
    except ValueError:
        return None
    return value if 0 < value <= MAX_SIDE else None


def _text(item: Element, path: str) -> str:
    return (item.findtext(path) or "").strip()
