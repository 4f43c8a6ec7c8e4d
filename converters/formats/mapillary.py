"""Mapillary Vistas: beside each picture a 16-bit map of instances, and one JSON that names the labels.

Conventions (the data set's README, `config_v1.2.json` and `config_v2.0.json`): a pixel is 256 x label + number of the
object, where the label is a position in the list `labels` of the configuration; a label without objects
(`instances: false`) always has number 0. Labels that are not evaluated (`evaluate: false`, such as the ego vehicle)
are ignored pixels. A label is called what `readable` says, or else the last part of `name`
(`object--vehicle--car`); where two would be called the same, both keep the whole name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal

import msgspec

from converters import path_patterns, pixel_maps
from converters.json_files import load as load_json
from converters.pixel_maps import Meanings, Runs
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root

VERSION = "1"

OBJECTS = 256


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`maps` are the files of instances (`training/v1.2/instances/{name}.png`), `config` the JSON of the labels.

    `images` names the picture of each map; words in braces as in `label_maps`. `view` as in `cityscapes`.
    """

    maps: str
    images: str
    config: str
    view: Literal["classes", "panoptic", "objects"] = "panoptic"

    def __post_init__(self) -> None:
        """Raise ValueError where `images` has a word that `maps` lacks."""
        path_patterns.check({"images": self.images}, self.maps, "maps")


class RawLabel(msgspec.Struct):
    name: str
    readable: str = ""
    instances: bool = False
    evaluate: bool = True


class RawConfig(msgspec.Struct):
    labels: list[RawLabel]


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the evaluated labels in their order; of those that have objects alone, where the view is of objects."""
    kinds = _kinds(source, root)
    chosen = [
        item.readable for item in kinds if item.evaluate and (item.instances or source.view != "objects")
    ]
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in dict.fromkeys(chosen)))


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a map, in the order of the names."""
    kinds = _kinds(source, root)
    for file, parts in path_patterns.find(source.maps, root, "maps"):
        key = path_patterns.key(source.images, parts)
        origin = Origin(file=file, record="map")
        try:
            values = pixel_maps.grey(pixel_maps.decode(pixel_maps.load(file, root, "maps")))
            found = pixel_maps.runs(values)
            instances = pixel_maps.cut(found, _meanings(found, kinds, source.view))
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
            continue
        image = Image(path=path_patterns.fill(source.images, parts))
        yield Annotation(key=key, images=(image,), instances=instances, origin=origin)


def _kinds(source: Source, root: Root) -> list[RawLabel]:
    """Return the labels with `readable` as they are called. Raises SourceError."""
    raw = load_json(
        source.config, root, "config", RawConfig, "a configuration of Mapillary Vistas: labels"
    ).labels
    names = [item.readable.strip() or item.name.rpartition("--")[2] for item in raw]
    twice = Counter(names)
    return [
        msgspec.structs.replace(item, readable=name if twice[name] == 1 else item.name)
        for item, name in zip(raw, names, strict=True)
    ]


def _meanings(found: Runs, kinds: list[RawLabel], view: str) -> Meanings:
    """Return what the numbers of a map mean; one beyond the labels has no meaning."""
    made: Meanings = {}
    for number in pixel_maps.numbers(found):
        if number // OBJECTS >= len(kinds):
            continue
        kind = kinds[number // OBJECTS]
        if not kind.evaluate:
            made[number] = pixel_maps.IGNORED
        elif view == "classes" or not kind.instances:
            shown = view != "objects" or kind.instances
            made[number] = Instance(id=kind.name, category=kind.readable) if shown else None
        else:
            made[number] = Instance(id=f"{kind.name}.{number % OBJECTS}", category=kind.readable)
    return made
