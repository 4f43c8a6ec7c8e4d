"""Samples in the order in which they lie, to be evaluated: those of a shard set, or of the manifests in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from dataengine import manifest, marks
from dataengine.catalog import Catalog
from dataengine.errors import Damage, Quarantine, SourceError
from dataengine.files import Root
from dataengine.index import SHARDS, Index
from dataengine.mix import Recipe
from dataengine.sample import Sample
from dataengine.state import Hole
from dataengine.store import StoreSettings, Url
from dataengine.stream import Stream

# Samples are read in the order in which they lie: a request brings many.
IN_ORDER = StoreSettings(read_ahead_bytes=8 * 2**20)

Loaded = tuple[Sample, list[bytes]]


def read_samples(path: Path | Url, use: str = "eval", store: StoreSettings = IN_ORDER) -> Iterator[Loaded]:
    """Yield what `serve_samples` does. Raises Damage where a sample is damaged."""
    for found in serve_samples(path, use, store):
        if isinstance(found, Hole):
            raise Damage(found.detail, found.reason, found.file, found.offset)
        yield found


def serve_samples(
    path: Path | Url, use: str = "eval", store: StoreSettings = IN_ORDER, start: int = 0
) -> Iterator[Loaded | Hole]:
    """Yield every sample of a shard set (its sources of that use), or of all manifests in a folder, with its pictures.

    The first `start` of them are left out without being read. A damaged sample of a shard set is a Hole, whose position
    is its place among all of them. Raises ShardError, PlanError or SourceError where there is nothing to read.
    """
    if not _is_shards(path):
        yield from _of_manifests(Path(str(path)), start)
        return
    stream = Stream(path, Recipe(seed=0, global_batch=1, policy="proportional"), use=use, store=store)
    try:
        names = [source.name for source in stream.plan.sources]
        places = [
            (name, *found)
            for name in names
            for found in enumerate(stream.index.rows_by_source[name].tolist())
        ]
        for position, (name, index, row) in list(enumerate(places))[start:]:
            try:
                yield stream.read_row(row)
            except Damage as damage:
                yield Hole(
                    position=position,
                    reason=damage.reason,
                    id=stream.index.row(row)["id"],
                    source=name,
                    index=index,
                    file=damage.file,
                    offset=damage.offset,
                    detail=str(damage),
                )
    finally:
        stream.close()


def _is_shards(path: Path | Url) -> bool:
    return isinstance(path, Url) or (path / SHARDS).is_file()


def _of_manifests(path: Path, start: int) -> Iterator[Loaded]:
    left = start
    for directory in manifest.find(path):
        root = Root(Path(manifest.load(directory).root))
        for sample in manifest.read_samples(directory):
            if left:
                left -= 1
                continue
            yield sample, [_read_picture(root, sample, number) for number in range(len(sample.images))]


def _read_picture(root: Root, sample: Sample, number: int) -> bytes:
    """Return a picture's file with the marks on it that the sample asks about, as shards hold it."""
    path = root.inside(sample.images[number].path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be read: {error.strerror}; the manifest was converted from it, put it back"
        ) from error
    if not (drawn := sample.marks_on(number)):
        return data
    try:
        return marks.draw_on(data, sample.images[number].format, drawn)[0]
    except Quarantine:
        return data  # Whoever decodes it says what is wrong with it.


def describe(path: Path | Url, store: StoreSettings = IN_ORDER) -> tuple[str, dict[str, str]]:
    """Return a digest of the samples that `serve_samples` yields, and the metric of each `dataset/task`.

    A metric is the one that the task's spec declares; "" where it declares none, or where nobody knows the spec.
    """
    if _is_shards(path):
        found = Index(path, store).set
        sources: list[Any] = list(found.sources)
        digest = xxhash.xxh3_128_hexdigest(msgspec.json.encode([found.shards, found.sources]))
        specs = [found.specs.get(f"{one.dataset}/{one.task}") for one in sources]
    else:
        sources = [manifest.load(directory) for directory in manifest.find(Path(str(path)))]
        digest = xxhash.xxh3_128_hexdigest("\n".join(one.fingerprint for one in sources))
        specs = [one.spec for one in sources]
    shipped = {name: task.metric for name, task in Catalog().tasks.items()}
    return digest, {
        f"{one.dataset}/{one.task}": shipped.get(one.task, "")
        if spec is None
        else str(spec.get("task", {}).get("metric", ""))
        for one, spec in zip(sources, specs, strict=True)
    }
