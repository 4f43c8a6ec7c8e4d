"""Label maps: beside each picture one of the same size whose pixels are class numbers, colours, or black and white.

There is no standard; a spec says what its numbers or colours mean. An annotation has one instance a class that
occurs, with all its pixels as one mask: semantic segmentation knows no single objects. Pixels that the source leaves
open (255 in Pascal VOC and COCO-Stuff, 0 in ADE20K and LoveDA) become an ignored instance without a class.

Palette maps are read by index and never by colour (VOC devkit, section 4.2); 16-bit maps keep their numbers. Maps that
were saved as colours need a colour for each class, and anti-aliased edges have colours of no class: `unknown` says
whether such pixels are ignored, or reject the map. Black and white maps have grey edges: `threshold` is the first grey
that counts as white. Maps may also be matrices in MATLAB files (SBD, COCO-Stuff 10k, CrackForest).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Literal

import msgspec
import numpy as np

from converters import mat_files, path_patterns, pixel_maps
from converters.path_patterns import Parts
from converters.pixel_maps import Meanings, Runs
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.listing import Fit, Listing, name_splits
from dataengine.spill import Keys

VERSION = "1"

MAX_LINE = 4096
MAX_MATRIX_BYTES = 2**30
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_CHANNELS = {"red": 0, "green": 1, "blue": 2}


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`maps` and `images` say where the files are: `annotations/{name}.png` and `images/{name}.jpg`.

    A word in braces stands for a part of a path, and for the same part in both. Every map that matches is read, or that
    of every picture that matches (`each: images`, where one folder has the maps of several splits), or those of the
    list file `image_set`, of which `line` says what a line holds (`"{name}"`, or `"/{image} /{map}"`).

    `classes` names the numbers from 0 on as a list, or some of them by number (`{7: road}`) or by colour
    (`{"#804080": road}`); null is background. `ignore` are numbers or colours that are neither object nor background.
    `encoding`: `index` takes the number stored (a palette's index, a grey value), `red`, `green` and `blue` that of one
    channel, `color` a colour, and `binary` makes 0 of what is darker than `threshold` (of 255) and 1 of the rest.
    `before` are pictures shown before the one that the map belongs to: an earlier view, where it marks what changed.
    `objects: 1000` says that a number is class * 1000 + k, an object of its own (MOTS, Cityscapes' instance maps).
    `unknown: ignore` treats pixels of no class like ignored ones; otherwise such a map is rejected. `variable` says
    where a map stands in a MATLAB file: `GTcls.Segmentation`. `exhaustive` as in `coco_instances`.
    """

    maps: str
    images: str
    classes: tuple[str | None, ...] | dict[str, str | None]
    each: Literal["maps", "images"] = "maps"
    image_set: str | None = None
    line: str = "{name}"
    encoding: Literal["index", "red", "green", "blue", "color", "binary"] = "index"
    ignore: tuple[int | str, ...] = ()
    before: tuple[str, ...] = ()
    objects: int | None = None
    threshold: int = 128
    unknown: Literal["reject", "ignore"] = "reject"
    variable: str | None = None
    exhaustive: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError where a pattern has a word that no other gives, or a class has no number."""
        source = self.each if self.image_set is None else "line"
        derived = {"images": self.images, "maps": self.maps, **{f"before {one}": one for one in self.before}}
        path_patterns.check(derived, getattr(self, source), source)
        if self.objects is not None and (self.encoding != "index" or self.objects < 2):
            raise ValueError(
                f"objects: {self.objects} of encoding {self.encoding!r}, expected 2 or more of 'index'"
            )
        if self.variable is not None and self.encoding != "index":
            raise ValueError("variable: a matrix holds numbers, expected encoding: index")
        _meanings(self)


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the declared classes in their order."""
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in _names(source)))


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds pictures in one folder and grey or palette maps of the same names in another."""
    by_stem: dict[str, list[PurePosixPath]] = {}
    for file in listing.pictures:
        by_stem.setdefault(PurePosixPath(file).stem, []).append(PurePosixPath(file))
    pairs = dict[tuple[str, str], list[str]]()
    for found in by_stem.values():
        if len(found) > _PAIRS:
            # Numbers of frames, most likely, which each video has.
            continue
        for one, other in ((a, b) for a in found for b in found if a.parent != b.parent):
            if (
                other.suffix.lower() == ".png"
                and _MAPS.search(_own(other, one))
                and not _MAPS.search(_own(one, other))
            ):
                key = (
                    f"{_escaped(one.parent)}/{{name}}{one.suffix}",
                    f"{_escaped(other.parent)}/{{name}}.png",
                )
                pairs.setdefault(key, []).append(str(other))
    splits = []
    for (images, maps), files in sorted(pairs.items())[:_PAIRS]:
        numbers = _grey_numbers(listing, files[:_LOOKED_AT])
        if numbers:
            # What the numbers mean is nowhere: whoever knows writes names in their place.
            classes: dict[str, str | None] = {"0": None}
            classes |= {str(number): f"class {number}" for number in numbers if number not in (0, _OPEN)}
            keys = {
                "images": images,
                "maps": maps,
                "classes": classes,
                "ignore": [_OPEN],
                "unknown": "ignore",
            }
            splits.append((maps.removesuffix("/{name}.png"), keys))
    if not splits:
        return "no folder of maps beside one of pictures of the same names"
    why = f"{len(splits)} folders of maps with the names of pictures; their classes have no names yet"
    return Fit(splits=name_splits(splits), tasks=("semantic_segmentation",), why=why, certainty=1)


_MAPS = re.compile("mask|label|annot|seg|_gt|^gt|/gt|ground")
_PAIRS, _LOOKED_AT, _OPEN, _MOST_NUMBERS = 20, 10, 255, 200


def _own(path: PurePosixPath, other: PurePosixPath) -> str:
    """Return the folders of a path that another does not have."""
    return "/".join(part.lower() for part in path.parent.parts if part not in other.parent.parts)


def _escaped(folder: PurePosixPath) -> str:
    return str(folder).replace("{", "{{").replace("}", "}}")


def _grey_numbers(listing: Listing, files: list[str]) -> list[int]:
    """Return the numbers in some maps, none where they are not such maps."""
    found = set[int]()
    for file in files:
        try:
            found.update(
                pixel_maps.numbers(pixel_maps.runs(pixel_maps.grey(pixel_maps.decode(listing.read(file)))))
            )
        except Quarantine:
            return []
    return sorted(found) if set(found) - {0, _OPEN} and len(found) < _MOST_NUMBERS else []


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a map, in the order of the list or of the names."""
    meanings = _meanings(source)
    seen = Keys()
    for parts, origin in _found(source, root):
        if isinstance(parts, Rejected):
            yield parts
            continue
        image, file = path_patterns.fill(source.images, parts), path_patterns.fill(source.maps, parts)
        earlier = tuple(Image(path=path_patterns.fill(one, parts)) for one in source.before)
        key = path_patterns.key(source.images, parts)
        try:
            if key in seen:
                raise Quarantine("id.duplicate", f"{key!r} came before")
            seen.add(key)
            found = _numbers(source, pixel_maps.load(file, root, "maps"))
            meant = meanings if source.objects is None else _objects(found, meanings, source.objects)
            instances = pixel_maps.cut(found, meant if source.unknown == "reject" else _open(found, meant))
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
            continue
        yield Annotation(
            key=key,
            images=(*earlier, Image(path=image)),
            instances=tuple(msgspec.structs.replace(one, image=len(earlier)) for one in instances)
            if earlier
            else instances,
            exhaustive=source.exhaustive,
            origin=Origin(file=file, record="map"),
        )


