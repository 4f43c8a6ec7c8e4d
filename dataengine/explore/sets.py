"""What is looked at: converted splits and shard sets, each a table of samples that is read by row."""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from dataengine import manifest as manifests
from dataengine.annotation import LabelSpace
from dataengine.columns import as_numpy
from dataengine.errors import DataEngineError, Quarantine, ShardError, SourceError
from dataengine.files import Root
from dataengine.images import MAX_BYTES
from dataengine.index import INDEX, SHARDS, load_set
from dataengine.manifest import Manifest
from dataengine.pool import Pool
from dataengine.sample import Sample

T = TypeVar("T")

KEPT_GROUPS = 4  # row groups of a table that stay in memory after one of their rows was read
_DAMAGE = (OSError, pa.ArrowException, EOFError)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A split of a task on a dataset; `manifest` is the folder that it was converted into, where that is known."""

    name: str
    dataset: str
    task: str
    split: str
    labels: LabelSpace | None = None
    manifest: Path | None = None


class Samples(Protocol):
    """A table of samples. `identity` is a digest of its content, `place` the folder that it lies in.

    `codes` says of each row which of the `sources` it is of, int32 [rows]. `subject` is what an audit calls all of it.
    """

    place: Path
    subject: str
    identity: str
    sources: tuple[Source, ...]
    codes: npt.NDArray[np.int32]

    def ids(self) -> Iterator[list[str]]:
        """Yield the ids of all samples in order, many at a time."""
        ...

    def read(self, row: int) -> bytes:
        """Return a sample as JSON. Raises DataEngineError where it cannot be read."""
        ...

    def encoded(self, start: int, stop: int) -> Iterator[bytes | DataEngineError]:
        """Yield the samples of some rows as JSON, or the error of what cannot be read."""
        ...

    def picture(self, row: int, number: int, sample: Sample) -> bytes:
        """Return the bytes of a sample's picture. Raises DataEngineError or Quarantine."""
        ...

    def where(self, row: int) -> dict[str, Any]:
        """Say where a row lies: shard and offset, or manifest and row."""
        ...


class Recent(Generic[T]):
    """The last few things that were made, by key; one is made by one thread, others wait for it."""

    def __init__(self, make: Callable[[Any], T], most: int) -> None:
        self._make = make
        self._most = most
        self._kept: OrderedDict[Any, T] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, key: Any) -> T:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._make(key)
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]


