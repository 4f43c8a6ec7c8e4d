"""COCO files whose pictures or objects have words: MDETR's annotations (GoldG), and objects with a caption each.

Conventions (MDETR, arXiv:2104.12763, and its annotations on Zenodo): an image record is one sentence about a picture,
`caption`, so the same picture stands in several; `tokens_positive` of an object are [start, end) positions in that
sentence, and objects with the same positions are one phrase. Boxes are COCO's x, y, width, height. GLaMM's version
adds `sam_mask`, a run-length code. In the files of GRiT, Groma and Osprey an object has a `caption` or `sentence` of
its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from converters.formats import coco_instances as coco
from converters.json_files import UNREADABLE
from dataengine.annotation import Annotation, Caption, Expression, Image, Instance, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON file, `images` the folder of the pictures.

    `folders` are the folders of mixed files, by what an image record says as its `data_source`. `strip` is a start of
    the names that the folder lacks.
    """

    annotations: str
    images: str = ""
    folders: dict[str, str] = {}
    strip: str = ""


class RawObject(coco.RawAnnotation):
    tokens_positive: list[tuple[int, int]] | None = None
    caption: str | None = None
    sentence: str | None = None
    sam_mask: msgspec.Raw = msgspec.Raw(b"")


class RawSentence(msgspec.Struct):
    """What an image record has beside COCO's keys."""

    id: coco.Id
    caption: str | None = None
    data_source: str | None = None


_object = msgspec.json.Decoder(RawObject)
_sentence = msgspec.json.Decoder(RawSentence)
Words = dict[tuple[tuple[int, int], ...], list[int]]


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation an image record, in file order, and a rejection for each record that fits nowhere.

    A defective object is rejected and stays in the annotation as an ignored one, so that positions stay right.
    """
    raw = coco.load(source.annotations, root)
    names = coco.category_names(raw)
    sentences: dict[str, RawSentence] = {}
    for data in raw.images:
        try:
            sentence = _sentence.decode(data)
        except UNREADABLE:
            continue  # `join` reads the same record and rejects it where it is no image at all
        sentences.setdefault(str(sentence.id), sentence)
    for item in coco.join(raw, source.annotations, coco.Naming("", source.strip), _object):
        if isinstance(item, Rejected):
            yield item
            continue
        yield from _annotate(source, item, sentences.get(item.key), names)


def _annotate(
    source: Source, item: coco.Joined[RawObject], sentence: RawSentence | None, names: dict[int, str]
) -> Iterator[Annotation | Rejected]:
    caption = (sentence.caption if sentence else None) or ""
    instances: list[Instance] = []
    expressions: list[Expression] = []
    rejected: list[Rejected] = []
    words: Words = {}
    for place, record in item.records:
        try:
            made = _instance(record, place, names, item.image)
            own = " ".join((record.caption or record.sentence or "").split())
            spans = tuple(record.tokens_positive or ())
            if any(not 0 <= start < end <= len(caption) for start, end in spans):
                raise Quarantine("span.invalid", f"{list(spans)} in a sentence of {len(caption)} characters")
        except Quarantine as error:
            rejected.append(coco.reject(source.annotations, place, error.reason, error.detail))
            made = Instance(id=str(record.id) if record.id is not None else place, ignore=True)
            own, spans = "", ()
        if own:
            expressions.append(Expression(id=f"o{len(instances)}", text=own, instances=(len(instances),)))
        if spans:
            words.setdefault(spans, []).append(len(instances))
        instances.append(made)
    for number, (spans, places) in enumerate(words.items()):
        text = " ".join(caption[start:end].strip() for start, end in spans)
        expressions.append(Expression(id=f"0.{number}", text=text, instances=tuple(places), spans=spans))
    yield Annotation(
        key=item.key,
        images=(_located(source, item.image, sentence),),
        instances=tuple(instances),
        captions=(Caption(id="0", text=caption),) if caption.strip() else (),
        expressions=tuple(expressions),
        exhaustive=False,
        origin=Origin(file=source.annotations, record=item.place),
    )
    yield from rejected


def _instance(record: RawObject, place: str, names: dict[int, str], image: Image) -> Instance:
    # MDETR gives every object the same category, which some of its files do not list.
    category = record.category_id if record.category_id in names else None
    segmentation = record.segmentation if bytes(record.sam_mask) in (b"", b"null") else record.sam_mask
    plain = coco.RawAnnotation(
        image_id=record.image_id,
        id=record.id,
        category_id=category,
        bbox=record.bbox,
        segmentation=segmentation,
        iscrowd=record.iscrowd,
        ignore=record.ignore,
    )
    return coco.instance(plain, place, names, image.width, image.height)


def _located(source: Source, image: Image, sentence: RawSentence | None) -> Image:
    folder = source.folders.get((sentence.data_source if sentence else None) or "", source.images)
    return msgspec.structs.replace(image, path=f"{folder}/{image.path}") if folder else image
