"""Manifests to WebDataset tars. Shards are planned before they are written: worker count cannot change a byte."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataengine import attribution, schema, selection
from dataengine import ledger as ledgers
from dataengine import manifest as manifests
from dataengine.columns import as_numpy
from dataengine.errors import ShardError
from dataengine.files import Root, alone, make_folder, write_atomic
from dataengine.index import (
    INDEX,
    INDEX_SCHEMA,
    SHARDS,
    VERSION,
    Dropped,
    Index,
    ShardFile,
    ShardSet,
    ShardSource,
    load_set,
)
from dataengine.layout import Layout, LeftOut, ShardPlan, find_left_out, num_planned, plan_shards, source_of
from dataengine.manifest import Manifest
from dataengine.runners import RunnerName, run
from dataengine.sample import Sample
from dataengine.selection import SELECTED, Choice
from dataengine.write import PARTS, ROW_SCHEMA, Written, part_path, write_shard

Progress = Callable[[int, str], None]
REBUILD = ".rebuild-"
STALE = "stale.json"


class Tar(NamedTuple):
    """A tar that stands: its entry, its index rows (columns as in ROW_SCHEMA), and what it had to leave out."""

    file: ShardFile
    rows: pa.Table
    dropped: list[Dropped]


class Appended(msgspec.Struct, frozen=True):
    """A set after more splits came to it: which ones did, and which were in it already."""

    set: ShardSet
    added: tuple[str, ...]
    unchanged: tuple[str, ...]


def shard(
    paths: Iterable[Path],
    out: Path,
    *,
    layout: Layout = "by_task",
    samples_per_shard: int = 1000,
    selections: Sequence[Path] = (),
    runner: RunnerName = "local",
    workers: int = 1,
    address: str | None = None,
    progress: Progress = lambda count, text: None,
) -> ShardSet:
    """Write the shards of some manifests; those that stand already, from the same plan, are kept as they are.

    What `selections` leave out is in no shard, and in the account of what was dropped. Raises SourceError or
    ShardError. A stopped run resumes: finished tars are recognised by their plan's digest.
    """
    sources = _sources(paths)
    choices = selection.left_out(selections)
    left_out = find_left_out(sources, choices.keys())
    plans = plan_shards(sources, layout, samples_per_shard, left_out=left_out)
    _some_left(sources, plans, left_out)
    with alone(make_folder(out)):
        _roll_forward(out)
        old = _old_index(out)
        roots = {manifest.name: manifest.root for _, manifest in sources}
        kept = {
            name: tar
            for name, tar in _standing(out, plans, old).items()
            if not any(_came_back(one, roots) for one in tar.dropped)
        }
        run_plan = partial(run, runner=runner, workers=workers, address=address, needs=needs(sources))
        tars = _write(out, plans, kept, roots, _names(old), run_plan, progress)
        found = ShardSet(
            version=VERSION,
            layout=layout,
            samples_per_shard=samples_per_shard,
            schema_hash=schema.digest(Sample),
            shards=tuple(tar.file for tar in tars),
            sources=_entries(out, sources, tars),
            dropped=(*(one for tar in tars for one in tar.dropped), *_selected(left_out, choices)),
            specs=_specs(sources),
        )
        publish(out, found, tars, _attributed(out, found, sources))
        return found


def append(
    paths: Iterable[Path],
    out: Path,
    *,
    replace: bool = False,
    selections: Sequence[Path] = (),
    runner: RunnerName = "local",
    workers: int = 1,
    address: str | None = None,
    progress: Progress = lambda count, text: None,
) -> Appended:
    """Add the shards of more manifests to a finished set, whose tars are neither read nor touched.

    The old manifests are not needed. A split that the set holds from the same conversion is left alone; one from
    another conversion is an error, unless `replace` is set (layout `by_task` alone: in mixed shards its samples lie
    between those of others). `selections` hold for what is added; one that would leave out what stands is an error.
    Until the new set is whole the old one is. Raises SourceError or ShardError.
    """
    sources = _sources(paths)
    choices = selection.left_out(selections)
    if not out.is_dir():
        raise ShardError(f"{out}: no set to add to; run 'dataengine shard' without --append first")
    with alone(out):
        _roll_forward(out)
        old = Index(out)
        fresh, unchanged = _fresh(out, old.set, sources, replace)
        _none_stands(out, old, fresh, choices)
        if not fresh:
            progress(0, "unchanged")
            return Appended(old.set, (), unchanged)
        layout: Layout = "mixed" if old.set.layout == "mixed" else "by_task"
        left_out = find_left_out(fresh, choices.keys())
        plans = plan_shards(fresh, layout, old.set.samples_per_shard, _next(old.set), left_out)
        _some_left(fresh, plans, left_out)
        roots = {manifest.name: manifest.root for _, manifest in fresh}
        kept = _standing(out, plans, old)
        run_plan = partial(run, runner=runner, workers=workers, address=address, needs=needs(fresh))
        new = _write(out, plans, kept, roots, _names(old), run_plan, progress)
        found, tars = _joined(out, old, fresh, new, _selected(left_out, choices))
        publish(out, found, tars, _attributed(out, found, fresh))
        return Appended(found, tuple(manifest.name for _, manifest in fresh), unchanged)


def _sources(paths: Iterable[Path]) -> list[tuple[Path, Manifest]]:
    found = [(path, manifests.load(path)) for given in paths for path in manifests.find(given)]
    found.sort(key=lambda pair: pair[1].name)
    for (first, a), (second, b) in pairwise(found):
        if a.name == b.name:
            raise ShardError(f"{a.name} is given twice, as {first} and {second}; give each split once")
    if not found:
        raise ShardError("no manifests given; name the folders that convert wrote")
    return found


def _fresh(
    out: Path, old: ShardSet, sources: Sequence[tuple[Path, Manifest]], replace: bool
) -> tuple[list[tuple[Path, Manifest]], tuple[str, ...]]:
    """Return the manifests that a set does not hold, and the names of those that it does."""
    if (old.version, old.schema_hash) != (VERSION, schema.digest(Sample)):
        raise ShardError(
            f"{out}: was written by another version, with samples of another form;"
            " run 'dataengine shard' without --append with all manifests"
        )
    known = {entry.name: entry.fingerprint for entry in old.sources}
    fresh = [pair for pair in sources if known.get(pair[1].name) != pair[1].fingerprint]
    changed = [manifest.name for _, manifest in fresh if manifest.name in known]
    if changed and (old.layout == "mixed" or not replace):
        # The tars alone do not tell from which conversion they are: whoever restored the index from them cannot know.
        other = "another conversion" if known[changed[0]] else "a conversion that its tars do not name"
        if old.layout == "mixed":
            raise ShardError(
                f"{out}: {changed[0]} is in the mixed shards from {other};"
                " run 'dataengine shard' without --append with all manifests"
            )
        raise ShardError(f"{out}: holds {changed[0]} from {other}; pass --replace to write its shards anew")
    names = {manifest.name for _, manifest in fresh}
    return fresh, tuple(manifest.name for _, manifest in sources if manifest.name not in names)


def strays(made: ShardSet, selections: Sequence[Path]) -> int:
    """Return how many of the samples that selections leave out are none of a set's manifests."""
    return len(selection.left_out(selections).keys() - {one.id for one in made.dropped if one.is_selected})


