"""The account of a converted split: source records, units, and what each of them became."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataengine import ledger as ledgers
from dataengine import manifest as manifests
from dataengine.audit.counted import NAMED, Hashes, batches, distinct, hashes, named, twice
from dataengine.audit.identity import Count, Identity, by_reason, equal, shortened, unlike, unproven
from dataengine.audit.state import Progress
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.ledger import Ledger
from dataengine.manifest import LEDGER, QUARANTINE, SAMPLES, Manifest

_IMAGE = "image"  # the unit of which a record has one


class Converted(NamedTuple):
    """A converted split, counted: hashes of its ids and of the records that its rows name.

    `lost` counts the rows of quarantine.parquet by outcome and reason, `foreign` the ids that are not of this split.
    """

    path: Path
    manifest: Manifest
    ledger: Ledger
    ids: Hashes
    origins: Hashes
    instances: int
    lost: dict[str, Counter[str]]
    foreign: int

    def names(self) -> Iterator[str]:
        """Yield the ids, read again."""
        for batch in batches(self.path / SAMPLES, ["id"]):
            yield from batch.column(0).to_pylist()


def read_manifest(path: Path, progress: Progress) -> Converted:
    """Count the rows of a converted split. Raises SourceError."""
    manifest = manifests.load(path)
    ids, origins, instances, foreign = list[Hashes](), list[Hashes](), 0, 0
    for batch in batches(path / SAMPLES, ["id", "file", "record", "num_instances"]):
        ids.append(hashes(batch.column("id").to_pylist()))
        origins.append(_origins(batch))
        instances += pc.sum(batch.column("num_instances")).as_py() or 0
        foreign += batch.num_rows - _own(batch.column("id"), manifest)
        progress(batch.num_rows, "")
    lost: dict[str, Counter[str]] = {"skipped": Counter(), "quarantined": Counter()}
    for batch in batches(path / QUARANTINE, ["outcome", "reason", "file", "record"]):
        origins.append(_origins(batch))
        rows = zip(batch.column("outcome").to_pylist(), batch.column("reason").to_pylist(), strict=True)
        for outcome, reason in rows:
            lost.setdefault(outcome, Counter())[reason] += 1
        progress(batch.num_rows, "")
    nothing = np.zeros(0, np.uint64)
    return Converted(
        path=path,
        manifest=manifest,
        ledger=ledgers.load(path / LEDGER),
        ids=np.concatenate([nothing, *ids]),
        origins=np.concatenate([nothing, *origins]),
        instances=instances,
        lost=lost,
        foreign=foreign,
    )


def _origins(batch: pa.RecordBatch) -> Hashes:
    files, records = batch.column("file").to_pylist(), batch.column("record").to_pylist()
    return hashes(f"{file}\0{record}" for file, record in zip(files, records, strict=True))


def _own(ids: pa.Array, manifest: Manifest) -> int:
    """Return how many ids are of the split and task of a manifest."""
    begins = pc.starts_with(ids, f"{manifest.dataset}/{manifest.split}/")
    return int(pc.sum(pc.and_(begins, pc.ends_with(ids, f"#{manifest.task}"))).as_py() or 0)


def account_of_manifest(one: Converted) -> Iterator[Identity]:
    """Yield the lines of a converted split: its records, its units, and its objects where there are any."""
    yield _records(one)
    yield _units(one)
    if one.ledger.objects_read or one.ledger.objects_dropped:
        yield _objects(one)


def _records(one: Converted) -> Identity:
    """Hold the records of the account against the rows: each picture's is one, and all units of a record name it."""
    ledger, place = one.ledger, one.manifest.name
    left = Count(ledger.records, f"records in {LEDGER}")
    rows = len(one.ids) + sum(map(Counter.total, one.lost.values()))
    same, other = _source_files(one)
    files = f"source files unchanged: {same}" + (f", not so: {other}" if other else "")
    if one.manifest.spec["task"]["unit"] == _IMAGE:
        return equal("source", place, left, Count(rows, "rows, one a record"), detail=files)
    right = Count(distinct(one.origins), f"records that {rows} rows name")
    again = sum(reasons["id.duplicate"] for reasons in one.lost.values())
    if 0 < ledger.records - right.number <= again:
        why = f"a record that the source lists twice has one name, {again} rows are such; {files}"
        return unproven("source", place, left, right, why)
    return equal("source", place, left, right, detail=files)


def _source_files(one: Converted) -> tuple[int, str]:
    """Return how many files and listings that were read are what they were, and which are not, in words."""
    stated = one.manifest.source_files
    try:
        root = Root(Path(one.manifest.root))
    except SourceError:
        return 0, f"all {len(stated)}, {one.manifest.root} is gone"
    other = []
    for name, digest in stated.items():
        try:
            root.refresh([name])
        except SourceError:
            root.digests.pop(name, None)  # it is gone, which the line says
        if root.digests.get(name) != digest:
            other.append(name)
    return len(stated) - len(other), shortened(other[:NAMED], len(other))


def _units(one: Converted) -> Identity:
    """Hold every number of the account against the rows, reason by reason; an id counts once, and only in its split."""
    ledger, again = one.ledger, twice(one.ids)
    stated = {"samples": ledger.samples} | _flat("skipped", ledger.skipped)
    stated |= _flat("quarantined", ledger.quarantined)
    found = {"samples": len(one.ids) - len(again) - one.foreign}
    for outcome, reasons in one.lost.items():
        found |= _flat(outcome, reasons)
    difference, where = unlike(stated, found)
    unadded = abs(ledger.units - sum(stated.values()))
    detail = [where] if where else []
    if unadded:
        detail.append(f"{ledger.units} units in {LEDGER}, whose parts are {sum(stated.values())}")
    if len(again):
        detail.append(f"ids that stand twice: {shortened(named(again, one.names()), len(again))}")
    if one.foreign:
        detail.append(f"{one.foreign} ids are of another split or task")
    lost = {outcome: reasons.total() for outcome, reasons in one.lost.items()}
    parts = [f"{found['samples']} samples", *(f"{count} {outcome}" for outcome, count in lost.items())]
    return equal(
        "samples",
        one.manifest.name,
        Count(ledger.units, f"units in {LEDGER}"),
        Count(sum(found.values()), f"rows: {' + '.join(parts)}"),
        difference + unadded,
        "; ".join(detail) or by_reason({**ledger.skipped, **ledger.quarantined}),
    )


def _flat(outcome: str, reasons: Mapping[str, int]) -> dict[str, int]:
    return {f"{outcome} {reason}": count for reason, count in reasons.items()}


def _objects(one: Converted) -> Identity:
    """Hold objects that were read against those that samples have, and those that were dropped from them.

    Rows show no objects of a unit that became no sample, nor those that a sample does not ask for.
    """
    ledger = one.ledger
    dropped = sum(ledger.objects_dropped.values())
    left = Count(ledger.objects_read, "objects in ledger.json")
    right = Count(one.instances + dropped, f"objects: {one.instances} in samples + {dropped} dropped")
    detail = by_reason(ledger.objects_dropped)
    place = one.manifest.name
    if left.number == right.number or (
        left.number < right.number and one.manifest.spec["task"]["unit"] == _IMAGE
    ):
        return equal("objects", place, left, right, detail=detail)
    why = (
        "objects of lost units, and those that no sample asks for, are in no row"
        if left.number > right.number
        else "an object stands in several samples"
    )
    return unproven("objects", place, left, right, f"{why}{f'; {detail}' if detail else ''}")
