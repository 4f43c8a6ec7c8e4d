"""COCO instances: one JSON with images, annotations (bbox xywh, segmentation, iscrowd) and categories.

Conventions (COCO data format, cocodataset.org/#format-data): pixels from 0; polygons, or run-length codes in
column-major order whose `size` is [height, width]; category ids have gaps; a crowd is a region of many objects.
Images without annotations are real negatives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin, Rejected, Rle
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import from_xywh, rle_from_counts, rle_from_polygons

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON file, `images` the folder of the pictures.

    `exhaustive: false` says that a category without annotation may still be in the picture.
    """

    annotations: str
    images: str = ""
    exhaustive: bool = True


class RawRle(msgspec.Struct):
    size: tuple[int, int]
    counts: list[int] | str


class RawImage(msgspec.Struct):
    id: int | str
    file_name: str | None = None
    width: int | None = None
    height: int | None = None
    license: int | str | None = None
    coco_url: str | None = None


class RawAnnotation(msgspec.Struct):
    image_id: int | str
    id: int | str | None = None
    category_id: int | None = None
    bbox: list[float] | None = None
    segmentation: msgspec.Raw = msgspec.Raw(b"")
    iscrowd: int | bool | None = None
    ignore: int | bool | None = None


class RawCategory(msgspec.Struct):
    id: int
    name: str
    keypoints: list[str] | None = None
    skeleton: list[list[int]] | None = None


class RawLicense(msgspec.Struct):
    id: int | str | None = None
    name: str | None = None
    url: str | None = None


class RawFile(msgspec.Struct):
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[RawCategory] = []
    licenses: list[RawLicense] | None = None


_image = msgspec.json.Decoder(RawImage)
_annotation = msgspec.json.Decoder(RawAnnotation)
_segmentation = msgspec.json.Decoder(list[list[float]] | RawRle | None)


def load(source_file: str, root: Root) -> RawFile:
    """Parse a COCO file, records left raw so that one bad record costs no other. Raises SourceError."""
    data = root.read(source_file, "annotations")
    try:
        return msgspec.json.decode(data, type=RawFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SourceError(
            f"{source_file}: not a COCO file ({len(data)} bytes): {error}; expected images, annotations, categories"
        ) from error


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the categories in the order of their ids."""
    raw = load(source.annotations, root)
    ordered = sorted(raw.categories, key=lambda category: category.id)
    return LabelSpace(id="source", labels=tuple(Label(name=category.name.strip()) for category in ordered))


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation an image, in file order, then a rejection for every record that fits nowhere."""
    raw = load(source.annotations, root)
    names = {category.id: category.name.strip() for category in raw.categories}
    licenses = {item.id: item.name or item.url for item in raw.licenses or []}
    by_image: dict[int | str, list[tuple[int, msgspec.Raw, RawAnnotation]]] = defaultdict(list)
    rejected: list[Rejected] = []
    for number, record in enumerate(raw.annotations):
        try:
            item = _annotation.decode(record)
        except msgspec.ValidationError as error:
            rejected.append(_reject(source, f"annotations[{number}]", "schema", str(error)))
            continue
        by_image[item.image_id].append((number, record, item))
    for number, record in enumerate(raw.images):
        place = f"images[{number}]"
        try:
            image = _image.decode(record)
        except msgspec.ValidationError as error:
            yield _reject(source, place, "schema", str(error))
            continue
        name = image.file_name or "/".join((image.coco_url or "").split("/")[-2:])
        if not name:
            yield _reject(source, place, "schema", "no file_name and no coco_url")
            continue
        instances = []
        for position, _, item in by_image.pop(image.id, []):
            made = instance(item, f"annotations[{position}]", names, image.width, image.height)
            if isinstance(made, Instance):
                instances.append(made)
            else:
                rejected.append(_reject(source, f"annotations[{position}]", *made))
        yield Annotation(
            key=str(image.id),
            images=(
                Image(
                    path=f"{source.images}/{name}" if source.images else name,
                    width=image.width,
                    height=image.height,
                    license=licenses.get(image.license),
                ),
            ),
            instances=tuple(instances),
            exhaustive=source.exhaustive,
            origin=Origin(file=source.annotations, record=place),
        )
    yield from rejected
    for image_id, items in by_image.items():
        for position, _, _ in items:
            yield _reject(source, f"annotations[{position}]", "id.orphan", f"no image has id {image_id!r}")


def instance(
    item: RawAnnotation, place: str, names: dict[int, str], width: int | None, height: int | None
) -> Instance | tuple[str, str]:
    """Return one object, or (reason, detail) why it is none."""
    if item.category_id is not None and item.category_id not in names:
        return "category.unknown", f"category_id {item.category_id} is not among the categories"
    if item.bbox is not None and len(item.bbox) != 4:
        return "schema", f"bbox has {len(item.bbox)} numbers, expected 4 (x, y, width, height)"
    try:
        mask = _mask(item, width, height)
    except (ValueError, msgspec.DecodeError) as error:
        return ("rle.size_mismatch" if "runs add up" in str(error) else "polygon.invalid"), str(error)
    return Instance(
        id=str(item.id) if item.id is not None else place,
        category=names[item.category_id] if item.category_id is not None else None,
        box=from_xywh(item.bbox) if item.bbox is not None else None,
        mask=mask,
        crowd=bool(item.iscrowd),
        ignore=bool(item.ignore) and not item.iscrowd,
    )


def _mask(item: RawAnnotation, width: int | None, height: int | None) -> Rle | None:
    raw = bytes(item.segmentation)
    if raw in (b"", b"null", b"[]", b"{}"):
        return None
    value = _segmentation.decode(raw)
    if isinstance(value, RawRle):
        code = rle_from_counts(value.counts, value.size)
        if width and height and code.size != (height, width):
            raise ValueError(f"runs add up to size {list(code.size)}, but the image is [{height}, {width}]")
        return code
    if not value or not width or not height:
        return None
    return rle_from_polygons(value, width, height)


def _reject(source: Source, place: str, reason: str, detail: str) -> Rejected:
    return Rejected(
        key=place, reason=reason, detail=detail, origin=Origin(file=source.annotations, record=place)
    )