def _selected(left_out: LeftOut, choices: Mapping[str, Choice]) -> list[Dropped]:
    """Return the account of what selections leave out: sources by name, samples in their order."""
    chosen = [choices[name] for source in sorted(left_out) for name in left_out[source].values()]
    return [Dropped(id=one.id, reason=SELECTED + one.reason, detail=one.note) for one in chosen]


def _some_left(
    sources: Sequence[tuple[Path, Manifest]], plans: Sequence[ShardPlan], left_out: LeftOut
) -> None:
    gone = sum(map(len, left_out.values()))
    if gone and not plans:
        names = ", ".join(manifest.name for _, manifest in sources[:3])
        raise ShardError(
            f"{names}: the selections leave out all {gone} samples, expected some to stay; give other selections,"
            " or leave these manifests out"
        )


def _none_stands(
    out: Path, old: Index, fresh: Sequence[tuple[Path, Manifest]], choices: Mapping[str, Choice]
) -> None:
    """Refuse to add to a set with selections that leave out what is in its tars."""
    replaced = {manifest.name for _, manifest in fresh}
    rows = zip(old.table.column("id").to_pylist(), old.table.column("source").to_pylist(), strict=True)
    held = [name for name, source in rows if name in choices and source not in replaced] if choices else []
    if held:
        raise ShardError(
            f"{out}: holds {len(held)} samples that the selections leave out, {held[0]} the first; run 'dataengine"
            " shard' without --append with all manifests"
        )


