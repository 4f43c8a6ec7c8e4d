"""What samples are searched by, on disk: made once, a part of the rows at a time, and found again by content."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from dataengine.columns import as_numpy, column
from dataengine.errors import DataEngineError
from dataengine.explore.sets import Collection, Samples, hash_ids
from dataengine.files import make_folder, write_atomic

VERSION = 1  # of what a part holds: another one is another file
PART = 10_000  # rows
_SCHEMA = {
    "text": pa.string(),
    "labels": pa.list_(pa.int32()),
    "licenses": pa.list_(pa.int32()),
    "record": pa.uint64(),
    "images": pa.list_(pa.uint64()),
    "problem": pa.string(),
}
_NAMES = b"names"


class _Turn(msgspec.Struct, gc=False):
    text: str


class _Image(msgspec.Struct, gc=False):
    path: str
    license: str | None = None


class _Instance(msgspec.Struct, gc=False):
    label: str


class _Targets(msgspec.Struct, gc=False):
    instances: list[_Instance] = []


class _Route(msgspec.Struct, gc=False):
    kind: str
    name: str


class _Licenses(msgspec.Struct, gc=False):
    annotations: str
    images: str


class _Origin(msgspec.Struct, gc=False):
    file: str
    record: str


class _Brief(msgspec.Struct, gc=False):
    """The parts of a sample that it is searched by; the rest is not decoded."""

    conversation: list[_Turn]
    images: list[_Image]
    targets: _Targets
    origin: _Origin
    license: _Licenses
    routes: list[_Route] = []


class Facts(msgspec.Struct, frozen=True):
    """What one sample is searched by: its text in small letters, the classes of its objects, its licenses.

    `record` and `images` stand for where its annotation and pictures come from; `problem` says why it cannot be read.
    """

    text: str
    labels: tuple[str, ...]
    licenses: tuple[str, ...]
    record: int
    images: tuple[int, ...]
    problem: str | None = None


_decode = msgspec.json.Decoder(_Brief).decode


def folded(text: str) -> str:
    """Return a text as it is compared, whatever its case."""
    return text.casefold()


def record_hash(file: str, record: str) -> int:
    """Return what stands for a place in the source."""
    return xxhash.xxh3_64_intdigest(f"{file}\0{record}".encode())


def image_hash(path: str) -> int:
    """Return what stands for a picture of the source."""
    return xxhash.xxh3_64_intdigest(path.encode())


def facts_of(data: bytes | DataEngineError) -> Facts:
    """Return what a sample is searched by; one that cannot be read has only its problem."""
    if isinstance(data, DataEngineError):
        return Facts("", (), (), 0, (), str(data))
    try:
        brief = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Facts("", (), (), 0, (), f"not a sample: {error}")
    classes = {route.name for route in brief.routes if route.kind == "category"}
    found = {one.label for one in brief.targets.instances} & classes if classes else set()
    stated = {brief.license.annotations, brief.license.images}
    stated.update([image.license for image in brief.images if image.license is not None])
    return Facts(
        folded("\n".join([turn.text for turn in brief.conversation])),
        tuple(sorted(found)),
        tuple(sorted(stated)),
        record_hash(brief.origin.file, brief.origin.record),
        tuple([image_hash(image.path) for image in brief.images]),
    )


def among(values: npt.NDArray[np.uint64], wanted: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Say which values are wanted; `wanted` is sorted, which np.isin would do again for each part."""
    if not len(wanted):
        return np.zeros(len(values), bool)
    place = np.searchsorted(wanted, values)
    return np.asarray(wanted[np.minimum(place, len(wanted) - 1)] == values)


def _coded(values: Sequence[tuple[str, ...]]) -> tuple[list[str], list[list[int]]]:
    """Return all names, and those of each row as positions in them."""
    names = {name: number for number, name in enumerate(sorted({name for some in values for name in some}))}
    return list(names), [[names[name] for name in some] for some in values]


def encode(rows: Sequence[Facts]) -> bytes:
    """Return rows as a part: Parquet, with the names of labels and licenses beside it."""
    labels, label_codes = _coded([row.labels for row in rows])
    licenses, license_codes = _coded([row.licenses for row in rows])
    values: dict[str, Sequence[Any]] = {
        "text": [row.text for row in rows],
        "labels": label_codes,
        "licenses": license_codes,
        "record": [row.record for row in rows],
        "images": [row.images for row in rows],
        "problem": [row.problem for row in rows],
    }
    names = msgspec.json.encode({"labels": labels, "licenses": licenses})
    schema = pa.schema([*_SCHEMA.items()], metadata={_NAMES: names})
    arrays = [column(values[name], kind) for name, kind in _SCHEMA.items()]
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays(arrays, schema=schema), sink, compression="zstd", use_dictionary=["problem"]
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data


