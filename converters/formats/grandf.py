"""GranD-f: a JSON list of captions whose phrases have masks, in its two own layouts (its third is `mdetr`).

Conventions (GLaMM's loader, dataset/gcg_datasets/GranDf_gcg_ds.py): with `groundings`, each phrase has the [start,
end) position `token_positives` in the caption and `rle_masks`, COCO run-length codes; with `refs` (from RefCOCOg),
each phrase is a `sentence` that is looked for in the caption, whatever its case, and has polygons as `segmentation`.
Quotes and spaces around a caption do not count. A phrase that the caption does not hold stays an expression without a
position.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from converters.json_rows import read_rows, shape
from dataengine.annotation import Annotation, Caption, Expression, Image, Instance, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.images import probe

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON file, `images` the folder of the pictures."""

    annotations: str
    images: str = ""


class RawGrounding(msgspec.Struct):
    token_positives: tuple[int, int] | None = None
    rle_masks: list[msgspec.Raw] = []


class RawRef(msgspec.Struct):
    sentence: str
    segmentation: msgspec.Raw = msgspec.Raw(b"")


class RawItem(msgspec.Struct):
    caption: str
    file_name: str = ""
    img_file_name: str = ""
    groundings: dict[str, RawGrounding] = {}
    refs: list[RawRef] = []


_item = msgspec.json.Decoder(RawItem)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection an item: its caption, the phrases and their masks."""

    def make(raw: RawItem, origin: Origin) -> Annotation:
        return _annotation(source, raw, root, origin)

    yield from read_rows(source.annotations, root, _item, make)


def _annotation(source: Source, raw: RawItem, root: Root, origin: Origin) -> Annotation:
    name = raw.img_file_name or raw.file_name
    if not name:
        raise Quarantine("schema", "neither file_name nor img_file_name")
    caption = raw.caption.strip('"').strip()
    if not caption:
        raise Quarantine("text.empty", "the caption is empty")
    path = f"{source.images}/{name}" if source.images else name
    size: tuple[int | None, int | None] = (None, None)
    if raw.refs:
        # Polygons do not say how large their picture is.
        header = probe(root.inside(path))
        size = (header.width, header.height)
    instances: list[Instance] = []
    expressions: list[Expression] = []
    for words, grounding in raw.groundings.items():
        masks = [
            shape(len(instances) + n, None, rle, (None, None)) for n, rle in enumerate(grounding.rle_masks)
        ]
        spans: tuple[tuple[int, int], ...] = (grounding.token_positives,) if grounding.token_positives else ()
        if any(not 0 <= start < end <= len(caption) for start, end in spans):
            raise Quarantine("span.invalid", f"{spans[0]} in a caption of {len(caption)} characters")
        expressions.append(_expression(words, spans, instances, masks, len(expressions)))
    for ref in raw.refs:
        words = " ".join(ref.sentence.split())
        start = caption.lower().find(words.lower()) if words else -1
        spans = ((start, start + len(words)),) if start >= 0 else ()
        expressions.append(
            _expression(
                words,
                spans,
                instances,
                [shape(len(instances), None, ref.segmentation, size)],
                len(expressions),
            )
        )
    masks_seen = [item.mask.size for item in instances if item.mask is not None]
    if masks_seen and size == (None, None):
        size = (masks_seen[0][1], masks_seen[0][0])
    return Annotation(
        key=name.rpartition("/")[2].partition(".")[0],
        images=(Image(path=path, width=size[0], height=size[1]),),
        instances=tuple(instances),
        captions=(Caption(id="0", text=caption),),
        expressions=tuple(item for item in expressions if item.text),
        exhaustive=False,
        origin=origin,
    )


def _expression(
    words: str,
    spans: tuple[tuple[int, int], ...],
    instances: list[Instance],
    found: list[Instance],
    number: int,
) -> Expression:
    """Add the objects of a phrase, and return the phrase."""
    first = len(instances)
    instances += found
    places = tuple(range(first, len(instances)))
    return Expression(id=f"0.{number}", text=" ".join(words.split()), instances=places, spans=spans)
