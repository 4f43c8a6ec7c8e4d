"""Groma Instruct: a JSON list of conversations whose answers ground their phrases in boxes.

Conventions (docs/DATA.md of Groma, and VisionLLM v2's loader of the file): `boxes` are x, y, width and height in
pixels, taken as they stand: from 0; an answer writes `<p>a cat</p> <roi><ground_box><ground_box></roi>` and lists the
positions of these boxes, in order, in `box_inds`. They become `<p>a cat</p><region1><region2>`, as the builders of
grounded conversations read them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from converters.formats import coco_instances as coco
from converters.json_rows import corners, pick, read_rows
from dataengine.annotation import Annotation, Dialog, Image, Instance, Origin, Rejected, Turn
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import from_xywh
from dataengine.tokens import IMAGE

VERSION = "1"

_GROUND, _ROI = "<ground_box>", re.compile(r"</?roi>")
_SPACE = re.compile(r"</p>\s+(?=<region)")


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON file, `images` the folder of the pictures."""

    annotations: str
    images: str = ""


class RawTurn(msgspec.Struct):
    value: str
    role: str = msgspec.field(name="from", default="")
    box_inds: list[int] | None = None


class RawItem(msgspec.Struct):
    file_name: str
    width: coco.Pixels
    height: coco.Pixels
    conversation: list[RawTurn]
    boxes: list[list[float]]
    id: int | str | None = None


_item = msgspec.json.Decoder(RawItem)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection an item: its boxes and its conversation."""

    def make(raw: RawItem, origin: Origin) -> Annotation:
        return _annotation(source, raw, origin)

    yield from read_rows(source.annotations, root, _item, make)


def _annotation(source: Source, raw: RawItem, origin: Origin) -> Annotation:
    if not raw.file_name:
        raise Quarantine("schema", "file_name is empty")
    turns = []
    for number, turn in enumerate(raw.conversation):
        role: Literal["user", "assistant"] = "user" if number % 2 == 0 else "assistant"
        if turn.role and (turn.role in ("human", "user")) != (role == "user"):
            raise Quarantine(
                "turn.role", f"conversation[{number}] is from {turn.role!r}, expected the {role}"
            )
        turns.append(Turn(role, _marked(turn, len(raw.boxes), number)))
    stem = raw.file_name.rpartition("/")[2].partition(".")[0]
    return Annotation(
        key=str(raw.id) if raw.id is not None else stem,
        images=(
            Image(
                path=f"{source.images}/{raw.file_name}" if source.images else raw.file_name,
                width=raw.width or None,
                height=raw.height or None,
            ),
        ),
        instances=tuple(
            Instance(id=str(number), box=from_xywh(corners(box, f"boxes[{number}]")))
            for number, box in enumerate(raw.boxes)
        ),
        dialogs=(Dialog(id="0", turns=tuple(turns)),) if turns else (),
        exhaustive=False,
        origin=origin,
    )


def _marked(turn: RawTurn, total: int, number: int) -> str:
    """Return the text with a numbered mark for each box. Raises Quarantine where boxes and marks do not agree."""
    indices = pick(total, turn.box_inds or [], f"conversation[{number}].box_inds")
    pieces = _ROI.sub("", turn.value.replace(IMAGE, "")).split(_GROUND)
    if len(pieces) - 1 != len(indices):
        raise Quarantine(
            "qa.format",
            f"conversation[{number}] has {len(pieces) - 1} ground boxes and {len(indices)} box_inds",
        )
    marks = [f"<region{index + 1}>" for index in indices]
    text = pieces[0] + "".join(mark + piece for mark, piece in zip(marks, pieces[1:], strict=True))
    return _SPACE.sub("</p>", text).strip()
