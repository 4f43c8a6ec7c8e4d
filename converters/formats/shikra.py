"""Shikra's referential dialogues: JSON Lines with a question and an answer whose phrases point to listed boxes.

Conventions (Shikra's loader, mllm/dataset/single_image_dataset/gpt_gen.py): `boxes` are corners in pixels, x1, y1,
x2, y2, taken as they stand: from 0, the end exclusive; `<ph_st>a cat<ph_ed>` is a phrase, and the n-th phrase of a
text means the boxes whose positions are the n-th list of `question_boxes_seq` or `answer_boxes_seq`. A bare `<boxes>`
means boxes in the same way. Phrases become `<p>a cat</p><region1>`, as the builders of grounded conversations read
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from converters.json_rows import corners, pick, read_rows
from dataengine.annotation import Annotation, Dialog, Image, Instance, Origin, Rejected, Turn
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.tokens import IMAGE

VERSION = "1"

_END = "<ph_ed>"
_PHRASE = re.compile(rf"<ph_st>(?P<words>.*?){_END}|<boxes>", re.DOTALL)
_BOXES = re.compile("<boxes>")


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON Lines file, `images` the folder of the pictures.

    `answer`: the reasoning with its boxes and the answer at its end (`cot_with_ans`), or the short answer alone.
    """

    annotations: str
    images: str = ""
    answer: Literal["cot_with_ans", "answer"] = "cot_with_ans"


class RawItem(msgspec.Struct):
    img_path: str
    question: str
    boxes: list[list[float]]
    answer: str | None = None
    cot_with_ans: str | None = None
    question_boxes_seq: list[list[int]] | None = None
    answer_boxes_seq: list[list[int]] | None = None


_item = msgspec.json.Decoder(RawItem)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a line: its boxes and a dialog of one question."""

    def make(raw: RawItem, origin: Origin) -> Annotation:
        return _annotation(source, raw, origin)

    yield from read_rows(source.annotations, root, _item, make)


def _annotation(source: Source, raw: RawItem, origin: Origin) -> Annotation:
    if not raw.img_path:
        raise Quarantine("schema", "img_path is empty")
    answer = raw.cot_with_ans if source.answer == "cot_with_ans" else raw.answer
    if not (answer or "").strip():
        raise Quarantine("text.empty", f"{source.answer} is empty")
    total = len(raw.boxes)
    asked = _marked(raw.question, raw.question_boxes_seq or [], total, "question")
    # The short answer has no boxes of its own.
    known = raw.answer_boxes_seq or [] if source.answer == "cot_with_ans" else []
    said = _marked(answer or "", known, total, "answer")
    return Annotation(
        key=raw.img_path.rpartition("/")[2].partition(".")[0],
        images=(Image(path=f"{source.images}/{raw.img_path}" if source.images else raw.img_path),),
        instances=tuple(
            Instance(id=str(number), box=corners(box, f"boxes[{number}]"))
            for number, box in enumerate(raw.boxes)
        ),
        dialogs=(Dialog(id="0", turns=(Turn("user", asked), Turn("assistant", said))),),
        exhaustive=False,
        origin=origin,
    )


def _marked(text: str, sequence: list[list[int]], total: int, what: str) -> str:
    """Return the text with its boxes as marks. Raises Quarantine where phrases and lists of boxes do not agree."""
    # Behind the last end no phrase begins: looking for its end from every start would take for ever.
    tail = text.rfind(_END) + len(_END) if _END in text else 0
    matches = [*_PHRASE.finditer(text, 0, tail), *_BOXES.finditer(text, tail)]
    if sequence and len(matches) != len(sequence):
        raise Quarantine(
            "qa.format", f"the {what} has {len(matches)} phrases and {len(sequence)} lists of boxes"
        )
    pieces, end = [], 0
    for number, match in enumerate(matches):
        indices = pick(total, sequence[number] if sequence else [], f"{what} phrase {number}")
        marks = "".join(f"<region{index + 1}>" for index in indices)
        words = match.groupdict().get("words")
        pieces.append(text[end : match.start()])
        pieces.append(f"<p>{words.strip()}</p>{marks}" if words is not None and words.strip() else marks)
        end = match.end()
    return " ".join("".join((*pieces, text[end:])).replace(IMAGE, "").split())
