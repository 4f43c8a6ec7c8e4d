"""LLaVA conversations: a JSON list or JSON Lines of {id, image, conversations: [{from, value}]}, and its relatives.

Source: haotian-liu/LLaVA, docs/Finetune_Custom_Data.md, and its training code, llava/train/train.py.

Relatives that are read the same: several `images`, turns under `messages` or `conversation` with `role` and
`content`, another placeholder than `<image>`, rows of text alone. Ids repeat in merged collections, since one picture
has several conversations: the later ones get a suffix. A row that has pictures and nowhere says where they stand gets
its placeholders at the start of the first user turn, as LLaVA's own training code puts them; any other count of
placeholders is left as it is, for the check of the sample to refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from converters.json_files import decode, records, unique
from dataengine.annotation import Annotation, Dialog, Image, Origin, Rejected, Turn
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.listing import Fit, Listing, name_splits, several
from dataengine.spill import Counts
from dataengine.tokens import IMAGE

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON or JSON Lines file, `images` the folder of the pictures.

    `placeholder` is what stands for a picture in the text, where it is not `<image>`.
    """

    annotations: str
    images: str = ""
    placeholder: str = IMAGE


class RawTurn(msgspec.Struct):
    speaker: str | None = msgspec.field(default=None, name="from")
    role: str | None = None
    value: str | None = None
    content: str | None = None


class RawRow(msgspec.Struct):
    id: int | str | None = None
    image: str | list[str] | None = None
    images: str | list[str] | None = None
    conversations: list[RawTurn] | None = None
    conversation: list[RawTurn] | None = None
    messages: list[RawTurn] | None = None


_row = msgspec.json.Decoder(RawRow)
ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "bot": "assistant",
}  # fmt: skip


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds LLaVA's JSON: a list of records with `conversations` (or `messages`)."""
    found = []
    for file in listing.ending(".json", ".jsonl"):
        record = listing.first(file)
        if not isinstance(record.get("conversations", record.get("messages")), list):
            continue
        images = record.get("image") or record.get("images") or ""
        name = images[0] if isinstance(images, list) and images else images
        folder = listing.picture_folder(name) if isinstance(name, str) and name else ""
        if folder is not None:
            found.append((file, {"annotations": file, **({"images": folder} if folder else {})}))
    if not found:
        return "no JSON list of records with conversations whose pictures are here"
    why = f"{several([file for file, _ in found])}: a list of conversations"
    return Fit(splits=name_splits(found), tasks=("conversation",), why=why)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a row, in file order. Raises SourceError for a file that is cut off."""
    seen = Counts()
    for place, data in records(source.annotations, root, "annotations"):
        origin = Origin(file=source.annotations, record=place)
        key = place
        try:
            row = decode(data, _row)
            key = unique(str(row.id) if row.id is not None else place, seen)
            yield _annotate(source, row, key, origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)


def _annotate(source: Source, row: RawRow, key: str, origin: Origin) -> Annotation:
    paths = [*_list(row.image), *_list(row.images)]
    if not all(path.strip() for path in paths):
        raise Quarantine("image.missing", "the name of a picture is empty")
    turns = [_turn(turn, source.placeholder) for turn in _turns(row)]
    if paths and not any(IMAGE in turn.text for turn in turns):
        turns = _with_placeholders(turns, len(paths))
    return Annotation(
        key=key,
        images=tuple(Image(path=f"{source.images}/{path}" if source.images else path) for path in paths),
        dialogs=(Dialog(id="", turns=tuple(turns)),),
        exhaustive=False,
        origin=origin,
    )


def _list(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []


def _turns(row: RawRow) -> list[RawTurn]:
    found = [turns for turns in (row.conversations, row.conversation, row.messages) if turns is not None]
    if len(found) != 1:
        raise Quarantine(
            "schema", f"{len(found)} lists of turns, expected one of conversations, conversation, messages"
        )
    if not found[0]:
        raise Quarantine("turn.structure", "the conversation has no turn")
    return found[0]


def _turn(turn: RawTurn, placeholder: str) -> Turn:
    role = turn.speaker if turn.speaker is not None else turn.role
    text = turn.value if turn.value is not None else turn.content
    if text is None:
        raise Quarantine("schema", "a turn has no value and no content")
    if role not in ROLES:
        raise Quarantine("turn.structure", f"a turn is by {role!r}, expected one of {', '.join(ROLES)}")
    return Turn(ROLES[role], text.replace(placeholder, IMAGE).strip())


def _with_placeholders(turns: list[Turn], count: int) -> list[Turn]:
    first = next((number for number, turn in enumerate(turns) if turn.role == "user"), None)
    if first is None:
        raise Quarantine("turn.structure", "no turn is by the user")
    marked = Turn("user", f"{IMAGE}\n" * count + turns[first].text)
    return [*turns[:first], marked, *turns[first + 1 :]]
