"""What is remembered of every record, in a room that does not grow with them: the rest lies on disk.

Temporary files have no name: they are gone when nobody holds them any more, however the process ends.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import msgspec
import numpy as np
import xxhash

from dataengine.errors import DataEngineError
from dataengine.files import unwritable

Numbers = np.ndarray[Any, np.dtype[np.uint64]]
# Rows, and bytes, that are held in memory before they go to disk.
HELD_ROWS = 1 << 16
HELD_BYTES = 1 << 16
# Keys that are not in the database yet, and what of it is in memory.
NEW_KEYS = 1 << 10
CACHE_BYTES = 4 << 20
# Keys of which no more than whether they came before is asked are looked up one by one: more of them are held.
HELD_KEYS = 1 << 15
K = TypeVar("K")
V = TypeVar("V")
# A name, and the file and record where it stands.
Place = tuple[str, str, str]
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[str, str, str])


class Spill:
    """Bytes in a temporary file."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._held = bytearray()
        self._written = 0

    def __len__(self) -> int:
        return self._written + len(self._held)

    def append(self, data: bytes) -> int:
        """Return the offset at which some bytes now lie. Raises DataEngineError where they cannot be written."""
        offset = self._written + len(self._held)
        self._held += data
        if len(self._held) >= HELD_BYTES:
            self._flush()
        return offset

    def read(self, offset: int, size: int) -> bytes:
        """Return the bytes at an offset, `size` of them or what there is."""
        if offset + size > self._written:
            self._flush()
        return os.pread(self._file.fileno(), size, offset) if self._file is not None else b""

    def _flush(self) -> None:
        if not self._held:
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="dataengine-")  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            self._file.write(self._held)
            self._file.flush()
        except OSError as error:
            raise unwritable(Path(tempfile.gettempdir()), error) from error
        self._written += len(self._held)
        self._held = bytearray()