def _open(found: Runs, meanings: Meanings) -> Meanings:
    """Return the meanings with numbers of no class as ones to ignore."""
    strange = [number for number in pixel_maps.numbers(found) if number not in meanings]
    return {**meanings, **dict.fromkeys(strange, pixel_maps.IGNORED)}


def _objects(found: Runs, meanings: Meanings, base: int) -> Meanings:
    """Return the meanings of numbers that are class * base + k: each an object of its class, 0 background."""
    made: Meanings = {0: None}
    for number in pixel_maps.numbers(found):
        kind = number // base
        if number and kind in meanings:
            item = meanings[kind]
            made[number] = msgspec.structs.replace(item, id=str(number)) if item is not None else None
    return made


def _numbers(source: Source, data: bytes) -> Runs:
    """Return the runs of a map, in the numbers that `classes` speaks of. Raises Quarantine `map.*`."""
    if source.variable is not None:
        return pixel_maps.runs(_matrix(source.variable, data))
    if source.encoding == "color":
        return pixel_maps.runs(pixel_maps.colors(data))
    if source.encoding == "binary":
        bright = pixel_maps.brightness(data) >= source.threshold
        return pixel_maps.runs(bright.astype(np.uint8))
    values = pixel_maps.decode(data)
    if source.encoding == "index":
        return pixel_maps.runs(pixel_maps.grey(values))
    if values.ndim != 3:
        raise Quarantine("map.encoding", f"pixels have one channel, expected a {source.encoding} one")
    return pixel_maps.runs(values[..., _CHANNELS[source.encoding]])


