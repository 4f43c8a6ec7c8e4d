"""Every picture of an audit in a few tens of bytes: who shows it, which public one it is, and what it looks like."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dataengine.leaks.ids import Spaces
from dataengine.leaks.look import NO_PRINT
from dataengine.perceptual import NOBODY, Places, Print, Words, groups, nearest
from dataengine.spill import Spill

Flags = npt.NDArray[np.bool_]
# How two pictures are known to be one, the surest first.
How = Literal["place", "id", "bytes", "near"]
HOWS: tuple[How, ...] = get_args(How)
_LENGTH_BYTES = 4


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A split, by its name in reports, as part of the subject that shows it."""

    subject: str
    name: str
    dataset: str
    use: str


class Seen(NamedTuple):
    """A picture where it was seen: its source and its name there."""

    source: Source
    path: str


class Match(NamedTuple):
    """A picture that is another one, and how that is known; `bits` is how many of its hash differ."""

    picture: Seen
    other: Seen
    how: How
    bits: int


class Twin(NamedTuple):
    """A picture that is nearly another one, and the group that they are in, of `size` pictures from `first` on."""

    picture: Seen
    other: Seen
    bits: int
    first: Seen
    size: int


class Gallery:
    """What is remembered of pictures, in the order in which they were shown."""

    def __init__(self, spaces: Spaces) -> None:
        self.spaces = spaces
        self.sources: list[Source] = []
        self._source = 0
        self._columns = {name: array("Q") for name in ("source", "place", "digest", "low", "high", "name")}
        self._ids, self._of = array("Q"), array("Q")
        self._together = array("Q")
        self._copies = array("Q")
        self._names = Spill()

    def __len__(self) -> int:
        return len(self._columns["source"])

    def open(self, source: Source) -> None:
        """Say whose pictures follow."""
        if source in self.sources:
            self._source = self.sources.index(source)
        else:
            self._source = len(self.sources)
            self.sources.append(source)

    def add(
        self,
        folder: str,
        path: str,
        digest: int = 0,
        print_: Print = NO_PRINT,
        ids: Iterable[str] | None = None,
    ) -> None:
        """Note a picture of the open source: its folder and name, the digest of its bytes, its hash, its public ids.

        Without ids, those are noted that its name tells.
        """
        columns = self._columns
        dataset = self.sources[self._source].dataset
        for one in self.spaces.ids(dataset, path) if ids is None else ids:
            self._ids.append(_number(one))
            self._of.append(len(self))
        data = path.encode(errors="surrogateescape")
        name = self._names.append(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
        row = (self._source, place_of(folder, path), digest, *print_, name)
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)

    def together(self, folder: str, paths: Sequence[str]) -> None:
        """Note the pictures of one sample: frames of a film and both sides of an edit are alike, as they should be."""
        first = place_of(folder, paths[0])
        for path in paths[1:]:
            self._together.extend((first, place_of(folder, path)))

    def copy(self, folder: str, path: str) -> None:
        """Note a picture that was found to have the pixels of another: that it is near to it is no news."""
        self._copies.append(place_of(folder, path))

    def seen(self, row: int) -> Seen:
        """Return where a picture was seen, by its row."""
        offset = self._columns["name"][row]
        size = int.from_bytes(self._names.read(offset, _LENGTH_BYTES), "big")
        path = self._names.read(offset + _LENGTH_BYTES, size).decode(errors="surrogateescape")
        return Seen(self.sources[self._columns["source"][row]], path)

    def near(self) -> list[Twin]:
        """Return the pictures that are nearly an earlier one, training and evaluation each for itself.

        Of a group of near pictures all but the first are told, each with one that it is near to. What is the same file,
        or stands in one sample, or has another's pixels to the last, is no near picture of it.
        """
        place, low = self._column("place"), self._column("low")
        first = _firsts(place)
        usable = (low[first] != 0) & ~np.isin(place[first], np.frombuffer(self._copies, np.uint64))
        rows = first[usable]
        trains = self._in_use(place, "train")[rows]
        kin = self._kin(place)[rows]
        found = []
        for part in (trains, ~trains):
            mine = rows[part]
            one = _firsts(self._column("digest")[mine])
            found += self._twins(mine[one], kin[part][one])
        return found

    def _twins(self, rows: Places, kin: Places) -> list[Twin]:
        words = self._words(rows)
        made = groups(words, kin)
        sizes = np.bincount(made.first, minlength=len(rows))
        told = np.flatnonzero(made.first != np.arange(len(rows)))
        bits = np.bitwise_count(words[told] ^ words[made.near[told]]).sum(axis=1, dtype=np.int64)
        return [
            Twin(
                self.seen(int(rows[place])),
                self.seen(int(rows[made.near[place]])),
                int(differ),
                self.seen(int(rows[made.first[place]])),
                int(sizes[made.first[place]]),
            )
            for place, differ in zip(told.tolist(), bits.tolist(), strict=True)
        ]

    def shared(self, use: str, other_use: str, *, same_dataset: bool) -> list[Match]:
        """Return the pictures of one use that are pictures of another, of the same dataset or of all others.

        A picture is told once for each source that shows it, with the first picture by the surest sign.
        """
        uses, datasets = ([getattr(one, name) for one in self.sources] for name in ("use", "dataset"))
        source = self._column("source").astype(np.int64)
        is_mine, is_other = (np.array([one == asked for one in uses], bool) for asked in (use, other_use))
        found = []
        for dataset in dict.fromkeys(datasets):
            of_it = np.array([one == dataset for one in datasets], bool)
            mine = np.flatnonzero((is_mine & of_it)[source])
            others = np.flatnonzero((is_other & (of_it == same_dataset))[source])
            if len(mine) and len(others):
                found += self._matches(self._once(mine), others)
        return found

    def _once(self, rows: Places) -> Places:
        """Return the rows without those of a picture that their source has shown before."""
        keys = np.stack([self._column("source")[rows], self._column("place")[rows]], axis=1)
        return rows[np.sort(np.unique(keys, axis=0, return_index=True)[1])]

    def _matches(self, mine: Places, others: Places) -> list[Match]:
        best, sign, bits = (
            np.full(len(mine), NOBODY),
            np.zeros(len(mine), np.int64),
            np.zeros(len(mine), np.int64),
        )
        for number, how in enumerate(HOWS):
            open_ = np.flatnonzero(best == NOBODY)
            place, differ = self._found(how, mine[open_], others)
            best[open_], sign[open_], bits[open_] = place, number, differ
        return [
            Match(self.seen(int(mine[at])), self.seen(int(best[at])), HOWS[sign[at]], int(bits[at]))
            for at in np.flatnonzero(best != NOBODY).tolist()
        ]

    def _found(self, how: How, mine: Places, others: Places) -> tuple[Places, Places]:
        """Return the first of the other rows that each row matches by a sign, NOBODY for none, and differing bits."""
        if how == "near":
            printed = [rows[self._column("low")[rows] != 0] for rows in (mine, others)]
            near = nearest(*map(self._words, printed))
            rows, bits = np.full(len(mine), NOBODY), np.zeros(len(mine), np.int64)
            at = np.flatnonzero(self._column("low")[mine] != 0)
            hit = near.place != NOBODY
            rows[at[hit]], bits[at[hit]] = printed[1][near.place[hit]], near.bits[hit]
            return rows, bits
        if how == "id":
            return self._by_id(mine, others), np.zeros(len(mine), np.int64)
        keys = self._column("place" if how == "place" else "digest")
        known = others[keys[others] != 0]
        found = _first_equal(keys[mine], keys[known])
        hit = (found != NOBODY) & (keys[mine] != 0)
        return np.where(hit, known[np.where(hit, found, 0)] if len(known) else NOBODY, NOBODY), np.zeros(
            len(mine), np.int64
        )

    def _by_id(self, mine: Places, others: Places) -> Places:
        """Return the first of the other rows that shares a public id with each row."""
        ids, of = np.frombuffer(self._ids, np.uint64), np.frombuffer(self._of, np.uint64).astype(np.int64)
        at, there = np.flatnonzero(np.isin(of, mine)), np.flatnonzero(np.isin(of, others))
        found = _first_equal(ids[at], ids[there])
        hit = found != NOBODY
        rows = np.full(len(self), NOBODY)
        np.minimum.at(rows, of[at[hit]], of[there[found[hit]]])
        return rows[mine]

    def _kin(self, place: Words) -> Places:
        """Return for each row a number that pictures of one sample share."""
        distinct, rows = np.unique(place, return_inverse=True)
        ends = np.searchsorted(distinct, np.frombuffer(self._together, np.uint64)).reshape(-1, 2)
        ends = ends[(ends < len(distinct)).all(axis=1)]
        size = len(distinct)
        graph = coo_matrix((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(size, size))
        kin: Places = connected_components(graph, directed=False)[1].astype(np.int64)[rows]
        return kin

    def _in_use(self, place: Words, use: str) -> Flags:
        """Say of each row whether a source of a use shows its picture."""
        uses = np.array([one.use == use for one in self.sources], bool)
        showing = place[uses[self._column("source").astype(np.int64)]]
        return np.isin(place, showing)

    def _column(self, name: str) -> Words:
        return np.frombuffer(self._columns[name], np.uint64)

    def _words(self, rows: Places) -> Words:
        return np.stack([self._column("low")[rows], self._column("high")[rows]], axis=1)


def place_of(folder: str, path: str) -> int:
    """Return the number of a picture's place, below which all who show it find it."""
    return _number(f"{folder}\0{path}")


def _number(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode(errors="surrogateescape"))


def _firsts(keys: Words) -> Places:
    """Return where each key stands first, ascending; a key of 0 is none, and stands first everywhere."""
    first = np.unique(keys, return_index=True)[1]
    return np.union1d(first, np.flatnonzero(keys == 0))


def _first_equal(keys: Words, others: Words) -> Places:
    """Return for each key the first place among others where it stands, NOBODY where it does not."""
    if not len(others):
        return np.full(len(keys), NOBODY)
    order = np.argsort(others, kind="stable")
    at = np.minimum(np.searchsorted(others[order], keys), len(others) - 1)
    return np.where(others[order[at]] == keys, order[at], NOBODY)
