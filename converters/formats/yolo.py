"""YOLO: one text file a picture, one object a line: the number of its class, and shares of the picture's sides.

Conventions (Ultralytics documentation, dataset formats; Darknet): detect `class cx cy w h`; segment
`class x1 y1 x2 y2 …`, one polygon; OBB `class x1 y1 … x4 y4`, four corners; pose `class cx cy w h`, then `x y` or
`x y v` for each keypoint. All but the class are shares of the width or the height of the picture as it is seen (EXIF
applied), so its header has to be read. Lines of the four kinds look alike (four corners are a polygon too): the spec
says which is meant. In a detection file a polygon stands for its box, as Ultralytics reads it; in a segmentation file
a line of five is a box without mask. A keypoint (0, 0) is not labelled, nor is one with a negative place.

An empty file is a picture without objects. That a file is missing means the same to Ultralytics; elsewhere it says that
nobody looked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Literal

import msgspec

from converters import box_lines, text_files, text_layouts, yolo_names
from converters.box_lines import Picture, Row, expect, floats, whole
from converters.yolo_names import Names
from dataengine.annotation import Annotation, Image, Instance, Keypoint, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.geometry import from_cxcywh, quad_box, rle_from_polygons
from dataengine.images import EXTENSIONS, probe
from dataengine.listing import Fit, Listing, name_splits, several

VERSION = "1"
# A share beyond these was never one: pixels, most likely. Objects may stick out of a picture.
_LEAST, _MOST = -1.0, 2.0


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`images` and `annotations` are the folders of the pictures and of the text files, which may be the same.

    The pictures are those in the folder, or those that the list `image_set` names, one a line, after `strip` is taken
    off its start. `classes` are the names, or the file that has them: `data.yaml`, or one name a line (`obj.names`,
    `classes.txt`). `keypoints` and `flip` (the mirror partner of each, by position) are for `kind: pose`; a `data.yaml`
    may state them. `dims: 2` says that keypoints are `x y`. `missing: empty` says that a picture without text file
    has no objects; otherwise it is rejected. `exhaustive` as in `coco_instances`.
    """

    classes: str | tuple[str, ...]
    images: str = "images"
    annotations: str = "labels"
    image_set: str | None = None
    strip: str = ""
    kind: Literal["detect", "segment", "obb", "pose"] = "detect"
    keypoints: tuple[str, ...] = ()
    flip: tuple[int, ...] = ()
    dims: Literal[2, 3] = 3
    missing: Literal["unknown", "empty"] = "unknown"
    exhaustive: bool = True


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the classes in the order of their numbers, each name once. Raises SourceError."""
    names = yolo_names.load(source.classes, source.keypoints, source.flip, source.dims, root)
    pairs = tuple((one, other) for one, other in enumerate(names.flip) if one < other < len(names.keypoints))
    return LabelSpace(
        id="source",
        labels=tuple(
            Label(name=name, keypoints=names.keypoints, flip_pairs=pairs)
            for name in dict.fromkeys(names.classes)
            if name
        ),
    )


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds YOLO's text files, and what says how the classes are called."""
    found = text_layouts.label_folders(listing, _looks_like_a_row)
    if not found:
        return "no text file beside a picture has lines of a class and shares of its sides"
    names = [
        file
        for file in listing.files
        if PurePosixPath(file).name.lower() in _NAMES or PurePosixPath(file).suffix == ".names"
    ]
    if not names:
        return f"{found[0].file}: no data.yaml, classes.txt or .names file says what its classes are called"
    splits, kinds = [], set[str]()
    for one in found:
        classes = text_layouts.nearest(one.file, names)
        kind = "segment" if any(len(cells) > 5 for cells in one.rows) else "detect"
        if b"kpt_shape" in listing.read(classes):
            kind = "pose"
        kinds.add(kind)
        keys = {"annotations": one.folder, "images": one.images, "classes": classes, "kind": kind}
        splits.append((one.folder or "train", keys))
    tasks = {"pose": ("keypoints", "detection"), "segment": ("detection", "instance_segmentation")}
    why = f"{several([one.file for one in found])}: classes and shares of a picture's sides"
    return Fit(splits=name_splits(splits), tasks=tasks.get(max(kinds), ("detection",)), why=why)


_NAMES = ("data.yaml", "dataset.yaml", "classes.txt", "_darknet.labels")


def _looks_like_a_row(cells: list[str]) -> bool:
    number, values = cells[0], cells[1:]
    return (
        number.isdecimal()
        and (len(values) == 4 or len(values) >= 6)
        and all(map(text_layouts.is_number, values))
        and all(_LEAST <= float(value) <= _MOST for value in values[:4])
    )


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture, a rejection a defective line, and one a file without picture."""
    names = yolo_names.load(source.classes, source.keypoints, source.flip, source.dims, root)
    if source.kind == "pose" and not names.count:
        raise SourceError(
            f"{source.classes if isinstance(source.classes, str) else 'source.classes'}: no kpt_shape; "
            "say the names of the keypoints as source.keypoints"
        )
    used = set[str]()
    for name, origin in _pictures(source, root):
        if (shown := box_lines.shown(name)) != name:
            detail = f"{shown!r} is no name in UTF-8"
            yield Rejected(key=shown, reason="path.invalid", detail=detail, origin=origin)
            continue
        key = name.removesuffix(PurePosixPath(name).suffix)
        if key in used:
            detail = f"{key!r} came before, with the same label file"
            yield Rejected(key=name, reason="id.duplicate", detail=detail, origin=origin)
            continue
        used.add(key)
        try:
            yield from _annotate(source, names, root, key, _join(source.images, name), origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
    if source.image_set is None:
        yield from _without_picture(source, root, used)


def _join(folder: str, name: str) -> str:
    return str(PurePosixPath(folder) / name)


def _pictures(source: Source, root: Root) -> Iterator[tuple[str, Origin]]:
    """Yield each picture's path inside the folder, and where it is listed."""
    if source.image_set is not None:
        for number, text in text_files.lines(source.image_set, root, "image_set"):
            yield text.removeprefix(source.strip), Origin(file=source.image_set, record=f"line {number}")
        return
    root.annotation(source.images or ".", "images")
    folder = PurePosixPath(source.images)
    found = [
        file
        for file in root.glob(str(folder / "**" / "*"))
        if PurePosixPath(file).suffix.lower().removeprefix(".") in EXTENSIONS
    ]
    if not found:
        raise SourceError(f"{root.directory / source.images}: no picture; the spec needs it as source.images")
    for file in found:
        yield (
            PurePosixPath(file).relative_to(folder).as_posix(),
            Origin(file=box_lines.shown(file), record="picture"),
        )