def _next(held: ShardSet) -> int:
    """Return the number of the first shard that is added to mixed ones."""
    groups = {entry.group for entry in held.sources}
    planned = sum(
        num_planned(
            (entry.ledger.samples for entry in held.sources if entry.group == group), held.samples_per_shard
        )
        for group in groups
    )
    last = max((int(_stem(file).rpartition("-")[2]) for file in held.shards), default=-1)
    return max(planned, last + 1)


def _write(
    out: Path,
    plans: Sequence[ShardPlan],
    kept: Mapping[str, Tar],
    roots: Mapping[str, str],
    held: frozenset[str],
    run_plan: Callable[..., Iterable[Written]],
    progress: Progress,
) -> list[Tar]:
    """Write the planned tars that do not stand already; return all of them in the order of the plans.

    Those of `held` names wait in `.parts`.
    """
    todo = [plan for plan in plans if plan.name not in kept]
    progress(sum(tar.file.samples for tar in kept.values()), "unchanged" if kept and not todo else "")
    tars = dict(kept)
    _sweep(out)
    try:
        for result in run_plan(
            partial(write_shard, str(out.absolute()), roots, held),
            todo,
            folder=out / PARTS,
            name=lambda plan: plan.name,
            size=lambda result: result.file.samples,
            progress=progress,
        ):
            tars[_stem(result.file)] = Tar(result.file, result.table(), result.dropped)
    finally:
        _sweep(out)
    return [tars[plan.name] for plan in plans]


def needs(sources: Iterable[tuple[Path, Manifest]]) -> list[Path]:
    """Return what a worker must see to read the sources: each manifest, and a file of its root that is there."""
    found = []
    for path, manifest in sources:
        root = Path(manifest.root)
        files = (root / name for name in manifest.source_files)
        found += [path / manifests.SAMPLES, next((file for file in files if file.is_file()), root)]
    return found


def _sweep(out: Path) -> None:
    """Remove what was being written when its process died."""
    for folder in (out, out / PARTS):
        for path in folder.glob(".*.tar.tmp*"):
            path.unlink(missing_ok=True)


def _standing(out: Path, plans: Sequence[ShardPlan], old: Index | None) -> dict[str, Tar]:
    """Return what is already written from the same plans: from an unfinished run's parts, or a finished set."""
    wanted = {plan.name: plan.digest() for plan in plans}
    found = _resumed(out, wanted, _names(old))
    if old is not None and len(found) < len(wanted):
        for tar in _tars(old):
            name = _stem(tar.file)
            if name not in found and wanted.get(name) == tar.file.plan and has_size(out, tar.file):
                found[name] = tar
    return found


def _resumed(out: Path, wanted: Mapping[str, str], held: frozenset[str]) -> dict[str, Tar]:
    """Return what a stopped run wrote from the same plans; what it had waiting from others is removed."""
    found: dict[str, Tar] = {}
    for name, digest in wanted.items():
        path = part_path(out, name)
        if path.exists():
            try:
                part = msgspec.msgpack.decode(path.read_bytes(), type=Written)
            except msgspec.DecodeError:
                continue  # another version's: the tar is written anew
            if part.file.plan == digest and has_size(out / PARTS if name in held else out, part.file):
                found[name] = Tar(part.file, part.table(), part.dropped)
    for path in (out / PARTS).glob("*.tar"):
        if path.stem not in found.keys() & held:
            path.unlink()
    return found


