"""index.parquet and shards.json from the tars of a set alone: every fact of a sample stands in its JSON."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from dataengine import attribution, schema
from dataengine import sample as samples
from dataengine.attribution import Counts
from dataengine.catalog import Catalog
from dataengine.errors import ShardError, SpecError
from dataengine.files import alone, digest_file, write_atomic
from dataengine.index import INDEX, SHARDS, VERSION, Dropped, ShardFile, ShardSet, ShardSource, load_set
from dataengine.layout import source_of
from dataengine.ledger import Ledger
from dataengine.licenses import of_pictures
from dataengine.members import Contents, Part, dump, keys_twice, packed_in, read_tars, tars_in
from dataengine.runners import RunnerName, run
from dataengine.sample import ImageTargets, InstanceTargets, KeypointTargets, Sample
from dataengine.shard import Tar, index_bytes, publish
from dataengine.spec import Resolved
from dataengine.task import Family
from dataengine.write import Written, arrow, index_row, member_names

Progress = Callable[[int, str], None]
DAMAGED = "shard.damaged"
Kinds = Counter[tuple[str, tuple[str, ...]]]
UNKNOWN = (
    "classes that a sample leaves open (`unsure` in the index): its rendering said so, its JSON does not",
    "manifests and fingerprints: 'dataengine shard' with the manifests writes the tars anew, and --rebuild needs them",
    "the accounts of the conversions: ledgers count the samples that are here",
    "samples that conversion or sharding left out",
)


class Indexed(msgspec.Struct, frozen=True):
    """What indexing a folder gave: the set of our own tars and what they could not tell, others' table, all faults."""

    set: ShardSet | None
    members: Path | None
    tars: int
    samples: int
    faults: tuple[str, ...]
    unknown: tuple[str, ...]


class Told(msgspec.Struct, frozen=True):
    """What a tar tells: itself, one sample of each of its sources, and how many samples of each have which licenses.

    These are the annotations' and the pictures', "" for a picture that states none where another one does.
    """

    written: Written
    first: dict[str, Sample]
    licenses: dict[str, Kinds]


def index(
    folder: Path,
    *,
    runner: RunnerName = "local",
    workers: int = 1,
    progress: Progress = lambda count, text: None,
) -> Indexed:
    """Index the tars of a folder that have no index: ours get index.parquet and shards.json, others members.parquet.

    Raises ShardError where a tar cannot be read, or one of ours differs from the shards.json that is there.
    """
    contents = []
    for one in read_tars(folder, tars_in(folder), runner=runner, workers=workers):
        contents.append(one)
        progress(len(one.samples), one.name)
    held = {file.name for file in load_set(folder).shards} if (folder / SHARDS).exists() else set[str]()
    ours = [one for one in contents if one.name in held or ("/" not in one.name and is_ours(folder, one))]
    others = [one for one in contents if one not in ours]
    faults = [line for one in contents for line in one.lines(folder)]
    with alone(folder):
        found = restore(folder, ours, runner=runner, workers=workers) if ours else None
    if found is not None:
        faults += [f"{folder}: {one.id}: {one.detail}" for one in found.dropped if one.reason == DAMAGED]
    faults += [f"{folder}: {line}" for line in keys_twice(contents)] + packed_in(folder)
    return Indexed(
        found,
        dump(others, folder) if others else None,
        len(contents),
        sum(len(one.samples) for one in contents),
        tuple(faults),
        (found.unknown or UNKNOWN[:1]) if found is not None else (),
    )


def is_ours(folder: Path, contents: Contents) -> bool:
    """Say whether a tar holds samples as `dataengine shard` writes them; its first sample decides."""
    if not contents.samples:
        return False
    try:
        with (folder / contents.name).open("rb") as file:
            return _sample(file.fileno(), contents.samples[0]) is not None
    except OSError as error:
        raise ShardError(f"{folder / contents.name}: {error.strerror}") from error


