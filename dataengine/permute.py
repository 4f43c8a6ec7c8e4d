"""A keyed shuffle of `range(size)` as a formula: any place of it costs the same, and nothing is stored."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from dataengine.errors import PlanError

Words = NDArray[np.uint64]
# An int below 2**64 or an array of uint64; numpy types their mixed arithmetic too loosely to say so.
Word = TypeVar("Word", int, NDArray[Any])
T = TypeVar("T")

MAX_SIZE = 1 << 48

_ALL_BITS = (1 << 64) - 1
_STRIDE = 0x9E3779B97F4A7C15  # odd, so that its multiples are distinct modulo 2**64
_ROUNDS = 8
_STARTS = [turn * _STRIDE & _ALL_BITS for turn in range(_ROUNDS)]
_HALF, _FIRST, _SECOND = np.uint64(33), np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
# A Feistel network over a handful of bits has too few round functions to reach most orders; below this size
# we rank hashes instead, which costs `size` of them.
_TINY = 64


def shuffle(items: list[T], rng: random.Random) -> None:
    """Shuffle in place, number for number as `rng.shuffle` does, in half the time: class lists are long, and many."""
    draw, top = rng.getrandbits, len(items) - 1
    while top > 0:
        bits = (top + 1).bit_length()
        bottom = (1 << (bits - 1)) - 2
        for last in range(top, bottom, -1):
            place = draw(bits)
            while place > last:
                place = draw(bits)
            items[last], items[place] = items[place], items[last]
        top = bottom


def key(seed: int, name: str, epoch: int) -> int:
    """Return the 64-bit key of one pass over `name`: it depends on identity, never on a list position."""
    return xxhash.xxh3_64_intdigest(f"{seed}:{epoch}:{name}".encode())


def scramble(word: Word) -> Word:
    """Return a 64-bit bijection of `word` in which every input bit reaches every output bit.

    It takes a non-negative int or an array of uint64, and gives the same bits for both (the finaliser of
    MurmurHash3, Appleby 2011: shift-xor and odd multiplications, each invertible modulo 2**64).
    """
    word = word & _ALL_BITS
    word = (word ^ (word >> 33)) * 0xFF51AFD7ED558CCD & _ALL_BITS
    word = (word ^ (word >> 33)) * 0xC4CEB9FE1A85EC53 & _ALL_BITS
    return word ^ (word >> 33)


def _scrambled(words: Words) -> Words:
    """Return `scramble` of words that wrap by themselves and are changed in place: half the time of blocks."""
    words = words ^ (words >> _HALF)
    words *= _FIRST
    words ^= words >> _HALF
    words *= _SECOND
    words ^= words >> _HALF
    return words


def permute(index: int, size: int, key: int) -> int:
    """Return where `index` goes in the shuffle of `range(size)` that `key` selects, as an int in [0, size).

    A Feistel network over the least power of two that holds `size`, applied again while it leaves the range
    (cycle walking, Black and Rogaway 2002): under two applications on average. Raises PlanError when the size
    is not in [1, 2**48] or the index is not in [0, size).
    """
    _require_range(index, index - size, size, size)
    if size <= _TINY:
        return _rank(index, size, size, key)
    bits = (size - 1).bit_length()
    turns = [scramble(key + start) for start in _STARTS]
    word = _feistel(index, bits, turns, scramble)
    while word >= size:
        word = _feistel(word, bits, turns, scramble)
    return word


def permute_many(
    indices: NDArray[np.int64], size: int | NDArray[np.int64], key: int | Words
) -> NDArray[np.int64]:
    """Return `permute` of every index, as int64 of the same length.

    `size` and `key` are one for all indices, or one for each, so that draws from many sources take one call.
    """
    if not len(indices):
        return np.zeros(0, np.int64)
    sizes = np.broadcast_to(np.asarray(size, np.int64), indices.shape)
    keys = np.broadcast_to(np.asarray(key, np.uint64), indices.shape)
    _require_range(int(indices.min()), int((indices - sizes).max()), int(sizes.min()), int(sizes.max()))

    words = indices.astype(np.uint64)
    limits = sizes.astype(np.uint64)
    tiny = np.flatnonzero(sizes <= _TINY)
    if len(tiny):
        words[tiny] = _rank(words[tiny], limits[tiny], int(sizes[tiny].max()), keys[tiny])
    walking = np.flatnonzero(sizes > _TINY)
    # Sizes are below 2**53, so the exponent of the float is exactly the number of bits.
    bits = np.frexp((sizes[walking] - 1).astype(np.float64))[1].astype(np.uint64)
    turns = _scrambled(keys[walking] + np.array(_STARTS, np.uint64)[:, None])
    while len(walking):
        words[walking] = found = _feistel(words[walking], bits, turns, _scrambled)
        outside = found >= limits[walking]
        walking, bits, turns = walking[outside], bits[outside], turns[:, outside]
    return words.astype(np.int64)


def _feistel(
    word: Word, bits: Word, turns: Sequence[Word] | Words, scrambled: Callable[[Word], Word]
) -> Word:
    """Return a keyed bijection of [0, 2**bits); the halves differ by a bit when `bits` is odd.

    `turns` are the `_ROUNDS` words that a key is scrambled to, the same for every word that it shuffles.
    """
    low_bits = bits >> 1
    high_bits = bits - low_bits
    high = word >> low_bits
    low = word - (high << low_bits)
    for turn in range(0, _ROUNDS, 2):
        high = high ^ (scrambled(low ^ turns[turn]) >> (64 - high_bits))
        low = low ^ (scrambled(high ^ turns[turn + 1]) >> (64 - low_bits))
    joined: Word = high << low_bits
    joined |= low
    return joined


def _rank(word: Word, size: Word, largest: int, key: Word) -> Word:
    """Return the rank of the hash of `word` among those of `range(size)`; `largest` is the greatest size.

    The hashes differ, being a bijection of different words, so the ranks are a permutation.
    """
    start = scramble(key)
    own = scramble(start + word * _STRIDE)
    rank: Word = word ^ word
    for other in range(largest):
        rank += (other < size) & (scramble(start + other * _STRIDE % (1 << 64)) < own)
    return rank


def _require_range(least_index: int, greatest_excess: int, least_size: int, greatest_size: int) -> None:
    """Raise PlanError unless sizes are in [1, 2**48] and indices in [0, size); the excess is index - size."""
    if least_size < 1 or greatest_size > MAX_SIZE:
        size = least_size if least_size < 1 else greatest_size
        raise PlanError(f"permute: size is {size!r}, expected 1 to 2**48; leave empty sources out")
    if least_index < 0 or greatest_excess >= 0:
        raise PlanError(
            "permute: an index is out of range, expected 0 <= index < size; take it modulo the size"
        )
