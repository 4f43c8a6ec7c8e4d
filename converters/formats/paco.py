"""PACO: COCO instances of objects and of their parts, with attributes of both, and LVIS's lists of absent categories.

Conventions (facebookresearch/paco, docs/PACO_DATASET.md): as in `coco_instances`, LVIS's fields included. A part's
category is called `dog:leg`, and `obj_ann_id` is the annotation of the object that it belongs to (an object names
itself). `attribute_ids` point to `attributes`, which `attr_type_to_attr_idxs` sorts by type: color, pattern_marking,
material, transparency. A type that the annotator could not tell is flagged (`unknown_color`), and one that was not
asked has no ids.

`dog:leg` is told as `dog leg`. The attributes of an object go by their types; a part's object stands there as `object`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from converters.formats import coco_instances as coco
from converters.json_files import load
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.listing import Fit, Listing, name_splits

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations`, `images`, `strip` and `media` as in `coco_instances`.

    What has no annotation may still be in the picture, unless the file says that it is not.
    """

    annotations: str
    images: str = ""
    strip: str = ""
    media: coco.Media = "file_name"


class RawAttribute(msgspec.Struct):
    id: int
    name: str


class RawFile(coco.RawFile):
    attributes: tuple[RawAttribute, ...] = ()
    attr_type_to_attr_idxs: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)


class RawObject(coco.RawAnnotation):
    attribute_ids: tuple[int, ...] = ()
    obj_ann_id: coco.Id | None = None
    unknown_color: int | bool = 0
    unknown_pattern_marking: int | bool = 0
    unknown_material: int | bool = 0
    unknown_transparency: int | bool = 0


_object = msgspec.json.Decoder(RawObject)


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the categories of objects and parts in the order of their ids."""
    names = _names(_load(source, root)).values()
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in dict.fromkeys(names)))


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds COCO files whose annotations have attributes and know the object of a part."""
    files = coco.coco_files(listing, lambda record: {"obj_ann_id", "attribute_ids"} <= record.keys())
    if isinstance(files, str):
        return files
    return Fit(
        splits=name_splits(files),
        tasks=("detection", "instance_segmentation"),
        why=f"{coco.named(files)}: objects and parts with attributes",
        certainty=3,
    )


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation an image, in file order, and a rejection for every record that fits nowhere."""
    raw = _load(source, root)
    names = _names(raw)
    values = {item.id: item.name for item in raw.attributes}
    types = {number: kind for kind, numbers in raw.attr_type_to_attr_idxs.items() for number in numbers}

    def make(record: RawObject, place: str, image: Image) -> Instance:
        made = coco.instance(record, place, names, image.width, image.height)
        return msgspec.structs.replace(made, attributes=_attributes(record, values, types))

    naming = coco.Naming(source.images, source.strip, source.media)
    for item in coco.join(raw, source.annotations, naming, _object):
        if isinstance(item, Rejected):
            yield item
        else:
            yield from coco.annotate(item, source.annotations, names, False, make)


def _load(source: Source, root: Root) -> RawFile:
    return load(
        source.annotations, root, "annotations", RawFile, "PACO's file: images, annotations, categories"
    )


def _names(raw: RawFile) -> dict[int, str]:
    return {number: name.replace(":", " ") for number, name in coco.category_names(raw).items()}


def _attributes(record: RawObject, values: dict[int, str], types: dict[int, str]) -> dict[str, str]:
    """Return the values of each type that the annotator could tell, and a part's object. Raises Quarantine."""
    found: dict[str, list[str]] = {}
    for number in record.attribute_ids:
        if number not in values or number not in types:
            raise Quarantine(
                "value.unknown", f"attribute {number} is not among the attributes and their types"
            )
        kind = types[number]
        if not getattr(record, f"unknown_{kind}", False):
            found.setdefault(kind, []).append(values[number])
    made = {kind: ", ".join(names) for kind, names in found.items()}
    if record.obj_ann_id is not None and str(record.obj_ann_id) != str(record.id):
        made["object"] = str(record.obj_ann_id)
    return made