def restore(
    folder: Path,
    contents: Sequence[Contents],
    *,
    runner: RunnerName = "local",
    workers: int = 1,
    progress: Progress = lambda count, text: None,
) -> ShardSet:
    """Write the index of some tars of ours that lie in a folder; where shards.json stands, it is kept and believed.

    Every byte is read. A sample that is damaged is in no row and in the set's account of what was dropped. Raises
    ShardError where a tar differs from shards.json.
    """
    tars, first, kinds = [], dict[str, Sample](), dict[str, Kinds]()
    for told in run(partial(_tell, folder), contents, runner=runner, workers=workers):
        tars.append(Tar(told.written.file, told.written.table(), told.written.dropped))
        first = {**told.first, **first}
        for source, counts in told.licenses.items():
            kinds.setdefault(source, Counter()).update(counts)
        progress(told.written.file.samples, "")
    if (folder / SHARDS).exists():
        return _index_anew(folder, load_set(folder), tars)
    found = _set(tars, first)
    known = {source: _counts(source, found, counts) for source, counts in kinds.items()}
    publish(folder, found, tars, attribution.files(attribution.gather(folder, found, {}, known)))
    return found


def _counts(source: str, found: ShardSet, kinds: Kinds) -> Counts:
    spec = found.specs.get(source.rpartition("/")[0])
    # Of a dataset whose spec nobody knows, a picture without a license has none.
    stated = spec["dataset"]["license"]["images"] if spec is not None else "unknown"
    whole = Counter[tuple[str, tuple[str, ...]]]()
    for (license_id, pictures), number in kinds.items():
        whole[license_id, tuple(name or stated for name in pictures)] += number
    return attribution.add(whole)


def _index_anew(folder: Path, held: ShardSet, tars: Sequence[Tar]) -> ShardSet:
    by_name = {tar.file.name: tar for tar in tars}
    for file in held.shards:
        tar = by_name.get(file.name)
        if tar is None or (tar.file.digest, tar.file.samples) != (file.digest, file.samples):
            raise ShardError(
                f"{folder / file.name}: {'missing' if tar is None else 'differs from shards.json'}; run 'dataengine"
                f" shard' again, or remove {SHARDS} to restore what the tars hold"
            )
    write_atomic(folder / INDEX, index_bytes([by_name[file.name] for file in held.shards]))
    return held


def _tell(folder: Path, contents: Contents) -> Told:
    """Return the entry and the rows of a tar, each sample's bytes checked against its digests."""
    path = folder / contents.name
    stem = contents.name.removesuffix(".tar")
    rows: list[dict[str, Any]] = []
    dropped: list[Dropped] = []
    first: dict[str, Sample] = {}
    kinds: dict[str, Kinds] = {}
    with path.open("rb") as file:
        for parts in contents.samples:
            sample = _sample(file.fileno(), parts)
            wrong = "has no readable JSON" if sample is None else _damage(file.fileno(), sample, parts)
            if sample is None or wrong:
                detail = f"{stem}: offset {parts[0].header}: {wrong}"
                dropped.append(
                    Dropped(id=sample.id if sample else parts[0].key, reason=DAMAGED, detail=detail)
                )
                continue
            source = f"{sample.dataset}/{sample.task}/{sample.split}"
            first.setdefault(source, sample)
            own = (image.license for image in sample.images)
            terms = sample.license.annotations, of_pictures(own, sample.license.images, "")
            kinds.setdefault(source, Counter())[terms] += 1
            row = _row(file.fileno(), sample, parts)
            rows.append({**row, "source": source, "shard": stem, "unsure": None})
    entry = ShardFile(
        name=contents.name, samples=len(rows), bytes=contents.bytes, digest=digest_file(path), plan=""
    )
    return Told(Written(entry, arrow(rows), dropped), first, kinds)


def _part(parts: Sequence[Part], name: str) -> Part | None:
    return next((part for part in parts if f"{part.key}.{part.extension}" == name), None)


def _sample(descriptor: int, parts: Sequence[Part]) -> Sample | None:
    part = _part(parts, f"{parts[0].key}.json")
    if part is None:
        return None
    try:
        return samples.decode(os.pread(descriptor, part.size, part.start))
    except msgspec.DecodeError:
        return None