def _tars(index: Index) -> list[Tar]:
    """Return the tars of a finished set: their rows stand in the index one tar after the other."""
    rows = index.table.cast(ROW_SCHEMA)
    dropped: dict[str, list[Dropped]] = defaultdict(list)
    for one in index.set.dropped:
        if not one.is_selected:
            dropped[one.detail.partition(": ")[0]].append(one)
    found, start = [], 0
    for file in index.set.shards:
        found.append(Tar(file, rows.slice(start, file.samples), dropped[_stem(file)]))
        start += file.samples
    return found


def _stem(file: ShardFile) -> str:
    return file.name.removesuffix(".tar")


def _names(index: Index | None) -> frozenset[str]:
    return frozenset(map(_stem, index.set.shards)) if index is not None else frozenset()


def _came_back(dropped: Dropped, roots: Mapping[str, str]) -> bool:
    """Say whether a sample that a tar had to leave out could be in it now."""
    if dropped.reason != "image.missing":
        return True  # to know, its picture must be read: the tar is written anew
    path = dropped.detail.partition(": ")[2].rpartition(": ")[0]
    return any(Root(Path(root)).inside(path).is_file() for root in set(roots.values()))


def _old_index(out: Path) -> Index | None:
    """Return the index of the set that stands in a folder; None where there is none, or a damaged one to write anew."""
    try:
        return Index(out)
    except ShardError:
        return None


def has_size(out: Path, file: ShardFile) -> bool:
    """Say whether the tar of an entry is there, as long as the entry says."""
    path = out / file.name
    return path.is_file() and path.stat().st_size == file.bytes


def _entries(
    out: Path, sources: Sequence[tuple[Path, Manifest]], tars: Sequence[Tar], group: int = 0
) -> tuple[ShardSource, ...]:
    rows = pa.concat_tables([pa.Table.from_batches([], ROW_SCHEMA), *[tar.rows for tar in tars]])
    named = rows.column("source").combine_chunks().dictionary_encode()
    codes, lengths = as_numpy(named.indices), as_numpy(rows.column("text_length").combine_chunks())
    names = named.dictionary.to_pylist()
    counts = dict(zip(names, np.bincount(codes).tolist(), strict=True))
    sums = dict(zip(names, np.bincount(codes, lengths).tolist(), strict=True))
    return tuple(
        ShardSource(
            name=manifest.name,
            dataset=manifest.dataset,
            task=manifest.task,
            split=manifest.split,
            use=manifest.use,
            family=manifest.family,
            samples=counts.get(manifest.name, 0),
            text_length=int(sums.get(manifest.name, 0)),
            spec_hash=manifest.spec_hash,
            fingerprint=manifest.fingerprint,
            manifest=os.path.relpath(path, out),
            ledger=ledgers.load(path / manifests.LEDGER),
            labels=manifest.labels,
            group=group,
        )
        for path, manifest in sources
    )


def _specs(sources: Sequence[tuple[Path, Manifest]]) -> dict[str, Any]:
    return {f"{m.dataset}/{m.task}": {k: v for k, v in m.spec.items() if k != "path"} for _, m in sources}


