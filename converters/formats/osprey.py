"""Osprey: a JSON list with the regions of a picture and conversations, descriptions or categories about them.

Conventions (Osprey's own loader, osprey/datasets/osprey_724k.py): `annotation` lists the regions, polygons or
run-length codes as in COCO; `<region1>` in a text is the first of them, and so is `region1` where the text has no
brackets. In `description` the n-th text is about the n-th region and starts with `<region n>:`. The evaluation files
have `annotations` and `categories` side by side instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from converters.formats import coco_instances as coco
from converters.json_rows import read_rows, shape
from dataengine.annotation import Annotation, Dialog, Expression, Image, Instance, Origin, Rejected, Turn
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.tokens import IMAGE

VERSION = "1"

_ROLES: dict[str, Literal["user", "assistant"]] = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
}  # fmt: skip
_BARE = re.compile(r"<?\b[rR]egion(\d{1,6})\b>?")
_HEAD = re.compile(r"^\s*<?[rR]egion\s?\d*>?\s*:\s*")


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON file, `images` the folder of the pictures.

    `after` keeps of a picture's name what stands behind the last of these characters: with `_`,
    `COCO_train2014_000000000009.jpg` is `000000000009.jpg`.
    """

    annotations: str
    images: str = ""
    after: str = ""


class RawRegion(msgspec.Struct):
    segmentation: msgspec.Raw = msgspec.Raw(b"")
    bbox: list[float] | None = None
    category_name: str | None = None


class RawTurn(msgspec.Struct):
    value: str
    role: str = msgspec.field(name="from", default="")


class RawItem(msgspec.Struct):
    file_name: str
    width: coco.Pixels
    height: coco.Pixels
    id: int | str | None = None
    annotation: list[RawRegion] = []
    annotations: list[RawRegion] = []
    categories: list[str] = []
    conversations: list[RawTurn] = []
    description: list[str] = []


_item = msgspec.json.Decoder(RawItem)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection an item: its regions, and one dialog or an expression a description."""

    def make(raw: RawItem, origin: Origin) -> Annotation:
        return _annotation(source, raw, origin)

    yield from read_rows(source.annotations, root, _item, make)


def _annotation(source: Source, raw: RawItem, origin: Origin) -> Annotation:
    name = raw.file_name.rpartition(source.after)[2] if source.after else raw.file_name
    if not name:
        raise Quarantine("schema", f"file_name {raw.file_name!r} names no file")
    regions = raw.annotation or raw.annotations
    if raw.categories and len(raw.categories) != len(regions):
        raise Quarantine("schema", f"{len(raw.categories)} categories for {len(regions)} regions")
    instances = tuple(_instance(raw, region, number) for number, region in enumerate(regions))
    if len(raw.description) > len(instances):
        raise Quarantine("schema", f"{len(raw.description)} descriptions for {len(instances)} regions")
    texts = [_HEAD.sub("", text).strip() for text in raw.description]
    turns = _turns(raw)
    return Annotation(
        key=str(raw.id) if raw.id is not None else name.rpartition("/")[2].partition(".")[0],
        images=(
            Image(
                path=f"{source.images}/{name}" if source.images else name,
                width=raw.width or None,
                height=raw.height or None,
            ),
        ),
        instances=instances,
        expressions=tuple(
            Expression(id=str(number), text=text, instances=(number,))
            for number, text in enumerate(texts)
            if text
        ),
        dialogs=(Dialog(id="0", turns=turns),) if turns else (),
        exhaustive=False,
        origin=origin,
    )


def _instance(raw: RawItem, region: RawRegion, number: int) -> Instance:
    category = raw.categories[number] if raw.categories else region.category_name
    made = shape(number, region.bbox, region.segmentation, (raw.width or None, raw.height or None), category)
    if made.box is None and made.mask is None and not made.polygons:
        raise Quarantine("schema", f"region {number} has no box and no segmentation")
    return made


def _turns(raw: RawItem) -> tuple[Turn, ...]:
    turns = []
    for number, turn in enumerate(raw.conversations):
        # Some files do not say who speaks; the user begins.
        role = _ROLES.get(turn.role) if turn.role else ("user", "assistant")[number % 2]
        if role is None:
            raise Quarantine(
                "turn.role", f"conversations[{number}].from is {turn.role!r}, expected human or gpt"
            )
        text = _BARE.sub(r"<region\1>", turn.value.replace(IMAGE, "")).strip()
        turns.append(Turn(role, text))
    return tuple(turns)
