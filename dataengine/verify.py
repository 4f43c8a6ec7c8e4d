"""Proof that shards are what they were, and the way back: read every byte again, or write every tar again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.compute as pc
import xxhash

from dataengine import manifest as manifests
from dataengine import sample as samples
from dataengine import tar
from dataengine.errors import ShardError, nearest
from dataengine.files import alone, digest_file, unwritable
from dataengine.index import INDEX, Index, Place, ShardFile, ShardSet, ShardSource, load_set
from dataengine.layout import Layout, ShardPlan, find_left_out, num_planned, plan_shards, source_of
from dataengine.manifest import Manifest
from dataengine.runners import RunnerName, run
from dataengine.sample import Sample
from dataengine.shard import REBUILD, Progress, has_size, needs, sweep_rebuilt
from dataengine.store import Store, StoreSettings, Url
from dataengine.write import member_names, write_shard


def verify(
    out: Path | Url, progress: Progress = lambda count, text: None, settings: StoreSettings | None = None
) -> list[str]:
    """Return one line for every shard or sample whose bytes are not those of the index; empty means whole.

    Shards at a URL are copied, one at a time, into a temporary file of this machine. Raises StoreError where the store
    cannot be reached: no word about the shards in it.
    """
    index = Index(out, settings)
    findings = [
        f"{out / INDEX}: {column} {value!r} stands twice"
        for column in ("id", "key")
        for value in _twice(index, column)
    ]
    by_shard: dict[str, list[int]] = {}
    for number, name in enumerate(index.table.column("shard").to_pylist()):
        by_shard.setdefault(name, []).append(number)
    for file in index.set.shards:
        rows = by_shard.get(file.name.removesuffix(".tar"), [])
        if index.store is None:
            findings += _faults(index, file, rows, Path(out / file.name))
        else:
            findings += _faults_of_object(index, index.store, file, rows)
        progress(file.samples, "")
    return findings


def _faults_of_object(index: Index, store: Store, file: ShardFile, rows: list[int]) -> list[str]:
    with tempfile.NamedTemporaryFile(prefix="dataengine-verify-", suffix=".tar") as copy:
        path = Path(copy.name)
        try:
            size = store.size(file.name)
            for piece in store.pieces(file.name, file.bytes if size is None else size):
                copy.write(piece)
            copy.flush()
        except ShardError as error:
            return [str(error)]
        except OSError as error:
            raise unwritable(path, error) from error
        return _faults(index, file, rows, path)


def _faults(index: Index, file: ShardFile, rows: list[int], path: Path) -> list[str]:
    """Return what is wrong with a shard whose bytes lie at `path`; lines name its own place."""
    place = index.directory / file.name
    mend = "upload it again"
    if index.store is None:
        name = file.name.removesuffix(".tar")
        mend = f"rebuild it with 'dataengine shard {index.directory} --rebuild --only {name}'"
    if path.is_dir():
        return [f"{place}: is a folder, expected a tar; remove it, then {mend}"]
    if not path.is_file():
        return [f"{place}: missing; {mend}"]
    if path.stat().st_size != file.bytes:
        size = path.stat().st_size
        return [f"{place}: has {size} bytes, expected {file.bytes}; {mend}", *_cut(place, size, index, rows)]
    if digest_file(path) != file.digest:
        return [
            f"{place}: digest differs from shards.json; {mend}",
            *_damaged_samples(place, path.read_bytes(), index, rows),
        ]
    return _stale_rows(path, file.name, index, rows)


def _stale_rows(path: Path, name: str, index: Index, rows: list[int]) -> list[str]:
    """Say how many rows of the index do not lead to their samples in a tar that is whole, and name the first."""
    with path.open("rb") as file:
        lost = [number for number in rows if not _leads(file, index.place(number))]
    if not lost:
        return []
    return [
        f"{index.directory / INDEX}: {len(lost)} of {len(rows)} samples of {name} lie elsewhere,"
        f" {index.row(lost[0])['id']} the first; the index is stale, run 'dataengine shard' again"
    ]


def _leads(file: BinaryIO, place: Place) -> bool:
    offset, size = place.spans[0]
    file.seek(offset)
    return xxhash.xxh3_128_hexdigest(file.read(size)) == place.digest


def _twice(index: Index, column: str) -> list[str]:
    values, counts = index.table.column(column).value_counts().flatten()
    found: list[str] = values.filter(pc.greater(counts, 1)).to_pylist()
    return found


def _cut(path: Path | Url, size: int, index: Index, rows: list[int]) -> list[str]:
    """Name the first sample of a tar of `size` bytes that is too short for it."""
    for number in rows:
        row = index.row(number)
        begin = min((row["json_offset"], *row["image_offsets"])) - tar.BLOCK
        if _end(row) > size:
            return [f"{path}: offset {begin}: {row['id']} and what follows it are cut off"]
    return []


def _end(row: dict[str, Any]) -> int:
    ends = zip(
        (row["json_offset"], *row["image_offsets"]), (row["json_size"], *row["image_sizes"]), strict=True
    )
    return max(int(start) + int(size) for start, size in ends)


def _damaged_samples(path: Path | Url, data: bytes, index: Index, rows: list[int]) -> list[str]:
    """Name every part of a damaged tar that is not what it was: JSON, pictures, headers, padding, end."""
    owners = {index.row(number)["digest"]: index.row(number)["id"] for number in rows}
    found: list[str] = []
    last = 0
    for number in rows:
        row = index.row(number)
        last = max(last, _end(row))
        encoded = data[row["json_offset"] : row["json_offset"] + row["json_size"]]
        digest = xxhash.xxh3_128_hexdigest(encoded)
        if digest != row["digest"]:
            other = f", it is that of {owners[digest]}" if digest in owners else ""
            found.append(f"{path}: offset {row['json_offset']}: JSON of {row['id']} is damaged{other}")
            continue
        found += _damaged_members(path, data, row, samples.decode(encoded))
    end = last + len(tar.padding(last))
    if data[end:] != tar.end():
        found.append(f"{path}: offset {end}: the end, two empty blocks, is damaged")
    return found or [f"{path}: bytes between its samples are damaged; no sample is"]


def _damaged_members(path: Path | Url, data: bytes, row: dict[str, Any], sample: Sample) -> Iterator[str]:
    """Yield what is wrong with the pictures of a sample, and with what stands around its members."""
    for image, start, size in zip(sample.images, row["image_offsets"], row["image_sizes"], strict=True):
        if xxhash.xxh3_128_hexdigest(data[start : start + size]) != image.digest:
            yield f"{path}: offset {start}: picture {image.path} of {row['id']} is damaged"
    starts, sizes = (row["json_offset"], *row["image_offsets"]), (row["json_size"], *row["image_sizes"])
    for name, start, size in zip(member_names(row["key"], sample), starts, sizes, strict=True):
        begin = start - tar.BLOCK
        if data[begin:start] != tar.header(name, size):
            yield f"{path}: offset {begin}: header of {name}, {row['id']}, is damaged{_says(data[begin:start], name)}"
        padding = tar.padding(size)
        if data[start + size : start + size + len(padding)] != padding:
            yield f"{path}: offset {start + size}: padding behind {name}, {row['id']}, is damaged"


def _says(header: bytes, name: str) -> str:
    """Say which name a header that is not the right one has."""
    held = header[:100].partition(b"\0")[0].decode(errors="replace")
    return f", its name is {held!r}" if held != name else ""


def rebuild(
    out: Path,
    *,
    only: str | None = None,
    runner: RunnerName = "local",
    workers: int = 1,
    address: str | None = None,
    progress: Progress = lambda count, text: None,
) -> list[str]:
    """Write shards anew from their manifests and compare; a missing or damaged tar is put right.

    Returns one line for every shard that could not be made the same. Raises ShardError where a manifest has moved.
    """
    shard_set = load_set(out)
    sources, plans = _plans(out, shard_set, only.removesuffix(".tar") if only is not None else None)
    files = {file.name: file for file in shard_set.shards}
    roots = {manifest.name: manifest.root for _, manifest in sources}
    findings = []
    with ExitStack() as stack:
        stack.enter_context(alone(out))
        sweep_rebuilt(out)
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=out, prefix=REBUILD))
        except OSError as error:
            raise unwritable(out, error) from error
        for result in run(
            partial(write_shard, str(Path(folder).absolute()), roots, frozenset()),
            plans,
            runner=runner,
            workers=workers,
            address=address,
            folder=Path(folder),
            needs=needs(sources),
            name=lambda plan: plan.name,
            size=lambda result: result.file.samples,
            progress=progress,
        ):
            name = result.file.name
            path = out / name
            if result.file.digest != files[name].digest:
                findings.append(
                    f"{path}: rebuilt bytes differ from shards.json; {_why(files[name], result.file)}"
                )
            elif not has_size(out, files[name]) or digest_file(path) != files[name].digest:
                _put(Path(folder) / name, path)
            (Path(folder) / name).unlink(missing_ok=True)
    return findings


def _put(made: Path, path: Path) -> None:
    try:
        made.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error


def _why(old: ShardFile, new: ShardFile) -> str:
    if old.encoder != new.encoder:
        return (
            f"its pictures were made by {old.encoder or 'none'}, and by {new.encoder or 'none'} now, which may give"
            " other bytes; rebuild it with the older libraries, or run 'dataengine shard' to write it anew"
        )
    return "its source files have changed; 'dataengine shard' with the manifests writes it anew from what they are now"


def _plans(
    out: Path, shard_set: ShardSet, only: str | None
) -> tuple[list[tuple[Path, Manifest]], list[ShardPlan]]:
    """Return the plans of a set's shards, or of one alone, and the manifests that they need.

    Raises SourceError where a manifest is gone, and ShardError where it is from another conversion.
    """
    names = [file.name.removesuffix(".tar") for file in shard_set.shards]
    if only is not None and only not in names:
        raise ShardError(f"{out}: no shard {only!r}{nearest(only, names)}")
    layout: Layout = "mixed" if shard_set.layout == "mixed" else "by_task"
    plans: list[ShardPlan] = []
    used: list[tuple[Path, Manifest]] = []
    selected = {one.id for one in shard_set.dropped if one.is_selected}
    for first, entries in _groups(shard_set, layout, only):
        sources = [_source(out, entry) for entry in entries]
        used += sources
        left_out = find_left_out(sources, selected)
        plans += plan_shards(sources, layout, shard_set.samples_per_shard, first, left_out)
    return used, [plan for plan in plans if only is None or plan.name == only]


def _groups(shard_set: ShardSet, layout: Layout, only: str | None) -> list[tuple[int, list[ShardSource]]]:
    """Return the sources that were planned together, with the number of their first shard; of one shard those alone."""
    if layout == "by_task":
        return [(0, [entry]) for entry in shard_set.sources if only is None or entry.name == source_of(only)]
    groups: list[tuple[int, list[ShardSource]]] = []
    first = 0
    for number in sorted({entry.group for entry in shard_set.sources}):
        entries = [entry for entry in shard_set.sources if entry.group == number]
        groups.append((first, entries))
        first += num_planned((entry.ledger.samples for entry in entries), shard_set.samples_per_shard)
    if only is None:
        return groups
    return [group for group in groups if group[0] <= int(only.rpartition("-")[2])][-1:]


def _source(out: Path, entry: ShardSource) -> tuple[Path, Manifest]:
    if not entry.manifest:
        raise ShardError(
            f"{out}: the manifest of {entry.name} is not known, its index was restored from the tars;"
            " run 'dataengine shard' with the manifests, which writes what differs anew"
        )
    path = (out / entry.manifest).resolve()
    if not path.is_dir():
        raise ShardError(
            f"{path}: no such folder, the manifest of {entry.name} lay there; put it back, or where the set was moved,"
            " run 'dataengine shard' with the manifests where they are now"
        )
    manifest = manifests.load(path)
    if manifest.fingerprint != entry.fingerprint:
        raise ShardError(
            f"{path}: was converted again since; run 'dataengine shard' to bring the set up to date"
        )
    return path, manifest
