"""A sample's record as it stands in the source: the one place that would be another where a better way is known."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import msgspec

from dataengine.annotation import Annotation
from dataengine.errors import DataEngineError, Quarantine
from dataengine.explore.sets import Source
from dataengine.files import Root
from dataengine.manifest import Manifest, load
from dataengine.sample import SampleOrigin
from dataengine.source import items_of
from dataengine.spec import Resolved

MAX_FILE_BYTES = 2**30  # a JSON file is read whole to find a record in it
MAX_SHOWN = 200_000  # characters
PATIENCE_S = 20.0  # for a reader that goes through a source up to a record
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_LINE = re.compile(r"line (\d+)")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A record of the source: `raw` as it stands there, `read` as its reader understands it (JSON both, or text).

    What cannot be shown is empty, and `notes` say why.
    """

    raw: str = ""
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
    notes = []
    raw = read = ""
    try:
        raw = _pretty(_raw(root, origin))
    except (DataEngineError, Quarantine, OSError, ValueError) as error:
        notes.append(f"the record as it stands in {origin.file}: {error}")
    try:
        read = _pretty(msgspec.to_builtins(_annotation(manifest, root, origin)))
    except (DataEngineError, Quarantine, OSError) as error:
        notes.append(f"the record as {manifest.reader} reads it: {error}")
    return Record(raw=raw, read=read, notes=tuple(notes))


def _pretty(value: Any) -> str:
    text = (
        value
        if isinstance(value, str)
        else msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    )
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}\n… ({len(text)} characters)"


def _raw(root: Root, origin: SampleOrigin) -> Any:
    path = root.inside(origin.file)
    if not path.is_file():
        raise DataEngineError(f"{path}: no such file")
    if line := _LINE.fullmatch(origin.record):
        return _line(path, int(line[1]))
    if path.suffix.lower() == ".json" and origin.record not in ("", ".", "file"):
        return _inside(path, origin.record)
    return _text(path)


def _line(path: Path, number: int) -> Any:
    with path.open("rb") as file:
        for count, line in enumerate(file, start=1):
            if count == number:
                try:
                    return msgspec.json.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    return line.decode(errors="replace").rstrip("\r\n")
    raise DataEngineError(f"has no line {number} any more")


def _inside(path: Path, record: str) -> Any:
    """Return what a path such as `images[3].sentences[0]` leads to; only what lies on the way is decoded."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise DataEngineError(f"has more than {MAX_FILE_BYTES} bytes, too many to look for one record")
    value = msgspec.Raw(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    try:
        for index, name in _STEP.findall(record):
            if index:
                value = msgspec.json.decode(value, type=list[msgspec.Raw])[int(index)]
            else:
                value = msgspec.json.decode(value, type=dict[str, msgspec.Raw])[name]
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError) as error:
        raise DataEngineError(f"has no record {record!r} any more") from error


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_SHOWN)
    if b"\0" in data:
        raise DataEngineError("is no text")
    return data.decode(errors="replace")


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
