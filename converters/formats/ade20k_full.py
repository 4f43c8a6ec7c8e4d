"""ADE20K with all its classes: beside each picture a colour map of objects, and a JSON or text file that names them.

Conventions (CSAILVision/ADE20K, utils_ade20k.py; index of 2021 and of 2017): in `*_seg.png` the class of a pixel is
R / 10 x 256 + G (R is a multiple of 10), and B tells the objects of a picture apart; class 0 is not annotated. The
JSON of 2021 (`{name}.json`) names classes by their numbers, `name_ndx`. The text of 2017 (`{name}_atr.txt`) names
objects by B: `number # part level # occluded # class # raw name # attributes`. Parts of objects have maps of their own,
which are not read. A class is called by the first of its names (`building, edifice` is a building).

Most of the three thousand classes are in few pictures, so a class without an object counts as not annotated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec
import numpy as np

from converters import pixel_maps
from converters.json_files import UNREADABLE
from dataengine.annotation import Annotation, Image, Instance, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root

VERSION = "1"

_SEG = "_seg.png"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`folder` holds the pictures and their files, in folders of scenes of any depth.

    `names` says who names the objects: `json` (2021) or `text` (2017). `view: classes` makes all pixels of a class one
    instance.
    """

    folder: str
    names: Literal["json", "text"] = "json"
    extension: str = "jpg"
    view: Literal["classes", "objects"] = "objects"


class RawParts(msgspec.Struct, frozen=True):
    part_level: int = 0


class RawObject(msgspec.Struct):
    name: str
    name_ndx: int
    parts: RawParts = RawParts()


class RawAnnotation(msgspec.Struct):
    object: list[RawObject]


class RawFile(msgspec.Struct):
    annotation: RawAnnotation


_file = msgspec.json.Decoder(RawFile)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a map, in the order of the names."""
    prefix = f"{source.folder}/" if source.folder else ""
    files = root.glob(f"{prefix}**/*{_SEG}")
    if not files:
        raise SourceError(f"{root.directory / source.folder}: no *{_SEG}; the spec needs it as source.folder")
    for file in files:
        stem = file.removesuffix(_SEG)
        key = stem.removeprefix(prefix)
        origin = Origin(file=file, record="map")
        try:
            values = pixel_maps.decode(pixel_maps.load(file, root, "folder"))
            if values.ndim != 3:
                raise Quarantine("map.encoding", "pixels have one channel, expected classes in red and green")
            wide = values.astype(np.int32)
            # Class and object of a pixel in one number.
            found = pixel_maps.runs(((wide[..., 0] // 10 * 256 + wide[..., 1]) << 8) | wide[..., 2])
            names = _json_names(stem, root) if source.names == "json" else _text_names(stem, root)
            meanings = _meanings(pixel_maps.numbers(found), names, source)
            instances = pixel_maps.cut(found, meanings)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
            continue
        image = Image(path=f"{stem}.{source.extension}")
        yield Annotation(key=key, images=(image,), instances=instances, exhaustive=False, origin=origin)


def _meanings(numbers: list[int], names: dict[int, str], source: Source) -> pixel_maps.Meanings:
    """Return what the numbers mean. Raises Quarantine `category.unknown` for one that the picture's file lacks."""
    made: pixel_maps.Meanings = {}
    for number in numbers:
        kind, item = number >> 8, number & 255
        if kind == 0 and (source.names == "json" or item == 0):
            made[number] = pixel_maps.IGNORED
            continue
        name = names.get(kind if source.names == "json" else item)
        if name is None:
            raise Quarantine(
                "category.unknown", f"class {kind}, object {item} has no name in the picture's file"
            )
        made[number] = Instance(id=name if source.view == "classes" else f"{kind}.{item}", category=name)
    return made


def _json_names(stem: str, root: Root) -> dict[int, str]:
    """Return the names of the classes by number. Raises Quarantine `schema`."""
    data = pixel_maps.load(f"{stem}.json", root, "folder")
    try:
        found = _file.decode(_utf8(data))
    except UNREADABLE as error:
        raise Quarantine("schema", f"{stem}.json: {error}") from error
    objects = [item for item in found.annotation.object if item.parts.part_level == 0]
    return {item.name_ndx: _first(item.name) for item in objects}


def _text_names(stem: str, root: Root) -> dict[int, str]:
    """Return the names of the classes by the number of an object. Raises Quarantine `schema`."""
    text = _utf8(pixel_maps.load(f"{stem}_atr.txt", root, "folder")).decode()
    names = dict[int, str]()
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in line.split("#")]
        if len(cells) < 5 or not (cells[0].isdecimal() and cells[1].isdecimal()):
            if line.strip():
                raise Quarantine(
                    "schema", f"line {number}: {line[:80]!r}, expected 'number # part level # …'"
                )
            continue
        if int(cells[1][:9]) == 0:
            names[int(cells[0][:9])] = _first(cells[3])
    return names


def _utf8(data: bytes) -> bytes:
    """Return the bytes as UTF-8; the files of 2021 are partly Latin-1."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1").encode()
    return data


def _first(names: str) -> str:
    return names.split(",")[0].strip()
