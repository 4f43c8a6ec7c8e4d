"""Tables as a stream of rows: JSON, JSON Lines, CSV, TSV, YAML, Parquet, what `datasets` saves, tars, names of files.

JSON Lines, CSV, TSV, Parquet, Arrow, tars and TFRecords are read piece by piece; a JSON or YAML document is held whole.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import msgspec

from dataengine import yaml12
from dataengine.annotation import Origin, Rejected
from dataengine.errors import SourceError, SpecError
from dataengine.files import MAX_LINE_BYTES, Root, digest_file
from dataengine.json_text import BOM, without_nan
from dataengine.records.containers import UNPACKING, Record, tar_records, tfrecord_records, unpacked
from dataengine.records.paths import kind, parse_path

Kind = Literal["json", "jsonl", "csv", "tsv", "yaml", "parquet", "hf", "tar", "tfrecord", "files"]
BATCH_ROWS = 256
BUFFER_BYTES = 2**20
_DELIMITED = ("csv", "tsv")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_VALUE = "$value"


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`path` relative to the root; with `*` in it, every file that matches, in order of names.

    `rows` is the path to the list or mapping inside a JSON or YAML document (`.` is the document itself, a mapping of
    rows by key); without it a document is a list of rows, or one row. `columns` names the columns where a table has no
    header, or a wrong one (`header: false` says that the first line is a row already). `nulls` are the cells that mean
    null. `quote: ""` switches quoting off. `hf` is a folder that `Dataset.save_to_disk` wrote. A row of a `tar` is what
    WebDataset takes together, a column for each ending; one of a `tfrecord` is an example, a list for each feature.
    `files` opens nothing: each file that matches is a row with the one column `path`, in order of names, numbers in
    them by their value.
    """

    path: str
    kind: Kind
    rows: str | None = None
    columns: tuple[str, ...] = ()
    header: bool = True
    delimiter: str | None = None
    quote: str = '"'
    nulls: tuple[str, ...] = ()
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if not self.path or self.path.startswith("/") or ".." in PurePosixPath(self.path).parts:
            raise ValueError(f"path {self.path!r}, expected one inside the root")
        if self.rows is not None:
            self._only(("json", "yaml"), "rows")
            if self.rows != "." and not all(isinstance(step, str) for step in parse_path(self.rows)):
                raise ValueError(f"rows {self.rows!r}, expected names with dots between")
        for key, default in (
            ("columns", ()), ("header", True), ("delimiter", None), ("quote", '"'), ("nulls", ()),
        ):  # fmt: skip
            if getattr(self, key) != default:
                self._only(_DELIMITED, key)
        if not self.header and not self.columns:
            raise ValueError("columns: a table without header needs them")
        if len(set(self.columns)) != len(self.columns):
            raise ValueError("columns: a name stands twice")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ValueError(f"delimiter {self.delimiter!r}, expected one character")
        if len(self.quote) > 1:
            raise ValueError(f"quote {self.quote!r}, expected one character or none")
        if self.encoding != "utf-8":
            self._only(("json", "jsonl", *_DELIMITED), "encoding")
            try:
                newline = codecs.encode("a\n", self.encoding)
            except (LookupError, ValueError, TypeError) as error:
                raise ValueError(f"encoding {self.encoding!r} is unknown") from error
            if newline != b"a\n" and self.kind != "json":
                raise ValueError(f"encoding {self.encoding!r} has no plain line ends; convert the file first")

    def _only(self, kinds: tuple[str, ...], key: str) -> None:
        if self.kind not in kinds:
            raise ValueError(f"{key}: a {self.kind} table has none, only {', '.join(kinds)}")


class Row(NamedTuple):
    """A row: its file, its place there for people, its key or number, and its cells by name."""

    file: str
    place: str
    key: str | int
    cells: dict[str, Any]


def read_rows(table: Table, root: Root, needed_as: str, words: frozenset[str]) -> Iterator[Row | Rejected]:
    """Yield the rows of a table in order, and a rejection for each that cannot be read.

    Only columns whose names are in `words` are read where a file is stored by columns. Raises SourceError for a file
    that is missing, cut off, or of another kind.
    """
    files = root.glob(table.path) if "*" in table.path or table.kind == "files" else [table.path]
    if not files:
        raise SourceError(
            f"{root.directory / table.path}: no file matches; the spec needs it as source.{needed_as}"
        )
    if table.kind == "files":
        files.sort(key=_by_number)
    for number, file in enumerate(files):
        match table.kind:
            case "json" | "yaml":
                yield from _document(table, file, root, needed_as)
            case "jsonl":
                yield from _lines(table, file, root, needed_as)
            case "csv" | "tsv":
                yield from _delimited(table, file, root, needed_as)
            case "parquet":
                yield from _parquet(file, root, needed_as, words)
            case "hf":
                yield from _arrow(file, root, needed_as, words)
            case "tar":
                yield from _contained(tar_records, file, root, needed_as, words)
            case "tfrecord":
                yield from _contained(tfrecord_records, file, root, needed_as, words)
            case "files":
                yield Row(file, "file", number, {"path": file})