class Part:
    """A part that is on disk: rows from `first` up to `stop` of the collection."""

    def __init__(self, path: Path, first: int, stop: int) -> None:
        self.path = path
        self.first = first
        self.stop = stop

    def _table(self, name: str) -> pa.Table:
        return pq.read_table(self.path, columns=[name], use_threads=False)

    def text(self) -> pa.ChunkedArray:
        """Return the texts, in small letters."""
        return self._table("text").column(0)

    def having(self, kind: str, wanted: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Say which rows have one of some `labels` or `licenses`, bool [rows]."""
        table = self._table(kind)
        names = msgspec.json.decode(table.schema.metadata[_NAMES])[kind]
        some = set(wanted)
        codes = [number for number, name in enumerate(names) if name in some]
        lists = table.column(0).combine_chunks()
        return self._any(lists, np.isin(as_numpy(lists.flatten()), codes))

    def counts(self, kind: str) -> Counter[str]:
        """Return how many rows have each of the `labels` or `licenses`."""
        table = self._table(kind)
        names = msgspec.json.decode(table.schema.metadata[_NAMES])[kind]
        found = np.bincount(as_numpy(table.column(0).combine_chunks().flatten()), minlength=len(names))
        return Counter(dict(zip(names, found.tolist(), strict=True)))

    def of_records(self, wanted: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Say which rows come from one of some places of the source, in their order, bool [rows]."""
        return among(as_numpy(self._table("record").column(0).combine_chunks()), wanted)

    def of_images(self, wanted: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Say which rows show one of some pictures, in their order, bool [rows]."""
        lists = self._table("images").column(0).combine_chunks()
        return self._any(lists, among(as_numpy(lists.flatten()), wanted))

    def broken(self) -> npt.NDArray[np.bool_]:
        """Say which rows cannot be read, bool [rows]."""
        values = self._table("problem").column(0).combine_chunks()
        return np.array(values.is_valid().to_pylist(), bool)

    def _any(self, lists: pa.ListArray, hit: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        found = np.zeros(self.stop - self.first, bool)
        lengths = np.diff(as_numpy(lists.offsets))
        found[np.repeat(np.arange(len(found)), lengths)[hit]] = True
        return found


_Made = tuple[Part, dict[str, Counter[str]], int]


class Parts:
    """All parts of a collection: those on disk, and a thread that makes the others in order until it is stopped.

    `broken` are the rows of the parts that are there which cannot be read.
    """

    def __init__(self, collection: Collection, cache: Path) -> None:
        self._collection = collection
        self._cache = cache
        self._ready = threading.Condition()
        self._stopped = False
        self.error = ""
        self.done: list[Part] = []
        self._counts = {"labels": Counter[str](), "licenses": Counter[str]()}
        self.broken = 0
        self.plan = [
            (one, start, min(start + PART, len(one.codes)))
            for one in collection.sets
            for start in range(0, len(one.codes), PART)
        ]
        self._thread = threading.Thread(target=self._run, name="parts", daemon=True)

    @property
    def rows(self) -> int:
        """How many rows are there."""
        return self.done[-1].stop if self.done else 0

    def counts(self, kind: str) -> Counter[str]:
        """Return how many rows of the parts that are there have each of the `labels` or `licenses`."""
        with self._ready:
            return self._counts[kind].copy()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End: what is half made is left out, what is there stays for the next time."""
        with self._ready:
            self._stopped = True
            self._ready.notify_all()
        if self._thread.is_alive():
            self._thread.join(30)

    def wait(self, number: int, timeout_s: float) -> Part | None:
        """Return a part, None where it is not there in time. Raises DataEngineError where it will never be."""
        with self._ready:
            self._ready.wait_for(lambda: len(self.done) > number or self._stopped or self.error, timeout_s)
            if len(self.done) > number:
                return self.done[number]
            if self.error:
                raise DataEngineError(self.error)
            return None

    def _run(self) -> None:
        first = 0
        for one, start, stop in self.plan:
            try:
                made = self._made(one, start, stop, first)
                if made is None:
                    return
                part, counts, broken = made
            except (DataEngineError, OSError, pa.ArrowException, OverflowError) as error:
                self._fail(f"the search index cannot be made: {error}")
                return
            except Exception as error:
                self._fail(f"a defect of dataengine: {type(error).__name__}: {error}")
                raise
            with self._ready:
                for kind, some in counts.items():
                    self._counts[kind].update(some)
                self.broken += broken
                self.done.append(part)
                self._ready.notify_all()
            first = part.stop

    def _fail(self, error: str) -> None:
        with self._ready:
            self.error = error
            self._ready.notify_all()

    def _made(self, one: Samples, start: int, stop: int, first: int) -> _Made | None:
        """Return a part with its counts, made unless it is there; None where there is no more time."""
        path = folder_of(self._cache, one) / f"{start:012d}.parquet"
        if path.is_file():
            try:
                return self._counted(Part(path, first, first + stop - start))
            except (OSError, pa.ArrowException, KeyError, msgspec.DecodeError):
                path.unlink()  # what a power cut left is made again
        rows = []
        for data in one.encoded(start, stop):
            rows.append(facts_of(data))
            if self._stopped:
                return None
        write_atomic(path, encode(rows), sync=False)
        return self._counted(Part(path, first, first + stop - start))

    def _counted(self, part: Part) -> _Made:
        return part, {kind: part.counts(kind) for kind in self._counts}, int(part.broken().sum())


def folder_of(cache: Path, one: Samples) -> Path:
    """Return the folder of a table's parts, which its content names."""
    return cache / f"{one.identity}-{VERSION}"


def open_ids(one: Samples, cache: Path) -> npt.NDArray[np.uint64]:
    """Return what stands for the ids of a table, from the cache where it is there."""
    path = folder_of(cache, one) / "ids.u64"
    if not path.is_file() or path.stat().st_size != 8 * len(one.codes):
        make_folder(path.parent)
        write_atomic(path, hash_ids(one).astype("<u8").tobytes(), sync=False)
    if not len(one.codes):
        return np.zeros(0, np.uint64)
    return np.memmap(path, "<u8", "r")
