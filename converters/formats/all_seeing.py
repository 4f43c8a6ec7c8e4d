"""AS-V2 (the All-Seeing project): conversations whose objects and predicates carry their boxes in the text.

Conventions (all-seeing-v2/README.md and scripts_asmv2/visualize_rec.py): `<ref>a bus</ref><box>[[x1, y1, x2, y2], …]]
</box>` is an object and its boxes, `<pred>driving on</pred><box>…</box><box>…</box>` a predicate with the boxes of
its subjects and of its objects, a single one of which belongs to each of the others; a `<box>` alone is a region.
Numbers are 999ths of the side, from 0, and made pixels here. The plain files count them in the picture padded to a
square, as LLaVA pads it (the picture in the middle); those named `wo_square_pad` in the picture itself.

Equal boxes are one object, which is called by the words that it is first referred to with. Objects become `<p>a
bus</p><region1>`, as the builders of grounded conversations read them; predicates become relations and plain words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from converters.json_rows import read_rows
from dataengine.annotation import Annotation, Box, Dialog, Image, Instance, Origin, Rejected, Turn
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.images import probe
from dataengine.tokens import IMAGE

VERSION = "1"

Corners = tuple[float, float, float, float]
_MARKUP = re.compile(
    r"<ref>(?P<words>.*?)</ref>\s*(?:<box>(?P<boxes>.*?)</box>)?"
    r"|<pred>(?P<predicate>.*?)</pred>(?P<ends>(?:\s*<box>.*?</box>)*)"
    r"|<box>(?P<bare>.*?)</box>",
    re.DOTALL,
)
_BOX = re.compile(r"<box>(.*?)</box>", re.DOTALL)
_SPACES = re.compile(r"[^\S\n]+")
_LEFT = re.compile(r"</?(?:ref|box|pred)>")
_SCALE = 999.0
_ROLES: dict[str, Literal["user", "assistant"]] = {"human": "user", "gpt": "assistant"}
_corners = msgspec.json.Decoder(list[Corners])


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON file, `images` the folder of the pictures.

    `square_pad` says that the file counts its boxes in the picture padded to a square.
    """

    annotations: str
    images: str = ""
    square_pad: bool = True


class RawTurn(msgspec.Struct):
    value: str
    role: str = msgspec.field(name="from")


class RawItem(msgspec.Struct):
    image: str
    conversations: list[RawTurn]
    id: int | str | None = None


class Objects:
    """The objects of a picture in the order in which its conversation shows them."""

    def __init__(self) -> None:
        self.names: dict[Corners, str | None] = {}
        self.relations: list[tuple[int, str, int]] = []

    def add(self, boxes: list[Corners], name: str | None = None) -> list[int]:
        """Return the numbers of boxes, new ones after those that are there; a nameless one may get a name later."""
        for box in boxes:
            self.names[box] = self.names.get(box) or name
        order = list(self.names)
        return [order.index(box) for box in boxes]


_item = msgspec.json.Decoder(RawItem)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection an item: its objects, their relations, and the conversation."""

    def make(raw: RawItem, origin: Origin) -> Annotation:
        return _annotation(source, raw, root, origin)

    yield from read_rows(source.annotations, root, _item, make)


def _annotation(source: Source, raw: RawItem, root: Root, origin: Origin) -> Annotation:
    if not raw.image:
        raise Quarantine("schema", "image is empty, expected the name of a file")
    found = Objects()
    turns = []
    for number, turn in enumerate(raw.conversations):
        role = _ROLES.get(turn.role)
        if role is None:
            raise Quarantine(
                "turn.role", f"conversations[{number}].from is {turn.role!r}, expected human or gpt"
            )
        turns.append(Turn(role, _marked(turn.value.replace(IMAGE, ""), found)))
    if not turns:
        raise Quarantine("turn.structure", "no turn")
    path = f"{source.images}/{raw.image}" if source.images else raw.image
    size = probe(root.inside(path))
    stem = raw.image.rpartition("/")[2].partition(".")[0]
    return Annotation(
        key=str(raw.id) if raw.id is not None else stem,
        images=(Image(path=path),),
        instances=tuple(
            Instance(
                id=str(number), category=name, box=_pixels(box, size.width, size.height, source.square_pad)
            )
            for number, (box, name) in enumerate(found.names.items())
        ),
        relations=tuple(found.relations),
        dialogs=(Dialog(id="0", turns=tuple(turns)),),
        exhaustive=False,
        origin=origin,
    )


def _marked(text: str, found: Objects) -> str:
    """Return a text with its boxes as marks, and remember its objects and relations. Raises Quarantine `qa.format`."""

    def write(match: re.Match[str]) -> str:
        if match["predicate"] is not None:
            return _relate(match["predicate"], [_boxes(part) for part in _BOX.findall(match["ends"])], found)
        if match["bare"] is not None:
            return _marks(found.add(_boxes(match["bare"])))
        words = " ".join(match["words"].split())
        if match["boxes"] is None:
            return words
        return f"<p>{words}</p>{_marks(found.add(_boxes(match['boxes']), words or None))}"

    written = _MARKUP.sub(write, text)
    if left := _LEFT.search(written):
        raise Quarantine("qa.format", f"{left[0]} stands alone in the text")
    return _SPACES.sub(" ", written).strip()


def _boxes(text: str) -> list[Corners]:
    try:
        found = _corners.decode(text.strip())
    except msgspec.DecodeError as error:
        raise Quarantine("qa.format", f"<box>{text[:60]}: {error}") from error
    if not found:
        raise Quarantine("qa.format", "a <box> without a box")
    return found


def _marks(numbers: list[int]) -> str:
    return "".join(f"<region{number + 1}>" for number in numbers)


def _relate(predicate: str, ends: list[list[Corners]], found: Objects) -> str:
    """Remember what a predicate says of its boxes, and return its words."""
    words = " ".join(predicate.split())
    if not ends:
        return words
    if len(ends) != 2:
        raise Quarantine("qa.format", f"{words!r} has {len(ends)} lists of boxes, expected 2")
    subjects, objects = found.add(ends[0]), found.add(ends[1])
    count = max(len(subjects), len(objects))
    if {len(subjects), len(objects)} - {1, count}:
        detail = f"{words!r} relates {len(subjects)} boxes to {len(objects)}, expected one or as many"
        raise Quarantine("qa.format", detail)
    pairs = zip(subjects * (count // len(subjects)), objects * (count // len(objects)), strict=True)
    found.relations += [(subject, words, target) for subject, target in pairs]
    return words


def _pixels(box: Corners, width: int, height: int, square_pad: bool) -> Box:
    """Return a box in pixels of the picture, without the padding that the numbers counted."""
    side = (max(width, height),) * 2 if square_pad else (width, height)
    left, top = (side[0] - width) // 2, (side[1] - height) // 2
    x0, y0, x1, y1 = (value / _SCALE for value in box)
    return (x0 * side[0] - left, y0 * side[1] - top, x1 * side[0] - left, y1 * side[1] - top)
