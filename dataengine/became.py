"""What became of a source record: its samples, wherever they lie, and what was skipped, quarantined or dropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import nsmallest
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataengine import manifest as manifests
from dataengine.errors import ShardError, SourceError, nearest
from dataengine.index import SHARDS, Index
from dataengine.manifest import LEDGER, QUARANTINE, SAMPLES
from dataengine.origins import owners
from dataengine.sample import InstanceTargets, KeypointTargets, Targets, decode
from dataengine.store import Url
from dataengine.trace import manifest_folder, stored

_COMPARED = 500  # words that an unknown one is compared with


class Made(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a unit of a record became: `outcome` is `sample`, `dropped` (from the shards), `skipped` or `quarantined`.

    `id` is the sample's id, or the unit's key where it is none; a sample in shards has `shard` and `offset`.
    """

    source: str
    outcome: str
    id: str
    file: str
    record: str
    reason: str = ""
    detail: str = ""
    shard: str = ""
    offset: int | None = None


class Became(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a record: every unit that it gave, in all manifests and shards that were looked at."""

    file: str
    record: str
    units: tuple[Made, ...]
    notes: tuple[str, ...] = ()


def became(place: Path | Url, text: str, root: Path | None = None) -> Became:
    """Return what became of the record FILE:RECORD, or of all records of FILE, in shards or in manifests.

    A record that belongs to another one (a COCO annotation to its picture) is answered by that one, with a note. Raises
    SourceError for a record that is not known.
    """
    chest = _Chest(place)
    for file, record in _splits(text):
        if found := chest.units(file, record):
            return Became(file=file, record=record, units=tuple(found), notes=tuple(chest.notes))
    roots = [root] if root is not None else chest.roots
    for file, record in _splits(text)[1:]:
        for where in roots:
            object_id, found_in = owners(where, file, record)
            for owner in found_in:
                if found := chest.units(file, owner):
                    notes = (f"{record}, object {object_id}, belongs to {owner}", *chest.notes)
                    units = tuple(chest.with_object(unit, object_id) for unit in found)
                    return Became(file=file, record=record, units=units, notes=notes)
    raise SourceError(f"{place}: {text!r} is no record of it{chest.hint(text)}")


def _splits(text: str) -> list[tuple[str, str]]:
    """Return the ways to read FILE:RECORD: both may hold colons, and the record may be left out."""
    cuts = [place for place, letter in enumerate(text) if letter == ":"]
    return [(text, ""), *((text[:cut], text[cut + 1 :]) for cut in cuts)]


class _Chest:
    """The manifests and shards in which a record is looked for, and what they cannot tell."""

    def __init__(self, place: Path | Url) -> None:
        self.place = place
        self.notes: list[str] = []
        self.index: Index | None = None
        self.folders: list[Path] = []
        if isinstance(place, Url) or (place / SHARDS).is_file():
            self.index = Index(place)
            for entry in self.index.set.sources:
                if (folder := manifest_folder(self.index, entry)) is not None and (folder / LEDGER).is_file():
                    self.folders.append(folder)
                else:
                    self.notes.append(
                        f"the manifest of {entry.name} is gone: what it skipped and quarantined is not known here"
                    )
        else:
            self.folders = manifests.find(place)
        self.dropped = {one.id: one for one in self.index.set.dropped} if self.index is not None else {}

    @property
    def roots(self) -> list[Path]:
        """The folders of sources."""
        return [*dict.fromkeys(Path(manifests.load(folder).root) for folder in self.folders)]

    def units(self, file: str, record: str) -> list[Made]:
        """Return what the units of a record became; an empty record means all of the file."""
        found: dict[tuple[str, str], Made] = {}
        if self.index is not None:
            found = {(one.source, one.id): one for one in _in_index(self.index, file, record)}
        for folder in self.folders:
            name = manifests.load(folder).name
            for row in _rows(folder / SAMPLES, ["id", "file", "record"], file, record):
                if (name, row["id"]) not in found:
                    made = msgspec.convert({"source": name, "outcome": "sample", **row}, Made)
                    found[name, made.id] = made if self.index is None else self._left_out(made)
            columns = ["outcome", "reason", "key", "detail", "file", "record"]
            for number, row in enumerate(_rows(folder / QUARANTINE, columns, file, record)):
                # Two units of one key may be lost, for one reason or for two.
                made = msgspec.convert({"source": name, "id": row.pop("key"), **row}, Made)
                found[name, f"{number} {made.id}"] = made
        return [*found.values()]

    def _left_out(self, made: Made) -> Made:
        """Return a sample of a manifest that the index does not have, with the reason."""
        out = self.dropped.get(made.id)
        reason, detail = (out.reason, out.detail) if out is not None else ("", "in no shard, and not dropped")
        return msgspec.structs.replace(made, outcome="dropped", reason=reason, detail=detail)

    def with_object(self, unit: Made, object_id: str) -> Made:
        """Return a sample that has objects with whether this one is among them."""
        try:
            targets = self._targets(unit) if unit.outcome == "sample" else None
        except ShardError as error:
            return msgspec.structs.replace(unit, detail=f"its objects cannot be told: {error}")
        if not isinstance(targets, InstanceTargets | KeypointTargets):
            return unit
        there = any(one.id == object_id for one in targets.instances)
        why = (
            "is among its targets"
            if there
            else "is not among its targets: it was dropped, or is not asked for"
        )
        return msgspec.structs.replace(unit, detail=f"object {object_id} {why}")

    def _targets(self, unit: Made) -> Targets | None:
        if self.index is not None:
            return stored(self.index, unit.id).targets
        for folder in self.folders:
            if manifests.load(folder).name == unit.source:
                rows = _rows(folder / SAMPLES, ["id", "file", "record", "sample"], unit.file, unit.record)
                return next(decode(row["sample"]).targets for row in rows if row["id"] == unit.id)
        return None

    def hint(self, text: str) -> str:
        """Say which file or record is the nearest known one."""
        files: set[str] = set()
        records: set[str] = set()
        given = {file for file, _ in _splits(text)}
        for rows in self._origins():
            names = rows.column("file").to_pylist()
            files.update(names)
            if given & {*names}:
                own = zip(names, rows.column("record").to_pylist(), strict=True)
                records.update(record for file, record in own if file in given)
        if records:
            wanted = max((record for file, record in _splits(text) if file in files), key=len, default="")
            return f": the file is known, the record is not{nearest(wanted, _alike(wanted, records))}"
        wanted = text.partition(":")[0]
        return f": the file is not known{nearest(wanted, _alike(wanted, files))}"

    def _origins(self) -> Iterator[pa.Table]:
        if self.index is not None:
            yield self.index.table.select(["file", "record"])
        for folder in self.folders:
            yield pq.read_table(folder / SAMPLES, columns=["file", "record"])
            yield pq.read_table(folder / QUARANTINE, columns=["file", "record"])


def _alike(word: str, known: Iterable[str]) -> list[str]:
    """Return the words of nearly the same length: comparing millions would take an hour."""
    return nsmallest(_COMPARED, known, key=lambda one: (abs(len(one) - len(word)), one))


def _in_index(index: Index, file: str, record: str) -> Iterator[Made]:
    mask = _matches(index.table.column("file"), index.table.column("record"), file, record)
    for number in pc.indices_nonzero(mask).to_pylist():
        row = index.row(number)
        yield Made(
            source=row["source"],
            outcome="sample",
            id=row["id"],
            file=row["file"],
            record=row["record"],
            shard=f"{row['shard']}.tar",
            offset=row["json_offset"],
        )


def _rows(path: Path, names: Sequence[str], file: str, record: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a manifest's table that are of a record. Raises SourceError."""
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(columns=[*names], use_threads=False):
                mask = _matches(batch.column("file"), batch.column("record"), file, record)
                if pc.any(mask).as_py():
                    yield from batch.filter(mask).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: cannot be read: {error}; convert again") from error


def _matches(files: Any, records: Any, file: str, record: str) -> Any:
    mask = pc.equal(files, file)
    return pc.and_(mask, pc.equal(records, record)) if record else mask