def _places(sample: Sample, parts: Sequence[Part]) -> Iterator[Part | None]:
    for name in member_names(parts[0].key, sample):
        yield _part(parts, name)


def _damage(descriptor: int, sample: Sample, parts: Sequence[Part]) -> str:
    """Say what is wrong with a sample's pictures; nothing where all have their digests."""
    _, *places = _places(sample, parts)
    for image, part in zip(sample.images, places, strict=True):
        if part is None:
            return f"picture {image.path} is missing"
        if xxhash.xxh3_128_hexdigest(os.pread(descriptor, part.size, part.start)) != image.digest:
            return f"picture {image.path} is damaged"
    return ""


def _row(descriptor: int, sample: Sample, parts: Sequence[Part]) -> dict[str, Any]:
    places = [part for part in _places(sample, parts) if part is not None]
    encoded = os.pread(descriptor, places[0].size, places[0].start)
    return index_row(
        parts[0].key, sample, encoded, [part.start for part in places], [part.size for part in places]
    )


def _set(tars: Sequence[Tar], first: dict[str, Sample]) -> ShardSet:
    stems = {tar.file.name.removesuffix(".tar"): tar for tar in tars}
    specs = {source: _spec(sample) for source, sample in first.items()}
    by_task = all(
        set(tar.rows.column("source").to_pylist()) <= {source_of(stem)} for stem, tar in stems.items()
    )
    sources = [_source(source, sample, specs[source], tars) for source, sample in sorted(first.items())]
    unsure = [
        f"use, labels and spec of {name}: no known spec has its digest; use is guessed from the split's name"
        if spec is None
        else f"labels of {name}: the spec names no label space, its source may state one"
        for name, spec in sorted(specs.items())
        if spec is None or spec.labels is None
    ]
    return ShardSet(
        version=VERSION,
        layout="by_task" if by_task else "mixed",
        samples_per_shard=max((tar.file.samples for tar in tars), default=1),
        schema_hash=schema.digest(Sample),
        shards=tuple(tar.file for tar in tars),
        sources=tuple(sources),
        dropped=tuple(one for tar in tars for one in tar.dropped),
        specs={
            spec.id: {key: value for key, value in msgspec.to_builtins(spec).items() if key != "path"}
            for spec in specs.values()
            if spec is not None
        },
        unknown=(*UNKNOWN, *unsure),
    )


def _spec(sample: Sample) -> Resolved | None:
    """Return the shipped task spec that a sample was made from, None where none has its digest."""
    try:
        found = Catalog().find(f"{sample.dataset}/{sample.task}")
    except SpecError:
        return None
    return next((spec for spec in found if spec.hash() == sample.origin.spec_hash), None)


def _source(name: str, sample: Sample, spec: Resolved | None, tars: Sequence[Tar]) -> ShardSource:
    lengths = [
        length
        for tar in tars
        for length, source in zip(
            tar.rows.column("text_length").to_pylist(), tar.rows.column("source").to_pylist(), strict=True
        )
        if source == name
    ]
    count = len(lengths)
    # Where nobody knows, a split that may be a test is not trained on.
    guess = "train" if sample.split.startswith("train") else "eval"
    return ShardSource(
        name=name,
        dataset=sample.dataset,
        task=sample.task,
        split=sample.split,
        use=guess if spec is None else spec.dataset.source.splits[sample.split].use,
        family=_family(sample) if spec is None else spec.task.decoder,
        samples=count,
        text_length=sum(lengths),
        spec_hash=sample.origin.spec_hash,
        fingerprint="",
        manifest="",
        ledger=Ledger(units=count, samples=count, skipped={}, quarantined={}, records=count, images=0),
        labels=None if spec is None else spec.labels,
    )


def _family(sample: Sample) -> Family:
    known = Catalog().tasks.get(sample.task)
    if known is not None:
        return known.decoder
    match sample.targets:
        case InstanceTargets():
            return "detection"
        case KeypointTargets():
            return "pose"
        case ImageTargets():
            return "editing" if any(image.role == "input" for image in sample.images) else "generation"
    return "text"
