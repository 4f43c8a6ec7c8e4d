"""Manifests to WebDataset tars. Shards are planned before they are written: worker count cannot change a byte."""

from __future__ import annotations

import os
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from dataengine import ledger as ledgers
from dataengine import manifest as manifests
from dataengine import marks, schema, tar
from dataengine import sample as samples
from dataengine.errors import Quarantine, ShardError
from dataengine.files import Root, make_folder, unwritable, write_atomic
from dataengine.images import MAX_BYTES, probe
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
from dataengine.manifest import Manifest
from dataengine.runners import RunnerName, run
from dataengine.sample import Sample

Layout = Literal["by_task", "mixed"]
EXTENSIONS = {"jpeg": "jpg", "png": "png", "webp": "webp", "gif": "gif", "bmp": "bmp", "tiff": "tif"}
Progress = Callable[[int, str], None]
REBUILD = ".rebuild-"
PARTS = ".parts"


class Part(msgspec.Struct, frozen=True):
    """A run of rows of one manifest."""

    directory: str
    fingerprint: str
    source: str
    start: int
    stop: int


class ShardPlan(msgspec.Struct, frozen=True):
    """What one tar will hold: runs of rows, and in which order they take turns (positions in `parts`)."""

    name: str
    parts: tuple[Part, ...]
    turns: bytes | None

    def digest(self) -> str:
        """Return a digest of all that decides the tar's bytes, free of where the manifests lie."""
        content = [(part.fingerprint, part.source, part.start, part.stop) for part in self.parts]
        made_by = (VERSION, schema.digest(Sample), marks.VERSION, self.name, content)
        data = msgspec.json.encode(made_by) + (self.turns or b"")
        return xxhash.xxh3_128_hexdigest(data)


class Written(msgspec.Struct, frozen=True):
    """A finished tar: its entry, its index rows, and what it had to leave out."""

    file: ShardFile
    rows: list[dict[str, Any]]
    dropped: list[Dropped]


def plan_shards(
    sources: list[tuple[Path, Manifest]], layout: Layout, samples_per_shard: int
) -> list[ShardPlan]:
    """Return the shards to write: a pure function of the manifests, the layout and the shard size."""
    if layout == "by_task":
        return [
            ShardPlan(
                f"{manifest.dataset}-{manifest.task}-{manifest.split}-{number:06d}",
                (
                    Part(
                        str(path.absolute()),
                        manifest.fingerprint,
                        manifest.name,
                        start,
                        min(start + samples_per_shard, count),
                    ),
                ),
                None,
            )
            for path, manifest in sources
            for count in (manifests.num_samples(path),)
            for number, start in enumerate(range(0, count, samples_per_shard))
        ]
    counts = [manifests.num_samples(path) for path, _ in sources]
    # Every source spreads evenly over the whole: sample j of n stands at (j + 1/2) / n.
    places = np.concatenate([(np.arange(count) + 0.5) / count for count in counts if count] or [np.zeros(0)])
    owners = np.repeat(np.arange(len(counts), dtype=np.uint16), counts)
    order = owners[np.lexsort((owners, places))]
    served = np.zeros(len(counts), dtype=np.int64)
    plans = []
    for number, start in enumerate(range(0, len(order), samples_per_shard)):
        turns = order[start : start + samples_per_shard]
        taken = np.bincount(turns, minlength=len(counts))
        used = np.flatnonzero(taken)
        parts = tuple(
            Part(
                str(sources[i][0].absolute()),
                sources[i][1].fingerprint,
                sources[i][1].name,
                int(served[i]),
                int(served[i] + taken[i]),
            )
            for i in used
        )
        compact = np.searchsorted(used, turns).astype("<u2")
        plans.append(ShardPlan(f"mixed-{number:06d}", parts, compact.tobytes()))
        served += taken
    return plans


