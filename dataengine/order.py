"""Which source stands where: the shares of a mixture, laid out for its mode."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction

import msgspec
import numpy as np

from dataengine.deck import (
    MAX_CYCLE,
    Deck,
    Ints,
    NoOrderError,
    apportion,
    at,
    cycle_length,
    cycle_quotas,
    cycles_in_deck,
    deck_of,
    fair_order,
    fill_batches,
    lay_deck,
    order_batches,
    tally,
    tie_keys,
)
from dataengine.errors import PlanError, nearest
from dataengine.permute import key
from dataengine.shares import Recipe, Source

# How often other ties are tried when the first leave no order that keeps every source within a batch.
_TRIES = 8


class Order(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Which of K sources stands at each position, for ever.

    Batch b, which holds the positions from b * batch on, takes its samples from the deck of one of `groups` (source
    numbers), which `group_deck` names: a decoder family in mode `unmixed`, otherwise the one group of all sources.
    Without a `group_deck` (mode `accumulate`) every batch takes `widths[g]` samples from each group g, one group
    after the other. `names` are those of the groups, "" for all sources. Of every `cycles[i]` positions `quotas[i]`
    go to source i.
    """

    quotas: tuple[int, ...]
    cycles: tuple[int, ...]
    batch: int
    names: tuple[str, ...]
    groups: tuple[Ints, ...]
    group_deck: Deck | None
    widths: Ints
    decks: tuple[Deck, ...]

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """The exact share of each source; they sum to 1."""
        return tuple(Fraction(quota, cycle) for quota, cycle in zip(self.quotas, self.cycles, strict=True))


class _Group(msgspec.Struct, frozen=True, kw_only=True):
    """Sources that share batches: their numbers and names, their share of the whole, and their parts of it."""

    name: str
    members: tuple[int, ...]
    names: tuple[str, ...]
    share: Fraction
    parts: tuple[Fraction, ...]


def lay_out(
    sources: Sequence[Source], portions: Sequence[Fraction], recipe: Recipe, limit: int = MAX_CYCLE
) -> Order:
    """Return the order of `sources` with shares `portions` (sum 1): see `mix.plan` for what it promises.

    Shares that need a cycle of more than `limit` positions are rounded to one of about that length.

    In mode unmixed with K families and batches of B, a family is at most a = 1 - 1 / (2 K - 2) batches off its share
    where a batch ends, by `fair_order`, and less in between, where its difference runs along a straight line. A
    source with part c of its family is then at most c a B off, and less than 1 more by the order in the family.
    From B = 2 K - 2 on that is below B, and the two orders need not know of each other. In smaller batches a
    source that is nearly its whole family has too little room for that: there the orders in the families come
    first, and `order_batches` fits the families around them, or the families come first, and `fill_batches` fits the
    sources into their batches. Where neither is found, PlanError says which batch is large enough.
    """
    if recipe.mode == "accumulate":
        return _lay_side_by_side(_accumulated(sources, portions, recipe), len(sources), recipe, limit)
    batch = recipe.global_batch if recipe.mode == "stratified" else 1
    # A batch of one sample has one family in every mode, and the bound of mode mixed is the tighter one.
    if recipe.mode != "unmixed" or recipe.global_batch == 1:
        return _lay_apart(
            [_group("", range(len(sources)), sources, portions)], len(sources), batch, recipe, limit
        )
    families: dict[str, list[int]] = {}
    for i, source in enumerate(sources):
        # A family without a share has no batch.
        if portions[i] > 0:
            families.setdefault(source.family, []).append(i)
    groups = [_group(name, members, sources, portions) for name, members in sorted(families.items())]
    if recipe.global_batch >= 2 * len(groups) - 2:
        return _lay_apart(groups, len(sources), batch, recipe, limit)
    return _lay_together(groups, len(sources), recipe, limit)


def stand(order: Order, positions: Ints) -> tuple[Ints, Ints]:
    """Return the source that stands at each position, and how often it stood before; int64 arrays of one length."""
    batches, offsets = np.divmod(positions, order.batch)
    if order.group_deck is None:
        groups = np.searchsorted(np.cumsum(order.widths), offsets, side="right")
    else:
        groups, _ = at(order.group_deck, batches)
    inner = _group_positions(order, groups, positions)
    sources, nths = np.empty_like(positions), np.empty_like(positions)
    for group in np.unique(groups).tolist():
        here = groups == group
        members, nths[here] = at(order.decks[group], inner[here])
        sources[here] = order.groups[group][members]
    return sources, nths


def stand_one(order: Order, position: int) -> tuple[int, int]:
    """Return what `stand` does of one position, in a twentieth of the time."""
    batch, offset = divmod(position, order.batch)
    if order.group_deck is None:
        stops = np.cumsum(order.widths).tolist()
        group = bisect_right(stops, offset)
        width = int(order.widths[group])
        inner = batch * width + offset - (stops[group] - width)
    else:
        group, batches_before = at(order.group_deck, batch)
        inner = int(batches_before) * order.batch + offset
    member, nth = at(order.decks[int(group)], inner)
    return int(order.groups[int(group)][int(member)]), int(nth)


