"""Perceptual hashes: 128 bits that stay nearly the same when a picture is stored anew, and the search for near ones.

A hash is the signs of the lowest frequencies of the picture's brightness (DCT-II of 32 x 32 means; after C. Zauner,
Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, with signs instead of a median). Its first
word, `low`, holds the 64 lowest and is what is searched by; `high` holds the next 64 and confirms. docs/leaks.md says
how many copies are found, and how many other pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations, count, pairwise
from math import comb
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dataengine.images import Pixels

Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Pairs = tuple[Places, Places]

# Of the 64 bits of `low`, and of all 128, so many may differ between near pictures.
NEAR_LOW, NEAR_ALL = 8, 26
WORD = 64
# Samples of brightness a side; a picture of fewer has too little in it to be told from others.
GRID, FEWEST = 32, 16
# Levels, of 256: below, the sign of a frequency is that of rounding. So many of `low` may be that small.
SILENT, MOST_SILENT = 1.0, 16
# A bucket of more hashes is searched by the bits that it was not made by.
CROWD = 128
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
NOBODY = int(np.iinfo(np.int64).max)
# Work of sorting a hash, in comparisons; more bands that agree than these never pay.
_SORTING, MOST_BANDS = 20, 4
_SHIFT = 48


class Print(NamedTuple):
    """The hash of a picture, as two words."""

    low: int
    high: int


def fingerprint(pixels: Pixels) -> Print | None:
    """Return the hash of a picture, uint8 [height, width, 3], or of a smaller copy of it.

    None for one of fewer than FEWEST rows or columns, and for one of hardly any structure: all flat pictures and plain
    gradients are alike.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < FEWEST:
        return None
    brightness = pixels.astype(np.float32) @ _LUMA
    waves = _waves(height) @ brightness @ _waves(width).T
    found = waves.reshape(-1)[_ORDER]
    if int((np.abs(found[:WORD]) < SILENT).sum()) > MOST_SILENT:
        return None
    low, high = np.packbits(found > 0).view(">u8")
    return Print(int(low), int(high))


def _frequencies() -> tuple[int, Places]:
    """Return how many frequencies a side there are, and where the 128 lowest lie among them, the constant left out.

    Diagonal by diagonal, as in a JPEG. Inside a word neighbours lie apart, so that no piece of it is the coarsest
    structure alone, which many pictures share.
    """
    side = 16
    rows, columns = np.divmod(np.arange(side * side), side)
    lowest = np.lexsort((rows, rows + columns))[1 : 2 * WORD + 1]
    apart = np.arange(WORD) * 37 % WORD
    return side, np.concatenate([lowest[:WORD][apart], lowest[WORD:][apart]])


_SIDE, _ORDER = _frequencies()


@lru_cache(maxsize=4096)
def _waves(count: int) -> npt.NDArray[np.float32]:
    """Return the matrix from `count` samples to their lowest frequencies: means of GRID equal parts, then DCT-II."""
    ends = np.linspace(0, count, GRID + 1)
    samples = np.arange(count)
    shares = np.minimum(ends[1:, None], samples + 1) - np.maximum(ends[:-1, None], samples)
    means = np.clip(shares, 0, None) * (GRID / count)
    angles = np.pi / GRID * np.outer(np.arange(_SIDE), np.arange(GRID) + 0.5)
    cosines = np.cos(angles) * np.sqrt(2 / GRID)
    cosines[0] /= np.sqrt(2)
    waves: npt.NDArray[np.float32] = (cosines @ means).astype(np.float32)
    return waves


def distances(words: Words, left: Places, right: Places) -> npt.NDArray[np.uint8]:
    """Return how many bits differ between hashes, words uint64 [hashes, 2], at two lists of places."""
    bits: npt.NDArray[np.uint8] = np.bitwise_count(words[left] ^ words[right]).sum(axis=1, dtype=np.uint8)
    return bits


class Groups(NamedTuple):
    """What near pictures belong together, by their places [pictures].

    `first` is the first of a picture's group, itself where it is alone. `near` is a picture that it is near to: the
    first of the same hash, else the first of another; itself where there is none.
    """

    first: Places
    near: Places