class Rows:
    """Rows of numbers from 0 to 2**64 - 1, any number of them, which come back sorted by their first numbers.

    Rows of one first number keep their order. What does not fit into `held` rows is sorted and written, and all runs
    of it are merged at the end.
    """

    def __init__(self, columns: int = 1, held: int = HELD_ROWS) -> None:
        self._columns = columns
        self._most_held = held * columns
        self._held = array("Q")
        self._spill = Spill()
        self._runs: list[tuple[int, int]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count + len(self._held) // self._columns

    def add(self, numbers: Iterable[int]) -> None:
        """Add the numbers of a row, or of several, one after the other."""
        self._held.extend(numbers)
        if len(self._held) >= self._most_held:
            table = self._table()
            self._runs.append((self._spill.append(table.tobytes()), len(table)))
            self._count += len(table)
            self._held = array("Q")

    def _table(self) -> Numbers:
        return ordered(np.frombuffer(self._held, np.uint64).reshape(-1, self._columns))

    def groups(self) -> Iterator[Numbers]:
        """Yield all rows in tables [rows, columns], sorted: rows that begin with one number stand in one table.

        A table is as large as those rows are, or as `held` says. Nothing may be added meanwhile.
        """
        width = 8 * self._columns
        at_once = usual = max(self._most_held // self._columns // max(len(self._runs), 1), 16)
        read = [0] * len(self._runs)
        waiting = [np.zeros((0, self._columns), np.uint64)] * len(self._runs)
        held = self._table()
        while True:
            for number, (offset, count) in enumerate(self._runs):
                wanted = min(at_once - len(waiting[number]), count - read[number])
                if wanted > 0:
                    data = self._spill.read(offset + width * read[number], width * wanted)
                    more = np.frombuffer(data, np.uint64).reshape(-1, self._columns)
                    waiting[number] = np.concatenate([waiting[number], more])
                    read[number] += wanted
            # Up to here nothing can come any more that is less.
            ends = [
                rows[-1, 0]
                for rows, done, (_, count) in zip(waiting, read, self._runs, strict=True)
                if done < count
            ]
            parts = []
            for number, rows in enumerate(waiting):
                place = int(np.searchsorted(rows[:, 0], min(ends))) if ends else len(rows)
                parts.append(rows[:place])
                waiting[number] = rows[place:]
            place = int(np.searchsorted(held[:, 0], min(ends))) if ends else len(held)
            parts.append(held[:place])
            held = held[place:]
            table = ordered(np.concatenate(parts))
            if len(table):
                yield table
            if not ends:
                return
            # Where all that was read begins with one number, more of it must be seen.
            at_once = usual if len(table) else 2 * at_once


def ordered(table: Numbers) -> Numbers:
    """Return the rows of a table by their first numbers; those of one number stay in their order."""
    return table[np.argsort(table[:, 0], kind="stable")]


def repeated(table: Numbers) -> Numbers:
    """Return the rows of a sorted table that begin with the number of another row."""
    same = table[1:, 0] == table[:-1, 0]
    again = np.zeros(len(table), bool)
    again[1:] |= same
    again[:-1] |= same
    return table[again]


class Named:
    """Names, each with where it stands (a file and a record): which come again is told exactly."""

    def __init__(self, held: int = HELD_ROWS) -> None:
        self._rows = Rows(3, held)
        self._texts = Spill()

    def add(self, name: str, file: str = "", record: str = "") -> None:
        """Note a name."""
        self.extend([(name, file, record)])

    def extend(self, places: Sequence[Place]) -> None:
        """Note names."""
        packed = [_ENCODER.encode(place) for place in places]
        offset = self._texts.append(b"".join(packed))
        for (name, *_), data in zip(places, packed, strict=True):
            self._rows.add((xxhash.xxh3_64_intdigest(name.encode()), offset, len(data)))
            offset += len(data)

    def again(self) -> Iterator[tuple[Place, Place]]:
        """Yield each name that came before, in their order, and where it came first: (name, file, record) of both."""
        found = Rows(4)
        for table in self._rows.groups():
            first: dict[tuple[int, str], tuple[int, int]] = {}
            for digest, offset, size in repeated(table).tolist():
                name = self._text(offset, size)[0]
                earlier = first.setdefault((digest, name), (offset, size))
                if earlier[0] != offset:
                    found.add((offset, size, *earlier))
        for table in found.groups():
            for offset, size, *earlier in table.tolist():
                yield self._text(offset, size), self._text(*earlier)

    def _text(self, offset: int, size: int) -> Place:
        return _DECODER.decode(self._texts.read(offset, size))


def _database(owner: object, table: str) -> sqlite3.Connection:
    """Return a database that is gone with its owner: one without a name is a temporary file without one."""
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    weakref.finalize(owner, database.close)
    # Nothing in it has to outlive this process.
    for line in (
        "PRAGMA journal_mode = OFF",
        "PRAGMA synchronous = OFF",
        f"PRAGMA cache_size = -{CACHE_BYTES >> 10}",
        table,
        "BEGIN",
    ):
        database.execute(line)
    return database


def _insert(database: sqlite3.Connection, line: str, rows: Iterable[tuple[bytes, ...]]) -> None:
    try:
        database.executemany(line, rows)
    except sqlite3.OperationalError as error:
        raise DataEngineError(f"temporary files cannot be written: {error}; free space") from error


class Kept(Generic[K, V]):
    """A mapping on disk, in the order in which its keys came.

    SQLite holds no more of it in memory than CACHE_BYTES. Methods raise DataEngineError where the disk is full.
    """

    def __init__(self, key: type[K], value: Any) -> None:
        self._key: msgspec.msgpack.Decoder[K] = msgspec.msgpack.Decoder(key)
        self._value: msgspec.msgpack.Decoder[V] = msgspec.msgpack.Decoder(value)
        self._new: dict[bytes, bytes] = {}
        self._database = _database(
            self, "CREATE TABLE kept (place INTEGER PRIMARY KEY, key BLOB UNIQUE, value BLOB)"
        )

    def __setitem__(self, key: K, value: V) -> None:
        self._new[_ENCODER.encode(key)] = _ENCODER.encode(value)
        if len(self._new) >= NEW_KEYS:
            self._write()

    def _write(self) -> None:
        _insert(
            self._database,
            "INSERT INTO kept (key, value) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            self._new.items(),
        )
        self._new = {}

    def __getitem__(self, key: K) -> V:
        packed = _ENCODER.encode(key)
        value = self._new.get(packed)
        if value is None:
            rows = self._database.execute("SELECT value FROM kept WHERE key = ?", (packed,)).fetchall()
            if not rows:
                raise KeyError(key)
            value = rows[0][0]
        return self._value.decode(value)

    def get(self, key: K) -> V | None:
        """Return the value of a key, None where there is none."""
        try:
            return self[key]
        except KeyError:
            return None

    def __len__(self) -> int:
        self._write()
        return int(self._database.execute("SELECT count(*) FROM kept").fetchone()[0])

    def items(self) -> Iterator[tuple[K, V]]:
        """Yield keys and values; what is set meanwhile may come too."""
        self._write()
        place = 0
        while rows := self._database.execute(
            "SELECT place, key, value FROM kept WHERE place > ? ORDER BY place LIMIT ?", (place, NEW_KEYS)
        ).fetchall():
            for place, key, value in rows:  # noqa: B007
                yield self._key.decode(key), self._value.decode(value)

    def __iter__(self) -> Iterator[K]:
        return (key for key, _ in self.items())

    def key(self, place: int) -> K:
        """Return the key that came at a place, from 0."""
        self._write()
        rows = self._database.execute("SELECT key FROM kept WHERE place = ?", (place + 1,)).fetchall()
        if not rows:
            raise IndexError(place)
        return self._key.decode(rows[0][0])


class Keys:
    """A set of texts, of which 128 bits each are kept: the newest in memory, all others on disk.

    Two of them are taken for one in one case of 2**128. `add` raises DataEngineError where the disk is full.
    """

    def __init__(self, held: int = HELD_KEYS) -> None:
        self._most_held = held
        self._new = set[bytes]()
        self._stored: sqlite3.Connection | None = None

    def __contains__(self, key: str) -> bool:
        digest = _digest(key)
        return digest in self._new or (
            self._stored is not None
            and bool(self._stored.execute("SELECT 1 FROM kept WHERE digest = ?", (digest,)).fetchall())
        )

    def add(self, key: str) -> None:
        """Add a text."""
        self._new.add(_digest(key))
        if len(self._new) >= self._most_held:
            self._write()

    def _write(self) -> None:
        if self._stored is None:
            self._stored = _database(self, "CREATE TABLE kept (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        # In their order, those of one page are written together.
        _insert(self._stored, "INSERT OR IGNORE INTO kept VALUES (?)", zip(sorted(self._new)))
        self._new = set()


class Counts:
    """How often texts came: those that came once are kept as Keys are, the counts of the others as in Kept."""

    def __init__(self, held: int = HELD_KEYS) -> None:
        self._once = Keys(held)
        self._several: Kept[str, int] | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._once

    def __getitem__(self, name: str) -> int:
        """Return the count of a text that came before: nobody asks for that of another."""
        return (self._several.get(name) if self._several is not None else None) or 1

    def __setitem__(self, name: str, count: int) -> None:
        self._once.add(name)
        if count > 1:
            if self._several is None:
                self._several = Kept(str, int)
            self._several[name] = count


def _digest(text: str) -> bytes:
    return xxhash.xxh3_128_digest(text.encode(errors="surrogatepass"))
