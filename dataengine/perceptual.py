"""Perceptual hashes: 128 bits that stay nearly the same when a picture is stored anew, and the search for near ones.

A hash is the signs of the lowest frequencies of the picture's brightness (DCT-II of 32 x 32 means; after C. Zauner,
Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, with signs instead of a median). Its first
word, `low`, holds the 64 lowest and is what is searched by; `high` holds the next 64 and confirms. docs/leaks.md says
how many copies are found, and how many other pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, combinations, count, pairwise
from math import comb
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dataengine.images import Pixels

Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Pairs = tuple[Places, Places]
Keys = npt.NDArray[np.uint16]
Band = tuple[int, int]

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
# Work of sorting a hash, of NumPy's calls for a choice, and of picking a pair, in comparisons; more bands that agree
# than these never pay.
_SORTING, _CALLS, _PICKING, MOST_BANDS = 30, 100_000, 10, 4
# Words that fit into a processor's cache with all that is made of them; bits of a key; pairs that are told together.
PIECE, _KEY, AT_ONCE = 1 << 15, 16, 1 << 16
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
    """Yield the near pairs of hashes, uint64 [hashes, 2], all different and sorted; each at least once."""
    heads = np.flatnonzero(np.diff(words[:, 0], prepend=~words[:1, 0]))
    sizes = np.diff(heads, append=len(words))
    low = words[heads, 0]
    alike = np.flatnonzero(sizes > 1)
    searched = _Searched(np.full(len(low), -1), count())
    found = _pairs(low, NEAR_LOW, np.arange(len(low)), searched)
    for left, right in chain([(alike, alike)], _gathered(found)):
        for one, mate in _spread(heads, sizes, left, right):
            fits = distances(words, one, mate) <= NEAR_ALL
            yield one[fits], mate[fits]


def _gathered(pairs: Iterable[Pairs]) -> Iterator[Pairs]:
    """Yield pairs AT_ONCE at a time, or more: most pieces of a search hold none or one."""
    waiting: list[Pairs] = []
    held = 0
    for pair in pairs:
        waiting.append(pair)
        held += len(pair[0])
        if held >= AT_ONCE:
            yield _together(waiting)
            waiting, held = [], 0
    if waiting:
        yield _together(waiting)


def _together(pairs: Sequence[Pairs]) -> Pairs:
    left, right = zip(*pairs, strict=True)
    return np.concatenate(left), np.concatenate(right)


def _spread(heads: Places, sizes: Places, left: Places, right: Places) -> Iterator[Pairs]:
    """Yield the pairs of places, AT_ONCE at a time, of pairs of runs, each from its head on; none with itself."""
    counts = sizes[left] * sizes[right]
    ends = np.cumsum(counts)
    total = int(counts.sum())
    if total == len(counts):
        single = left != right
        yield heads[left[single]], heads[right[single]]
        return
    for start in range(0, total, AT_ONCE):
        number = np.arange(start, min(start + AT_ONCE, total))
        run = np.searchsorted(ends, number, side="right")
        row, column = np.divmod(number - (ends - counts)[run], sizes[right[run]])
        one, mate = heads[left[run]] + row, heads[right[run]] + column
        apart = one != mate
        yield one[apart], mate[apart]


def _pairs(low: Words, most: int, places: Places, searched: _Searched) -> Iterator[Pairs]:
    """Yield the pairs of places whose words, all different, differ by at most `most` bits, each at least once.

    The bits are cut in `most + equal` bands. However the differing bits lie, `equal` bands have none of them; so a pair
    shares a bucket for one choice of that many bands (the pigeonhole principle). The more bands must agree the smaller
    are buckets, and the more choices there are. Choices that begin with the same bands share one sort of all words; the
    rest is done in pieces that fit into a processor's cache.
    """
    low, bits = _varying(low)
    equal = _bands(bits, most, len(low))
    if not equal:
        yield from _all_pairs(low, most, places)
        return
    edges = np.linspace(0, bits, most + equal + 1).astype(int).tolist()
    bands = list(pairwise(edges))
    depth = _depth(bands, equal, len(low))
    crowd = max(CROWD, 4 * len(low) >> _width(_narrowest(bands, equal)))
    for head in combinations(bands, depth):
        later = [band for band in bands if not head or band > head[-1]]
        choices = [
            _Choice(tail, _passed(bands, (*head, *tail))) for tail in combinations(later, equal - depth)
        ]
        widest = max([_width(choice.tail) for choice in choices], default=0)
        for piece in _pieces(low, head, _KEY - widest) if choices else ():
            for choice in choices:
                yield from _in_buckets(piece, choice, most, crowd, places, searched)


def _varying(words: Words) -> tuple[Words, int]:
    """Return words without the bits that they all share, and how many are left: the others tell nothing apart."""
    differing = int(np.bitwise_or.reduce(words ^ words[:1], initial=np.uint64(0)))
    if differing == (1 << WORD) - 1:
        return words, WORD
    return _joined(words, [(bit, bit + 1) for bit in range(WORD) if differing >> bit & 1])


def _bands(bits: int, most: int, count: int) -> int:
    """Return how many bands should agree for the least work, 0 where comparing all with all is less."""

    def work(equal: int) -> float:
        shared = count / 2 ** (bits * equal / (most + equal))
        return comb(most + equal, equal) * (_CALLS + count * (_SORTING + shared))

    choices = range(1, min(MOST_BANDS, bits - most) + 1)
    best = min(choices, key=work, default=0)
    return best if best and work(best) < count * (count / 2 + _CALLS / 20) else 0


def _depth(bands: Sequence[Band], equal: int, count: int) -> int:
    """Return by how many of the bands all words are sorted before they are cut in pieces."""
    fit = [
        depth
        for depth in range(equal + 1)
        if max(_width(_widest(bands, depth)), _width(_widest(bands, equal - depth))) <= _KEY
    ]
    return next((one for one in fit if count >> _width(_narrowest(bands, one)) <= PIECE), fit[-1])


def _widest(bands: Sequence[Band], number: int) -> list[Band]:
    return sorted(bands, key=lambda band: band[0] - band[1])[:number]


def _narrowest(bands: Sequence[Band], number: int) -> list[Band]:
    return sorted(bands, key=lambda band: band[1] - band[0])[:number]


def _width(bands: Iterable[Band]) -> int:
    return sum(stop - start for start, stop in bands)


class _Choice(NamedTuple):
    """Bands that must agree, but for those that a piece was sorted by, and masks of what was passed over for them.

    A pair that agrees in a band that was passed over has been told for a choice with that one.
    """

    tail: tuple[Band, ...]
    passed: list[np.uint64]


def _passed(bands: Sequence[Band], chosen: tuple[Band, ...]) -> list[np.uint64]:
    return [
        np.uint64((1 << stop) - (1 << start))
        for start, stop in bands
        if (start, stop) < chosen[-1] and (start, stop) not in chosen
    ]


class _Piece(NamedTuple):
    """Words of whole buckets of the first bands, where they stand among all, and the number of each one's bucket."""

    words: Words
    at: Places
    bucket: Keys


