"""Rows written as a table of each kind that `records` reads."""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from dataengine.records.containers import TEXTS
from dataengine.records.tables import Table
from tests.conformance.making.scene import write

Rows = Sequence[tuple[Any, Any]]  # (key or None, cells)


def write_table(tables: Sequence[tuple[Table, Rows]], path: Path) -> None:
    """Write rows as a file; several tables are parts of one document."""
    table, rows = tables[0]
    if len(tables) == 1:
        _WRITERS[table.kind](table, path, rows)
        return
    parts = [_document(one, found) for one, found in tables]
    write(path, json.dumps({key: value for part in parts for key, value in part.items()}))


def named(pattern: str, star: str) -> str:
    """Return a name that a pattern of files matches, with a text for each `*`."""
    return re.sub(r"\[(.).*?\]", r"\1", pattern.replace("**", "inside").replace("*", star).replace("?", "a"))


def _cells(rows: Rows) -> list[Any]:
    return [
        cells["$value"] if isinstance(cells, dict) and set(cells) == {"$value"} else cells
        for _, cells in rows
    ]


def _document(table: Table, rows: Rows) -> Any:
    if table.rows == ".":
        return {str(key): cells for (key, _), cells in zip(rows, _cells(rows), strict=True)}
    if table.rows is None and "*" in table.path and len(rows) == 1:
        return _cells(rows)[0]
    keyed = any(key is not None and not isinstance(key, int) for key, _ in rows)
    found: Any = dict(zip((key for key, _ in rows), _cells(rows), strict=True)) if keyed else _cells(rows)
    for step in reversed(table.rows.split(".") if table.rows else ()):
        found = {step.strip("`"): found}
    return found


def _json(table: Table, path: Path, rows: Rows) -> None:
    write(path, json.dumps(_document(table, rows), ensure_ascii=False).encode(table.encoding))


def _yaml(table: Table, path: Path, rows: Rows) -> None:
    write(path, yaml.safe_dump(_document(table, rows), allow_unicode=True))


def _jsonl(table: Table, path: Path, rows: Rows) -> None:
    write(path, "".join(f"{json.dumps(cells)}\n" for cells in _cells(rows)))


def _delimited(table: Table, path: Path, rows: Rows) -> None:
    columns = [*table.columns] or list(dict.fromkeys(name for _, cells in rows for name in cells))
    text = io.StringIO()
    delimiter = table.delimiter or ("\t" if table.kind == "tsv" else ",")
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if table.quote else csv.QUOTE_NONE
    out = csv.writer(
        text, delimiter=delimiter, quotechar=table.quote or None, quoting=quoting, lineterminator="\n"
    )
    if table.header:
        out.writerow(columns)
    null = table.nulls[0] if table.nulls else ""
    for _, cells in rows:
        out.writerow([null if cells.get(name) is None else cells[name] for name in columns])
    write(path, text.getvalue().encode(table.encoding))


def _parquet(table: Table, path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for _, cells in rows for name in cells))
    pq.write_table(
        pa.Table.from_pylist([{name: cells.get(name) for name in columns} for _, cells in rows]), path
    )


def _tar(table: Table, path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number, (_, cells) in enumerate(rows):
            for column, value in cells.items():
                text = value if column in TEXTS else json.dumps(value) if column.endswith("json") else None
                data = value if text is None else str(text).encode()
                member = tarfile.TarInfo(f"{number:06d}.{column}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


_WRITERS = {
    "json": _json, "yaml": _yaml, "jsonl": _jsonl, "csv": _delimited, "tsv": _delimited, "parquet": _parquet,
    "tar": _tar,
}  # fmt: skip