def groups(words: Words, kin: npt.NDArray[np.integer] | None = None) -> Groups:
    """Return the groups of pictures, words uint64 [pictures, 2], that are joined by near pairs.

    Pictures of the same `kin` make no pair: they were made of each other, or taken together. Two of one group may be
    further apart than any near pair. What comes out does not depend on the order in which pairs are found.
    """
    total = len(words)
    if not total:
        return Groups(np.zeros(0, np.int64), np.zeros(0, np.int64))
    kin = np.arange(total) if kin is None else kin
    runs = _runs(words)
    first, other = _fronts(runs, kin)
    lone = other == NOBODY
    across = np.full(len(first), NOBODY)
    parents = np.arange(len(first))
    for left, right in _near(words[first]):
        fits = ~(lone[left] & lone[right] & (kin[first[left]] == kin[first[right]]))
        left, right = left[fits], right[fits]
        for one, mate in ((left, right), (right, left)):
            partner = np.where(kin[first[mate]] != kin[first[one]], first[mate], other[mate])
            np.minimum.at(across, one, partner)
        _join(parents, left, right)
    roots = _roots(parents, parents)
    alone = lone & (across == NOBODY)
    within = np.where(kin != kin[first[runs]], first[runs], other[runs])
    near = np.where(lone[runs], across[runs], within)
    earliest = np.full(len(first), NOBODY)
    np.minimum.at(earliest, roots, first)
    itself = np.arange(total)
    return Groups(
        np.where(alone[runs], itself, earliest[roots[runs]]), np.where(near == NOBODY, itself, near)
    )


class Nearest(NamedTuple):
    """For each picture the one of others that is nearest, NOBODY where none is near, and how many bits differ."""

    place: Places
    bits: npt.NDArray[np.int64]


def nearest(words: Words, others: Words) -> Nearest:
    """Return for each picture, uint64 [pictures, 2], the nearest of the others, the first of several."""
    runs = _runs(np.concatenate([words, others]))
    mine, theirs = runs[: len(words)], runs[len(words) :]
    count = int(runs.max(initial=-1)) + 1
    face, there, here = np.zeros((count, 2), np.uint64), np.full(count, NOBODY), np.zeros(count, bool)
    face[mine], face[theirs], here[mine] = words, others, True
    np.minimum.at(there, theirs, np.arange(len(others)))
    # The fewest bits, then the first place, in one number.
    best = there.copy()
    for left, right in _near(face):
        for one, mate in ((left, right), (right, left)):
            fits = here[one] & (there[mate] != NOBODY)
            one, mate = one[fits], mate[fits]
            np.minimum.at(best, one, distances(face, one, mate).astype(np.int64) << _SHIFT | there[mate])
    found = best[mine]
    place = np.where(found == NOBODY, NOBODY, found & (1 << _SHIFT) - 1)
    return Nearest(place, np.where(found == NOBODY, 0, found >> _SHIFT))


