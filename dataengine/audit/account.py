"""The account of a whole chain, from source records to the steps of a run, proven from files alone.

Each line holds a number that one file states or holds against the same number counted in another one. No file is
believed about itself: rows, ids and members are counted where they lie, and ids are held against ids, not totals
against totals. What nothing else shows is said to be not proven.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from dataengine.audit.account_manifest import Converted, account_of_manifest, read_manifest
from dataengine.audit.account_run import account_of_run
from dataengine.audit.account_shards import Sharded, account_of_shards, read_shards
from dataengine.audit.findings import Finding, Findings
from dataengine.audit.identity import STAGES, Count, Identity, unproven
from dataengine.audit.state import Progress
from dataengine.audit.table import rule_of
from dataengine.errors import UsageError
from dataengine.index import SHARDS, ShardSource
from dataengine.manifest import LEDGER, MANIFEST
from dataengine.served import CONFIG, SERVED, read_config
from dataengine.store import StoreSettings, Url, locate

RULE = "ledger.unbalanced"


class Chain(NamedTuple):
    """What some paths hold: folders of converted splits, of shard sets and of runs."""

    manifests: list[Path]
    sets: list[Path | Url]
    runs: list[Path]


def find(paths: Iterable[Path | Url]) -> Chain:
    """Return everything in or below some paths that has an account. Raises UsageError where one holds nothing."""
    found = Chain([], [], [])
    for path in paths:
        here = Chain([], [path], []) if isinstance(path, Url) else _below(path)
        if not any(here):
            raise UsageError(
                f"{path}: holds no manifest, no shards and no run, expected the folder of convert, shard or train"
            )
        found.manifests.extend(one for one in here.manifests if one not in found.manifests)
        found.sets.extend(one for one in here.sets if one not in found.sets)
        found.runs.extend(one for one in here.runs if one not in found.runs)
    return found


def _below(path: Path) -> Chain:
    found = Chain([], [], [])
    for folder, inner, files in os.walk(path):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        here = Path(folder)
        if {LEDGER, MANIFEST} <= {*files}:
            found.manifests.append(here)
        if SHARDS in files:
            found.sets.append(here)
        if {CONFIG, SERVED} <= {*files}:
            found.runs.append(here)
    return found


def prove(
    paths: Iterable[Path | Url],
    *,
    workers: int = 1,
    store: StoreSettings | None = None,
    progress: Progress = lambda count, text: None,
) -> list[Identity]:
    """Return the account of manifests, shard sets and runs, in the order of its stages.

    What a run was trained on and what shards were made of is looked at too, where it is still there. Raises UsageError
    for a path that holds nothing of the kind, SourceError and ShardError for a file that cannot be read.
    """
    chain = find(paths)
    lines: list[Identity] = []
    converted = {path.resolve(): read_manifest(path, progress) for path in chain.manifests}
    sets: dict[Path | Url, Sharded] = {}
    runs = [(run, _shards_of(run, chain.sets)) for run in chain.runs]
    for place in [*chain.sets, *(one for _, one in runs if one is not None)]:
        if _known_as(place) in sets:
            continue
        sets[_known_as(place)] = sharded = read_shards(place, store)
        sources = {
            entry.name: _manifest_of(sharded, entry, converted, progress) for entry in sharded.set.sources
        }
        lines += account_of_shards(sharded, sources, workers, progress)
    for run, shards in runs:
        if shards is None:
            lines.append(_without_shards(run))
        else:
            lines += account_of_run(run, sets[_known_as(shards)], store)
    for one in converted.values():
        lines += account_of_manifest(one)
    return sorted(lines, key=lambda line: STAGES.index(line.stage))


def _known_as(place: Path | Url) -> Path | Url:
    return place if isinstance(place, Url) else place.resolve()


def _manifest_of(
    sharded: Sharded, entry: ShardSource, known: dict[Path, Converted], progress: Progress
) -> Converted | None:
    """Return the conversion that a source was sharded from: one that was named, or where the set says it lies."""
    for one in known.values():
        if (one.manifest.name, one.manifest.fingerprint) == (entry.name, entry.fingerprint):
            return one
    if isinstance(sharded.place, Url) or not entry.manifest:
        return None
    path = (sharded.place / entry.manifest).resolve()
    if path not in known and (path / LEDGER).is_file():
        known[path] = read_manifest(path, progress)
    return known.get(path)


def _shards_of(run: Path, given: Sequence[Path | Url]) -> Path | Url | None:
    """Return the set that a run was trained on: the one it names, or the only one that was named beside it."""
    stated = locate(read_config(run).shards)
    if stated in given or (isinstance(stated, Path) and (stated / SHARDS).is_file()):
        return stated
    return given[0] if len(given) == 1 else None


def _without_shards(run: Path) -> Identity:
    nothing = Count(0, "samples known")
    return unproven(
        "plan",
        str(run),
        nothing,
        nothing,
        f"its shards, {read_config(run).shards}, are gone; name them beside it",
    )


def findings(lines: Iterable[Identity]) -> Findings:
    """Return a finding of `ledger.unbalanced` for each line that differs."""
    found = Findings()
    for line in lines:
        if line.verdict == "differs":
            detail = f"{line.stage}: {line.left}, {line.right}" + (f"; {line.detail}" if line.detail else "")
            found.append(
                Finding(
                    rule=RULE,
                    severity=rule_of(RULE).severity,
                    subject=line.place,
                    place="subject",
                    key="",
                    file="",
                    record="",
                    detail=detail,
                )
            )
    return found