def standings(order: Order, position: int) -> Ints:
    """Return how often each source stands before `position`, as int64 of shape [K]."""
    every = np.arange(len(order.quotas))
    return count_of(order, every, np.full(len(every), position))


def count_of(order: Order, sources: Ints, positions: Ints) -> Ints:
    """Return how often a source stands before a position, for each pair of them; int64 arrays of one length."""
    counts = np.zeros_like(positions)
    for group, members in enumerate(order.groups):
        member_of = np.full(len(order.quotas), -1)
        member_of[members] = np.arange(len(members))
        here = np.flatnonzero(member_of[sources] >= 0)
        inner = _group_positions(order, np.full(len(here), group), positions[here])
        counts[here] = tally(order.decks[group], member_of[sources[here]], inner)
    return counts


def _group_positions(order: Order, groups: Ints, positions: Ints) -> Ints:
    """Return how many positions before each one belong to a group, for each pair of them."""
    batches, offsets = np.divmod(positions, order.batch)
    if order.group_deck is None:
        starts = np.cumsum(order.widths) - order.widths
        begun: Ints = np.clip(offsets - starts[groups], 0, order.widths[groups])
        return batches * order.widths[groups] + begun
    current, _ = at(order.group_deck, batches)
    begun = np.where(current == groups, offsets, 0)
    return tally(order.group_deck, groups, batches) * order.batch + begun


def step_groups(order: Order, step: int) -> list[tuple[str, int, int]]:
    """Return the groups of a batch in order: name, and the places in the batch from the first to before the last."""
    if order.group_deck is None:
        stops = np.cumsum(order.widths).tolist()
        return list(zip(order.names, [0, *stops[:-1]], stops, strict=True))
    return [(order.names[int(at(order.group_deck, step)[0])], 0, order.batch)]


def _group(
    name: str, members: Sequence[int], sources: Sequence[Source], portions: Sequence[Fraction]
) -> _Group:
    share = sum((portions[i] for i in members), Fraction(0))
    return _Group(
        name=name,
        members=tuple(members),
        names=tuple(sources[i].name for i in members),
        share=share,
        parts=tuple(portions[i] / share for i in members),
    )


def _accumulated(sources: Sequence[Source], portions: Sequence[Fraction], recipe: Recipe) -> list[_Group]:
    """Return the groups of which every batch holds a part: families, without the tasks that have a weight of their own.

    Raises PlanError for a weight of what is not in the mixture.
    """
    members: dict[str, list[int]] = {}
    for i, source in enumerate(sources):
        if portions[i] > 0:
            own = f"{source.family}/{source.task}"
            members.setdefault(own if own in recipe.loss_weights else source.family, []).append(i)
    known = {source.family for source in sources} | {f"{one.family}/{one.task}" for one in sources}
    for name in recipe.loss_weights:
        if name not in known:
            raise PlanError(f"loss_weights: {name!r} is no family and no family/task{nearest(name, known)}")
    return [_group(name, numbers, sources, portions) for name, numbers in sorted(members.items())]


def _lay_side_by_side(groups: Sequence[_Group], num_sources: int, recipe: Recipe, limit: int) -> Order:
    """Give each group a fixed part of every batch, and lay out its sources in a cycle of their own."""
    batch = recipe.global_batch
    if batch < len(groups):
        raise PlanError(
            f"recipe: global_batch is {batch} and mode 'accumulate' has {len(groups)} sub-batches "
            f"({', '.join(group.name for group in groups)}), expected a sample of each in every batch; raise "
            "global_batch, or use mode 'unmixed'"
        )
    widths = apportion([group.share for group in groups], batch)
    quotas, decks = [], []
    for group in groups:
        length = cycle_length(group.parts, 1, limit)
        quotas.append(cycle_quotas(group.names, group.parts, length))
        decks.append(lay_deck(group.names, quotas[-1] * cycles_in_deck(length), 1, recipe.seed))
    return _order(groups, num_sources, widths, quotas, None, decks, batch)


def _lay_apart(groups: Sequence[_Group], num_sources: int, batch: int, recipe: Recipe, limit: int) -> Order:
    """Lay out the groups, and the sources of each in batches of `batch`, in cycles of their own."""
    names, totals = [group.name for group in groups], [group.share for group in groups]
    length = cycle_length(totals, 1, limit)
    counts = cycle_quotas(names, totals, length)
    quotas, decks = [], []
    for group in groups:
        own_length = cycle_length(group.parts, batch, limit)
        own = cycle_quotas(group.names, group.parts, own_length)
        quotas.append(own)
        decks.append(lay_deck(group.names, own * cycles_in_deck(own_length), batch, recipe.seed))
    group_deck = lay_deck(names, counts * cycles_in_deck(length), 1, recipe.seed)
    return _order(groups, num_sources, counts, quotas, group_deck, decks, recipe.global_batch)


