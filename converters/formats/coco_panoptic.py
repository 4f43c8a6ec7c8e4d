"""COCO panoptic: one JSON that lists each picture's segments, and one colour PNG a picture that says where they are.

Conventions (cocodataset.org/#format-data, section 4): the colour of a pixel is its segment's id, R + 256 G + 65536 B;
0 belongs to no segment. A thing has one segment for each object, stuff one for all of it; `iscrowd` marks a segment of
many objects. Boxes are taken from the pixels, not from the file's `bbox`. Pixels of no segment become an ignored
instance without a class, as do those of an id that the JSON does not list, which is rejected.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec

from converters import pixel_maps
from converters.formats.coco_instances import (
    Joined,
    Naming,
    RawLink,
    category_names,
    coco_files,
    join,
    load,
    named,
    reject,
)
from converters.json_files import decode
from dataengine.annotation import Annotation, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.listing import Fit, Listing, name_splits

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON file, `maps` the folder of the PNG files, `images` and `strip` as in `coco_instances`.

    Without `maps` it is the folder that is called like the JSON file. `exhaustive` as in `coco_instances`.
    """

    annotations: str
    images: str = ""
    maps: str | None = None
    strip: str = ""
    exhaustive: bool = True


class RawSegment(msgspec.Struct):
    id: int
    category_id: int
    iscrowd: int | bool | None = None


class RawPanoptic(RawLink):
    """The record of one picture; its segments stay raw, so that one bad segment costs no other."""

    file_name: str
    segments_info: list[msgspec.Raw]


_panoptic = msgspec.json.Decoder(RawPanoptic)
_segment = msgspec.json.Decoder(RawSegment)


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the categories in the order of their ids; a name that two ids share stands once."""
    ordered = category_names(load(source.annotations, root)).values()
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in dict.fromkeys(ordered)))


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds COCO panoptic: a JSON of segments, and the PNG files that show them."""
    files = coco_files(listing, lambda record: "segments_info" in record)
    if isinstance(files, str):
        return files
    splits = []
    for file, keys in files:
        maps = listing.picture_folder(str(listing.first(file, "annotations").get("file_name") or ""))
        beside = file.removesuffix(".json")
        name = PurePosixPath(str(listing.first(file, "annotations").get("file_name") or "")).name
        if f"{beside}/{name}" in listing.pictures:
            maps = beside
        if maps is not None:
            splits.append((file, {**keys, "maps": maps}))
    if not splits:
        return f"{files[0][0]}: its PNG files are not in the folder"
    return Fit(
        splits=name_splits(splits),
        tasks=("panoptic_segmentation", "instance_segmentation"),
        why=f"{named(files)}: segments and their PNG files",
        certainty=3,
    )


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation a picture, in file order, and a rejection for every record and segment that is none."""
    raw = load(source.annotations, root)
    names = category_names(raw)
    folder = source.annotations.removesuffix(".json") if source.maps is None else source.maps
    for item in join(raw, source.annotations, Naming(source.images, source.strip), _panoptic):
        if isinstance(item, Rejected):
            yield item
            continue
        if not item.records:
            yield reject(source.annotations, item.place, "annotation.missing", "no record lists its segments")
        for number, (place, record) in enumerate(item.records):
            file = f"{folder}/{record.file_name}" if folder else record.file_name
            try:
                if number:
                    raise Quarantine("id.duplicate", f"image {item.key} has segments at {item.records[0][0]}")
                values = pixel_maps.little_endian(pixel_maps.decode(pixel_maps.load(file, root, "maps")))
                found = pixel_maps.runs(values)
            except Quarantine as error:
                yield reject(source.annotations, place, error.reason, error.detail)
            else:
                yield from _annotate(source, item, place, record, names, found)


def _annotate(
    source: Source,
    item: Joined[RawPanoptic],
    place: str,
    record: RawPanoptic,
    names: dict[int, str],
    found: pixel_maps.Runs,
) -> Iterator[Annotation | Rejected]:
    """Yield the picture's annotation, and a rejection for each segment that is none."""
    listed: pixel_maps.Meanings = {}
    bare, rejected, known = [], [], item.whole
    present = set(pixel_maps.numbers(found))
    for number, data in enumerate(record.segments_info):
        at = f"{place}.segments_info[{number}]"
        try:
            made = _segment_of(data, names)
            place_of_id = int(made.id)
            if place_of_id in listed:
                raise Quarantine("id.duplicate", f"segment {made.id} came before")
            if place_of_id not in present:
                bare.append(msgspec.structs.replace(made, ignore=True))
                raise Quarantine("mask.empty", f"no pixel has the id {made.id}")
            listed[place_of_id] = made
        except Quarantine as error:
            rejected.append(reject(source.annotations, at, error.reason, error.detail))
            # What it is may be unknown, and then nothing is known to be absent.
            known = known and error.reason == "mask.empty"
    strange = sorted(present - set(listed) - {0})
    if strange:
        detail = f"{len(strange)} ids of the picture are not listed, such as {strange[0]}"
        rejected.append(reject(source.annotations, f"{place}.file_name", "segment.unknown", detail))
        known = False
    unlisted = dict.fromkeys([0, *strange], pixel_maps.IGNORED)
    instances = pixel_maps.cut(found, {**listed, **unlisted})
    yield Annotation(
        key=item.key,
        images=(item.image,),
        instances=(*instances, *bare),
        exhaustive=source.exhaustive and known,
        origin=Origin(file=source.annotations, record=place),
    )
    yield from rejected


def _segment_of(data: msgspec.Raw, names: dict[int, str]) -> Instance:
    """Return one segment without its pixels. Raises Quarantine with the reason why it is none."""
    record = decode(data, _segment)
    if record.category_id not in names:
        raise Quarantine("category.unknown", f"category_id {record.category_id} is not among the categories")
    if not 0 < record.id < 1 << 24:
        raise Quarantine("schema", f"id is {record.id}, expected 1 to {(1 << 24) - 1}")
    return Instance(id=str(record.id), category=names[record.category_id], crowd=bool(record.iscrowd))
