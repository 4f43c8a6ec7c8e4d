"""A converted split on disk: samples.parquet, quarantine.parquet, manifest.json and, written last, ledger.json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from dataengine import sample as samples
from dataengine.annotation import LabelSpace
from dataengine.columns import column
from dataengine.errors import SourceError
from dataengine.files import write_atomic
from dataengine.sample import Sample
from dataengine.task import Family

SAMPLES, QUARANTINE, MANIFEST, LEDGER = (
    "samples.parquet",
    "quarantine.parquet",
    "manifest.json",
    "ledger.json",
)

SAMPLE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text_length", pa.int32()),
        ("num_instances", pa.int32()),
        ("images", pa.list_(pa.string())),
        ("file", pa.string()),
        ("record", pa.string()),
        ("image_license", pa.string()),
        ("sample", pa.binary()),
        ("unsure", pa.list_(pa.string())),
    ]
)
QUARANTINE_SCHEMA = pa.schema(
    [
        ("outcome", pa.dictionary(pa.int8(), pa.string())),
        ("reason", pa.dictionary(pa.int16(), pa.string())),
        ("key", pa.string()),
        ("detail", pa.string()),
        ("file", pa.string()),
        ("record", pa.string()),
    ]
)


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a converted split was made from. `fingerprint` covers all of it but the place on this machine.

    `doubts` are what speaks against the conventions that the reader took for granted, one line each.
    """

    dataset: str
    task: str
    split: str
    use: str
    family: Family
    root: str
    spec: dict[str, Any]
    spec_hash: str
    spec_path: str
    reader: str
    seed: int
    limit: int | None
    labels: LabelSpace | None
    source_files: dict[str, str]
    fingerprint: str
    records_expected: int | None = None
    images_expected: int | None = None
    doubts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The source name that mixtures use: `dataset/task/split`."""
        return f"{self.dataset}/{self.task}/{self.split}"


def load(directory: Path) -> Manifest:
    """Read the manifest of a finished split. Raises SourceError where it is missing or unfinished."""
    if not (directory / LEDGER).is_file():
        raise SourceError(f"{directory}: no finished manifest here ({LEDGER} is missing); run convert again")
    try:
        return msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise SourceError(f"{directory / MANIFEST}: not a manifest: {error}; run convert again") from error


def dump(manifest: Manifest, directory: Path) -> None:
    """Write manifest.json."""
    data = msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1)
    write_atomic(directory / MANIFEST, data + b"\n")


def find(path: Path) -> list[Path]:
    """Return the finished splits in or below a folder, sorted. Raises SourceError where there are none."""
    if not path.is_dir():
        raise SourceError(f"{path}: no such folder; expected the --out of convert or a folder in it")
    found = inside(path)
    if not found:
        raise SourceError(f"{path}: no finished manifest in or below it; run convert first")
    return found


def inside(path: Path) -> list[Path]:
    """Return the finished splits in or below a folder, sorted; none below anything else."""
    return sorted(file.parent for file in path.rglob(MANIFEST) if (file.parent / LEDGER).is_file())


class SampleRow(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A row of samples.parquet: `sample` is the whole sample as JSON, the others repeat facts of it.

    Only `unsure` is no fact of it, but of its rendering.
    """

    id: str
    text_length: int
    num_instances: int
    images: tuple[str, ...]
    file: str
    record: str
    image_license: str
    sample: bytes
    unsure: tuple[str, ...] | None


def sample_row(sample: Sample, unsure: tuple[str, ...] | None) -> SampleRow:
    """Return a sample as a row of samples.parquet."""
    return SampleRow(
        id=sample.id,
        text_length=sum(len(turn.text) for turn in sample.conversation),
        num_instances=len(getattr(sample.targets, "instances", ())),
        images=tuple(image.path for image in sample.images),
        file=sample.origin.file,
        record=sample.origin.record,
        image_license=sample.license.images,
        sample=samples.encode(sample),
        unsure=unsure,
    )


def table(rows: Sequence[msgspec.Struct], schema: pa.Schema) -> pa.Table:
    """Return Structs as a table whose columns are their fields."""
    kinds = dict(zip(schema.names, schema.types, strict=True))
    columns = [column([getattr(row, name) for row in rows], kind) for name, kind in kinds.items()]
    return pa.Table.from_arrays(columns, schema=schema)


def read_samples(directory: Path, start: int = 0, stop: int | None = None) -> Iterator[Sample]:
    """Yield the samples of a split from row `start` up to `stop`, reading only the row groups that hold them."""
    for data in read_encoded(directory, start, stop):
        yield samples.decode(data)


def read_encoded(directory: Path, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Yield samples as JSON, as `read_samples` does."""
    yield from _read_column("sample", directory, start, stop)


def read_unsure(directory: Path, start: int = 0, stop: int | None = None) -> Iterator[list[str] | None]:
    """Yield the classes that may be there though a sample does not name them, None where nobody knows."""
    if "unsure" in pq.read_schema(directory / SAMPLES).names:
        yield from _read_column("unsure", directory, start, stop)
    else:
        yield from repeat(None)


def _read_column(name: str, directory: Path, start: int, stop: int | None) -> Iterator[Any]:
    with pq.ParquetFile(directory / SAMPLES) as file:
        first = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            low, high = max(start - first, 0), count if stop is None else min(stop - first, count)
            if low < high:
                # One column gives threads nothing to share.
                column = file.read_row_group(group, columns=[name], use_threads=False).column(name)
                yield from column.slice(low, high - low).to_pylist()
            first += count
            if stop is not None and first >= stop:
                return


def read_lost(directory: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of the units that became no sample."""
    with pq.ParquetFile(directory / QUARANTINE) as file:
        for batch in file.iter_batches(use_threads=False):
            yield from batch.to_pylist()


def num_samples(directory: Path) -> int:
    """Return the number of samples of a split."""
    return int(pq.read_metadata(directory / SAMPLES).num_rows)