def shard(
    paths: Iterable[Path],
    out: Path,
    *,
    layout: Layout = "by_task",
    samples_per_shard: int = 1000,
    runner: RunnerName = "local",
    workers: int = 1,
    address: str | None = None,
    progress: Progress = lambda count, text: None,
) -> ShardSet:
    """Write the shards of some manifests; those that stand already, from the same plan, are kept as they are.

    Raises SourceError or ShardError. A stopped run resumes: finished tars are recognised by their plan's digest.
    """
    sources = _sources(paths)
    plans = plan_shards(sources, layout, samples_per_shard)
    make_folder(out)
    roots = {manifest.name: manifest.root for _, manifest in sources}
    kept = {
        name: written
        for name, written in _standing(out, plans).items()
        if not any(_came_back(one, roots) for one in written.dropped)
    }
    todo = [plan for plan in plans if plan.name not in kept]
    progress(sum(len(kept[name].rows) for name in kept), "unchanged" if kept and not todo else "")
    written = dict(kept)
    _sweep(out)
    try:
        for result in run(
            partial(write_shard, str(out.absolute()), roots),
            todo,
            runner=runner,
            workers=workers,
            address=address,
            folder=out / PARTS,
            needs=needs(sources),
            name=lambda plan: plan.name,
            size=lambda result: len(result.rows),
            progress=progress,
        ):
            written[result.file.name.removesuffix(".tar")] = result
    finally:
        _sweep(out)
    ordered = [written[plan.name] for plan in plans]
    return _finish(out, sources, ordered, layout, samples_per_shard)


def _sources(paths: Iterable[Path]) -> list[tuple[Path, Manifest]]:
    found = [(path, manifests.load(path)) for given in paths for path in manifests.find(given)]
    found.sort(key=lambda pair: pair[1].name)
    for (first, a), (second, b) in pairwise(found):
        if a.name == b.name:
            raise ShardError(f"{a.name} is given twice, as {first} and {second}; give each split once")
    if not found:
        raise ShardError("no manifests given; name the folders that convert wrote")
    return found


def needs(sources: list[tuple[Path, Manifest]]) -> list[Path]:
    """Return what a worker must see to read the sources: each manifest, and a file of its root that is there."""
    found = []
    for path, manifest in sources:
        root = Path(manifest.root)
        files = (root / name for name in manifest.source_files)
        found += [path / manifests.SAMPLES, next((file for file in files if file.is_file()), root)]
    return found


def _sweep(out: Path) -> None:
    """Remove what was being written when its process died."""
    for path in out.glob(".*.tar.tmp*"):
        path.unlink(missing_ok=True)


def _part_path(out: Path, name: str) -> Path:
    return out / PARTS / f"{name}.msgpack"


def _standing(out: Path, plans: list[ShardPlan]) -> dict[str, Written]:
    """Return what is already written from the same plans: from an unfinished run's parts, or a finished set."""
    wanted = {plan.name: plan.digest() for plan in plans}
    found: dict[str, Written] = {}
    for name, digest in wanted.items():
        path = _part_path(out, name)
        if path.exists():
            try:
                result = msgspec.msgpack.decode(path.read_bytes(), type=Written)
            except msgspec.DecodeError:
                continue  # another version's: the tar is written anew
            if result.file.plan == digest and has_size(out, result.file):
                found[name] = result
    old = _old_index(out) if len(found) < len(wanted) else None
    if old is not None:
        files = {file.name.removesuffix(".tar"): file for file in old.set.shards}
        good = {
            name: file
            for name, file in files.items()
            if name not in found and wanted.get(name) == file.plan and has_size(out, file)
        }
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in good}
        if good:
            for row in old.table.to_pylist():
                if row["shard"] in rows:
                    rows[row["shard"]].append(row)
        dropped = {name: [d for d in old.set.dropped if d.detail.startswith(f"{name}: ")] for name in good}
        found.update({name: Written(file, rows[name], dropped[name]) for name, file in good.items()})
    return found


