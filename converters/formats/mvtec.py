"""Anomaly sets in the layout of MVTec AD: folders of sound and of defective pictures, and a mask for each defect.

Conventions (openvinotoolkit/anomalib, data/datasets/image: mvtec_ad, mvtec_loco, btech): the folder that a picture
lies in says whether it is sound, or which defect it has; every pixel of the mask that is not black is defective. MVTec
LOCO has several masks a picture, one an anomaly. A sound picture has no mask, and truly no defect.
"""

from __future__ import annotations

from collections.abc import Iterator
from glob import escape

import msgspec
import numpy as np

from converters import path_patterns, pixel_maps
from converters.path_patterns import Parts
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import rle_area, rle_box, rle_from_mask

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`images` and `masks` say where the files are: `{object}/test/{defect}/{name}.png`.

    A word in braces stands for a part of a path, and for the same part in both; `{defect}` is the folder that says
    which defect it is, or one of `sound`. `*` in `masks` stands for all masks of a picture. All defects are of the one
    class `category`: nobody says that a picture of one has none of the others. `threshold` is the first grey (of 255)
    that is defective.
    """

    images: str = "{object}/test/{defect}/{name}.png"
    masks: str = "{object}/ground_truth/{defect}/{name}_mask.png"
    sound: tuple[str, ...] = ("good", "ok")
    category: str = "defect"
    threshold: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError where a pattern has a word that the other lacks, or no defect."""
        path_patterns.check({"masks": self.masks}, self.images, "images")
        if "defect" not in path_patterns.fields(self.images):
            raise ValueError("images has no {defect}, which says whether a picture is sound")


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the one category."""
    return LabelSpace(id="source", labels=(Label(name=source.category),))


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture, in the order of their names. Raises SourceError."""
    for file, parts in path_patterns.find(source.images, root, "images"):
        key = path_patterns.key(source.images, parts)
        origin = Origin(file=file, record="image")
        try:
            instances = () if parts["defect"] in source.sound else (_defect(source, root, parts),)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
            continue
        yield Annotation(key=key, images=(Image(path=file),), instances=instances, origin=origin)


def _defect(source: Source, root: Root, parts: Parts) -> Instance:
    """Return all that is defective as one object. Raises Quarantine."""
    drawn = [
        pixel_maps.brightness(pixel_maps.load(file, root, "masks")) >= source.threshold
        for file in _masks(source, root, parts)
    ]
    if len({mask.shape for mask in drawn}) > 1:
        raise Quarantine("map.encoding", "the masks of the picture have several sizes")
    whole = rle_from_mask(np.any(drawn, axis=0).astype(np.uint8))
    if not rle_area(whole):
        raise Quarantine(
            "mask.empty", f"the picture lies in {parts['defect']!r}, but nothing in it is masked"
        )
    return Instance(
        id="defect",
        category=source.category,
        box=rle_box(whole),
        mask=whole,
        attributes={"defect": parts["defect"]},
    )


def _masks(source: Source, root: Root, parts: Parts) -> list[str]:
    if "*" not in source.masks:
        return [path_patterns.fill(source.masks, parts)]
    pattern = "*".join(escape(path_patterns.fill(piece, parts)) for piece in source.masks.split("*"))
    found = root.glob(pattern)
    if not found:
        raise Quarantine("map.missing", f"no file matches {pattern}")
    return found
