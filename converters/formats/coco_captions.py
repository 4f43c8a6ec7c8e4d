"""COCO captions: one JSON with images and annotations that hold one sentence each, five or so an image.

Source: COCO data format, cocodataset.org/#format-data, section 5. Captions carry stray blanks and line ends.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from converters.formats import coco_instances as coco
from dataengine.annotation import Annotation, Caption, Origin, Rejected
from dataengine.files import Root
from dataengine.listing import Fit, Listing, name_splits

VERSION = "2"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON file, `images` the folder of the pictures."""

    annotations: str
    images: str = ""


class RawCaption(coco.RawLink):
    caption: str
    id: coco.Id | None = None


_caption = msgspec.json.Decoder(RawCaption)


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds COCO captions: annotations with `caption`."""
    needed = frozenset({"images", "annotations"})
    files = coco.coco_files(listing, lambda record: "caption" in record and "bbox" not in record, needed)
    if isinstance(files, str):
        return files
    why = f"{coco.named(files)}: images and captions"
    return Fit(splits=name_splits(files), tasks=("caption",), why=why)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation an image with all its captions, in file order, and a rejection a defective record."""
    raw = coco.load(source.annotations, root)
    for item in coco.join(raw, source.annotations, coco.Naming(source.images), _caption):
        if isinstance(item, Rejected):
            yield item
            continue
        captions, rejected = [], []
        for place, record in item.records:
            text = " ".join(record.caption.split())
            if text:
                name = str(record.id) if record.id is not None else place
                captions.append(Caption(id=name, text=text))
            else:
                rejected.append(coco.reject(source.annotations, place, "text.empty", "the caption is empty"))
        yield Annotation(
            key=item.key,
            images=(item.image,),
            captions=tuple(captions),
            exhaustive=False,
            origin=Origin(file=source.annotations, record=item.place),
        )
        yield from rejected
