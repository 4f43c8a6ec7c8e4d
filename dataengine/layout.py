"""Which samples each tar of a shard set will hold: planned before anything is written, from the manifests alone."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from dataengine import manifest as manifests
from dataengine import marks, schema
from dataengine.columns import as_numpy, column
from dataengine.index import VERSION
from dataengine.manifest import Manifest
from dataengine.resize import Pictures, encoder
from dataengine.sample import Sample

Layout = Literal["by_task", "mixed"]
# Of each source the rows that a selection leaves out, ascending, with their samples' ids.
LeftOut = Mapping[str, Mapping[int, str]]


class Part(msgspec.Struct, frozen=True):
    """A run of rows of one manifest; `pictures` says how large the pictures may be, where the spec does.

    `left_out` are rows of the run that do not go into the tar.
    """

    directory: str
    fingerprint: str
    source: str
    start: int
    stop: int
    pictures: Pictures | None = None
    left_out: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """The number of rows that go into the tar."""
        return self.stop - self.start - len(self.left_out)


class ShardPlan(msgspec.Struct, frozen=True):
    """What one tar will hold: runs of rows, and in which order they take turns (positions in `parts`)."""

    name: str
    parts: tuple[Part, ...]
    turns: bytes | None

    @property
    def encoder(self) -> str:
        """What makes the tar's pictures anew: empty where all keep their bytes."""
        return encoder() if any(part.pictures is not None for part in self.parts) else ""

    def digest(self) -> str:
        """Return a digest of all that decides the tar's bytes, free of where the manifests lie."""
        content = [(part.fingerprint, part.source, part.start, part.stop) for part in self.parts]
        made_by = (VERSION, schema.digest(Sample), marks.VERSION, self.name, content)
        data = msgspec.json.encode(made_by) + (self.turns or b"")
        if self.encoder:
            data += msgspec.json.encode((self.encoder, [part.pictures for part in self.parts]))
        if any(part.left_out for part in self.parts):
            data += msgspec.json.encode({"left_out": [part.left_out for part in self.parts]})
        return xxhash.xxh3_128_hexdigest(data)


def plan_shards(
    sources: Sequence[tuple[Path, Manifest]],
    layout: Layout,
    samples_per_shard: int,
    first: int = 0,
    left_out: LeftOut | None = None,
) -> list[ShardPlan]:
    """Return the shards to write: a pure function of the manifests, the layout, the shard size and what is left out.

    Numbers of mixed shards begin at `first`: a set that was added to has shards already. What is left out moves no
    other sample into another shard, so that a change of mind costs the shards that it speaks of alone; a shard of which
    nothing is left is not planned, and its number stays free.
    """
    left_out = left_out or {}
    if layout == "by_task":
        plans = [
            plan
            for path, manifest in sources
            for plan in _by_task(path, manifest, samples_per_shard, left_out)
        ]
    else:
        plans = _mixed(sources, samples_per_shard, first, left_out)
    return [plan for plan in plans if any(part.count for part in plan.parts)]


def find_left_out(sources: Sequence[tuple[Path, Manifest]], ids: Collection[str]) -> LeftOut:
    """Return the rows of manifests whose samples have one of the ids."""
    if not ids:
        return {}
    wanted = column(sorted(ids), pa.string())
    found = {}
    for path, manifest in sources:
        names = pq.read_table(path / manifests.SAMPLES, columns=["id"]).column("id").combine_chunks()
        rows = as_numpy(pc.indices_nonzero(pc.is_in(names, wanted)))
        found[manifest.name] = dict(
            zip(rows.tolist(), names.take(column(rows.tolist(), pa.int64())).to_pylist(), strict=True)
        )
    return found


def num_planned(sizes: Iterable[int], samples_per_shard: int) -> int:
    """Return how many shards of the layout `mixed` sources of these sizes make, were nothing left out."""
    return -(-sum(sizes) // samples_per_shard)


def source_of(name: str) -> str:
    """Return the source whose samples a shard of the layout `by_task` holds, from the shard's name."""
    return "/".join(name.split("-")[:3])


def _by_task(path: Path, manifest: Manifest, samples_per_shard: int, left_out: LeftOut) -> list[ShardPlan]:
    count = manifests.num_samples(path)
    stem = manifest.name.replace("/", "-")
    gone = [*left_out.get(manifest.name, ())]
    return [
        ShardPlan(
            f"{stem}-{number:06d}",
            (_part(path, manifest, start, min(start + samples_per_shard, count), gone),),
            None,
        )
        for number, start in enumerate(range(0, count, samples_per_shard))
    ]


def _part(path: Path, manifest: Manifest, start: int, stop: int, gone: Sequence[int]) -> Part:
    pictures = _pictures(manifest)
    left_out = tuple(gone[bisect_left(gone, start) : bisect_left(gone, stop)])
    return Part(str(path.absolute()), manifest.fingerprint, manifest.name, start, stop, pictures, left_out)


def _pictures(manifest: Manifest) -> Pictures | None:
    """Return how large the pictures of a split may be, as its spec says."""
    dataset = manifest.spec["dataset"]
    declared = dataset["tasks"][manifest.task].get("pictures") or dataset.get("pictures")
    return msgspec.convert(declared, Pictures) if declared else None


def _mixed(
    sources: Sequence[tuple[Path, Manifest]], samples_per_shard: int, first: int, left_out: LeftOut
) -> list[ShardPlan]:
    gone = [[*left_out.get(manifest.name, ())] for _, manifest in sources]
    counts = [manifests.num_samples(path) for path, _ in sources]
    # Every source spreads evenly over the whole: sample j of n stands at (j + 1/2) / n.
    places = np.concatenate([(np.arange(count) + 0.5) / count for count in counts if count] or [np.zeros(0)])
    owners = np.repeat(np.arange(len(counts), dtype=np.uint16), counts)
    order = owners[np.lexsort((owners, places))]
    served = np.zeros(len(counts), dtype=np.int64)
    plans = []
    for number, start in enumerate(range(0, len(order), samples_per_shard), first):
        turns = order[start : start + samples_per_shard]
        taken = np.bincount(turns, minlength=len(counts))
        used = np.flatnonzero(taken)
        parts = tuple(
            _part(*sources[int(i)], int(served[i]), int(served[i] + taken[i]), gone[int(i)]) for i in used
        )
        compact = np.searchsorted(used, turns).astype("<u2")
        plans.append(ShardPlan(f"mixed-{number:06d}", parts, compact.tobytes()))
        served += taken
    return plans