def _runs(words: Words) -> Places:
    """Return the number of each hash: the same for the same hash, counted from 0 in their order."""
    order = np.lexsort((words[:, 1], words[:, 0]))
    ranked = words[order]
    new = np.zeros(len(words), np.int64)
    new[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    runs = np.empty(len(words), np.int64)
    runs[order] = np.cumsum(new)
    return runs


def _fronts(runs: Places, kin: npt.NDArray[np.integer]) -> tuple[Places, Places]:
    """Return the first place of each run, and the first of another kin than that one's, NOBODY where there is none."""
    count = int(runs.max(initial=-1)) + 1
    first, other = np.full(count, NOBODY), np.full(count, NOBODY)
    np.minimum.at(first, runs, np.arange(len(runs)))
    strangers = np.flatnonzero(kin != kin[first[runs]])
    np.minimum.at(other, runs[strangers], strangers)
    return first, other


def _join(parents: Places, left: Places, right: Places) -> None:
    """Put the two of each pair in one tree, whose root is the lowest place of it."""
    left, right = _roots(parents, left), _roots(parents, right)
    apart = left != right
    for one, mate in np.unique(np.stack([left[apart], right[apart]], axis=1), axis=0).tolist():
        one, mate = _root(parents, one), _root(parents, mate)
        parents[max(one, mate)] = min(one, mate)


def _root(parents: Places, place: int) -> int:
    while (parent := int(parents[place])) != place:
        parents[place] = place = int(parents[parent])
    return place


def _roots(parents: Places, places: Places) -> Places:
    """Return the roots of places."""
    found, further = places, parents[places]
    while (further != found).any():
        found, further = further, parents[further]
    return found


def _near(words: Words) -> Iterator[Pairs]:
    """Yield the near pairs of hashes, uint64 [hashes, 2], each at least once."""
    searched = _Searched(np.full(len(words), -1), count())
    for left, right in _pairs(words[:, 0], NEAR_LOW, np.arange(len(words)), searched):
        fits = distances(words, left, right) <= NEAR_ALL
        yield left[fits], right[fits]


def _pairs(low: Words, most: int, places: Places, searched: _Searched) -> Iterator[Pairs]:
    """Yield the pairs of places whose words differ by at most `most` bits, each at least once.

    The bits are cut in `most + equal` bands. However the differing bits lie, `equal` bands have none of them; so a pair
    shares a bucket for one choice of that many bands (the pigeonhole principle). The more bands must agree the smaller
    are buckets and the more choices there are: time is in proportion to the hashes as long as buckets are small.
    """
    low, bits = _varying(low)
    equal = _bands(bits, most, len(low))
    if not equal:
        yield from _all_pairs(low, most, places)
        return
    edges = np.linspace(0, bits, most + equal + 1).astype(int).tolist()
    bands = list(pairwise(edges))
    for chosen in combinations(bands, equal):
        keys, width = _joined(low, chosen)
        rest, _ = _joined(low, [band for band in bands if band not in chosen])
        yield from _in_buckets(keys, width, rest, most, places, searched)


def _varying(words: Words) -> tuple[Words, int]:
    """Return words without the bits that they all share, and how many are left: the others tell nothing apart."""
    differing = int(np.bitwise_or.reduce(words ^ words[:1], initial=np.uint64(0)))
    if differing == (1 << WORD) - 1:
        return words, WORD
    return _joined(words, [(bit, bit + 1) for bit in range(WORD) if differing >> bit & 1])


def _bands(bits: int, most: int, count: int) -> int:
    """Return how many bands should agree for the least work, 0 where comparing all with all is less."""

    def work(equal: int) -> float:
        kept = bits * equal // (most + equal)
        return float(comb(most + equal, equal) * count * (_SORTING + count / 2 ** (kept + 1)))

    choices = range(1, min(MOST_BANDS, bits - most) + 1)
    best = min(choices, key=work, default=0)
    return best if best and work(best) < count * count / 2 else 0


def _joined(low: Words, bands: Sequence[tuple[int, int]]) -> tuple[Words, int]:
    """Return pieces of words side by side, and how many bits they have."""
    keys, width = np.zeros(len(low), np.uint64), 0
    for start, stop in bands:
        piece = (low >> np.uint64(start)) & np.uint64((1 << (stop - start)) - 1)
        keys |= piece << np.uint64(width)
        width += stop - start
    return keys, width


def _in_buckets(
    keys: Words, width: int, rest: Words, most: int, places: Places, searched: _Searched
) -> Iterator[Pairs]:
    """Yield the pairs of one choice of bands: of the same key, and near in the bits that are no part of it."""
    order, ranked = _sorted(keys, width)
    heads = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    sizes = np.diff(heads, append=len(order))
    crowds = sizes > CROWD
    at = np.flatnonzero(np.repeat(~crowds & (sizes > 1), sizes))
    words, where = rest[order], places[order]
    found = []
    for step in range(1, int(sizes[~crowds].max(initial=1))):
        at = at[at + step < len(order)]
        at = at[ranked[at + step] == ranked[at]]
        hits = at[np.bitwise_count(words[at] ^ words[at + step]) <= most]
        found.append((where[hits], where[hits + step]))
    if found:
        yield np.concatenate([one for one, _ in found]), np.concatenate([mate for _, mate in found])
    for head, size in zip(heads[crowds].tolist(), sizes[crowds].tolist(), strict=True):
        crowd = slice(head, head + size)
        yield from _in_crowd(words[crowd], most, where[crowd], searched)


class _Searched(NamedTuple):
    """Which crowd of those whose pairs have all been told each place was in last, -1 for none; and their numbers."""

    crowd: Places
    numbers: Iterator[int]


def _in_crowd(words: Words, most: int, places: Places, searched: _Searched) -> Iterator[Pairs]:
    """Yield the pairs of a crowd, but for those that were told of most of it for another choice of bands."""
    before = searched.crowd[places]
    known = before[before >= 0]
    old = before == (np.bincount(known).argmax() if len(known) else -2)
    fresh = np.flatnonzero(~old)
    if len(fresh) > CROWD:
        yield from _pairs(words, most, places, searched)
        searched.crowd[places] = next(searched.numbers)
        return
    for one in fresh.tolist():
        hits = np.flatnonzero(np.bitwise_count(words ^ words[one]) <= most)
        hits = hits[hits != one]
        yield np.full(len(hits), places[one]), places[hits]


def _sorted(keys: Words, width: int) -> tuple[Places, Words]:
    """Return the places of keys of so many bits by key and then by place, and the keys in that order."""
    digits = max(len(keys) - 1, 1).bit_length()
    if width + digits > WORD:
        order = np.argsort(keys, kind="stable")
        return order, keys[order]
    # Numbers are sorted several times as fast as places are by their numbers.
    packed = np.sort(keys << np.uint64(digits) | np.arange(len(keys), dtype=np.uint64))
    return (packed & np.uint64((1 << digits) - 1)).astype(np.int64), packed >> np.uint64(digits)


def _all_pairs(words: Words, most: int, places: Places) -> Iterator[Pairs]:
    """Yield the pairs of all words with all others that differ by at most `most` bits."""
    for step in range(1, len(words)):
        hits = np.flatnonzero(np.bitwise_count(words[:-step] ^ words[step:]) <= most)
        if len(hits):
            yield places[hits], places[hits + step]
