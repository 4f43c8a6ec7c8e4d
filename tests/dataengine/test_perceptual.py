from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.sparse.csgraph import connected_components

from dataengine import perceptual
from dataengine.images import Pixels
from dataengine.perceptual import (
    CROWD,
    NEAR_ALL,
    NEAR_LOW,
    NOBODY,
    WORD,
    Words,
    fingerprint,
    groups,
    nearest,
)


def scene(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """A picture of soft blobs, as different from another seed's as photographs are."""
    few = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC)


def _words(pictures: list[Pixels]) -> Words:
    prints = [fingerprint(one) for one in pictures]
    assert all(one is not None for one in prints)
    return np.array(prints, np.uint64)


def _stored(picture: Image.Image, quality: int) -> Pixels:
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=quality)
    return np.asarray(Image.open(sink))


def _bits(one: Words, other: Words) -> tuple[int, int]:
    low, high = np.bitwise_count(one ^ other).tolist()
    return low, low + high


def test_a_picture_stored_anew_or_made_smaller_is_near_and_others_are_far() -> None:
    for seed in range(20):
        whole = scene(seed)
        copies = [
            np.asarray(whole),
            _stored(whole, 50),
            np.asarray(whole.resize((80, 60))),
            np.asarray(scene(seed + 100)),
        ]
        first, *near, other = _words(copies)
        for copy in near:
            low, every = _bits(first, copy)
            assert low <= NEAR_LOW and every <= NEAR_ALL
        assert _bits(first, other)[0] > 2 * NEAR_LOW


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((64, 64, 3), 90, np.uint8),
        np.repeat(np.arange(0, 128, 2, dtype=np.uint8), 64 * 3).reshape(64, 64, 3),
        np.random.default_rng(0).integers(88, 91, (320, 320, 3), np.uint8),
        np.asarray(scene(0).resize((15, 200))),
    ],
    ids=["flat", "gradient", "grain", "narrow"],
)
def test_a_picture_of_hardly_any_structure_has_no_hash(pixels: Pixels) -> None:
    assert fingerprint(pixels) is None


def clouds(count: int, clusters: int, most: int, seed: int) -> Words:
    """Hashes around some centres, of which up to `most` bits differ."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**64, (clusters, 2), np.uint64)[rng.integers(0, clusters, count)]
    for _ in range(most):
        # The same place may be turned twice: all numbers of differing bits up to `most` occur.
        words[np.arange(count), rng.integers(0, 2, count)] ^= np.uint64(1) << rng.integers(
            0, 64, count, np.uint64
        )
    return words


def _by_all_pairs(
    words: Words, kin: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> tuple[list[int], list[int]]:
    low = np.bitwise_count(words[:, None, 0] ^ words[None, :, 0]).astype(int)
    every = low + np.bitwise_count(words[:, None, 1] ^ words[None, :, 1])
    strangers = kin[:, None] != kin[None, :]
    near = (low <= NEAR_LOW) & (every <= NEAR_ALL) & strangers
    group = connected_components(near)[1]
    first = [int(np.argmax(group == one)) for one in group]
    same = (every == 0) & strangers
    mate = [
        int(np.argmax(same[i] if same[i].any() else near[i])) if near[i].any() else i
        for i in range(len(words))
    ]
    return first, mate


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([30, 200, 500]),
    st.integers(1, 400),
    st.integers(0, 14),
    st.sampled_from([1, 3, 10**6]),
    st.integers(0, 2**32),
)
def test_groups_are_those_of_comparing_all_with_all(
    count: int, clusters: int, most: int, kins: int, seed: int
) -> None:
    words = clouds(count, clusters, most, seed)
    kin = np.random.default_rng(seed).integers(0, kins, count)

    made = groups(words, kin)

    assert (made.first.tolist(), made.near.tolist()) == _by_all_pairs(words, kin)


def test_groups_of_two_thousand_are_those_of_comparing_all_with_all() -> None:
    words = clouds(2000, 700, 12, 3)

    made = groups(words)

    assert (made.first.tolist(), made.near.tolist()) == _by_all_pairs(words, np.arange(2000))


@pytest.mark.parametrize(("equal", "piece"), [(1, 16), (2, 64), (2, 300), (3, 200), (4, 600)])
@settings(max_examples=2, deadline=None)
@given(crowd=st.integers(2, 30), most=st.integers(0, 14), seed=st.integers(0, 2**32))
def test_however_many_bands_agree_and_however_small_pieces_are_all_pairs_are_found(
    equal: int, piece: int, crowd: int, most: int, seed: int
) -> None:
    words = clouds(300, 60, most, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perceptual, "_bands", lambda bits, most, count: equal if bits == WORD else 0)
        patch.setattr(perceptual, "PIECE", piece)
        patch.setattr(perceptual, "CROWD", crowd)
        made = groups(words)

    assert (made.first.tolist(), made.near.tolist()) == _by_all_pairs(words, np.arange(300))


def test_pictures_that_share_the_lowest_bits_are_told_apart_by_the_others() -> None:
    rng = np.random.default_rng(4)
    words = rng.integers(0, 2**64, (300, 2), np.uint64)
    words[:, 0] = words[rng.integers(0, 3, 300), 0]
    words[150:, 1] = words[:150, 1]
    for _ in range(NEAR_ALL):
        words[150:, 1] ^= np.uint64(1) << rng.integers(0, 64, 150, np.uint64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perceptual, "AT_ONCE", 1000)
        made = groups(words)

    assert (made.first.tolist(), made.near.tolist()) == _by_all_pairs(words, np.arange(300))


def test_a_crowd_among_others_is_searched_with_all_that_hang_on_to_it() -> None:
    rng = np.random.default_rng(1)
    words = rng.integers(0, 2**64, (22 * CROWD, 2), np.uint64)
    crowd, near = words[: 3 * CROWD], words[-CROWD // 2 :]
    crowd[:] = crowd[0] ^ rng.integers(0, 1 << 12, (len(crowd), 1), np.uint64) * np.uint64(1 << 20)
    near[:] = crowd[: len(near)]
    for _ in range(NEAR_LOW - 1):
        near[:, 0] ^= np.uint64(1) << rng.integers(0, 64, len(near), np.uint64)

    made = groups(words)

    first, mate = _by_all_pairs(words, np.arange(len(words)))
    assert (made.first.tolist(), made.near.tolist()) == (first, mate)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 60), st.integers(0, 2**32))
def test_the_nearest_is_that_of_comparing_all_with_all(
    mine: int, theirs: int, clusters: int, seed: int
) -> None:
    words = clouds(mine + theirs, clusters, 9, seed)
    one, other = words[:mine], words[mine:]

    found = nearest(one, other)

    for place in range(mine):
        pairs = [(every, at) for at in range(theirs) for low, every in [_bits(one[place], other[at])]
                 if low <= NEAR_LOW and every <= NEAR_ALL]  # fmt: skip
        expected = min(pairs, default=(0, NOBODY))
        assert (int(found.bits[place]), int(found.place[place])) == expected


def test_every_way_of_differing_in_the_most_bits_allowed_is_found() -> None:
    base = np.array([[0x0123456789ABCDEF, 0x5A5A5A5A5A5A5A5A]], np.uint64)
    crowd = np.random.default_rng(2).integers(0, 2**64, (3000, 2), np.uint64)
    for chosen in list(combinations(range(0, 64, 5), NEAR_LOW))[::40]:
        other = base.copy()
        other[0, 0] ^= np.uint64(sum(1 << bit for bit in chosen))

        made = groups(np.concatenate([base, crowd, other]))

        assert made.near[-1] == 0
