"""COCO-Interactive: a JSON list with an item a picture, whose COCO annotations have marks stored for each object.

Conventions (PSALM, datasets/bulid_COCO_Interactivate.py): an item has `image`, the file's name, `image_info`, its COCO
record, and `anns`, COCO annotations as in `coco_instances`. `point_visual_prompt_mask` and its kin for scribble, box
and mask are run-length codes of the whole picture, one pixel a point; a kind for which the object was too small is
empty. An evaluation shows one kind to all objects, so a split is told which (`prompts: [point]`). The file has ids of
categories without their names, so the objects have none; nobody asks for one here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from converters.formats import coco_instances as coco
from converters.json_files import UNREADABLE, decode, records
from dataengine.annotation import Annotation, Image, Instance, Origin, Rejected, Rle
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import rle_from_counts
from dataengine.listing import Fit, Listing, name_splits
from dataengine.spill import Keys

VERSION = "1"

Stored = Literal["point", "scribble", "box", "mask"]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON file, `images` the folder of the pictures; `prompts` are the kinds of marks to take."""

    annotations: str
    images: str = ""
    prompts: tuple[Stored, ...] = ("point", "scribble", "box", "mask")


class RawObject(coco.RawAnnotation):
    image_id: coco.Id = ""
    point_visual_prompt_mask: coco.RawRle | None = None
    scribble_visual_prompt_mask: coco.RawRle | None = None
    box_visual_prompt_mask: coco.RawRle | None = None
    mask_visual_prompt_mask: coco.RawRle | None = None


class RawInfo(msgspec.Struct):
    id: coco.Id
    width: coco.Pixels
    height: coco.Pixels


class RawItem(msgspec.Struct):
    image: str
    image_info: RawInfo
    anns: list[msgspec.Raw]


_item = msgspec.json.Decoder(RawItem)
_object = msgspec.json.Decoder(RawObject)


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds lists of pictures whose objects have stored marks."""
    found = []
    for file in listing.ending(".json"):
        first = listing.first(file)
        if {"image", "image_info", "anns"} <= first.keys():
            folder = listing.picture_folder(str(first.get("image") or ""))
            found.append((file, {"annotations": file, **({"images": folder} if folder else {})}))
    if not found:
        return "no JSON list has items with image, image_info and anns"
    return Fit(
        splits=name_splits(found),
        tasks=("interactive_segmentation",),
        why=f"{coco.named(found)}: objects with stored marks",
    )


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation a picture, and a rejection for each object that is none."""
    seen = Keys()
    for place, data in records(source.annotations, root, "annotations"):
        try:
            raw = decode(data, _item)
            key = str(raw.image_info.id)
            if key in seen:
                raise Quarantine("id.duplicate", f"a picture with id {key} came before")
            seen.add(key)
            if not raw.image:
                raise Quarantine("schema", "image is empty, expected the name of a file")
        except Quarantine as error:
            yield coco.reject(source.annotations, place, error.reason, error.detail)
        else:
            yield from _annotate(source, raw, key, place)


def _annotate(source: Source, raw: RawItem, key: str, place: str) -> Iterator[Annotation | Rejected]:
    """Yield the picture's annotation; an object that is rejected stays in it as one of which nothing is known."""
    instances, rejected = [], []
    for number, data in enumerate(raw.anns):
        where = f"{place}.anns[{number}]"
        try:
            instances.append(_instance(source, data, where, raw.image_info))
        except Quarantine as error:
            instances.append(Instance(id=where, ignore=True))
            rejected.append(coco.reject(source.annotations, where, error.reason, error.detail))
    path = f"{source.images}/{raw.image}" if source.images else raw.image
    info = raw.image_info
    yield Annotation(
        key=key,
        images=(Image(path=path, width=info.width or None, height=info.height or None),),
        instances=tuple(instances),
        exhaustive=False,
        origin=Origin(file=source.annotations, record=place),
    )
    yield from rejected


def _instance(source: Source, data: msgspec.Raw, place: str, info: RawInfo) -> Instance:
    """Return one object with its marks. Raises Quarantine."""
    try:
        raw = _object.decode(data)
    except UNREADABLE as error:
        raise Quarantine("schema", str(error)) from error
    nameless = msgspec.structs.replace(raw, category_id=None)
    made = coco.instance(nameless, place, {}, info.width or None, info.height or None)
    marks = {kind: getattr(raw, f"{kind}_visual_prompt_mask") for kind in source.prompts}
    prompts = {kind: _mark(code, kind) for kind, code in marks.items() if code is not None}
    return msgspec.structs.replace(made, prompts=prompts)


def _mark(code: coco.RawRle, kind: str) -> Rle:
    try:
        return rle_from_counts(code.counts, code.size)
    except (ValueError, OverflowError) as error:
        raise Quarantine("rle.size_mismatch", f"{kind}_visual_prompt_mask: {error}") from error
