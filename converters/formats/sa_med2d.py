"""SA-Med2D-20M: slices of medical pictures, each with black and white masks whose class stands in the file's name.

Conventions (the dataset's card, and torch-em's loader, torch_em/data/datasets/medical/sa_med2d.py): `SAMed2D_v1.json`
names the masks of each picture; a picture is called `mr_t1w--CHAOS_Task_4--<case>--x_0042.png` by modality, dataset,
case and slice, and a mask the same with `--0001_000` behind it: the number of the class in its dataset, and that of the
mask. `SAMed2D_v1_class_mapping_id.json` gives these numbers by dataset and class. Classes named `union_…` join others
of the same picture and are left out. Masks smaller than a share of the picture were dropped by the authors, so a class
without a mask may be there.

An annotation has one instance a class, with all its masks as one: the task that these are for asks for classes. Boxes
are those of the masks' pixels, from 0 with the end exclusive.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec
import numpy as np

from converters import json_files, pixel_maps
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import rle_box, rle_from_mask

VERSION = "1"

Classes = dict[str, dict[str, int | str]]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` names the masks of each picture, `classes` the numbers of the classes; paths stand in the former.

    `modalities` are the starts of picture names to take (`mr_`), all where there is none; `leave_out` are starts of
    class names.
    """

    annotations: str = "SAMed2D_v1.json"
    classes: str = "SAMed2D_v1_class_mapping_id.json"
    modalities: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ("union_",)


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the classes of all datasets, each once, in the order of their names."""
    names = {name for numbers in _classes(source, root).values() for name in numbers}
    kept = sorted(name for name in names if not name.startswith(source.leave_out))
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in kept))


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture, in the order of the file; other modalities as `where.filtered`."""
    named = {
        dataset: {str(number).lstrip("0") or "0": name for name, number in numbers.items()}
        for dataset, numbers in _classes(source, root).items()
    }
    pictures = json_files.load(
        source.annotations,
        root,
        "annotations",
        dict[str, msgspec.Raw],
        "a mapping of pictures to their masks",
    )
    for path, data in pictures.items():
        # Even the empty name of a damaged file is a place that can be told.
        origin = Origin(file=source.annotations, record=path or "''")
        key = PurePosixPath(path).stem or "''"
        try:
            if source.modalities and not key.startswith(source.modalities):
                raise Quarantine("where.filtered", f"no modality of {', '.join(source.modalities)}")
            masks = json_files.decode(data, _masks)
            yield _annotation(source, root, named, path, masks, origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)


_masks = msgspec.json.Decoder(list[str])


def _classes(source: Source, root: Root) -> Classes:
    return json_files.load(
        source.classes, root, "classes", Classes, "a mapping of datasets to the numbers of their classes"
    )


def _annotation(
    source: Source, root: Root, named: dict[str, dict[str, str]], path: str, masks: list[str], origin: Origin
) -> Annotation:
    key = PurePosixPath(path).stem
    parts = key.split("--")
    if len(parts) < 4:
        raise Quarantine("schema", f"{key!r}, expected modality, dataset, case and slice between '--'")
    if parts[1] not in named:
        raise Quarantine("category.unknown", f"{source.classes} has no dataset {parts[1]!r}")
    found: dict[str, pixel_maps.Array] = {}
    for mask in masks:
        name = _class_of(mask, named[parts[1]])
        if name.startswith(source.leave_out):
            continue
        pixels = pixel_maps.brightness(pixel_maps.load(mask, root, "masks")) != 0
        if name in found and found[name].shape != pixels.shape:
            raise Quarantine(
                "rle.size_mismatch", f"{mask} is {pixels.shape}, another mask {found[name].shape}"
            )
        found[name] = found[name] | pixels if name in found else pixels
    instances = []
    for name, pixels in sorted(found.items()):
        if pixels.any():
            code = rle_from_mask(pixels.astype(np.uint8))
            instances.append(Instance(id=name, category=name, mask=code, box=rle_box(code)))
    return Annotation(
        key=key,
        images=(Image(path=path),),
        instances=tuple(instances),
        exhaustive=False,
        origin=origin,
    )


def _class_of(mask: str, names: dict[str, str]) -> str:
    """Return the class of a mask. Raises Quarantine `schema` or `category.unknown`."""
    number, _, rest = PurePosixPath(mask).stem.rpartition("--")[2].partition("_")
    if not number.isdigit() or not rest.isdigit():
        raise Quarantine("schema", f"{mask!r}, expected the numbers of class and mask behind the last '--'")
    name = names.get(number.lstrip("0") or "0")
    if name is None:
        raise Quarantine("category.unknown", f"{mask}: class {number} is not among those of its dataset")
    return name
