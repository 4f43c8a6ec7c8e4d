"""SA-1B: a JSON beside each picture, with the masks of everything that was found in it, of no class.

Conventions (SA-1B's README; datumaro, formats/segment_anything): `segmentation` is COCO's compressed run-length code,
`bbox` is x, y, width, height in pixels from 0. Masks lie in each other: a wheel, its car. Nobody says that a picture
has no other object.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec

from converters import text_layouts
from converters.formats.coco_instances import Pixels
from converters.json_files import decode
from converters.shapes import Size, code_mask, document, finite, gather
from dataengine.annotation import Annotation, Image, Instance, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.geometry import from_xywh
from dataengine.listing import Fit, Listing, name_splits, several

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is a pattern of JSON files (`sa_000020/*.json`); a picture lies beside its file.

    Masks below `min_iou` (the quality that the model predicted) or `min_stability` are left in as ignored ones.
    """

    annotations: str = "**/*.json"
    min_iou: float = 0.0
    min_stability: float = 0.0


class RawImage(msgspec.Struct):
    file_name: str
    width: Pixels
    height: Pixels


class RawRle(msgspec.Struct):
    size: tuple[int, int]
    counts: str


class RawMask(msgspec.Struct):
    segmentation: RawRle
    id: int | str | None = None
    bbox: tuple[float, float, float, float] | None = None
    predicted_iou: float | None = None
    stability_score: float | None = None


class RawFile(msgspec.Struct):
    image: RawImage
    annotations: list[msgspec.Raw]


_mask = msgspec.json.Decoder(RawMask)


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds SA-1B's files: a JSON with an image and masks without a class beside its picture."""
    files = [
        file
        for file in listing.ending(".json")
        if {"image", "annotations"} <= listing.keys(file)
        and {"segmentation", "stability_score"} <= set(listing.first(file, "annotations"))
    ]
    if not files:
        return "no JSON file has an image and masks with a stability_score"
    beside = {text_layouts.parent(picture) for picture in listing.pictures}
    splits = [
        (folder or "train", {"annotations": f"{folder}/*.json" if folder else "*.json"})
        for folder in dict.fromkeys(text_layouts.parent(file) for file in files)
        if folder in beside
    ]
    if not splits:
        return f"{files[0]}: no picture lies beside it"
    why = f"{several(files)}: masks without a class beside a picture"
    return Fit(splits=name_splits(splits), tasks=("interactive_segmentation",), why=why, certainty=3)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a file, in the order of the names, and a rejection a defective mask."""
    files = root.glob(source.annotations)
    if not files:
        raise SourceError(
            f"{root.directory}: no file matches {source.annotations!r}; the spec needs it as source.annotations"
        )
    for file in files:
        key, origin = file.removesuffix(".json"), Origin(file=file, record="document")
        try:
            raw = document(file, root, "annotations", RawFile, "an SA-1B file: image, annotations")
            yield from _annotate(source, raw, key, origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)


def _annotate(source: Source, raw: RawFile, key: str, origin: Origin) -> Iterator[Annotation | Rejected]:
    width, height = raw.image.width, raw.image.height
    if not width or not height:
        raise Quarantine("schema", f"image is {width} x {height}, expected a size in pixels")
    seen = set[str]()

    def make(place: str, data: msgspec.Raw) -> Instance:
        made = _instance(source, place, decode(data, _mask), (width, height))
        if made.id in seen:
            raise Quarantine("id.duplicate", f"a mask with id {made.id} came before")
        seen.add(made.id)
        return made

    records = ((f"annotations[{number}]", data) for number, data in enumerate(raw.annotations))
    found = gather(records, make, lambda _: None, key, origin.file)
    yield Annotation(
        key=key,
        images=(
            Image(
                path=str(PurePosixPath(origin.file).with_name(_name(raw.image.file_name))),
                width=width,
                height=height,
            ),
        ),
        instances=found.instances,
        exhaustive=False,
        origin=origin,
    )
    yield from found.rejected


def _name(stated: str) -> str:
    """Return the picture's own name. Raises Quarantine `path.invalid`."""
    name = PurePosixPath(stated).name
    if name in ("", ".."):
        raise Quarantine("path.invalid", f"file_name is {stated!r}, expected the name of a picture")
    return name


def _instance(source: Source, place: str, raw: RawMask, size: Size) -> Instance:
    scores = {"predicted_iou": raw.predicted_iou, "stability_score": raw.stability_score}
    poor = (raw.predicted_iou is not None and raw.predicted_iou < source.min_iou) or (
        raw.stability_score is not None and raw.stability_score < source.min_stability
    )
    return Instance(
        id=str(raw.id) if raw.id is not None else place,
        box=from_xywh(finite(raw.bbox, "bbox")) if raw.bbox is not None else None,
        mask=code_mask(raw.segmentation.counts, raw.segmentation.size, size),
        attributes={name: f"{value:.4f}" for name, value in scores.items() if value is not None},
        ignore=poor,
    )