def _joined(
    out: Path,
    old: Index,
    fresh: Sequence[tuple[Path, Manifest]],
    new: Sequence[Tar],
    selected: Sequence[Dropped],
) -> tuple[ShardSet, list[Tar]]:
    """Return the set that an old one and new tars make together, and its tars in order.

    Of the layout `by_task` it is the one that a single call would have made; mixed shards follow the older ones.
    """
    mixed = old.set.layout == "mixed"
    replaced = {manifest.name for _, manifest in fresh}
    tars = [tar for tar in _tars(old) if mixed or source_of(_stem(tar.file)) not in replaced] + [*new]
    if not mixed:
        tars.sort(key=lambda tar: (source_of(_stem(tar.file)), int(_stem(tar.file).rpartition("-")[2])))
    group = max((entry.group for entry in old.set.sources), default=-1) + 1 if mixed else 0
    entries = [entry for entry in old.set.sources if entry.name not in replaced]
    entries += _entries(out, fresh, new, group)
    entries.sort(key=lambda entry: entry.name)
    kept = [one for one in old.set.dropped if one.is_selected and one.source not in replaced]
    selected = sorted([*kept, *selected], key=lambda one: one.source)
    found = msgspec.structs.replace(
        old.set,
        shards=tuple(tar.file for tar in tars),
        sources=tuple(entries),
        dropped=(*(one for tar in tars for one in tar.dropped), *selected),
        specs={**old.set.specs, **_specs(fresh)},
    )
    return found, tars


def _attributed(out: Path, found: ShardSet, sources: Sequence[tuple[Path, Manifest]]) -> dict[str, bytes]:
    folders = {manifest.name: path for path, manifest in sources}
    return attribution.files(attribution.gather(out, found, folders))


def publish(out: Path, found: ShardSet, tars: Sequence[Tar], beside: Mapping[str, bytes]) -> None:
    """Make a set of tars the one that stands in a folder, in steps that a later call can finish.

    `beside` are the files that say whose work it is. What is to come is written down in `.parts` first. From then on
    the folder says of itself that it is unfinished, until the last step, the renaming of shards.json.
    """
    parts = out / PARTS
    write_atomic(parts / INDEX, index_bytes(tars))
    for name, content in beside.items():
        write_atomic(parts / name, content)
    write_atomic(parts / STALE, msgspec.json.encode(sorted(_stale(out, found))))
    data = msgspec.json.format(msgspec.json.encode(found, order="sorted"), indent=1)
    write_atomic(parts / SHARDS, data + b"\n")
    (out / SHARDS).unlink(missing_ok=True)
    _roll_forward(out)


def index_bytes(tars: Sequence[Tar]) -> bytes:
    rows = pa.concat_tables(
        [pa.Table.from_batches([], ROW_SCHEMA), *[tar.rows for tar in tars]]
    ).combine_chunks()
    columns = [
        rows.column(number).dictionary_encode() if pa.types.is_dictionary(field.type) else rows.column(number)
        for number, field in enumerate(INDEX_SCHEMA)
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(columns, schema=INDEX_SCHEMA), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _stale(out: Path, found: ShardSet) -> set[str]:
    """Return the tars that an older set, or a stopped run by another plan, left in a folder."""
    names = {f"{part.stem}.tar" for part in (out / PARTS).glob("*.msgpack")}
    with suppress(ShardError):  # there is no older set, or a damaged one that is written anew
        names |= {file.name for file in load_set(out).shards}
    return names - {file.name for file in found.shards}


def _roll_forward(out: Path) -> None:
    """Finish what `publish` began: every step can be done twice, and the order is such that none is lost."""
    parts = out / PARTS
    if (out / SHARDS).exists():
        (parts / SHARDS).unlink(missing_ok=True)  # a run was stopped before the old set was given up
    if not (parts / SHARDS).exists():
        return
    for name in msgspec.json.decode((parts / STALE).read_bytes(), type=list[str]):
        (out / name).unlink(missing_ok=True)
    for path in parts.glob("*.tar"):
        path.replace(out / path.name)
    for name in (INDEX, attribution.JSON, attribution.PAGE):
        if (parts / name).exists():
            (parts / name).replace(out / name)
    (parts / SHARDS).replace(out / SHARDS)
    shutil.rmtree(parts, ignore_errors=True)
    sweep_rebuilt(out)


def sweep_rebuilt(out: Path) -> None:
    """Remove what a killed `--rebuild` left behind."""
    for folder in out.glob(f"{REBUILD}*"):
        shutil.rmtree(folder, ignore_errors=True)
