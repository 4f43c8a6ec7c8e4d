"""The in-context set of VisionLLM v2: rows {image: [files], mask: [files], conversations: [{from, value}]}.

Conventions (the official readers, OpenGVLab/VisionLLM, visionllmv2/datasets/mmic_text.py and mmic_mask.py; the set was
never released): the k-th mask lies on the k-th picture and has its size; it is read as grey, white is the region. In
the text `<image>` stands for a picture and `<mask>` for a mask, each in its order; a `<mask>` in an answer is what is
to be found. There the official code counts only 255 as white; here it is 128 and more, so that a mask saved as JPEG
keeps its edge. Boxes are those of the white pixels, from 0 with the end exclusive. A row without `mask` shows whole
pictures alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

import msgspec
import numpy as np

from converters import pixel_maps
from converters.formats.llava_json import ROLES
from converters.json_files import decode, records, unique
from dataengine.annotation import Annotation, Dialog, Image, Instance, Origin, Rejected, Turn
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import rle_box, rle_from_mask
from dataengine.listing import Fit, Listing, name_splits, several
from dataengine.spill import Counts
from dataengine.tokens import IMAGE, REGION

VERSION = "1"
MASK = "<mask>"
WHITE = 128


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON or JSON Lines file, `images` and `masks` the folders of the pictures and the masks."""

    annotations: str
    images: str = ""
    masks: str = ""


class RawTurn(msgspec.Struct):
    speaker: str = msgspec.field(name="from")
    value: str


class RawRow(msgspec.Struct):
    image: str | list[str]
    conversations: list[RawTurn]
    mask: str | list[str] | None = None
    id: int | str | None = None


_row = msgspec.json.Decoder(RawRow)


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds such a file: its first record has the lists `image` and `mask`."""
    found = []
    for file in listing.ending(".json", ".jsonl"):
        record = listing.first(file) or _first_line(listing, file)
        images, masks = record.get("image"), record.get("mask")
        if not (isinstance(record.get("conversations"), list) and _names(images) and _names(masks)):
            continue
        folders = listing.picture_folder(images[0]), listing.picture_folder(masks[0])
        if folders[0] is not None and folders[1] is not None:
            keys = {"images": folders[0], "masks": folders[1]}
            found.append(
                (file, {"annotations": file, **{key: value for key, value in keys.items() if value}})
            )
    if not found:
        return "no JSON records with lists of pictures and masks and a conversation"
    why = f"{several([file for file, _ in found])}: conversations over lists of pictures and masks"
    return Fit(splits=name_splits(found), tasks=("in_context_text", "in_context_mask"), why=why, certainty=3)


def _first_line(listing: Listing, file: str) -> dict[str, object]:
    line = listing.read(file).partition(b"\n")[0]
    try:
        return msgspec.json.decode(line, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _names(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a row, in file order. Raises SourceError for a file that is cut off."""
    seen = Counts()
    for place, data in records(source.annotations, root, "annotations"):
        origin = Origin(file=source.annotations, record=place)
        key = place
        try:
            row = decode(data, _row)
            key = unique(str(row.id) if row.id is not None else place, seen)
            yield _annotate(source, root, row, key, origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)


def _annotate(source: Source, root: Root, row: RawRow, key: str, origin: Origin) -> Annotation:
    images, masks = _list(row.image), _list(row.mask)
    if len(masks) > len(images):
        raise Quarantine("token.region_mismatch", f"{len(masks)} masks for {len(images)} pictures")
    turns = [_turn(turn) for turn in row.conversations]
    text = "\n".join(turn.text for turn in turns)
    for token, word, count in ((IMAGE, "pictures", len(images)), (REGION, "masks", len(masks))):
        if text.count(token) != count:
            reason = "media.placeholder" if token == IMAGE else "token.region_mismatch"
            raise Quarantine(reason, f"the text names {text.count(token)} {word}, the row lists {count}")
    return Annotation(
        key=key,
        images=tuple(Image(path=_path(source.images, name)) for name in images),
        instances=tuple(_mask(_path(source.masks, name), root, number) for number, name in enumerate(masks)),
        dialogs=(Dialog(id="", turns=tuple(turns)),),
        exhaustive=False,
        origin=origin,
    )


def _list(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []


def _path(folder: str, name: str) -> str:
    if not name.strip():
        raise Quarantine("image.missing", "the name of a picture or a mask is empty")
    return f"{folder}/{name}" if folder else name


def _turn(turn: RawTurn) -> Turn:
    if turn.speaker not in ROLES:
        raise Quarantine(
            "turn.structure", f"a turn is by {turn.speaker!r}, expected one of {', '.join(ROLES)}"
        )
    if REGION in turn.value:
        raise Quarantine("text.special_token", f"{REGION!r} stands in the source text")
    return Turn(ROLES[turn.speaker], turn.value.replace(MASK, REGION).strip())


def _mask(file: str, root: Root, number: int) -> Instance:
    """Return a mask as an object on its picture. Raises Quarantine `map.*` or `mask.empty`."""
    white = pixel_maps.brightness(pixel_maps.load(file, root, "masks")) >= WHITE
    if not white.any():
        raise Quarantine("mask.empty", f"{file}: no pixel is white")
    mask = rle_from_mask(white.astype(np.uint8))
    return Instance(id=str(number), box=rle_box(mask), mask=mask, image=number)