def _by_number(file: str) -> list[tuple[int, str]]:
    """Return what orders names so that frame 9 comes before frame 10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"([0-9]+)", file)]


def spelled(value: Any) -> frozenset[str]:
    """Return every word that plain data spells, keys and values: a column that no word names is not asked for."""
    found: set[str] = set()
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            # A name may hold any character, so take the text whole, by its backquotes, and by its steps.
            found.update((item, *re.findall(r"`([^`]+)`", item), *re.split(r"[.\[\]{}:`]+", item)))
            found.update(re.findall(r"[\w$-]+", item))
        elif isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            pending += item
    return frozenset(found)


def reject(file: str, place: str, reason: str, detail: str, key: str | None = None) -> Rejected:
    """Return the rejection of the record at a place of a file."""
    return Rejected(key=key or place, reason=reason, detail=detail, origin=Origin(file=file, record=place))


def _cells(value: Any) -> dict[str, Any]:
    """Return a row's cells; a row that is no mapping is the cell `$value`."""
    return value if isinstance(value, dict) else {_VALUE: value}


def _document(table: Table, file: str, root: Root, needed_as: str) -> Iterator[Row | Rejected]:
    """Yield the rows of a document; those of JSON stay raw until their turn, so that millions need no more memory."""
    data = root.read(file, needed_as)
    try:
        data = unpacked(data)
        if table.kind == "yaml":
            whole = _rows_in(table, file, yaml12.load(root.annotation(file, needed_as)))
        else:
            text = data if table.encoding == "utf-8" else data.decode(table.encoding).encode()
            whole = _json_rows(table, file, text.removeprefix(BOM))
        if table.rows is None and isinstance(whole, dict):
            yield Row(file, "$", 0, {key: _plain(value) for key, value in whole.items()})
            return
    except (*_UNREADABLE, *UNPACKING, SpecError) as error:
        raise SourceError(f"{file}: {error}; expected {_expected(table)}") from error
    if not isinstance(whole, list | dict):
        raise SourceError(f"{file}: holds {kind(whole)}; expected {_expected(table)}")
    before = table.rows if table.rows not in (None, ".") else ""
    for key, item in whole.items() if isinstance(whole, dict) else enumerate(whole):
        place = f"{before}[{key}]"
        try:
            cells = _cells(_plain(item))
        except _UNREADABLE as error:
            yield reject(file, place, "schema", f"not JSON: {error}")
        else:
            yield Row(file, place, key, cells)


def _json_rows(table: Table, file: str, text: bytes) -> Any:
    try:
        return _rows_in(table, file, msgspec.Raw(text))
    except _UNREADABLE:
        mended = without_nan(text)
        if mended is None:
            raise
        return _rows_in(table, file, msgspec.Raw(mended))


def _rows_in(table: Table, file: str, whole: Any) -> Any:
    """Return what stands under `rows` of a document, or the document itself. Raises SourceError without the keys."""
    for step in parse_path(table.rows) if table.rows and table.rows != "." else ():
        whole = _opened(whole)
        if not isinstance(whole, dict) or step not in whole:
            raise SourceError(f"{file}: has no {table.rows!r}; expected {_expected(table)}")
        whole = whole[step]
    return _opened(whole)


def _opened(value: Any) -> Any:
    """Return a raw list or mapping with its elements still raw; anything else as it is."""
    if isinstance(value, msgspec.Raw):
        return msgspec.json.decode(value, type=list[msgspec.Raw] | dict[str, msgspec.Raw])
    return value


