from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.errors import PlanError
from dataengine.permute import MAX_SIZE, key, permute, permute_many, scramble, shuffle

KEYS = st.integers(0, 2**64 - 1)


@given(size=st.one_of(st.integers(1, 140), st.integers(1, 5000)), chosen=KEYS)
@settings(deadline=None, max_examples=80)
def test_every_index_goes_to_another_place(size: int, chosen: int) -> None:
    places = permute_many(np.arange(size), size, chosen)

    assert sorted(places.tolist()) == list(range(size))


@given(data=st.data(), size=st.integers(1, 48).flatmap(lambda bits: st.integers(1, 2**bits)), chosen=KEYS)
@settings(deadline=None, max_examples=80)
def test_one_index_and_many_agree(data: st.DataObject, size: int, chosen: int) -> None:
    indices = data.draw(st.lists(st.integers(0, size - 1), max_size=20))

    places = permute_many(np.array(indices, np.int64), size, chosen)

    assert places.tolist() == [permute(index, size, chosen) for index in indices]


@given(st.lists(st.tuples(st.integers(0, 2**50), st.integers(1, 3000), KEYS), max_size=40))
@settings(deadline=None, max_examples=40)
def test_sizes_and_keys_may_differ_from_index_to_index(draws: list[tuple[int, int, int]]) -> None:
    indices = np.array([number % size for number, size, _ in draws], np.int64)
    sizes = np.array([size for _, size, _ in draws], np.int64)
    keys = np.array([chosen for _, _, chosen in draws], np.uint64)

    places = permute_many(indices, sizes, keys)

    assert places.tolist() == [permute(number % size, size, chosen) for number, size, chosen in draws]


@pytest.mark.parametrize("size", [2**48, 2**48 - 1, 2**47 + 1, 10**12 + 39])
def test_the_ends_of_a_huge_range_stay_in_it_and_apart(size: int) -> None:
    ends = [*range(50), *range(size - 50, size)]

    places = [permute(index, size, 7) for index in ends]

    assert len(set(places)) == len(ends)
    assert all(0 <= place < size for place in places)


@pytest.mark.parametrize("size", [2, 3, 7, 16, 33, 64, 65, 67, 100, 129])
def test_over_many_keys_each_index_goes_everywhere_equally_often(size: int) -> None:
    num_keys = 8000
    keys = np.array([key(seed, "source", 0) for seed in range(num_keys)], np.uint64)
    indices = sorted({0, 1, size // 2, size - 1})

    for index in indices:
        places = permute_many(np.full(num_keys, index), size, keys)

        expected = num_keys / size
        chi_square = float(((np.bincount(places, minlength=size) - expected) ** 2 / expected).sum())
        # Mean size - 1, variance 2 (size - 1); keys are fixed, so this does not flicker.
        assert chi_square < size - 1 + 4.5 * (2 * (size - 1)) ** 0.5


@pytest.mark.parametrize("size", [3, 8, 64, 65, 129, 1000])
def test_neighbours_do_not_stay_neighbours(size: int) -> None:
    num_keys = 200_000 // size
    keys = np.repeat(np.array([key(seed, "source", 3) for seed in range(num_keys)], np.uint64), size)
    places = permute_many(np.tile(np.arange(size), num_keys), size, keys).reshape(num_keys, size)

    steps = np.bincount(((places[:, 1:] - places[:, :-1]) % size).reshape(-1), minlength=size)[1:]

    expected = steps.sum() / (size - 1)
    chi_square = float(((steps - expected) ** 2 / expected).sum())
    assert chi_square < size - 2 + 4.5 * (2 * max(size - 2, 1)) ** 0.5


def test_all_orders_of_four_occur_equally_often() -> None:
    num_keys = 12_000
    keys = np.repeat(np.array([key(seed, "source", 0) for seed in range(num_keys)], np.uint64), 4)

    places = permute_many(np.tile(np.arange(4), num_keys), 4, keys).reshape(num_keys, 4)

    orders, counts = np.unique(places, axis=0, return_counts=True)
    assert len(orders) == 24
    assert float(((counts - 500.0) ** 2 / 500).sum()) < 23 + 4.5 * 46**0.5


@given(size=st.integers(0, 300), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_a_shuffle_is_pythons_own_and_leaves_the_same_chance(size: int, seed: int) -> None:
    ours, theirs = random.Random(seed), random.Random(seed)
    items, same = list(range(size)), list(range(size))

    shuffle(items, ours)
    theirs.shuffle(same)

    assert items == same
    assert ours.random() == theirs.random()


def test_the_key_depends_on_seed_name_and_epoch() -> None:
    keys = {key(seed, name, epoch) for seed in range(12) for name in ("a", "b", "1:a") for epoch in range(12)}

    assert len(keys) == 12 * 3 * 12


def test_the_same_order_on_every_machine() -> None:
    chosen = key(5, "coco2017/detection/train", 2)

    assert chosen == 18093432939370041558
    assert [permute(index, 10, chosen) for index in range(10)] == [7, 2, 3, 1, 9, 8, 4, 0, 5, 6]
    assert [permute(index, 118_287, chosen) for index in range(4)] == [92008, 80010, 85945, 55574]


def test_scramble_is_the_published_finaliser() -> None:
    assert scramble(1) == 0xB456BCFC34C2CB2C


def test_scramble_gives_the_same_bits_for_an_int_and_an_array() -> None:
    words = [0, 1, 2**63, 2**64 - 1]

    assert scramble(np.array(words, np.uint64)).tolist() == [scramble(word) for word in words]


@pytest.mark.parametrize(("index", "size"), [(0, 0), (0, -3), (0, MAX_SIZE + 1), (5, 5), (-1, 5), (70, 70)])
def test_what_has_no_place_is_refused(index: int, size: int) -> None:
    with pytest.raises(PlanError, match=r"^permute: .*, expected "):
        permute(index, size, 1)
    with pytest.raises(PlanError, match=r"^permute: .*, expected "):
        permute_many(np.array([index]), size, 1)
