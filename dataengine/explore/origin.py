"""A sample's record, as it stands in the source and as its reader understands it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from dataengine.annotation import Annotation
from dataengine.errors import DataEngineError, Quarantine
from dataengine.explore.sets import Source
from dataengine.files import Root
from dataengine.manifest import Manifest, load
from dataengine.origins import Spot, find_record
from dataengine.sample import SampleOrigin
from dataengine.source import items_of
from dataengine.spec import Resolved

MAX_SHOWN = 200_000  # characters
MAX_PARTS = 100
PATIENCE_S = 20.0  # for a reader that goes through a source up to a record


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A record of the source: `raw` as it stands there, `read` as its reader understands it (JSON both, or text).

    `place` is the way to it in its file, `parts` are other records of the file that belong to it. What cannot be shown
    is empty, and `notes` say why.
    """

    place: str = ""
    raw: str = ""
    parts: tuple[str, ...] = ()
    read: str = ""
    notes: tuple[str, ...] = ()


def record_of(origin: SampleOrigin, source: Source) -> Record:
    """Return the record that a sample was made of, as far as the source is still there."""
    if source.manifest is None:
        return Record(
            notes=("the manifest is not beside the shards, so nothing tells where the source lies",)
        )
    try:
        manifest = load(source.manifest)
        root = Root(Path(manifest.root))
    except DataEngineError as error:
        return Record(notes=(str(error),))
    spot = find_record(root.directory, origin.file, origin.record, manifest.source_files.get(origin.file))
    notes = [f"{origin.file}: {spot.note}"] if spot.note else []
    raw = read = ""
    try:
        raw = _raw(root, spot)
    except (Quarantine, OSError) as error:
        notes.append(f"the record as it stands in {origin.file}: {error}")
    try:
        read = _pretty(msgspec.to_builtins(_annotation(manifest, root, origin)))
    except (DataEngineError, Quarantine, OSError) as error:
        notes.append(f"the record as {manifest.reader} reads it: {error}")
    parts = tuple(f"{_place(part)}: {part.text}" for part in spot.parts[:MAX_PARTS])
    if len(spot.parts) > MAX_PARTS:
        notes.append(
            f"{len(spot.parts) - MAX_PARTS} more records belong to it; 'dataengine trace --json' has all"
        )
    return Record(place=_place(spot), raw=raw, parts=parts, read=read, notes=tuple(notes))


def _pretty(value: Any) -> str:
    text = (
        value
        if isinstance(value, str)
        else msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    )
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}\n… ({len(text)} characters)"


def _place(spot: Spot) -> str:
    return spot.at if spot.start is None else f"{spot.at}, bytes {spot.start} to {spot.stop}"


def _raw(root: Root, spot: Spot) -> str:
    """Return a record as it stands in its file, JSON indented; of rows and members what can be told of them."""
    if spot.start is None or spot.stop is None or not spot.text:
        return spot.text
    with root.inside(spot.file).open("rb") as file:
        file.seek(spot.start)
        data = file.read(min(spot.stop - spot.start, MAX_SHOWN + 1))
    try:
        return _pretty(msgspec.json.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _pretty(data.decode(errors="replace"))


def _annotation(manifest: Manifest, root: Root, origin: SampleOrigin) -> Annotation:
    until = time.monotonic() + PATIENCE_S
    try:
        spec = msgspec.convert(manifest.spec, Resolved)
    except msgspec.ValidationError as error:
        raise DataEngineError(f"its spec is one of another version: {error}") from error
    for item in items_of(spec, manifest.split, root, manifest.limit):
        if item.origin.file == origin.file and item.origin.record == origin.record:
            if isinstance(item, Annotation):
                return item
            raise DataEngineError(f"{item.reason}: {item.detail}")
        if time.monotonic() > until:
            raise DataEngineError(f"was not reached in {PATIENCE_S:.0f} seconds")
    raise DataEngineError("is there no more; the source has changed")
