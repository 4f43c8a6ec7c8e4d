"""Which samples of a build to leave out, and why: a table that anything may write and `shard` honours.

Nothing is deleted. A sample that a selection leaves out is counted as dropped, by its reason; one that no selection
names stays in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from dataengine.errors import SourceError
from dataengine.files import make_folder, write_atomic

MARKED = "marked"  # the reason of what a person decided
SELECTED = "selected."  # begins the reasons of what a selection left out of shards
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("keep", pa.bool_()),
        ("reason", pa.dictionary(pa.int32(), pa.string())),
        ("note", pa.string()),
    ]
)


class Choice(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """What is decided about one sample; `reason` is a rule's id or `marked`, `note` what was seen there."""

    id: str
    keep: bool
    reason: str
    note: str = ""


def write(choices: Iterable[Choice], path: Path) -> int:
    """Write a selection as Parquet, by id; return how many choices it holds. The same choices give the same bytes."""
    rows = [msgspec.to_builtins(choice) for choice in sorted(set(choices))]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), sink, compression="zstd")
    make_folder(path.parent)
    write_atomic(path, sink.getvalue().to_pybytes())
    return len(rows)


def read(path: Path) -> list[Choice]:
    """Return the choices of a selection. Raises SourceError where the file is none."""
    try:
        table = pq.read_table(path, columns=SCHEMA.names).cast(SCHEMA)
        return msgspec.convert(table.to_pylist(), list[Choice])
    except (OSError, KeyError, pa.ArrowException, msgspec.ValidationError) as error:
        raise SourceError(
            f"{path}: not a selection: {error}; expected Parquet with id, keep, reason and note"
        ) from error


def left_out(paths: Sequence[Path]) -> dict[str, Choice]:
    """Return what selections leave out, by sample id. What a person marked to keep stays in, whatever a rule says."""
    found: dict[str, Choice] = {}
    kept: set[str] = set()
    for choice in sorted(choice for path in paths for choice in read(path)):
        if not choice.keep:
            found.setdefault(choice.id, choice)
        elif choice.reason == MARKED:
            kept.add(choice.id)
    return {name: choice for name, choice in found.items() if name not in kept}
