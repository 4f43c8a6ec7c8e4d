"""Panoptic scene graphs: one JSON with the objects of COCO pictures, panoptic PNGs, and relations between the objects.

Conventions (OpenPSG's loader, openpsg/datasets/psg.py): `annotations` and `segments_info` of a picture go side by
side; `bbox` is x1, y1, x2, y2 in pixels, the end exclusive; a segment's number is R + 256 G + 65536 B in the PNG
`pan_seg_file_name`; categories count through `thing_classes` and then `stuff_classes`; `relations` are [subject,
object, predicate], all from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec
import numpy as np

from converters.formats import coco_instances as coco
from converters.json_files import UNREADABLE, load
from converters.json_rows import corners
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import rle_from_mask
from dataengine.images import Pixels, decode

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON file, `images` the folder of the pictures, `panoptic` that of the PNGs.

    Without `panoptic` objects have boxes alone. `part`: the pictures of `test_image_ids`, the others (`train`), or all;
    those left out are reported as `split.other`.
    """

    annotations: str
    images: str = ""
    panoptic: str | None = None
    part: Literal["all", "train", "test"] = "all"


class RawSegment(msgspec.Struct):
    id: int
    iscrowd: int | bool = False


class RawObject(msgspec.Struct):
    bbox: list[float]
    category_id: int


class RawPicture(msgspec.Struct):
    file_name: str
    image_id: int | str
    width: coco.Pixels
    height: coco.Pixels
    annotations: list[RawObject]
    pan_seg_file_name: str = ""
    segments_info: list[RawSegment] = []
    relations: list[tuple[int, int, int]] = []


class RawFile(msgspec.Struct):
    data: list[msgspec.Raw]
    thing_classes: list[str]
    stuff_classes: list[str]
    predicate_classes: list[str]
    test_image_ids: list[int | str] = []


_picture = msgspec.json.Decoder(RawPicture)


def _load(source: Source, root: Root) -> RawFile:
    return load(source.annotations, root, "annotations", RawFile, "a PSG file: data, thing_classes, …")


def labels(source: Source, root: Root) -> LabelSpace:
    """Return things, then stuff, in the order of their numbers."""
    raw = _load(source, root)
    names = dict.fromkeys(name.strip() for name in (*raw.thing_classes, *raw.stuff_classes))
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in names))


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture, in file order."""
    raw = _load(source, root)
    tested = {str(one) for one in raw.test_image_ids}
    seen = set[str]()
    for number, data in enumerate(raw.data):
        origin = Origin(file=source.annotations, record=f"data[{number}]")
        key = origin.record
        try:
            picture = _picture.decode(data)
            key = str(picture.image_id)
            if source.part != "all" and (key in tested) != (source.part == "test"):
                raise Quarantine("split.other", f"picture {key} is of the other part")
            if key in seen:
                raise Quarantine("id.duplicate", f"a picture with id {key} came before")
            seen.add(key)
            yield _annotation(source, picture, raw, root, origin)
        except UNREADABLE as error:
            yield Rejected(key=key, reason="schema", detail=str(error), origin=origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)


def _annotation(source: Source, picture: RawPicture, raw: RawFile, root: Root, origin: Origin) -> Annotation:
    if not picture.file_name:
        raise Quarantine("schema", "file_name is empty")
    names = [name.strip() for name in (*raw.thing_classes, *raw.stuff_classes)]
    segments = picture.segments_info
    if segments and len(segments) != len(picture.annotations):
        raise Quarantine("schema", f"{len(picture.annotations)} annotations for {len(segments)} segments")
    numbers = _numbers(source, picture, root) if source.panoptic is not None and segments else None
    instances = []
    for index, one in enumerate(picture.annotations):
        if not 0 <= one.category_id < len(names):
            raise Quarantine("category.unknown", f"annotations[{index}].category_id is {one.category_id}")
        mask = (
            rle_from_mask((numbers == segments[index].id).astype(np.uint8)) if numbers is not None else None
        )
        instances.append(
            Instance(
                id=str(index),
                category=names[one.category_id],
                box=corners(one.bbox, f"annotations[{index}].bbox"),
                mask=mask,
                crowd=bool(segments[index].iscrowd) if segments else False,
            )
        )
    relations = []
    for subject, target, predicate in picture.relations:
        if not (0 <= subject < len(instances) and 0 <= target < len(instances)):
            raise Quarantine(
                "id.orphan", f"relation [{subject}, {target}, {predicate}] of {len(instances)} objects"
            )
        if not 0 <= predicate < len(raw.predicate_classes):
            raise Quarantine("category.unknown", f"predicate {predicate} is not among the predicates")
        relations.append((subject, raw.predicate_classes[predicate].strip(), target))
    return Annotation(
        key=str(picture.image_id),
        images=(
            Image(
                path=f"{source.images}/{picture.file_name}" if source.images else picture.file_name,
                width=picture.width or None,
                height=picture.height or None,
            ),
        ),
        instances=tuple(instances),
        relations=tuple(dict.fromkeys(relations)),
        origin=origin,
    )


def _numbers(
    source: Source, picture: RawPicture, root: Root
) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """Return each pixel's segment number, [height, width]. Raises Quarantine where the PNG is missing or another's."""
    file = f"{source.panoptic}/{picture.pan_seg_file_name}" if source.panoptic else picture.pan_seg_file_name
    path = root.inside(file)
    if not path.is_file():
        raise Quarantine("image.missing", f"{file}: no such file")
    pixels: Pixels = decode(root.read(file, "panoptic"))
    if pixels.shape[:2] != (picture.height, picture.width):
        raise Quarantine(
            "rle.size_mismatch",
            f"{file} is {pixels.shape[1]} x {pixels.shape[0]}, the picture {picture.width} x {picture.height}",
        )
    channels = pixels.astype(np.int32)
    return np.asarray(channels[..., 0] + 256 * channels[..., 1] + 65536 * channels[..., 2], np.int32)
