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


def cycle_quotas(names: Sequence[str], portions: Sequence[Fraction], multiple: int = 1) -> Ints:
    """Return how many positions of a cycle each name gets, as int64 of shape [K]; their sum is the cycle's length.

    The length is a multiple of `multiple`: the least one that makes the portions (sum 1) exact, if at most
    MAX_CYCLE; else the greatest one up to MAX_CYCLE, by largest remainder. Raises PlanError when a portion above 0
    would get nothing.
    """
    exact = math.lcm(multiple, *(portion.denominator for portion in portions))
    length = exact if exact <= MAX_CYCLE else multiple * max(1, MAX_CYCLE // multiple)
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


def fair_order(quotas: Ints, num_slots: int, tie_keys: NDArray[np.uint64]) -> Ints:
    """Return who is served in each slot, as int64 of shape [num_slots, sum(quotas) // num_slots].

    Member i (quota at most `num_slots`) is served at most once in a slot, quotas[i] times in all, and
    |count_i(t) - t quotas[i] / num_slots| < 1 after every number of slots t. Integers only.

    This is periodic scheduling: the j-th serving of a member with rate w = quota / num_slots may happen in slots
    floor((j - 1) / w) to ceil(j / w) - 1. If all do, then at time t those due, floor(w t) > w t - 1, are done, and
    none is that may not have begun, so fewer than w t + 1 are: the bound. All can, because w of each slot for
    each member is a fractional schedule, and the network of servings and slots has an integral flow wherever it
    has a fractional one. With one serving a slot, earliest deadline first finds it (Tijdeman 1980 gives the same
    bound otherwise). With several, PD2 does (Anderson and Srinivasan 2004): earliest deadline; then a window that
    overlaps the next one; then, for rates of a half and more, the later group deadline, which is where a chain of
    forced servings would end. What is still equal falls by a hash of `tie_keys[i]` and j, and so for each seed
    and each cycle in another way.
    """
    member = np.repeat(np.arange(len(quotas), dtype=np.int64), quotas)
    nth = np.arange(len(member), dtype=np.int64) - np.repeat(np.cumsum(quotas) - quotas, quotas)
    quota = quotas[member]
    release = nth * num_slots // quota
    deadline = _ceil_div((nth + 1) * num_slots, quota)
    overlaps = (nth + 1) * num_slots % quota != 0
    spare = np.maximum(num_slots - quota, 1)
    chained = overlaps & (2 * quota >= num_slots)
    group_deadline = _ceil_div(_ceil_div(deadline * spare, np.full_like(spare, num_slots)) * num_slots, spare)
    tie = scramble(tie_keys[member] + nth.astype(np.uint64))
    rank = np.lexsort((member, tie, -group_deadline * chained, ~overlaps, deadline))
    member, release, deadline = member[rank], release[rank], deadline[rank]

    served = _serve(member, release, num_slots)
    slot = np.arange(num_slots)[:, np.newaxis]
    # A certificate rather than trust: whatever chose the order, this is what the bound needs.
    if not ((release[served] <= slot) & (slot < deadline[served])).all():
        raise RuntimeError(f"fair_order: a serving missed its window for quotas {quotas.tolist()}")
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
            job = heappop(waiting)
            if latest_slot[owners[job]] == slot:
                held.append(job)
                continue
            latest_slot[owners[job]] = slot
            served.append(job)
        for job in held:
            heappush(waiting, job)
    return np.array(served, np.int64).reshape(num_slots, width)


def lay_deck(names: Sequence[str], quotas: Ints, batch: int, seed: int) -> Deck:
    """Lay out one deck over `names`, whole cycles long: batches with floor or ceil of each one's part in them."""
    repeats = max(1, _MIN_DECK // int(quotas.sum()))
    totals = quotas * repeats
    num_batches = int(totals.sum()) // batch
    ties = np.array([key(seed, f"tie:{name}", 0) for name in names], np.uint64)
    always = np.repeat(np.arange(len(names), dtype=np.int64), totals // num_batches)
    sometimes = fair_order(totals % num_batches, num_batches, ties)
    rows = np.concatenate([np.broadcast_to(always, (num_batches, len(always))), sometimes], axis=1)
    places = np.arange(rows.size, dtype=np.uint64).reshape(rows.shape)
    shuffled = np.argsort(scramble(places + np.uint64(key(seed, "batch", 0) >> 1)), axis=1)
    members = np.take_along_axis(rows, shuffled, axis=1).reshape(-1)
    by_member = np.argsort(members, kind="stable")
    ordinals = np.empty_like(members)
    ordinals[by_member] = np.arange(len(members)) - np.repeat(np.cumsum(totals) - totals, totals)
    standings = members[by_member] * len(members) + by_member
    return Deck(members=members, ordinals=ordinals, totals=totals, standings=standings)


def at(deck: Deck, position: Any) -> tuple[Any, Any]:
    """Return the member at `position` of the endless deck and how often it came before; int or int64 array."""
    cycle, place = divmod(position, len(deck.members))
    member = deck.members[place]
    return member, cycle * deck.totals[member] + deck.ordinals[place]


def tally(deck: Deck, position: int) -> Ints:
    """Return how often each member stands before `position` of the endless deck, as int64 of shape [K]."""
    cycle, place = divmod(position, len(deck.members))
    reach = np.arange(len(deck.totals)) * len(deck.members) + place
    before = np.searchsorted(deck.standings, reach) - (np.cumsum(deck.totals) - deck.totals)
    return cycle * deck.totals + before


def _largest_remainder(portions: Sequence[Fraction], total: int) -> list[int]:
    """Return whole numbers that sum to `total`, each the floor of its portion (sum 1) of it or one more."""
    quotas = [math.floor(portion * total) for portion in portions]
    by_remainder = sorted(range(len(portions)), key=lambda i: quotas[i] - portions[i] * total)
    for i in by_remainder[: total - sum(quotas)]:
        quotas[i] += 1
    return quotas


def _ceil_div(dividend: Ints, divisor: Ints) -> Ints:
    return np.negative(np.negative(dividend) // divisor)
