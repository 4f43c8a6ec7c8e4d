"""An evaluation set as data: what its pictures and texts are known by, in one Parquet file, or ids in a text file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from dataengine.errors import SourceError, UsageError
from dataengine.files import make_folder, write_atomic
from dataengine.leaks.ids import Spaces
from dataengine.leaks.parts import Look, Part, Progress, looks
from dataengine.leaks.texts import said

VERSION = "1"
# A run of words in more of a set's pictures than these is how it asks, and no question of it.
MOST_SHARING = 10
_ROW = pa.schema(
    [
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("image", pa.string()),
        ("ids", pa.list_(pa.string())),
        ("digest", pa.uint64()),
        ("coarse", pa.uint64()),
        ("pixels", pa.binary()),
        ("low", pa.uint64()),
        ("high", pa.uint64()),
        ("questions", pa.list_(pa.uint64())),
        ("runs", pa.list_(pa.uint64())),
    ]
)


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A picture of an evaluation set, or what it asks without one; `source` is the split that shows it.

    Numbers are xxh3-64: `digest` of the file's bytes, `coarse` of a small copy, `questions` of what is asked, `runs` of
    words in a row. `pixels` is xxh3-128 of all pixels, `low` and `high` are the perceptual hash. None is 0 or empty.
    """

    source: str
    image: str = ""
    ids: tuple[str, ...] = ()
    digest: int = 0
    coarse: int = 0
    pixels: bytes = b""
    low: int = 0
    high: int = 0
    questions: tuple[int, ...] = ()
    runs: tuple[int, ...] = ()


class EvalSet(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluation set: its rows, the fingerprints of the splits that it was made from, and what it lacks.

    `unread` are the pictures whose bytes could not be had: they are known by id alone. `common` are the runs of words
    that were left out because too many of its pictures share them.
    """

    name: str
    rows: list[Row]
    made_from: dict[str, str] = {}
    unread: int = 0
    common: int = 0


def make(name: str, parts: Iterable[Part], spaces: Spaces, workers: int, progress: Progress) -> EvalSet:
    """Make the index of an evaluation set from its splits. Raises UsageError where none is to evaluate on."""
    chosen = [part for part in parts if part.use == "eval"]
    if not chosen:
        raise UsageError(f"{name}: no split to evaluate on here (use: eval); convert one, or name its folder")
    rows: list[Row] = []
    unread = 0
    for part in chosen:
        seen = looks(part, workers, progress, pixels=True)
        unread += sum(not look.digest for look in seen.values())
        rows += _rows(part, seen, spaces)
    counts = Counter(run for row in rows for run in set(row.runs))
    common = {run for run, count in counts.items() if count > MOST_SHARING}
    kept = [
        msgspec.structs.replace(row, runs=tuple(run for run in row.runs if run not in common)) for row in rows
    ]
    made_from = {part.name: part.fingerprint for part in chosen}
    return EvalSet(name=name, rows=kept, made_from=made_from, unread=unread, common=len(common))


def _rows(part: Part, seen: dict[str, Look], spaces: Spaces) -> list[Row]:
    """Return the rows of a split: one a picture, and one for all that is asked without a picture."""
    questions: dict[str, dict[int, None]] = {path: {} for path in seen}
    runs: dict[str, dict[int, None]] = {path: {} for path in seen}
    for sample in part.statements():
        paths = sample.images or ("",)
        texts = [said(text) for text in sample.asks]
        for path in paths:
            questions.setdefault(path, {}).update((text.whole, None) for text in texts)
        of_first = runs.setdefault(paths[0], {})
        for text in (*texts, *map(said, sample.tells)):
            of_first.update(dict.fromkeys(text.runs))
    rows = []
    for path, whole in questions.items():
        look = seen.get(path) or Look()
        rows.append(
            Row(
                source=part.name,
                image=path,
                ids=spaces.ids(part.dataset, path) if path else (),
                digest=look.digest,
                coarse=look.coarse,
                pixels=look.pixels,
                low=look.low,
                high=look.high,
                questions=tuple(whole),
                runs=tuple(runs.get(path, {})),
            )
        )
    return rows


def write(found: EvalSet, path: Path) -> None:
    """Write an index. The same set gives the same bytes."""
    told_of: dict[str, object] = {"name": found.name, "version": VERSION, "made_from": found.made_from}
    told_of |= {"unread": found.unread, "common": found.common}
    facts = msgspec.json.encode(told_of, order="sorted")
    schema = _ROW.with_metadata({"dataengine.leaks": facts})
    table = pa.Table.from_pylist(
        [msgspec.to_builtins(row, builtin_types=(bytes,)) for row in found.rows], schema
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    make_folder(path.parent)
    write_atomic(path, sink.getvalue().to_pybytes())


class _Facts(msgspec.Struct, frozen=True):
    name: str
    version: str
    made_from: dict[str, str]
    unread: int
    common: int


def read(path: Path) -> EvalSet:
    """Read an index; a `.txt` file is a list of ids, such as `coco:581857`, a line each.

    Raises SourceError where the file is neither.
    """
    try:
        if path.suffix == ".txt":
            return _read_ids(path)
        table = pq.read_table(path)
        facts = msgspec.json.decode((table.schema.metadata or {})[b"dataengine.leaks"], type=_Facts)
        rows = msgspec.convert(table.select(_ROW.names).cast(_ROW).to_pylist(), list[Row])
    except (OSError, KeyError, ValueError, pa.ArrowException, msgspec.MsgspecError) as error:
        raise SourceError(
            f"{path}: no index of an evaluation set: {error}; expected what 'dataengine leaks index' writes"
        ) from error
    if facts.version != VERSION:
        raise SourceError(
            f"{path}: version {facts.version}, expected {VERSION}; make it again with 'leaks index'"
        )
    return EvalSet(
        name=facts.name, rows=rows, made_from=facts.made_from, unread=facts.unread, common=facts.common
    )


def _read_ids(path: Path) -> EvalSet:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        name = line.partition("#")[0].strip()
        if not name:
            continue
        space, colon, one = name.partition(":")
        if not (space and colon and one) or " " in name:
            raise ValueError(f"line {number}: {name[:60]!r} is no id, expected SPACE:ID such as coco:581857")
        rows.append(Row(source=path.stem, ids=(name,)))
    return EvalSet(name=path.stem, rows=rows)