def _pieces(low: Words, head: tuple[Band, ...], spare_bits: int) -> Iterator[_Piece]:
    """Yield all words by buckets of the first bands: PIECE words or one bucket, numbered in `spare_bits` bits."""
    if not head:
        yield _Piece(low, np.arange(len(low)), np.zeros(len(low), np.uint16))
        return
    keys = _joined(low, head)[0].astype(np.uint16)
    order = np.argsort(keys, kind="stable")
    sizes = np.bincount(keys)
    sizes = sizes[sizes > 0]
    ends = np.cumsum(sizes)
    first = start = 0
    while first < len(sizes):
        fitting = int(np.searchsorted(ends, start + PIECE, side="right"))
        last = min(max(fitting, first + 1), first + (1 << spare_bits))
        end = int(ends[last - 1])
        at = order[start:end]
        yield _Piece(low[at], at, np.repeat(np.arange(last - first, dtype=np.uint16), sizes[first:last]))
        first, start = last, end


def _joined(low: Words, bands: Sequence[tuple[int, int]]) -> tuple[Words, int]:
    """Return pieces of words side by side, and how many bits they have."""
    keys, width = np.zeros(len(low), np.uint64), 0
    for start, stop in bands:
        piece = (low >> np.uint64(start)) & np.uint64((1 << (stop - start)) - 1)
        keys |= piece << np.uint64(width)
        width += stop - start
    return keys, width


def _in_buckets(
    piece: _Piece, choice: _Choice, most: int, crowd: int, places: Places, searched: _Searched
) -> Iterator[Pairs]:
    """Yield the pairs of one choice of bands: of the same key, and near in all bits."""
    tail, width = _joined(piece.words, choice.tail)
    keys = piece.bucket << np.uint16(width) | tail.astype(np.uint16)
    # Of numbers of 16 bits this is a radix sort.
    order = np.argsort(keys, kind="stable")
    keys, words = keys[order], piece.words[order]
    crowded = np.unique(keys[crowd:][keys[crowd:] == keys[:-crowd]])
    if len(crowded):
        rest = np.ones(len(keys), bool)
        for start, end in zip(
            *(np.searchsorted(keys, crowded, side) for side in ("left", "right")), strict=True
        ):
            rest[start:end] = False
            yield from _in_crowd(words[start:end], most, places[piece.at[order[start:end]]], searched)
        order, keys, words = order[rest], keys[rest], words[rest]
    for left, right in _gathered(_beside(keys, words, most)):
        differing = words[left] ^ words[right]
        new = np.ones(len(left), bool)
        for mask in choice.passed:
            new &= (differing & mask) != 0
        yield places[piece.at[order[left[new]]]], places[piece.at[order[right[new]]]]


def _beside(keys: Keys, words: Words, most: int) -> Iterator[Pairs]:
    """Yield the near pairs of each bucket of sorted keys, and some near ones of two buckets, too."""
    for step in range(1, len(keys)):
        same = keys[step:] == keys[:-step]
        pairs = np.count_nonzero(same)
        if not pairs:
            return
        # To compare all that stand so far apart takes less time than to pick out a few of them.
        if pairs * _PICKING > len(same):
            hits = np.flatnonzero(np.bitwise_count(words[step:] ^ words[:-step]) <= most)
        else:
            at = np.flatnonzero(same)
            hits = at[np.bitwise_count(words[at + step] ^ words[at]) <= most]
        if len(hits):
            yield hits, hits + step


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


def _all_pairs(words: Words, most: int, places: Places) -> Iterator[Pairs]:
    """Yield the pairs of all words with all others that differ by at most `most` bits."""
    for step in range(1, len(words)):
        hits = np.flatnonzero(np.bitwise_count(words[:-step] ^ words[step:]) <= most)
        if len(hits):
            yield places[hits], places[hits + step]