def _lay_together(groups: Sequence[_Group], num_sources: int, recipe: Recipe, limit: int) -> Order:
    """Lay out the groups in batches, and the sources of each, in one cycle.

    Either the sources' orders come first, or the groups' order: what one cannot keep, the other often can. Like
    groups that all need the same place at once fail the first; a great source in a group far off fails the second.
    """
    batch, seed = recipe.global_batch, recipe.seed
    names, totals = [group.name for group in groups], [group.share for group in groups]
    in_batches = [group.share * part * batch for group in groups for part in group.parts]
    length = cycle_length([*totals, *in_batches], 1, limit // batch)
    counts = cycle_quotas(names, totals, length)
    quotas = [
        cycle_quotas(group.names, group.parts, count * batch)
        for group, count in zip(groups, counts.tolist(), strict=True)
    ]
    turns: list[Ints] = []
    served: list[list[Ints]] = [[] for _ in groups]
    for cycle in range(cycles_in_deck(length * batch)):
        group_order, orders = _fit_cycle(groups, counts, quotas, batch, f"{seed}:{cycle}")
        turns.append(group_order)
        for one, order in zip(served, orders, strict=True):
            one.append(order)
    group_deck = deck_of(np.concatenate(turns), len(groups))
    decks = [deck_of(np.concatenate(one), len(own)) for one, own in zip(served, quotas, strict=True)]
    return _order(groups, num_sources, counts, quotas, group_deck, decks, batch)


def _fit_cycle(
    groups: Sequence[_Group], counts: Ints, quotas: Sequence[Ints], batch: int, seed: str
) -> tuple[Ints, list[Ints]]:
    """Return one cycle's order of groups and the order of sources in each.

    Either the sources' orders come first, or the groups' order: what one cannot keep, the other often can. Like
    groups that all need the same place at once fail the first; a great source in a group far off fails the second.
    """
    names = [group.name for group in groups]
    for number in range(_TRIES):
        ties = key(0, f"{seed}:{number}", 0)
        with suppress(NoOrderError):
            orders = [_peel(group.names, own, ties) for group, own in zip(groups, quotas, strict=True)]
            return order_batches(names, orders, batch, ties), orders
        with suppress(NoOrderError):
            # In turns, a family is ahead or behind, not both, which leaves its sources the most room.
            in_turns = None if number == 0 else tie_keys(names, ties)
            group_order = fair_order(counts, int(counts.sum()), in_turns)[:, 0]
            orders = [
                fill_batches(group_order == i, own, batch, tie_keys(group.names, ties))
                for i, (group, own) in enumerate(zip(groups, quotas, strict=True))
            ]
            return group_order, orders
    raise PlanError(
        f"mixture: found no order of batches of {batch} from {len(groups)} families that keeps every source within a "
        f"batch of its share; raise global_batch (from {2 * len(groups) - 2} on there always is one), or use mode "
        "'mixed'"
    )


def _peel(names: Sequence[str], quotas: Ints, seed: int) -> Ints:
    """Return an order of `quotas` of each name in which one of more than half is at most half a serving off.

    It is laid out against all others, and these among themselves: two members can be promised more than many.
    """
    first = int(quotas.argmax())
    if len(names) <= 2 or 2 * quotas[first] <= quotas.sum():
        return fair_order(quotas, int(quotas.sum()), tie_keys(names, seed))[:, 0]
    others = np.delete(np.arange(len(names)), first)
    against = np.array([quotas[first], quotas[others].sum()])
    parts = fair_order(against, int(quotas.sum()), tie_keys([names[first], f"not {names[first]}"], seed))[
        :, 0
    ]
    order = np.full(len(parts), first)
    order[parts == 1] = others[_peel([names[i] for i in others.tolist()], quotas[others], seed)]
    return order


def _order(
    groups: Sequence[_Group],
    num_sources: int,
    counts: Ints,
    quotas: Sequence[Ints],
    group_deck: Deck | None,
    decks: Sequence[Deck],
    batch: int,
) -> Order:
    """Return the order in which, in a cycle, group g takes counts[g] turns, and its sources share them by quotas[g].

    Without a `group_deck`, a turn is a sample of every batch.
    """
    all_quotas, cycles = {}, {}
    for group, count, own in zip(groups, counts.tolist(), quotas, strict=True):
        length = int(own.sum())
        # The least cycle in which the group has whole turns and its sources whole quotas.
        turns = math.lcm(count, length) // length
        for i, quota in zip(group.members, own.tolist(), strict=True):
            all_quotas[i], cycles[i] = quota * turns, length * turns // count * int(counts.sum())
    return Order(
        quotas=tuple(all_quotas.get(i, 0) for i in range(num_sources)),
        cycles=tuple(cycles.get(i, 1) for i in range(num_sources)),
        batch=batch,
        names=tuple(group.name for group in groups),
        groups=tuple(np.array(group.members, np.int64) for group in groups),
        group_deck=group_deck,
        widths=counts if group_deck is None else np.zeros(0, np.int64),
        decks=tuple(decks),
    )
