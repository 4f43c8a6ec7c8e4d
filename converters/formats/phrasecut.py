"""VGPhraseCut: a JSON list of phrases about pictures of Visual Genome, each with the boxes and polygons that it means.

Conventions (the data set's README): `instance_boxes` are x, y, width, height in pixels, taken as they stand: from 0;
`Polygons` holds for each of these objects its polygons, lists of [x, y] points. Sizes of the pictures are in
`image_data_split3000.json`, pictures in one folder by their Visual Genome id.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from converters.formats import coco_instances as coco
from converters.json_files import UNREADABLE, load
from converters.json_rows import corners, read_rows
from dataengine.annotation import Annotation, Expression, Image, Instance, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import from_xywh, rle_from_polygons

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the list of phrases, `image_data` that of the pictures, `images` their folder."""

    annotations: str
    image_data: str = "image_data_split3000.json"
    images: str = "images"


class RawImage(msgspec.Struct):
    image_id: int | str
    width: coco.Pixels
    height: coco.Pixels


class RawStructure(msgspec.Struct):
    name: str | None = None


class RawPhrase(msgspec.Struct):
    task_id: str
    image_id: int | str
    phrase: str
    instance_boxes: list[list[float]]
    polygons: list[list[list[list[float]]]] = msgspec.field(name="Polygons")
    phrase_structure: RawStructure | None = None


_image = msgspec.json.Decoder(RawImage)
_phrase = msgspec.json.Decoder(RawPhrase)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a phrase: its objects and one expression."""
    images = {}
    rows = load(source.image_data, root, "image_data", list[msgspec.Raw], "a list of pictures")
    for number, data in enumerate(rows):
        try:
            image = _image.decode(data)
        except UNREADABLE as error:
            yield coco.reject(source.image_data, f"image_data [{number}]", "schema", str(error))
            continue
        images[str(image.image_id)] = image

    def make(raw: RawPhrase, origin: Origin) -> Annotation:
        return _annotation(source, raw, images, origin)

    yield from read_rows(source.annotations, root, _phrase, make)


def _annotation(source: Source, raw: RawPhrase, images: dict[str, RawImage], origin: Origin) -> Annotation:
    image = images.get(str(raw.image_id))
    if image is None:
        raise Quarantine("id.orphan", f"no picture has id {raw.image_id}")
    text = " ".join(raw.phrase.split())
    if not text:
        raise Quarantine("text.empty", "the phrase is empty")
    if len(raw.instance_boxes) != len(raw.polygons):
        raise Quarantine(
            "schema", f"{len(raw.instance_boxes)} boxes for {len(raw.polygons)} lists of polygons"
        )
    name = raw.phrase_structure.name if raw.phrase_structure else None
    instances = []
    for number, (box, polygons) in enumerate(zip(raw.instance_boxes, raw.polygons, strict=True)):
        flat = [[value for point in polygon for value in point] for polygon in polygons]
        try:
            mask = rle_from_polygons(flat, image.width, image.height)
        except ValueError as error:
            raise Quarantine("polygon.invalid", f"Polygons[{number}]: {error}") from error
        found = from_xywh(corners(box, f"instance_boxes[{number}]"))
        instances.append(Instance(id=str(number), category=name or None, box=found, mask=mask))
    return Annotation(
        key=raw.task_id,
        images=(
            Image(
                path=f"{source.images}/{raw.image_id}.jpg" if source.images else f"{raw.image_id}.jpg",
                width=image.width or None,
                height=image.height or None,
            ),
        ),
        instances=tuple(instances),
        expressions=(Expression(id="0", text=text, instances=tuple(range(len(instances)))),),
        exhaustive=False,
        origin=origin,
    )
