"""What lies beside the shards: `index.parquet` (where each sample is) and `shards.json` (what the set is made of)."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dataengine.annotation import LabelSpace
from dataengine.cache import Cache, Whole
from dataengine.columns import as_numpy
from dataengine.errors import ShardError
from dataengine.ledger import Ledger
from dataengine.pool import Pool, Span
from dataengine.ranges import Extents, Ranges
from dataengine.selection import SELECTED
from dataengine.store import Store, StoreSettings, Url
from dataengine.task import Family

INDEX, SHARDS = "index.parquet", "shards.json"
VERSION = 1
DIGITS = 32  # of a digest

INDEX_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("task", pa.dictionary(pa.int32(), pa.string())),
        ("dataset", pa.dictionary(pa.int32(), pa.string())),
        ("shard", pa.dictionary(pa.int32(), pa.string())),
        ("key", pa.string()),
        ("json_offset", pa.int64()),
        ("json_size", pa.int32()),
        ("image_offsets", pa.list_(pa.int64())),
        ("image_sizes", pa.list_(pa.int64())),
        ("digest", pa.string()),
        ("text_length", pa.int32()),
        ("widths", pa.list_(pa.int32())),
        ("heights", pa.list_(pa.int32())),
        ("file", pa.string()),
        ("record", pa.string()),
        ("unsure", pa.list_(pa.string())),
    ]
)
# Sets that were made before a column stood at the end.
_OLDER = INDEX_SCHEMA.names[:-1]


class ShardFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One tar: its bytes, the xxh3-128 of them, and the digest of the plan that it was written from.

    `encoder` names the libraries that made its pictures anew, where its specs declare how large those may be.
    """

    name: str
    samples: int
    bytes: int
    digest: str
    plan: str
    encoder: str = ""


