from __future__ import annotations

import sqlite3
from collections import Counter

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.json_files import unique
from dataengine import spill
from dataengine.errors import DataEngineError
from dataengine.spill import Counts, Kept, Keys, Named, Rows, Spill

few = st.integers(0, 5)
numbers = st.one_of(few, st.integers(0, 2**64 - 1))


@settings(deadline=None)
@given(pieces=st.lists(st.binary(max_size=9), max_size=30), held=st.integers(1, 40))
def test_bytes_come_back_from_memory_and_disk(pieces: list[bytes], held: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "HELD_BYTES", held)
        kept = Spill()
        offsets = [kept.append(piece) for piece in pieces]

        assert len(kept) == sum(map(len, pieces))
        assert [kept.read(at, len(piece)) for at, piece in zip(offsets, pieces, strict=True)] == pieces


@settings(deadline=None)
@given(rows=st.lists(st.tuples(numbers, few), max_size=80), held=st.integers(1, 9))
def test_rows_come_back_sorted_and_those_of_one_number_in_one_table(
    rows: list[tuple[int, int]], held: int
) -> None:
    kept = Rows(2, held)
    for row in rows:
        kept.add(row)

    tables = [table.tolist() for table in kept.groups()]

    assert len(kept) == len(rows)
    assert [tuple(row) for table in tables for row in table] == sorted(rows, key=lambda row: row[0])
    firsts = Counter(first for table in tables for first in {row[0] for row in table})
    assert set(firsts.values()) <= {1}


def test_many_rows_of_one_number_come_in_one_table() -> None:
    kept = Rows(2, held=64)
    for number in range(1300):
        kept.add((number % 7 == 0, number))

    rows = [row for table in kept.groups() for row in table.tolist()]

    assert [first for first, _ in rows] == [0] * 1114 + [1] * 186
    assert [second for _, second in rows][1114:] == list(range(0, 1300, 7))


def test_tables_of_many_rows_are_no_larger_than_what_is_held() -> None:
    kept = Rows(1, held=512)
    for number in range(20_000):
        kept.add((xxhash.xxh3_64_intdigest(str(number).encode()),))

    sizes = [len(table) for table in kept.groups()]

    assert sum(sizes) == 20_000
    assert max(sizes) <= 2 * 512


@settings(deadline=None)
@given(names=st.lists(st.text(max_size=2), max_size=40), held=st.integers(1, 9))
def test_names_that_come_again_are_told_in_their_order(names: list[str], held: int) -> None:
    seen = Named(held)
    for number, name in enumerate(names):
        seen.add(name, "f", str(number))

    again = [
        ((name, "f", str(number)), (name, "f", str(names.index(name))))
        for number, name in enumerate(names)
        if name in names[:number]
    ]
    assert list(seen.again()) == again


def test_two_names_of_one_hash_are_not_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xxhash, "xxh3_64_intdigest", lambda text: 7)
    seen = Named()
    for name in ("a", "b", "c", "b"):
        seen.add(name)

    assert [name for (name, *_), _ in seen.again()] == ["b"]


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.one_of(st.none(), few)), max_size=40),
    new=st.integers(1, 9),
)
def test_a_mapping_on_disk_is_one(steps: list[tuple[str, int | None]], new: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "NEW_KEYS", new)
        kept: Kept[str, int | None] = Kept(str, int | None)
        plain: dict[str, int | None] = {}
        for key, value in steps:
            assert kept.get(key) == plain.get(key)
            kept[key] = plain[key] = value

        assert list(kept.items()) == list(plain.items())
        assert list(kept) == [kept.key(place) for place in range(len(kept))] == list(plain)
        with pytest.raises(IndexError):
            kept.key(len(plain))
        with pytest.raises(KeyError):
            kept["nothing"]


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "NEW_KEYS", 1)
    kept: Kept[str, str] = Kept(str, str)
    kept._database.execute("PRAGMA max_page_count = 9")

    with pytest.raises(DataEngineError, match="temporary files cannot be written: database or disk is full"):
        for number in range(99):
            kept[str(number)] = "x" * 999
    assert isinstance(kept._database, sqlite3.Connection)


def test_numbers_of_64_bits_keep_their_order() -> None:
    kept = Rows(1, held=2)
    kept.add([2**64 - 1, 0, 2**63, 2**63 - 1, 5])

    assert np.concatenate(list(kept.groups()))[:, 0].tolist() == [0, 5, 2**63 - 1, 2**63, 2**64 - 1]


@settings(deadline=None)
@given(
    asked=st.lists(st.tuples(st.booleans(), st.text(st.characters(), max_size=2)), max_size=60),
    held=st.integers(1, 9),
)
def test_keys_are_a_set_in_memory_and_on_disk(asked: list[tuple[bool, str]], held: int) -> None:
    keys, expected = Keys(held), set[str]()
    for is_added, key in asked:
        if is_added:
            keys.add(key)
            expected.add(key)
        assert (key in keys) == (key in expected)

    assert {key for _, key in asked if key in keys} == expected


@settings(deadline=None)
@given(names=st.lists(st.sampled_from(["a", "a~2", "b", "a~2~2"]), max_size=30), held=st.integers(1, 5))
def test_names_become_unique_from_counts_as_from_a_mapping(names: list[str], held: int) -> None:
    counts, expected = Counts(held), dict[str, int]()

    assert [unique(name, counts) for name in names] == [unique(name, expected) for name in names]


def test_many_keys_hold_no_more_in_memory_than_a_few() -> None:
    keys = Keys(held=100)
    for number in range(5000):
        keys.add(str(number))

    assert len(keys._new) < 100
    assert all(str(number) in keys for number in range(5000))
    assert not any(str(number) in keys for number in range(5000, 5100))