def _plain(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value


def _expected(table: Table) -> str:
    inside = f" under {table.rows!r}" if table.rows else ""
    return f"a {table.kind.upper()} document with a list or mapping of rows{inside}"


def _lines(table: Table, file: str, root: Root, needed_as: str) -> Iterator[Row | Rejected]:
    for number, line in root.lines(file, needed_as):
        data = (line.removeprefix(BOM) if number == 1 else line).strip()
        if not data:
            continue
        place = f"line {number}"
        try:
            item = msgspec.json.decode(data.decode(table.encoding) if table.encoding != "utf-8" else data)
        except _UNREADABLE as error:
            yield reject(file, place, "schema", f"not JSON: {error}")
            continue
        yield Row(file, place, number, _cells(item))


def _delimited(table: Table, file: str, root: Root, needed_as: str) -> Iterator[Row | Rejected]:
    csv.field_size_limit(MAX_LINE_BYTES)
    reader = csv.reader(
        _decoded(table, file, root, needed_as),
        delimiter=table.delimiter or ("\t" if table.kind == "tsv" else ","),
        quotechar=table.quote or None,
        quoting=csv.QUOTE_MINIMAL if table.quote else csv.QUOTE_NONE,
        strict=True,
    )
    columns: tuple[str, ...] | None = table.columns if not table.header else None
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            # Past a broken quote nobody can tell where a row begins.
            raise SourceError(f"{file}: line {start}: {error}; expected a {table.kind} table") from error
        if cells is None:
            return
        if not cells:
            continue
        if columns is None:
            columns = table.columns or _header(cells, file)
            continue
        place = f"line {start}"
        if len(cells) != len(columns):
            yield reject(file, place, "schema", f"{len(cells)} cells, expected {len(columns)}")
            continue
        if any(_undecoded(cell) for cell in cells):
            yield reject(file, place, "schema", f"not {table.encoding}")
            continue
        row = {
            name: None if cell in table.nulls else cell
            for name, cell in zip(columns, cells, strict=True)
            if name
        }
        yield Row(file, place, start, row)


def _header(cells: list[str], file: str) -> tuple[str, ...]:
    names = tuple(cell.strip() for cell in cells)
    named = [name for name in names if name]
    if len(set(named)) != len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise SourceError(f"{file}: line 1: column {twice!r} stands twice; name the columns with 'columns'")
    return names


def _decoded(table: Table, file: str, root: Root, needed_as: str) -> Iterator[str]:
    """Yield lines as text; bytes that are none become surrogates, so that they cost one row and not the file."""
    for number, line in root.lines(file, needed_as):
        data = line.removeprefix(BOM) if number == 1 else line
        yield data.decode(table.encoding, errors="surrogateescape") + "\n"


def _undecoded(cell: str) -> bool:
    return not cell.isascii() and any("\udc80" <= char <= "\udcff" for char in cell)


def _parquet(file: str, root: Root, needed_as: str, words: frozenset[str]) -> Iterator[Row | Rejected]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = root.annotation(file, needed_as)
    number = 0
    try:
        # Otherwise a row group is read whole, and most writers make one of a million rows.
        with pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False) as table:
            columns = [name for name in table.schema_arrow.names if name in words]
            for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False):
                yield from _batch_rows(batch, file, number)
                number += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # names of columns are text as well
        raise SourceError(f"{path}: {str(error).splitlines()[0]}; expected a Parquet file") from error
    root.digests[file] = digest_file(path)


def _arrow(folder: str, root: Root, needed_as: str, words: frozenset[str]) -> Iterator[Row | Rejected]:
    """Read the Arrow streams of a saved dataset as they lie: nothing is copied to a cache, nothing is looked up."""
    import pyarrow as pa

    number = 0
    for file in _arrow_files(folder, root, needed_as):
        path = root.annotation(file, needed_as)
        try:
            with pa.memory_map(str(path)) as stream, pa.ipc.open_stream(stream) as reader:
                columns = [name for name in reader.schema.names if name in words]
                for batch in reader:
                    for start in range(0, batch.num_rows, BATCH_ROWS):
                        part = batch.slice(start, BATCH_ROWS).select(columns)
                        yield from _batch_rows(part, file, number)
                        number += part.num_rows
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{path}: {str(error).splitlines()[0]}; expected an Arrow stream") from error
        root.digests[file] = digest_file(path)


def _batch_rows(batch: Any, file: str, first: int) -> Iterator[Row | Rejected]:
    """Yield the rows of a batch, numbered from `first`; one whose text is no UTF-8 is rejected alone."""
    try:
        rows = batch.to_pylist() if batch.num_columns else [{}] * batch.num_rows
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            yield reject(file, f"row {first}", "schema", f"a text is no UTF-8: {error}")
            return
        for place in range(batch.num_rows):
            yield from _batch_rows(batch.slice(place, 1), file, first + place)
        return
    for number, cells in enumerate(rows, start=first):
        yield Row(file, f"row {number}", number, cells)


def _contained(
    records: Callable[[Path, frozenset[str]], Iterator[Record]],
    file: str,
    root: Root,
    needed_as: str,
    words: frozenset[str],
) -> Iterator[Row | Rejected]:
    path = root.annotation(file, needed_as)
    for record in records(path, words):
        place = f"row {record.name}" if isinstance(record.name, int) else record.name
        if record.wrong:
            yield reject(file, place, "schema", record.wrong)
        else:
            yield Row(file, place, record.name, record.cells)
    root.digests[file] = digest_file(path)


class _DataFile(msgspec.Struct):
    filename: str


class _State(msgspec.Struct):
    data_files: list[_DataFile] = msgspec.field(name="_data_files")
    indices_files: list[_DataFile] | None = msgspec.field(name="_indices_data_files", default=None)


def _arrow_files(folder: str, root: Root, needed_as: str) -> list[str]:
    path = root.annotation(folder, needed_as)
    if not (path / "state.json").is_file():
        splits = sorted(inner.parent.name for inner in path.glob("*/state.json"))
        hint = (
            f"name one of its splits: {', '.join(splits)}" if splits else "expected what save_to_disk wrote"
        )
        raise SourceError(f"{path}: no state.json; {hint}")
    name = f"{folder}/state.json"
    try:
        state = msgspec.json.decode(root.read(name, needed_as), type=_State)
    except _UNREADABLE as error:
        raise SourceError(f"{name}: {error}; expected what save_to_disk wrote") from error
    if state.indices_files:
        raise SourceError(f"{name}: the rows are picked by an index; save it again after flatten_indices()")
    return [f"{folder}/{item.filename}" for item in state.data_files]
