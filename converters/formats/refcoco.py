"""RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO: a list of referred objects, each with its expressions, and COCO instances.

Source: the `refer` tool kit's `refs(unc).p` beside `instances.json`. The list is a Python 2 pickle, or the same as
JSON (gRefCOCO). `ann_id` is one annotation of the instances, or several; -1 says that the expression means nothing in
the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from converters import plain_pickle
from converters.formats import coco_instances as coco
from converters.json_files import UNREADABLE, parse
from dataengine.annotation import Annotation, Expression, Image, Instance, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root

VERSION = "2"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`refs` is the list (`.p` or `.json`), `annotations` the COCO instances, `images` the folder of the pictures.

    `split` takes the refs of that split alone, as the list names it (`train`, `val`, `testA`, …); the others are
    reported as `split.other`.
    """

    refs: str
    annotations: str
    images: str = ""
    split: str | None = None


class RawSentence(msgspec.Struct):
    sent_id: coco.Id | None = None
    sent: str | None = None
    raw: str | None = None


class RawRef(msgspec.Struct):
    ref_id: coco.Id
    image_id: coco.Id
    ann_id: int | list[int]
    sentences: list[RawSentence]
    split: str = ""


class Index(msgspec.Struct, frozen=True):
    """The COCO file by id: pictures, records with their places, category names, and what could not be read."""

    images: dict[str, Image]
    records: dict[str, tuple[str, str, coco.RawAnnotation]]
    names: dict[int, str]
    rejected: list[Rejected]


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a ref, in the order of the list: its objects, one expression a sentence.

    Broken records of the COCO file are rejected first. Raises SourceError for a list that is cut off, hostile, or
    something else.
    """
    refs = load_refs(source.refs, root.read(source.refs, "refs"))
    index = _index(source, root)
    yield from index.rejected
    seen = set[str]()
    for number, data in enumerate(refs):
        origin = Origin(file=source.refs, record=f"[{number}]")
        key = f"[{number}]"
        try:
            ref = _convert(data)
            key = str(ref.ref_id)
            if source.split is not None and ref.split != source.split:
                raise Quarantine("split.other", f"split is {ref.split!r}")
            if key in seen:
                raise Quarantine("id.duplicate", f"a ref with id {key} came before")
            seen.add(key)
            made = _annotation(ref, index, origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
        else:
            yield from made


def load_refs(file: str, data: bytes) -> list[Any]:
    """Return the records of a pickled or JSON list, as plain values. Raises SourceError."""
    if file.endswith(".json"):
        return parse(data, file, list[Any], "a list of refs")
    value = plain_pickle.load(file, data)
    if not isinstance(value, list):
        raise SourceError(f"{file}: holds one {type(value).__name__}, expected a list of refs")
    return value


def _index(source: Source, root: Root) -> Index:
    raw = coco.load(source.annotations, root)
    index = Index({}, {}, coco.category_names(raw), [])
    for item in coco.join(raw, source.annotations, coco.Naming(source.images), _annotation_decoder):
        if isinstance(item, Rejected):
            index.rejected.append(item)
            continue
        index.images[item.key] = item.image
        index.records.update({str(record.id): (item.key, place, record) for place, record in item.records})
    return index


_annotation_decoder = msgspec.json.Decoder(coco.RawAnnotation)


def _convert(data: object) -> RawRef:
    try:
        return msgspec.convert(data, RawRef)
    except UNREADABLE as error:
        raise Quarantine("schema", str(error)) from error


def _annotation(ref: RawRef, index: Index, origin: Origin) -> list[Annotation | Rejected]:
    key = str(ref.ref_id)
    image = index.images.get(str(ref.image_id))
    if image is None:
        raise Quarantine("id.orphan", f"no image has id {ref.image_id}")
    wanted = ref.ann_id if isinstance(ref.ann_id, list) else [ref.ann_id]
    instances = tuple(_instance(ref, ann_id, image, index) for ann_id in wanted if ann_id != -1)
    expressions: list[Expression] = []
    rejected: list[Annotation | Rejected] = []
    for number, sentence in enumerate(ref.sentences):
        name = str(sentence.sent_id) if sentence.sent_id is not None else str(number)
        text = " ".join((sentence.sent or sentence.raw or "").split())
        if text:
            expressions.append(Expression(id=name, text=text, instances=tuple(range(len(instances)))))
        else:
            place = Origin(file=origin.file, record=f"{origin.record}.sentences[{number}]")
            rejected.append(
                Rejected(
                    key=f"{key}.{name}", reason="text.empty", detail="the expression is empty", origin=place
                )
            )
    annotation = Annotation(
        key=key,
        images=(image,),
        instances=instances,
        expressions=tuple(expressions),
        exhaustive=False,
        origin=origin,
    )
    return [annotation, *rejected]


def _instance(ref: RawRef, ann_id: int, image: Image, index: Index) -> Instance:
    found = index.records.get(str(ann_id))
    if found is None:
        raise Quarantine("id.orphan", f"no annotation has id {ann_id}")
    image_id, place, record = found
    if image_id != str(ref.image_id):
        raise Quarantine(
            "id.orphan", f"annotation {ann_id} is of image {image_id}, the ref of {ref.image_id}"
        )
    return coco.instance(record, place, index.names, image.width, image.height)