def _matrix(variable: str, data: bytes) -> pixel_maps.Array:
    """Return the matrix of a MATLAB file that stands under names with dots between; of several structs the first."""
    try:
        value: Any = mat_files.variables(data, MAX_MATRIX_BYTES)
    except ValueError as error:
        raise Quarantine("map.corrupt", f"{error}; expected a MATLAB file of version 5 to 7") from error
    for name in variable.split("."):
        value = value[0] if isinstance(value, list) and value else value
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, np.ndarray) or value.ndim != 2 or not (value == value.astype(np.int64)).all():
        raise Quarantine("map.format", f"{variable!r} is no matrix of whole numbers")
    return value.astype(np.int64)


def _found(source: Source, root: Root) -> Iterator[tuple[Parts | Rejected, Origin]]:
    """Yield what the words in braces stand for, for each map, and where that is said; or a line that fits nothing."""
    if source.image_set is None:
        for file, parts in path_patterns.find(getattr(source, source.each), root, source.each):
            yield parts, Origin(file=file, record=source.each[:-1])
        return
    pattern = path_patterns.compiled(source.line, ".+?")
    for number, line in root.lines(source.image_set, "list"):
        origin = Origin(file=source.image_set, record=f"line {number}")
        text = line.decode("utf-8-sig", errors="replace").strip()
        if not text:
            continue
        match = pattern.fullmatch(text) if len(text) <= MAX_LINE else None
        if match is None or "\ufffd" in text:
            detail = f"{text[:80]!r}, expected {source.line!r} in UTF-8"
            yield Rejected(key=origin.record, reason="schema", detail=detail, origin=origin), origin
        else:
            yield match.groupdict(), origin


def _names(source: Source) -> tuple[str, ...]:
    given = source.classes.values() if isinstance(source.classes, dict) else source.classes
    return tuple(dict.fromkeys(name for name in given if name is not None))


def _meanings(source: Source) -> Meanings:
    """Return what each stored number means, classes in order. Raises ValueError for a number that is none."""
    given = source.classes
    pairs = list(given.items()) if isinstance(given, dict) else list(enumerate(given))
    if not _names(source):
        raise ValueError("classes names no class")
    made: Meanings = {
        _number(key, source.encoding): Instance(id=name, category=name) if name is not None else None
        for key, name in pairs
    }
    ignored = {_number(key, source.encoding): pixel_maps.IGNORED for key in source.ignore}
    return {number: item for number, item in made.items() if number not in ignored} | ignored


def _number(key: int | str, encoding: str) -> int:
    text = str(key)
    if encoding == "color":
        if not _COLOR.fullmatch(text):
            raise ValueError(f"{text!r} is no colour, expected one such as '#804080'")
        return int(text[1:], 16)
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{text!r} is no number of a pixel")
    return int(text)
