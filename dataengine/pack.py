"""How the samples of a step lie in sequences, and sequences in micro-batches: arithmetic on lengths alone.

A sequence is a row of text; a micro-batch is what goes through the model at once, one row or several.

A step is the same samples however it is laid out. Every result is a function of its arguments, ties going to the
earlier sample, so that every rank finds the same layout by itself and none has to be saved.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence

from dataengine.errors import PlanError

Groups = list[list[int]]

# A sequence's room and its number in one int: room orders them, the number breaks ties.
_BITS = 32
_NUMBER = (1 << _BITS) - 1


def pack(
    tokens: Sequence[int],
    max_tokens: int,
    *,
    tiles: Sequence[int] = (),
    max_tiles: int | None = None,
    multiple_of: int = 1,
) -> Groups:
    """Return sequences of samples, each as ascending places in `tokens`, that keep to both limits.

    Best fit, the largest sample first (by the limit of which it fills most): each goes to the sequence with the least
    room for it. The number of sequences is rounded up to a multiple, and the work is spread evenly among so many, by
    the smallest token limit that still gives no more (Multifit: Coffman, Garey and Johnson 1978). There are
    fewer only where there are fewer samples. Raises PlanError for a sample that exceeds a limit alone.
    """
    tiles = tiles or [0] * len(tokens)
    most_tiles = sum(tiles) if max_tiles is None else max_tiles
    _require_fit(tokens, max_tokens, "tokens")
    _require_fit(tiles, most_tiles, "tiles")
    order = _largest_first(tokens, tiles, max_tokens, most_tiles)

    # Rooms are searched by the scarcer of the two, so that hardly any of them lacks the other.
    by_tiles = sum(tiles) * max_tokens > sum(tokens) * most_tiles

    def packed(limit: int) -> Groups:
        if by_tiles:
            return _best_fit(order, tiles, tokens, most_tiles, limit)
        return _best_fit(order, tokens, tiles, limit, most_tiles)

    if not tokens:
        return []
    found = packed(max_tokens)
    wanted = _round_up(len(found), multiple_of)
    low = max(max(tokens), -(-sum(tokens) // wanted))
    found = _split(_tightest(packed, wanted, low, max_tokens, found), wanted, tokens)
    return sorted(sorted(sequence) for sequence in found)


def bucket(
    lengths: Sequence[int],
    *,
    max_rows: int | None = None,
    max_tokens: int | None = None,
    multiple_of: int = 1,
    kinds: Sequence[int] = (),
) -> Groups:
    """Cut rows into micro-batches with little padding; each is a list of places in `lengths`.

    Rows are ordered by kind (what pads badly together in another way, such as upright and flat pictures), then by
    length, longest first, and cut into as few micro-batches as the limits allow, rounded up to a multiple. `max_tokens`
    counts a micro-batch's positions, padding included. Among the cuts into so many, the one whose largest micro-batch
    is smallest is taken. Raises PlanError for a row that exceeds the limit alone.
    """
    if not lengths:
        return []
    rows = max_rows or len(lengths)
    limit = max_tokens or len(lengths) * max(lengths)
    _require_fit(lengths, limit, "tokens")
    kinds = kinds or [0] * len(lengths)
    order = sorted(range(len(lengths)), key=lambda place: (kinds[place], -lengths[place], place))

    def cut(limit: int) -> Groups:
        return _cut(order, lengths, rows, limit)

    found = cut(limit)
    wanted = _round_up(len(found), multiple_of)
    found = _tightest(cut, wanted, max(lengths), limit, found)
    return _split(found, wanted, lengths)


def deal(costs: Sequence[int], world: int) -> Groups:
    """Return the micro-batches of each rank, costliest first: equally many, or one less for some.

    Those that ranks take at the same time are of similar cost, since ranks wait for each other after each, and the
    sums are balanced: in each round the costliest goes to the rank that has had least.
    """
    order = sorted(range(len(costs)), key=lambda place: (-costs[place], place))
    dealt: Groups = [[] for _ in range(world)]
    loads = [0] * world
    for start in range(0, len(order), world):
        ranks = sorted(range(world), key=lambda rank: (loads[rank], rank))
        for rank, place in zip(ranks, order[start : start + world], strict=False):
            dealt[rank].append(place)
            loads[rank] += costs[place]
    return dealt


def _require_fit(sizes: Sequence[int], limit: int, what: str) -> None:
    if sizes and max(sizes) > limit:
        place = next(place for place, size in enumerate(sizes) if size > limit)
        raise PlanError(
            f"pack: sample {place} has {sizes[place]} {what}, expected at most {limit};"
            " leave it out, or raise the limit"
        )


def _largest_first(
    tokens: Sequence[int], tiles: Sequence[int], max_tokens: int, max_tiles: int
) -> Sequence[int]:
    if not any(tiles):
        return sorted(range(len(tokens)), key=tokens.__getitem__, reverse=True)
    sizes = [(max(t * max_tiles, k * max_tokens), t) for t, k in zip(tokens, tiles, strict=True)]
    # Reversing keeps equal ones in order.
    return sorted(range(len(tokens)), key=sizes.__getitem__, reverse=True)


def _best_fit(
    order: Sequence[int], sizes: Sequence[int], others: Sequence[int], limit: int, other_limit: int
) -> Groups:
    """Return sequences that keep to a limit on `sizes`, of which the least room is sought, and on `others`."""
    sequences: Groups = []
    others_left: list[int] = []
    rooms: list[int] = []  # of the sequences that can take another sample, ascending
    least, least_other = min(sizes, default=0) << _BITS, min(others, default=0)
    for place in order:
        size, other = sizes[place] << _BITS, others[place]
        slot, end = bisect_left(rooms, size), len(rooms)
        while slot < end and others_left[rooms[slot] & _NUMBER] < other:
            slot += 1
        if slot < end:
            room = rooms.pop(slot) - size
            number = room & _NUMBER
            sequences[number].append(place)
            others_left[number] -= other
        else:
            number = len(sequences)
            room = (limit << _BITS | number) - size
            sequences.append([place])
            others_left.append(other_limit - other)
        if room >= least and others_left[number] >= least_other:
            insort(rooms, room)
    return sequences


def _cut(order: Sequence[int], lengths: Sequence[int], max_rows: int, limit: int) -> Groups:
    found: Groups = []
    longest = 0
    for place in order:
        longest = max(longest, lengths[place])
        if not found or len(found[-1]) == max_rows or (len(found[-1]) + 1) * longest > limit:
            found.append([])
            longest = lengths[place]
        found[-1].append(place)
    return found


def _tightest(attempt: Callable[[int], Groups], wanted: int, low: int, high: int, found: Groups) -> Groups:
    """Return what `attempt` gives at the smallest limit in [low, high] that it keeps to `wanted` groups with.

    `found` is its result at `high`. Bisection: more room hardly ever needs more groups, and where it does, a slightly
    larger limit is found instead.
    """
    while low < high:
        middle = (low + high) // 2
        tried = attempt(middle)
        if len(tried) <= wanted:
            found, high = tried, middle
        else:
            low = middle + 1
    return found


def _split(groups: Groups, wanted: int, sizes: Sequence[int]) -> Groups:
    """Halve the largest group that has two members or more until there are `wanted`, as far as there are members."""
    while len(groups) < wanted:
        number = max(range(len(groups)), key=lambda n: (len(groups[n]) > 1, sum(sizes[p] for p in groups[n])))
        if len(groups[number]) == 1:
            break
        group, half = groups[number], sum(sizes[place] for place in groups[number]) / 2
        first = 1
        while first < len(group) - 1 and sum(sizes[place] for place in group[: first + 1]) <= half:
            first += 1
        groups[number : number + 1] = [group[:first], group[first:]]
    return groups


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
