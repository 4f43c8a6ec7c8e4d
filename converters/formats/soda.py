"""SODA-A: one JSON a picture, with turned small objects.

Conventions (SODA, shaunyuan22.github.io/SODA; torchgeo/datasets/soda.py): `images` is one mapping (file_name, width,
height), `annotations` a list with `poly`, x1, y1, … of the corners in pixels from 0, and `category_id` into the file's
own `categories`. The category `ignore` marks regions that are neither object nor background.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from converters.file_pairs import Pair, pairs
from converters.formats.coco_instances import Pixels, RawCategory
from converters.json_files import decode
from converters.outlines import outline
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.json_text import BOM, without_nan

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the folder of the JSON files, `images` the folder of the pictures that they name.

    `ignored` is the category of regions that are neither object nor background. `exhaustive` as in `coco_instances`.
    """

    annotations: str
    images: str = ""
    ignored: str = "ignore"
    exhaustive: bool = True


class RawPicture(msgspec.Struct):
    file_name: str
    width: Pixels | None = None
    height: Pixels | None = None


class RawFile(msgspec.Struct):
    images: RawPicture
    annotations: list[msgspec.Raw]
    categories: list[RawCategory] = []


class RawObject(msgspec.Struct):
    poly: list[float]
    category_id: int


_file = msgspec.json.Decoder(RawFile)
_object = msgspec.json.Decoder(RawObject)


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the categories of all files in the order of their ids, but the ignored one."""
    names: dict[str, int] = {}
    for pair in _pairs(source, root):
        if isinstance(pair, Pair):
            try:
                categories = _load(root, pair).categories
            except Quarantine:
                continue  # `read` says what is wrong with it
            names |= {category.name.strip(): category.id for category in categories}
    names.pop(source.ignored, None)
    return LabelSpace(
        id="source", labels=tuple(Label(name=name) for name in sorted(names, key=lambda n: names[n]))
    )


def _pairs(source: Source, root: Root) -> Iterator[Pair | Rejected]:
    return pairs(root, source.annotations, source.images, suffix=".json")


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a file, and a rejection a defective object, which stays as an ignored one."""
    for pair in _pairs(source, root):
        if isinstance(pair, Rejected):
            yield pair
            continue
        try:
            raw = _load(root, pair)
        except Quarantine as error:
            yield Rejected(
                key=pair.stem, reason=error.reason, detail=error.detail, origin=pair.origin("file")
            )
            continue
        yield from _annotate(source, pair, raw)


def _load(root: Root, pair: Pair) -> RawFile:
    data = root.read(pair.file, "annotations").removeprefix(BOM)
    return decode(without_nan(data) or data, _file)


def _annotate(source: Source, pair: Pair, raw: RawFile) -> Iterator[Annotation | Rejected]:
    names = {category.id: category.name.strip() for category in raw.categories}
    width, height = raw.images.width or None, raw.images.height or None
    size = (width, height) if width and height else None
    instances, rejected, known = list[Instance](), list[Rejected](), True
    for number, data in enumerate(raw.annotations):
        name = None
        try:
            record = decode(data, _object)
            name = names.get(record.category_id)
            if name is None:
                raise Quarantine(
                    "category.unknown", f"category_id {record.category_id} is not among the categories"
                )
            shape = outline(record.poly, size)
            ignored = name == source.ignored
            instances.append(
                Instance(
                    id=str(number),
                    category=None if ignored else name,
                    box=shape.box,
                    quad=shape.quad,
                    mask=shape.mask,
                    ignore=ignored,
                )
            )
        except Quarantine as error:
            rejected.append(pair.reject(f"annotations[{number}]", error))
            instances.append(Instance(id=str(number), category=name, ignore=True))
            known = known and name is not None
    folder = f"{source.images}/" if source.images else ""
    yield Annotation(
        key=pair.stem,
        images=(Image(path=f"{folder}{raw.images.file_name}", width=width, height=height),),
        instances=tuple(instances),
        exhaustive=source.exhaustive and known,
        origin=pair.origin("file"),
    )
    yield from rejected