def _came_back(dropped: Dropped, roots: dict[str, str]) -> bool:
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


def write_shard(out: str, roots: dict[str, str], plan: ShardPlan) -> Written:
    """Write one tar under a temporary name, then rename it; its index rows go to `.parts`, so that a rerun finds it."""
    directory = Path(out)
    path = directory / f"{plan.name}.tar"
    # A number of a process is not enough: machines of a cluster have the same ones.
    temporary = directory / f".{plan.name}.tar.tmp{secrets.token_hex(8)}"
    try:
        result = _write_tar(temporary, roots, plan)
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    write_atomic(_part_path(directory, plan.name), msgspec.msgpack.encode(result))
    return result


def _write_tar(path: Path, roots: dict[str, str], plan: ShardPlan) -> Written:
    opened = {part.source: Root(Path(roots[part.source])) for part in plan.parts}
    streams = [manifests.read_samples(Path(part.directory), part.start, part.stop) for part in plan.parts]
    turns = np.frombuffer(plan.turns, "<u2").tolist() if plan.turns else [0] * _rows(plan)
    rows: list[dict[str, Any]] = []
    dropped: list[Dropped] = []
    digest = xxhash.xxh3_128()
    with path.open("wb") as file:
        offset = 0
        for turn in turns:
            sample, source = next(streams[turn]), plan.parts[turn].source
            try:
                sample, pictures = _with_pictures(sample, opened[source])
            except Quarantine as error:
                dropped.append(
                    Dropped(id=sample.id, reason=error.reason, detail=f"{plan.name}: {error.detail}")
                )
                continue
            key = f"{plan.name}-{len(rows):06d}"
            blocks, row = _members(key, sample, pictures, offset)
            for block in blocks:
                file.write(block)
                digest.update(block)
                offset += len(block)
            rows.append({**row, "source": source, "shard": plan.name})
        file.write(tar.end())
        digest.update(tar.end())
        file.flush()
        os.fsync(file.fileno())
    size = offset + len(tar.end())
    entry = ShardFile(
        name=f"{plan.name}.tar", samples=len(rows), bytes=size, digest=digest.hexdigest(), plan=plan.digest()
    )
    return Written(entry, rows, dropped)


def _rows(plan: ShardPlan) -> int:
    return sum(part.stop - part.start for part in plan.parts)


def _with_pictures(sample: Sample, root: Root) -> tuple[Sample, list[bytes]]:
    """Return the sample with its pictures' digests, and their bytes: as they are, or with the sample's marks on them.

    Raises Quarantine `image.missing` or `image.changed` where the source is not what was converted any more, and
    `image.corrupt` where a picture to be marked cannot be decoded whole.
    """
    pictures, images = [], []
    for number, image in enumerate(sample.images):
        path = root.inside(image.path)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise Quarantine("image.too_large", f"{image.path}: more than {MAX_BYTES} bytes")
            data = path.read_bytes()
        except OSError as error:
            raise Quarantine("image.missing", f"{image.path}: {error.strerror}") from error
        real = probe(data)
        if (real.width, real.height, real.format) != (image.width, image.height, image.format):
            raise Quarantine("image.changed", f"{image.path}: is not the picture that was converted")
        if drawn := sample.marks_on(number):
            data, file_format = marks.draw_on(data, image.format, drawn)
            image = msgspec.structs.replace(image, format=file_format)
        pictures.append(data)
        images.append(msgspec.structs.replace(image, digest=xxhash.xxh3_128_hexdigest(data)))
    return msgspec.structs.replace(sample, images=tuple(images)), pictures


def member_names(key: str, sample: Sample) -> list[str]:
    """Return the names of a sample's members: its JSON, then its pictures in order."""
    suffixes = [EXTENSIONS[image.format] for image in sample.images]
    pictures = [f"{key}.{n}.{suffix}" if n else f"{key}.{suffix}" for n, suffix in enumerate(suffixes)]
    return [f"{key}.json", *pictures]