def _annotate(
    source: Source, names: Names, root: Root, key: str, path: str, origin: Origin
) -> Iterator[Annotation | Rejected]:
    """Yield a picture's annotation and the rejections of its lines. Raises Quarantine where there is none."""
    file = _join(source.annotations, f"{key}.txt")
    found: list[Row] = []
    try:
        found = box_lines.rows(file, root, "annotations")
    except Quarantine as error:
        if error.reason != "id.orphan" or source.missing == "unknown":
            raise
        file = origin.file
    image = Image(path=path)
    width = height = 0
    if found:
        try:
            size = probe(root.inside(path))
        except Quarantine as error:
            raise Quarantine(error.reason, f"{path}: {error.detail}; its objects are shares of it") from error
        width, height = size.width, size.height
        image = Image(path=path, width=width, height=height)
    yield from box_lines.annotate(
        Picture(key, image, file, "file"),
        found,
        names.classes,
        lambda cells: _category(cells, names),
        _maker(source.kind, names, width, height),
        exhaustive=source.exhaustive,
    )


def _category(cells: list[str], names: Names) -> str:
    number = whole(cells[0], "class")
    name = names.classes[number] if 0 <= number < len(names.classes) else ""
    if not name:
        raise Quarantine("category.unknown", f"class is {number}, expected 0 to {len(names.classes) - 1}")
    return name


def _maker(
    kind: str, names: Names, width: int, height: int
) -> Callable[[list[str], str, str], list[Instance]]:
    """Return what makes an object of a line in a picture of that size in pixels."""
    place = names.count * names.dims

    def make(cells: list[str], identity: str, category: str) -> list[Instance]:
        instance = Instance(id=identity, category=category)
        values = cells[1:]
        match kind:
            case "pose":
                expect(cells, (5 + place,), f"class, box, {names.count} keypoints of {names.dims} numbers")
                instance = msgspec.structs.replace(
                    instance,
                    box=from_cxcywh(_pixels(values[:4], width, height)),
                    keypoints=tuple(_keypoints(values[4:], names.dims, width, height)),
                )
            case "obb":
                expect(cells, (9,), "class and four corners")
                x0, y0, x1, y1, x2, y2, x3, y3 = points = _pixels(values, width, height)
                instance = msgspec.structs.replace(
                    instance, box=quad_box(points), quad=(x0, y0, x1, y1, x2, y2, x3, y3)
                )
            case _ if len(values) == 4:
                instance = msgspec.structs.replace(instance, box=from_cxcywh(_pixels(values, width, height)))
            case _:
                if len(values) < 6 or len(values) % 2:
                    raise Quarantine(
                        "schema", f"{len(cells)} cells, expected class and box, or class and polygon"
                    )
                points = _pixels(values, width, height)
                instance = msgspec.structs.replace(instance, box=quad_box(points))
                if kind == "segment":
                    try:
                        mask = rle_from_polygons([points], width, height)
                    except ValueError as error:
                        raise Quarantine("polygon.invalid", str(error)) from error
                    instance = msgspec.structs.replace(instance, mask=mask)
        return [instance]

    return make


def _pixels(cells: list[str], width: int, height: int) -> list[float]:
    """Return shares, x and y in turn, as pixels. Raises Quarantine `box.not_normalised` for what was never a share."""
    values = floats(cells, "shares of the picture's sides")
    if not all(_LEAST <= value <= _MOST for value in values):
        raise Quarantine("box.not_normalised", f"{' '.join(cells)[:120]!r}, expected shares from 0 to 1")
    return [value * (height if position % 2 else width) for position, value in enumerate(values)]


def _keypoints(cells: list[str], dims: int, width: int, height: int) -> Iterator[Keypoint]:
    for start in range(0, len(cells), dims):
        x, y = _pixels(cells[start : start + 2], width, height)
        v = whole(cells[start + 2], "visibility") if dims == 3 else 2
        if v not in (0, 1, 2):
            raise Quarantine("schema", f"visibility is {v}, expected 0, 1 or 2")
        yield (x, y, v) if v and x >= 0 and y >= 0 and (x or y) else (0.0, 0.0, 0)


def _without_picture(source: Source, root: Root, used: set[str]) -> Iterator[Rejected]:
    """Yield a rejection for each text file that no picture asked for; the list of the classes is none."""
    folder = PurePosixPath(source.annotations)
    for file in root.glob(str(folder / "**" / "*.txt")):
        key = PurePosixPath(file).relative_to(folder).as_posix().removesuffix(".txt")
        if key not in used and file != source.classes and PurePosixPath(file).name != "classes.txt":
            key = box_lines.shown(key)
            place = Origin(file=box_lines.shown(file), record="file")
            yield Rejected(key=f"{key}.txt", reason="id.orphan", detail=f"no picture {key!r}", origin=place)
