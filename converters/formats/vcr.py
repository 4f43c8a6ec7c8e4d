"""VCR: questions on film stills whose words point at detected objects, with four answers and four rationales.

Source: visualcommonsense.com; `train.jsonl`, `val.jsonl` and `test.jsonl`, and beside each picture a metadata JSON. A
text is a list of tokens, and a token that is a list names objects by their positions in `objects`: `["Does", [0],
"live", "here", "?"]`. Metadata boxes are `[x0, y0, x1, y1, score]` in pixels, taken as they stand (from 0, the end
exclusive), `segms` polygons of points, one list an object. People are not told apart by their category, so a text
that only says "person" would mean any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from converters.formats.coco_instances import Pixels
from converters.json_files import decode, records
from dataengine.annotation import Annotation, Image, Instance, Origin, Question, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.geometry import rle_from_polygons

VERSION = "1"

Token = str | list[int]
Point = tuple[float, float]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON Lines file, `images` the folder of pictures and their metadata.

    `objects: regions` reads the metadata and writes `<region1>` for the first object that a question names; `names`
    says "person 1", as the source numbers them, and reads no metadata.
    """

    annotations: str
    images: str
    objects: Literal["regions", "names"] = "regions"


class Record(msgspec.Struct):
    """A line of the annotation file; the labels are missing in the test split."""

    annot_id: str
    img_fn: str
    metadata_fn: str
    objects: list[str]
    question: list[Token]
    answer_choices: list[list[Token]]
    rationale_choices: list[list[Token]] = []
    answer_label: int | None = None
    rationale_label: int | None = None


class Metadata(msgspec.Struct):
    """What was detected in a picture, one box and one mask an object."""

    boxes: list[tuple[float, float, float, float, float]]
    segms: list[list[list[Point]]]
    width: Pixels
    height: Pixels


_record = msgspec.json.Decoder(Record)
_metadata = msgspec.json.Decoder(Metadata)
_TIGHT = re.compile(r" (?=[,.?!;:%)]|n't\b|'(?:s|t|re|ve|ll|d|m)\b)|(?<=[(]) ")


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a line. Raises SourceError for a file that cannot be read."""
    seen = set[str]()
    # Questions on one picture follow each other.
    last: tuple[str, Metadata] | None = None
    for place, data in records(source.annotations, root, "annotations"):
        origin = Origin(file=source.annotations, record=place)
        key = place
        try:
            record = decode(data, _record)
            key = record.annot_id
            if key in seen:
                raise Quarantine("id.duplicate", f"a question with id {key} came before")
            seen.add(key)
            metadata = None
            if source.objects == "regions":
                name = f"{source.images}/{record.metadata_fn}"
                if last is None or last[0] != name:
                    last = (name, _load(name, root))
                metadata = last[1]
            yield _annotate(source, record, metadata, key, origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)


def _load(name: str, root: Root) -> Metadata:
    try:
        return decode(root.read(name, "images"), _metadata)
    except SourceError as error:
        # It belongs to one picture: its questions are lost, and no others.
        raise Quarantine("annotation.missing", str(error)) from error
    except Quarantine as error:
        raise Quarantine(error.reason, f"{name}: {error.detail}") from error


def _annotate(
    source: Source, record: Record, metadata: Metadata | None, key: str, origin: Origin
) -> Annotation:
    questions = [
        _question(record, "answer", record.question, record.answer_choices, record.answer_label, metadata)
    ]
    label = record.answer_label
    if record.rationale_choices and label is not None and record.rationale_label is not None:
        asked = [*record.question, *record.answer_choices[label], "Why", "?"]
        questions.append(
            _question(record, "rationale", asked, record.rationale_choices, record.rationale_label, metadata)
        )
    return Annotation(
        key=key,
        images=(
            Image(
                path=f"{source.images}/{record.img_fn}",
                width=metadata.width if metadata else None,
                height=metadata.height if metadata else None,
            ),
        ),
        instances=tuple(_instances(record, metadata)) if metadata else (),
        questions=tuple(questions),
        exhaustive=False,
        origin=origin,
    )


def _question(
    record: Record,
    name: str,
    tokens: Sequence[Token],
    choices: list[list[Token]],
    label: int | None,
    metadata: Metadata | None,
) -> Question:
    """Return a question; its objects are those that it and its choices name, in the order in which they do."""
    if label is not None and not 0 <= label < len(choices):
        raise Quarantine("qa.format", f"{name}: label {label} of {len(choices)} choices")
    meant: list[int] = []
    text = _text(tokens, record.objects, meant, regions=metadata is not None)
    said = tuple(_text(choice, record.objects, meant, regions=metadata is not None) for choice in choices)
    if not text:
        raise Quarantine("text.empty", f"{name}: the question is empty")
    return Question(
        id=name,
        text=text,
        choices=said,
        answer_index=label,
        answers=() if label is None else (said[label],),
        instances=tuple(meant) if metadata is not None else (),
    )


def _text(tokens: Sequence[Token], objects: list[str], meant: list[int], *, regions: bool) -> str:
    """Return tokens as a sentence; positions of objects that are new go to the end of `meant`."""
    words = []
    for token in tokens:
        if isinstance(token, str):
            words.append(token)
            continue
        if not token or not all(0 <= index < len(objects) for index in token):
            raise Quarantine("qa.format", f"{token} names objects, but there are {len(objects)}")
        meant.extend(index for index in dict.fromkeys(token) if index not in meant)
        named = [
            f"<region{meant.index(index) + 1}>" if regions else f"{objects[index]} {index + 1}"
            for index in token
        ]
        words.append(" and ".join(filter(None, (", ".join(named[:-1]), named[-1]))))
    return _TIGHT.sub("", " ".join(" ".join(words).split()))


def _instances(record: Record, metadata: Metadata) -> Iterator[Instance]:
    counts = (len(record.objects), len(metadata.boxes), len(metadata.segms))
    if len(set(counts)) != 1:
        raise Quarantine(
            "schema", f"{counts[0]} objects, {counts[1]} boxes, {counts[2]} masks; expected as many of each"
        )
    for number, (name, box, outline) in enumerate(
        zip(record.objects, metadata.boxes, metadata.segms, strict=True)
    ):
        polygons = [[value for point in ring for value in point] for ring in outline if len(ring) > 2]
        try:
            mask = rle_from_polygons(polygons, metadata.width, metadata.height) if polygons else None
        except ValueError as error:
            raise Quarantine("polygon.invalid", f"object {number}: {error}") from error
        yield Instance(id=str(number), category=name, box=box[:4], mask=mask)