def _members(
    key: str, sample: Sample, pictures: list[bytes], offset: int
) -> tuple[list[bytes], dict[str, Any]]:
    """Return a sample's tar blocks, members sorted by name, and its index row."""
    encoded = samples.encode(sample)
    named = zip(member_names(key, sample), [encoded, *pictures], range(-1, len(pictures)), strict=True)
    blocks: list[bytes] = []
    offsets: dict[int, int] = {}
    for name, data, number in sorted(named):
        blocks += [tar.header(name, len(data)), data, tar.padding(len(data))]
        offsets[number] = offset + tar.BLOCK
        offset += tar.BLOCK + len(data) + len(blocks[-1])
    return blocks, {
        "id": sample.id,
        "task": sample.task,
        "dataset": sample.dataset,
        "key": key,
        "json_offset": offsets[-1],
        "json_size": len(encoded),
        "image_offsets": [offsets[number] for number in range(len(pictures))],
        "image_sizes": [len(data) for data in pictures],
        "digest": xxhash.xxh3_128_hexdigest(encoded),
        "text_length": sum(len(turn.text) for turn in sample.conversation),
        "widths": [image.width for image in sample.images],
        "heights": [image.height for image in sample.images],
        "file": sample.origin.file,
        "record": sample.origin.record,
    }


def _finish(
    out: Path,
    sources: list[tuple[Path, Manifest]],
    written: list[Written],
    layout: Layout,
    samples_per_shard: int,
) -> ShardSet:
    """Remove what does not belong to the set, then write the index, then shards.json."""
    rows = [row for result in written for row in result.rows]
    counts, lengths = Counter[str](), Counter[str]()
    for row in rows:
        counts[row["source"]] += 1
        lengths[row["source"]] += row["text_length"]
    entries = tuple(
        ShardSource(
            name=manifest.name,
            dataset=manifest.dataset,
            task=manifest.task,
            split=manifest.split,
            use=manifest.use,
            family=manifest.family,
            samples=counts[manifest.name],
            text_length=lengths[manifest.name],
            spec_hash=manifest.spec_hash,
            fingerprint=manifest.fingerprint,
            manifest=os.path.relpath(path, out),
            ledger=ledgers.load(path / manifests.LEDGER),
            labels=manifest.labels,
        )
        for path, manifest in sources
    )
    dropped = tuple(one for result in written for one in result.dropped)
    result = ShardSet(
        version=VERSION,
        layout=layout,
        samples_per_shard=samples_per_shard,
        schema_hash=schema.digest(Sample),
        shards=tuple(one.file for one in written),
        sources=entries,
        dropped=dropped,
        specs={f"{m.dataset}/{m.task}": {k: v for k, v in m.spec.items() if k != "path"} for _, m in sources},
    )
    stale = set[str]()
    with suppress(ShardError):  # there is no older set, or a damaged one that is written anew
        stale |= {file.name for file in load_set(out).shards}
    # What a stopped run wrote, by this plan or another one, left a part behind.
    stale |= {f"{part.stem}.tar" for part in (out / PARTS).glob("*.msgpack")}
    for name in stale - {one.file.name for one in written}:
        (out / name).unlink(missing_ok=True)
    # From here until shards.json is back, the folder says of itself that it is unfinished.
    (out / SHARDS).unlink(missing_ok=True)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, INDEX_SCHEMA), sink, compression="zstd")
    write_atomic(out / INDEX, sink.getvalue().to_pybytes())
    data = msgspec.json.format(msgspec.json.encode(result, order="sorted"), indent=1)
    write_atomic(out / SHARDS, data + b"\n")
    shutil.rmtree(out / PARTS, ignore_errors=True)
    for folder in out.glob(f"{REBUILD}*"):
        shutil.rmtree(folder, ignore_errors=True)
    return result