class Dropped(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sample of a manifest that is in no shard, and why: reasons that begin with `selected.` are selections'."""

    id: str
    reason: str
    detail: str

    @property
    def is_selected(self) -> bool:
        """Whether a selection left the sample out, rather than its tar's writer."""
        return self.reason.startswith(SELECTED)

    @property
    def source(self) -> str:
        """The source that the sample is of, as its id says."""
        dataset, split = [*self.id.split("/", 2), "", ""][:2]
        return f"{dataset}/{self.id.rpartition('#')[2]}/{split}"


class ShardSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One converted split inside a shard set; `manifest` is its folder relative to the shards.

    `group` counts the calls that added to a set of mixed shards: each wrote shards of its own splits alone.
    """

    name: str
    dataset: str
    task: str
    split: str
    use: str
    family: Family
    samples: int
    text_length: int
    spec_hash: str
    fingerprint: str
    manifest: str
    ledger: Ledger
    labels: LabelSpace | None
    group: int = 0


class ShardSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The whole set. manifest samples = shard samples + dropped, for each source.

    `unknown` has lines only where the set was restored from its tars: what they could not tell.
    """

    version: int
    layout: str
    samples_per_shard: int
    schema_hash: str
    shards: tuple[ShardFile, ...]
    sources: tuple[ShardSource, ...]
    dropped: tuple[Dropped, ...]
    specs: dict[str, Any]
    unknown: tuple[str, ...] = ()


def load_set(directory: Path | Url, store: Store | None = None) -> ShardSet:
    """Read shards.json, from the store where there is one. Raises ShardError where it is missing or not readable."""
    path = directory / SHARDS
    try:
        data = Path(path).read_bytes() if store is None else store.read_whole(SHARDS)
        return msgspec.json.decode(data, type=ShardSet)
    except FileNotFoundError as error:
        raise ShardError(f"{path}: no such file; run 'dataengine shard' to finish the set") from error
    except (OSError, msgspec.DecodeError) as error:
        raise ShardError(
            f"{path}: not a shard set: {error}; run 'dataengine shard' again with the manifests, or remove it and"
            f" run 'dataengine shard {directory} --index' to make it from the tars"
        ) from error


def in_arrow(data: bytes) -> pa.Buffer:
    """Return bytes copied into memory of Arrow's own.

    Its threads let go of what they have read whenever they like. Where that is an object of Python while the
    interpreter ends, the process aborts, about one time in fifty when a command ends right after reading.
    """
    buffer = pa.allocate_buffer(len(data))
    memoryview(buffer).cast("B")[:] = data
    return buffer


def _way_back(directory: Path | Url) -> str:
    """Say how an index comes back: tars tell all of it but `unsure`, manifests the whole."""
    if isinstance(directory, Url):
        return "upload the shards again"
    return f"run 'dataengine shard' again with the manifests, or without them 'dataengine shard {directory} --index'"


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a sample's bytes lie: `spans` of its JSON, then of its pictures in order, in the tar of this name.

    `digest` is the xxh3-128 of its JSON.
    """

    file: str
    spans: list[Span]
    digest: str


class Places(msgspec.Struct, frozen=True, eq=False):
    """The columns that `Place` is made of, as views: picking a value from an Arrow column costs many times more.

    The pictures of row i are those from first_image[i] up to first_image[i + 1]; its digest are the `DIGITS` characters
    from i * DIGITS on.
    """

    files: list[str]
    shard: memoryview
    json_offset: memoryview
    json_size: memoryview
    first_image: memoryview
    image_offset: memoryview
    image_size: memoryview
    digests: memoryview


class Index:
    """Where each sample lies: one row a sample, in the order of the shards, kept as Arrow columns.

    Of shards at a URL, `store` is where they lie, and `settings` says how it is read. Raises ShardError, and StoreError
    where it cannot be reached.
    """

    def __init__(self, directory: Path | Url, settings: StoreSettings | None = None) -> None:
        self.directory = directory
        self.store = Store(directory, settings) if isinstance(directory, Url) else None
        self.set = load_set(directory, self.store)
        try:
            self.table = (
                pq.ParquetFile(directory / INDEX, memory_map=True).read()
                if self.store is None
                else pq.ParquetFile(pa.BufferReader(in_arrow(self.store.read_whole(INDEX)))).read()
            )
        except FileNotFoundError as error:
            raise ShardError(f"{directory / INDEX}: no such file; {_way_back(directory)}") from error
        except (OSError, pa.ArrowException) as error:
            raise ShardError(
                f"{directory / INDEX}: cannot be read: {error}; {_way_back(directory)}"
            ) from error
        if self.table.schema.names not in (INDEX_SCHEMA.names, _OLDER):
            raise ShardError(
                f"{directory / INDEX}: columns are not those of version {VERSION}; {_way_back(directory)}"
            )
        total = sum(shard.samples for shard in self.set.shards)
        if self.table.num_rows != total:
            raise ShardError(
                f"{directory / INDEX}: has {self.table.num_rows} samples, shards.json {total};"
                f" the index is stale, {_way_back(directory)}"
            )

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def rows_by_source(self) -> dict[str, npt.NDArray[np.int64]]:
        """Return the row numbers of each source, ascending."""
        column = self.table.column("source").combine_chunks()
        codes = as_numpy(column.indices)
        order = np.argsort(codes, kind="stable")
        names = column.dictionary.to_pylist()
        bounds = np.searchsorted(codes[order], np.arange(len(names) + 1))
        return {name: order[bounds[i] : bounds[i + 1]] for i, name in enumerate(names)}

    @cached_property
    def _places(self) -> Places:
        def view(values: pa.Array) -> memoryview:
            return as_numpy(values).data

        def column(name: str) -> Any:
            return self.table.column(name).combine_chunks()

        shard, offsets, sizes = column("shard"), column("image_offsets"), column("image_sizes")
        digests = column("digest")
        _, ends, text = digests.buffers()
        bounds = np.frombuffer(ends or b"", np.int32)[digests.offset :][: len(digests) + 1]
        if (np.diff(bounds) != DIGITS).any():
            raise ShardError(
                f"{self.directory / INDEX}: has digests that are none, expected {DIGITS} characters each;"
                f" {_way_back(self.directory)}"
            )
        return Places(
            files=[f"{name}.tar" for name in shard.dictionary.to_pylist()],
            shard=view(shard.indices),
            json_offset=view(column("json_offset")),
            json_size=view(column("json_size")),
            first_image=view(offsets.offsets),
            image_offset=view(offsets.values),
            image_size=view(sizes.values),
            digests=memoryview(text or b"")[bounds[0] if len(bounds) else 0 :],
        )

    @cached_property
    def _extents(self) -> dict[str, Extents]:
        columns = self._places
        json_offset, first_image = np.asarray(columns.json_offset), np.asarray(columns.first_image)
        image_offset, shard = np.asarray(columns.image_offset), np.asarray(columns.shard)
        starts, ends = json_offset.copy(), json_offset + np.asarray(columns.json_size)
        first = first_image[:-1]
        shown = np.diff(first_image) > 0
        if shown.any():
            lowest = np.minimum.reduceat(image_offset, first[shown])
            highest = np.maximum.reduceat(image_offset + np.asarray(columns.image_size), first[shown])
            starts[shown] = np.minimum(starts[shown], lowest)
            ends[shown] = np.maximum(ends[shown], highest)
        order = np.lexsort((starts, shard))
        bounds = np.searchsorted(shard[order], np.arange(len(columns.files) + 1))
        return {
            file: (starts[order[bounds[i] : bounds[i + 1]]], ends[order[bounds[i] : bounds[i + 1]]])
            for i, file in enumerate(columns.files)
        }

    def extents(self, name: str) -> Extents:
        """Return the first byte of each sample of a shard, ascending, and the byte after each one's last."""
        return self._extents[name]

    def open(self) -> Pool | Ranges | Cache:
        """Return what reads pieces of the shards, by name and offset: files, copies of objects, or the store itself."""
        if self.store is None:
            return Pool(Path(self.directory))
        settings = self.store.settings
        if settings.cache_dir is None or settings.cache_bytes is None:
            return Ranges(self.store, self.extents)
        shards = [Whole(file.name, file.bytes, file.digest) for file in self.set.shards]
        return Cache(self.store, shards, Path(settings.cache_dir), settings.cache_bytes)

    def place(self, number: int) -> Place:
        """Return where one row's bytes lie: what reading a sample needs, and nothing else."""
        columns = self._places
        spans = [(columns.json_offset[number], columns.json_size[number])]
        for picture in range(columns.first_image[number], columns.first_image[number + 1]):
            # A sample has few: a loop costs half of what slices or a comprehension do.
            spans.append((columns.image_offset[picture], columns.image_size[picture]))  # noqa: PERF401
        digest = columns.digests[number * DIGITS : (number + 1) * DIGITS]
        return Place(columns.files[columns.shard[number]], spans, str(digest, "ascii"))

    def unsure(self, number: int) -> tuple[str, ...] | None:
        """Return the classes that may be there though one row's sample does not name them; None where nobody knows."""
        if self._unsure is None:
            return None
        found = self._unsure[number].as_py()
        return None if found is None else tuple(found)

    @cached_property
    def _unsure(self) -> Any:
        if "unsure" not in self.table.schema.names:
            return None
        return self.table.column("unsure").combine_chunks()

    def row(self, number: int) -> dict[str, Any]:
        """Return one row as plain values."""
        return {name: self.table.column(i)[number].as_py() for i, name in enumerate(self.table.schema.names)}

    def find(self, sample_id: str) -> int:
        """Return the row of a sample. Raises ShardError with the way to list ids."""
        import pyarrow.compute as pc

        position = pc.index(self.table.column("id"), sample_id).as_py()
        if position < 0:
            raise ShardError(
                f"{self.directory}: no sample {sample_id!r}; 'dataengine stream {self.directory} --count 5 --json'"
                " lists some"
            )
        return int(position)