class Groups:
    """A Parquet table that is read a row group at a time. Raises SourceError where it cannot be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.metadata = pq.read_metadata(path)
        except _DAMAGE as error:
            raise SourceError(f"{path}: cannot be read: {error}; make it again") from error
        counts = [self.metadata.row_group(number).num_rows for number in range(self.metadata.num_row_groups)]
        self.firsts: list[int] = [*accumulate(counts, initial=0)]
        self._recent = Recent(self._load, KEPT_GROUPS)

    def __len__(self) -> int:
        return self.firsts[-1]

    def _load(self, key: tuple[int, tuple[str, ...]]) -> pa.Table:
        number, columns = key
        try:
            # A reader that several threads share is no reader.
            with pq.ParquetFile(self.path, metadata=self.metadata) as file:
                return file.read_row_group(number, columns=list(columns), use_threads=False)
        except _DAMAGE as error:
            raise SourceError(f"{self.path}: row group {number} cannot be read: {error}") from error

    def value(self, row: int, column: str) -> Any:
        """Return one value."""
        return self.row(row, (column,))[column]

    def row(self, row: int, columns: tuple[str, ...]) -> dict[str, Any]:
        """Return some columns of one row."""
        group = bisect_right(self.firsts, row) - 1
        table = self._recent((group, columns))
        return {name: table.column(name)[row - self.firsts[group]].as_py() for name in columns}

    def some(self, name: str, start: int, stop: int) -> Iterator[Any]:
        """Yield the values of a column in some rows, without keeping what was read; an error for rows that are lost."""
        row = start
        while row < stop:
            group = bisect_right(self.firsts, row) - 1
            first, end = self.firsts[group], min(self.firsts[group + 1], stop)
            try:
                yield from self._load((group, (name,))).column(name).slice(row - first, end - row).to_pylist()
            except SourceError as error:
                yield from [error] * (end - row)
            row = end

    def column(self, name: str, batch: int = 1 << 16) -> Iterator[list[Any]]:
        """Yield all values of a column, many at a time."""
        try:
            with pq.ParquetFile(self.path, metadata=self.metadata) as file:
                for part in file.iter_batches(batch, columns=[name], use_threads=False):
                    yield part.column(0).to_pylist()
        except _DAMAGE as error:
            raise SourceError(f"{self.path}: column {name!r} cannot be read: {error}") from error


class Split:
    """A converted split: samples.parquet, and pictures below the root that it was made from."""

    def __init__(self, folder: Path) -> None:
        self.place = folder
        self.manifest = manifests.load(folder)
        self.subject = self.manifest.name
        self._table = Groups(folder / manifests.SAMPLES)
        self.sources: tuple[Source, ...] = (_source(self.manifest, folder),)
        self.codes = np.zeros(len(self._table), np.int32)
        self.identity = _digest(self.manifest.fingerprint, _footer(folder / manifests.SAMPLES))
        self._root = Recent(lambda name: Root(Path(name)), 1)

    def ids(self) -> Iterator[list[str]]:
        return self._table.column("id")

    def read(self, row: int) -> bytes:
        data: bytes = self._table.value(row, "sample")
        return data

    def encoded(self, start: int, stop: int) -> Iterator[bytes | DataEngineError]:
        yield from self._table.some("sample", start, stop)

    def picture(self, row: int, number: int, sample: Sample) -> bytes:
        path = sample.images[number].path
        try:
            file = self._root(self.manifest.root).inside(path)
            size = file.stat().st_size
            if size > MAX_BYTES or not file.is_file():
                raise Quarantine("image.too_large", f"{path}: {size} bytes, or no plain file")
            return file.read_bytes()
        except OSError as error:
            raise SourceError(
                f"{self.manifest.root}: {path}: {error.strerror}; is the source there?"
            ) from error

    def where(self, row: int) -> dict[str, Any]:
        return {"manifest": str(self.place / manifests.SAMPLES), "row": row, "root": self.manifest.root}


class ShardedSet:
    """A set of shards: samples and pictures in tars, found by the index."""

    def __init__(self, folder: Path) -> None:
        self.place = folder
        self.subject = str(folder)
        self.set = load_set(folder)
        self._table = Groups(folder / INDEX)
        names = ["shard", "source", "json_offset", "json_size", "image_offsets", "image_sizes"]
        try:
            data = (folder / INDEX).read_bytes()
            table = pq.read_table(pa.BufferReader(data), columns=names, use_threads=False)
        except (*_DAMAGE, KeyError) as error:
            raise ShardError(
                f"{folder / INDEX}: cannot be read: {error}; run 'dataengine shard' again"
            ) from error
        self.identity = _digest(data)
        column = {name: table.column(name).combine_chunks() for name in names}
        self._shards = [f"{name}.tar" for name in column["shard"].dictionary.to_pylist()]
        self._shard = as_numpy(column["shard"].indices)
        self._json = (as_numpy(column["json_offset"]), as_numpy(column["json_size"]))
        offsets = column["image_offsets"]
        self._first = as_numpy(offsets.offsets)
        self._images = (as_numpy(offsets.values), as_numpy(column["image_sizes"].values))
        known = {one.name: one for one in self.set.sources}
        found = [known[name] for name in column["source"].dictionary.to_pylist() if name in known]
        if len(found) != len(column["source"].dictionary):
            raise ShardError(f"{folder / INDEX}: names sources that {SHARDS} does not; the index is stale")
        self.sources = tuple(
            Source(name=one.name, dataset=one.dataset, task=one.task, split=one.split, labels=one.labels,
                   manifest=_manifest(folder, one.manifest))
            for one in found
        )  # fmt: skip
        self.codes = as_numpy(column["source"].indices)
        self._pool = Pool(folder)

    def ids(self) -> Iterator[list[str]]:
        return self._table.column("id")

    def _piece(self, row: int, offset: int, size: int) -> bytes:
        if not 0 <= size <= MAX_BYTES:
            raise ShardError(
                f"{self.place / INDEX}: row {row} has a piece of {size} bytes; the index is damaged"
            )
        return self._pool.read(self._shards[self._shard[row]], offset, size)

    def read(self, row: int) -> bytes:
        return self._piece(row, int(self._json[0][row]), int(self._json[1][row]))

    def encoded(self, start: int, stop: int) -> Iterator[bytes | DataEngineError]:
        for row in range(start, stop):
            try:
                yield self.read(row)
            except ShardError as error:
                yield error

    def picture(self, row: int, number: int, sample: Sample) -> bytes:
        place = int(self._first[row]) + number
        if place >= self._first[row + 1]:
            raise ShardError(f"{self.place / INDEX}: row {row} has no picture {number}; the index is damaged")
        data = self._piece(row, int(self._images[0][place]), int(self._images[1][place]))
        digest = sample.images[number].digest
        if digest is not None and xxhash.xxh3_128_hexdigest(data) != digest:
            name = self._shards[self._shard[row]]
            raise ShardError(
                f"{self.place / name}: picture {number} of {sample.id} is damaged: its bytes have another digest;"
                f" {self._pool.mend(name)}"
            )
        return data

    def where(self, row: int) -> dict[str, Any]:
        return {
            "shard": str(self.place / self._shards[self._shard[row]]),
            "key": self._table.value(row, "key"),
            "offset": int(self._json[0][row]),
        }


def _digest(*parts: bytes | str) -> str:
    digest = xxhash.xxh3_128()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode())
    return digest.hexdigest()


def _footer(path: Path) -> bytes:
    """Return the footer of a Parquet file: the sizes and bounds of all its pieces. Its length stands before the end."""
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        size = int.from_bytes(file.read(4), "little")
        file.seek(-8 - size, os.SEEK_END)
        return file.read(size)


def _source(manifest: Manifest, folder: Path) -> Source:
    return Source(
        name=manifest.name,
        dataset=manifest.dataset,
        task=manifest.task,
        split=manifest.split,
        labels=manifest.labels,
        manifest=folder,
    )


def _manifest(folder: Path, relative: str) -> Path | None:
    """Return where the manifest of a source lies, None where it is not there any more."""
    if not relative or not (folder / relative / manifests.MANIFEST).is_file():
        return None
    return folder / relative


def find(paths: tuple[Path, ...] | list[Path]) -> tuple[list[Samples], list[str]]:
    """Return the shard sets and converted splits in or below some folders, by place, and a line for each left out.

    A split whose samples lie in one of the shard sets is left out: they would show twice. Raises SourceError where
    there is nothing, or a set cannot be read.
    """
    sharded: dict[Path, Samples] = {}
    folders: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise SourceError(f"{path}: no such folder; expected manifests or shards")
        before = len(sharded) + len(folders)
        for file in sorted(path.rglob(SHARDS)):
            if not file.parent.name.startswith("."):  # a set that is being published
                sharded.setdefault(file.parent.resolve(), ShardedSet(file.parent))
        for file in sorted(path.rglob(manifests.LEDGER)):
            folders.setdefault(file.parent.resolve(), file.parent)
        if len(sharded) + len(folders) == before:
            raise SourceError(
                f"{path}: neither shards nor a finished manifest in or below it; run convert first"
            )
    inside = {
        entry.fingerprint: one.place
        for one in sharded.values()
        if isinstance(one, ShardedSet)
        for entry in one.set.sources
    }
    found, left_out = [*sharded.values()], []
    for folder in folders.values():
        split = Split(folder)
        if split.manifest.fingerprint in inside:
            left_out.append(f"{folder}: its samples are those in {inside[split.manifest.fingerprint]}")
        else:
            found.append(split)
    return sorted(found, key=lambda one: str(one.place)), left_out


class Collection:
    """All tables as one: rows are numbered through, in the order of the tables.

    `codes` says of each row which of the `sources` it is of, `ids` are the xxh3-64 of the samples' ids, uint64 [rows].
    """

    def __init__(self, sets: list[Samples], ids: list[npt.NDArray[np.uint64]]) -> None:
        self.sets = sets
        # Of one table, they may lie in a file.
        self.ids = ids[0] if len(ids) == 1 else np.concatenate(ids)
        self.firsts = [*accumulate((len(one.codes) for one in sets), initial=0)]
        self.sources = tuple(source for one in sets for source in one.sources)
        before = [*accumulate((len(one.sources) for one in sets), initial=0)]
        self.codes = np.concatenate(
            [one.codes + np.int32(first) for one, first in zip(sets, before, strict=False)]
        )

    def __len__(self) -> int:
        return self.firsts[-1]

    def locate(self, row: int) -> tuple[Samples, int]:
        """Return the table that a row is in, and its number there."""
        place = bisect_right(self.firsts, row) - 1
        return self.sets[place], row - self.firsts[place]

    def source(self, row: int) -> Source:
        """Return the source of a row."""
        return self.sources[int(self.codes[row])]

    def rows_of(self, sample_id: str) -> list[int]:
        """Return the rows of a sample; more than one where tables share it."""
        rows: list[int] = np.nonzero(self.ids == np.uint64(id_hash(sample_id)))[0].tolist()
        return rows


def id_hash(sample_id: str) -> int:
    """Return what stands for an id."""
    return xxhash.xxh3_64_intdigest(sample_id.encode())


def hash_ids(one: Samples) -> npt.NDArray[np.uint64]:
    """Return what stands for the ids of a table, uint64 [rows]."""
    found = np.zeros(len(one.codes), np.uint64)
    first = 0
    for some in one.ids():
        found[first : first + len(some)] = [id_hash(name) for name in some]
        first += len(some)
    return found
