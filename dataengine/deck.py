"""Fair orders: integer quotas of a cycle, laid out so that no prefix is off by a serving."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from heapq import heappop, heappush
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataengine.errors import PlanError
from dataengine.permute import key, scramble

Ints = NDArray[np.int64]

MAX_CYCLE = 1 << 18
# A short cycle is laid out several times with other ties, so that equal sources do not take turns for ever.
_MIN_DECK = 1 << 14


class Deck(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A sequence of members that repeats for ever; of length N over K members.

    `members` [N] stand at each position, `ordinals` [N] count how often each stood there before in the deck,
    `totals` [K] count them in all, `standings` [N] are member * N + position, ascending.
    """

    members: Ints
    ordinals: Ints
    totals: Ints
    standings: Ints


class NoOrderError(RuntimeError):
    """No order serves every job within its window."""


def cycle_length(portions: Sequence[Fraction], multiple: int = 1, limit: int = MAX_CYCLE) -> int:
    """Return how long a cycle must be to make `portions` exact: the least such multiple of `multiple` up to `limit`.

    Where there is none, the greatest multiple up to `limit`, which is `multiple` itself at the least.
    """
    exact = math.lcm(multiple, *(portion.denominator for portion in portions))
    return exact if exact <= limit else multiple * max(1, limit // multiple)


def cycle_quotas(names: Sequence[str], portions: Sequence[Fraction], length: int) -> Ints:
    """Return how many of `length` positions each name gets, by largest remainder, as int64 of shape [K].

    Raises PlanError when a portion (their sum is 1) above 0 would get nothing.
    """
    quotas = _largest_remainder(portions, length)
    starved = [i for i, portion in enumerate(portions) if portion > 0 and quotas[i] == 0]
    if starved:
        least = min(starved, key=lambda i: portions[i])
        raise PlanError(
            f"mixture: {names[least]!r} has a share of {float(portions[least]):.3g}, expected at least 1/{length}, "
            "one position of a cycle; raise its weight, merge it with another source, leave it out, or use policy "
            "'unimax' or 'sqrt'"
        )
    return np.array(quotas, np.int64)


def fair_order(quotas: Ints, num_slots: int, ties: NDArray[np.uint64] | None) -> Ints:
    """Return who is served in each slot, as int64 of shape [num_slots, sum(quotas) // num_slots].

    Member i (quota at most `num_slots`) is served at most once in a slot and quotas[i] times in all. Its count
    stays close to its part after every number of slots t: |count_i(t) - t quotas[i] / num_slots| is below 1, and with
    one serving a slot at most 1 - 1 / (2 K - 2), the least that K members can be promised. Integers only.

    This is periodic scheduling: the bound gives the j-th serving of a member a window of slots. With one serving a
    slot the windows of the least bound can all be kept (Tijdeman 1980, "The chairman assignment problem"), and
    earliest deadline first keeps windows wherever they can be kept. With several, the windows of a member with rate
    w = quota / num_slots are slots floor((j - 1) / w) to ceil(j / w) - 1. If all are kept, then at time t those due,
    floor(w t) > w t - 1, are done, and none is that may not have begun, so fewer than w t + 1 are: the bound. They can
    be, because w of each slot for each member is a fractional schedule, and the network of servings and slots has an
    integral flow wherever it has a fractional one. PD2 finds it (Anderson and Srinivasan 2004): earliest deadline; then
    a window that overlaps the next one; then, for rates of a half and more, the later group deadline, which is where a
    chain of forced servings would end. What is still equal falls by a hash of `ties[i]` and j, and so for each seed
    and each cycle in another way; without `ties` it goes to the lowest i.
    """
    member, nth, quota = _servings(quotas)
    tie = member if ties is None else scramble(ties[member] + nth.astype(np.uint64))
    if len(member) == num_slots:
        parts = max(1, 2 * int(np.count_nonzero(quotas)) - 2)
        release = ((nth * parts + 1) * num_slots - 1) // (quota * parts)
        deadline = (nth * parts + parts - 1) * num_slots // (quota * parts) + 1
        return keep_windows(member, release, deadline, (tie,), num_slots)
    release = nth * num_slots // quota
    deadline = _ceil_div((nth + 1) * num_slots, quota)
    overlaps = (nth + 1) * num_slots % quota != 0
    spare = np.maximum(num_slots - quota, 1)
    chained = overlaps & (2 * quota >= num_slots)
    group_deadline = _ceil_div(_ceil_div(deadline * spare, np.full_like(spare, num_slots)) * num_slots, spare)
    return keep_windows(member, release, deadline, (~overlaps, -group_deadline * chained, tie), num_slots)


def _servings(quotas: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the member of each serving, how often it was served before, and its quota: int64 [sum(quotas)]."""
    member = np.repeat(np.arange(len(quotas), dtype=np.int64), quotas)
    nth = np.arange(len(member), dtype=np.int64) - np.repeat(np.cumsum(quotas) - quotas, quotas)
    return member, nth, quotas[member]


def keep_windows(
    member: Ints, release: Ints, deadline: Ints, rest: Sequence[NDArray[Any]], num_slots: int
) -> Ints:
    """Return who is served in each slot, as int64 [num_slots, J // num_slots]: each of J jobs once, within its window.

    A job of `member` may be served in slots `release` to `deadline` - 1. The earliest deadline goes first; arrays of
    `rest` decide between equal ones, the first array before the others. Raises NoOrderError when a window is missed.
    """
    rank = np.lexsort((member, *reversed(rest), deadline))
    member, release, deadline = member[rank], release[rank], deadline[rank]
    served = _serve(member, release, num_slots)
    slot = np.arange(num_slots)[:, np.newaxis]
    # A certificate rather than trust: whatever chose the order, this is what a bound needs.
    if not ((release[served] <= slot) & (slot < deadline[served])).all():
        raise NoOrderError(f"{len(member)} jobs in {num_slots} slots: a window was missed")
    return member[served]


def _serve(member: Ints, release: Ints, num_slots: int) -> Ints:
    """Return the jobs served in each slot: the first ones released, no two of one member; jobs stand by rank."""
    width = len(member) // num_slots
    by_release = np.argsort(release, kind="stable")
    arrivals = by_release.tolist()
    num_arrived = np.searchsorted(release[by_release], np.arange(num_slots), side="right").tolist()
    owners = member.tolist()
    latest_slot = dict.fromkeys(owners, -1)
    waiting: list[int] = []
    served: list[int] = []
    begin = 0
    for slot in range(num_slots):
        for job in arrivals[begin : num_arrived[slot]]:
            heappush(waiting, job)
        begin = num_arrived[slot]
        held = []
        while len(served) < (slot + 1) * width:
            if not waiting:
                raise NoOrderError(f"slot {slot} of {num_slots}: no job may be served yet")
            job = heappop(waiting)
            if latest_slot[owners[job]] == slot:
                held.append(job)
                continue
            latest_slot[owners[job]] = slot
            served.append(job)
        for job in held:
            heappush(waiting, job)
    return np.array(served, np.int64).reshape(num_slots, width)


def apportion(portions: Sequence[Fraction], total: int) -> Ints:
    """Return whole numbers that sum to `total`, by largest remainder, but at least 1 each; int64 of shape [K].

    `total` is at least K. Who would get nothing gets 1, and the others share what is left.
    """
    least = [False] * len(portions)
    while True:
        rest = sum((p for p, taken in zip(portions, least, strict=True) if not taken), Fraction(0))
        free = [Fraction(0) if taken else p / rest for p, taken in zip(portions, least, strict=True)]
        quotas = _largest_remainder(free, total - sum(least))
        if all(taken or quota for taken, quota in zip(least, quotas, strict=True)):
            return np.array(quotas, np.int64) + np.array(least, np.int64)
        least = [taken or quota == 0 for taken, quota in zip(least, quotas, strict=True)]


def cycles_in_deck(length: int) -> int:
    """Return how many cycles of `length` positions to lay out as one deck."""
    return max(1, _MIN_DECK // length)


def lay_deck(names: Sequence[str], totals: Ints, batch: int, seed: int) -> Deck:
    """Lay out a deck with `totals` of each name: batches with floor or ceil of each one's part in them."""
    num_batches = int(totals.sum()) // batch
    ties = tie_keys(names, seed)
    always = np.repeat(np.arange(len(names), dtype=np.int64), totals // num_batches)
    sometimes = fair_order(totals % num_batches, num_batches, ties)
    rows = np.concatenate([np.broadcast_to(always, (num_batches, len(always))), sometimes], axis=1)
    places = np.arange(rows.size, dtype=np.uint64).reshape(rows.shape)
    shuffled = np.argsort(scramble(places + np.uint64(key(seed, "batch", 0) >> 1)), axis=1)
    return deck_of(np.take_along_axis(rows, shuffled, axis=1).reshape(-1), len(names))


def tie_keys(names: Sequence[str], seed: int) -> NDArray[np.uint64]:
    """Return a key for each name by which its ties fall, as uint64 of shape [K]."""
    return np.array([key(seed, f"tie:{name}", 0) for name in names], np.uint64)


def deck_of(members: Ints, num_members: int) -> Deck:
    """Return the deck in which `members` [N] stand, each below `num_members`."""
    totals = np.bincount(members, minlength=num_members)
    by_member = np.argsort(members, kind="stable")
    ordinals = np.empty_like(members)
    ordinals[by_member] = np.arange(len(members)) - np.repeat(np.cumsum(totals) - totals, totals)
    standings = members[by_member] * len(members) + by_member
    return Deck(members=members, ordinals=ordinals, totals=totals, standings=standings)


def order_batches(names: Sequence[str], orders: Sequence[Ints], batch: int, seed: int) -> Ints:
    """Return the order in which groups `names` take batches of `batch` from a cycle, as int64 of shape [T // batch].

    `orders` say which member of each group stands at each of the group's places; together they have T places. With q
    the places of a member, |count(t) - t q / T| < batch after every number t of positions: that gives every batch a
    window, and the earliest deadline goes first. Raises NoOrderError where the windows cannot be kept.
    """
    length = sum(len(order) for order in orders)
    group, release, deadline, rest = [], [], [], []
    for number, (tie, order) in enumerate(zip(tie_keys(names, seed), orders, strict=True)):
        deck = deck_of(order, int(order.max()) + 1)
        quota = deck.totals[order]
        offset = np.arange(len(order)) % batch
        first = (deck.ordinals + 1 - batch) * length // quota
        stop = _ceil_div((deck.ordinals + batch) * length, quota)
        earliest = _ceil_div(first - offset, np.full_like(first, batch)).reshape(-1, batch).max(axis=1)
        latest = ((stop - 1 - offset) // batch + 1).reshape(-1, batch).min(axis=1)
        # An order is taken as it is: no batch may come before those ahead of it, or later than those behind it.
        release.append(np.maximum.accumulate(earliest))
        deadline.append(np.minimum.accumulate(latest[::-1])[::-1])
        group.append(np.full(len(earliest), number))
        rest.append(scramble(tie + np.arange(len(earliest), dtype=np.uint64)))
    windows = (np.concatenate(release), np.concatenate(deadline))
    return keep_windows(np.concatenate(group), *windows, (np.concatenate(rest),), length // batch)[:, 0]


def fill_batches(own: NDArray[np.bool_], quotas: Ints, batch: int, ties: NDArray[np.uint64]) -> Ints:
    """Return which member of a group stands at each of its places, as int64 of shape [sum(quotas)].

    `own` [T // batch] says which batches of a cycle the group has. The bound is that of `order_batches`; here the
    batches have their places, and every serving has a window among them. Raises NoOrderError where the windows cannot
    be kept.
    """
    length = len(own) * batch
    places = (np.flatnonzero(own)[:, np.newaxis] * batch + np.arange(batch)).reshape(-1)
    member, nth, quota = _servings(quotas)
    release = np.searchsorted(places, (nth + 1 - batch) * length // quota)
    deadline = np.searchsorted(places, _ceil_div((nth + batch) * length, quota))
    tie = scramble(ties[member] + nth.astype(np.uint64))
    return keep_windows(member, release, deadline, (tie,), len(places))[:, 0]


def at(deck: Deck, position: Any) -> tuple[Any, Any]:
    """Return the member at `position` of the endless deck and how often it came before; int or int64 array."""
    cycle, place = divmod(position, len(deck.members))
    member = deck.members[place]
    return member, cycle * deck.totals[member] + deck.ordinals[place]


def tally(deck: Deck, members: Ints, positions: Ints) -> Ints:
    """Return how often a member stands before a position of the endless deck, for each pair of them."""
    cycles, places = np.divmod(positions, len(deck.members))
    first = np.cumsum(deck.totals) - deck.totals
    before = np.searchsorted(deck.standings, members * len(deck.members) + places) - first[members]
    return cycles * deck.totals[members] + before


def _largest_remainder(portions: Sequence[Fraction], total: int) -> list[int]:
    """Return whole numbers that sum to `total`, each the floor of its portion (sum 1) of it or one more."""
    quotas = [math.floor(portion * total) for portion in portions]
    by_remainder = sorted(range(len(portions)), key=lambda i: quotas[i] - portions[i] * total)
    for i in by_remainder[: total - sum(quotas)]:
        quotas[i] += 1
    return quotas


def _ceil_div(dividend: Ints, divisor: Ints) -> Ints:
    return np.negative(np.negative(dividend) // divisor)
