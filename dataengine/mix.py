"""The mixture as arithmetic: which sample stands at position t is a function of (sources, recipe, t) alone.

Three steps lead there. A policy turns sizes into exact shares. Shares become integer quotas of one cycle of
positions, and the cycle is laid out so that no prefix of the stream is off its shares by a sample. The j-th draw
of a source is the j-th sample of a keyed shuffle that is itself a formula. Nothing here opens a file.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from heapq import heappop, heappush
from typing import Any, Literal, assert_never

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from dataengine.errors import PlanError, nearest
from dataengine.permute import MAX_SIZE, key, permute, permute_many, scramble

Ints = NDArray[np.int64]
Policy = Literal["proportional", "sqrt", "temperature", "unimax", "explicit", "uniform"]
Mode = Literal["mixed", "unmixed", "stratified"]

MAX_CYCLE = 1 << 18
MAX_SOURCES = (1 << 15) - 1
_POSITION_BITS = 48
MAX_POSITION = 1 << _POSITION_BITS

# A short cycle is laid out several times with other ties, so that equal sources do not take turns for ever.
_MIN_DECK = 1 << 14
# Part of every digest: raise it when the same recipe would give another order.
_ORDER_VERSION = 1


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One split of one task spec, as the mixture sees it.

    `name` is `dataset/task/split`; `family` is the decoder that its batches need; `num_tokens` is the sum of its
    text lengths, 0 where unknown (it is printed, never used to choose).
    """

    name: str
    task: str
    dataset: str
    family: str
    num_samples: int
    num_tokens: int = 0


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to mix.

    `temperature` belongs to policy `temperature`: share ~ num_samples ** (1 / temperature). `cap_epochs` and
    `budget` (samples; all sources once if unset) belong to `unimax`. `weights` belongs to `explicit`: a key is
    the name of a source, or the id of a task, whose weight its sources without a weight of their own divide by
    size; every source needs one, and 0 leaves it out. `global_batch` counts samples over all ranks.
    """

    seed: int
    global_batch: int
    policy: Policy = "unimax"
    mode: Mode = "mixed"
    temperature: float = 3.0
    # Repeating text up to four times costs little (Muennighoff et al. 2023, arXiv 2305.16264).
    cap_epochs: float = 4.0
    budget: int | None = None
    weights: dict[str, float] = {}


class Draw(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands at a position: number of the source, its pass (from 0), the sample's index in the source."""

    source: int
    epoch: int
    index: int


class Draws(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What stands at consecutive positions: three int64 arrays of one length, read as `Draw`."""

    source: Ints
    epoch: Ints
    index: Ints


class PlanRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of the printed plan. The exact share is quota / cycle; `samples`, `tokens` and `epochs` are those
    of the steps asked for."""

    source: str
    task: str
    dataset: str
    family: str
    quota: int
    cycle: int
    share: float
    samples: int
    tokens: int
    epochs: float


class Deck(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A sequence of members that repeats for ever; of length N over K members.

    `members` [N] stand at each position, `ordinals` [N] count how often each stood there before in the deck,
    `totals` [K] count them in all, `standings` [N] are member * N + position, ascending.
    """

    members: Ints
    ordinals: Ints
    totals: Ints
    standings: Ints


class Plan(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A mixture for ever: `plan[t]` is the `Draw` at position t, the same on every machine.

    `sources` are sorted by name, and draws number them in that order. `sizes` [K] are the samples left of each
    after exclusions, of every `cycles[i]` positions `quotas[i]` go to source i. Batch b, which holds the
    positions from b * global_batch on, draws on one of `groups` (source numbers): the decoder families in mode
    `unmixed`, otherwise one group with all sources. `digest` covers the recipe, sources and exclusions.
    """

    sources: tuple[Source, ...]
    recipe: Recipe
    sizes: Ints
    quotas: tuple[int, ...]
    cycles: tuple[int, ...]
    groups: tuple[Ints, ...]
    group_deck: Deck
    decks: tuple[Deck, ...]
    gaps: Ints
    digest: str

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """The exact share of each source in the plan; they sum to 1."""
        return tuple(Fraction(quota, cycle) for quota, cycle in zip(self.quotas, self.cycles, strict=True))

    def __getitem__(self, position: int) -> Draw:
        """Return the draw at `position` (>= 0), in time that depends on neither position nor sizes."""
        _require_positions(position, position)
        batch, offset = divmod(position, self.recipe.global_batch)
        group, batches_before = _at(self.group_deck, batch)
        member, nth = _at(self.decks[int(group)], int(batches_before) * self.recipe.global_batch + offset)
        source = int(self.groups[int(group)][int(member)])
        size = int(self.sizes[source])
        epoch, rank = divmod(int(nth), size)
        index = permute(rank, size, key(self.recipe.seed, self.sources[source].name, epoch))
        return Draw(source=source, epoch=epoch, index=int(_skip_gaps(self.gaps, source, index)))

    def slice(self, start: int, stop: int) -> Draws:
        """Return the draws at positions start to stop - 1; equal to asking for each, and much faster."""
        _require_positions(start, stop)
        positions = np.arange(start, stop, dtype=np.int64)
        batches, offsets = np.divmod(positions, self.recipe.global_batch)
        groups, batches_before = _at(self.group_deck, batches)
        inner = batches_before * self.recipe.global_batch + offsets
        sources, nths = np.empty_like(positions), np.empty_like(positions)
        for group in np.unique(groups).tolist():
            here = groups == group
            members, nths[here] = _at(self.decks[group], inner[here])
            sources[here] = self.groups[group][members]
        sizes = self.sizes[sources]
        epochs, ranks = np.divmod(nths, sizes)
        # A key costs a hash in Python: make one for each (source, pass), not for each draw.
        passes, which = np.unique((sources << _POSITION_BITS) + epochs, return_inverse=True)
        keys = [
            key(self.recipe.seed, self.sources[one >> _POSITION_BITS].name, one % MAX_POSITION)
            for one in passes.tolist()
        ]
        indices = permute_many(ranks, sizes, np.array(keys, np.uint64)[which])
        return Draws(source=sources, epoch=epochs, index=_skip_gaps(self.gaps, sources, indices))

    def counts(self, position: int) -> Ints:
        """Return how many samples each source gave before `position`, as int64 of shape [K]."""
        _require_positions(position, position)
        batch, offset = divmod(position, self.recipe.global_batch)
        current, _ = _at(self.group_deck, batch)
        batches = _tally(self.group_deck, batch)
        counts = np.zeros(len(self.sources), np.int64)
        for group, members in enumerate(self.groups):
            inner = int(batches[group]) * self.recipe.global_batch + (offset if group == current else 0)
            counts[members] = _tally(self.decks[group], inner)
        return counts

    def table(self, num_steps: int) -> list[PlanRow]:
        """Return a row for each source: its exact share, and what `num_steps` steps take from it."""
        counts = self.counts(num_steps * self.recipe.global_batch).tolist()
        return [
            PlanRow(
                source=source.name,
                task=source.task,
                dataset=source.dataset,
                family=source.family,
                quota=quota,
                cycle=cycle,
                share=quota / cycle,
                samples=count,
                tokens=count * source.num_tokens // source.num_samples,
                epochs=count / size,
            )
            for source, quota, cycle, count, size in zip(
                self.sources, self.quotas, self.cycles, counts, self.sizes.tolist(), strict=True
            )
        ]


def plan(
    sources: Sequence[Source], recipe: Recipe, exclusions: Mapping[str, Collection[int]] | None = None
) -> Plan:
    """Lay out the mixture of `sources`; `exclusions` names sample indices of a source that are never served.

    Policies see the sizes that exclusions leave. The order of `sources` does not matter. With count_i(t) the
    samples of source i before position t, and p_i its share in the plan, the plan promises:

    * mixed: |count_i(t) - p_i t| < 1 for every t and i (see `fair_order`). The cycle starts at position 0 for
      every seed: a seeded phase would subtract one prefix from another, which doubles the bound. Seeds differ in
      how ties fall and in the order of samples.
    * stratified: every batch of B has floor(B p_i) or ceil(B p_i) of source i, and the bound of `mixed` holds
      wherever a batch ends. Inside a batch the order is shuffled.
    * unmixed: every batch has one family. A family with share s is less than a batch off: its number of batches
      is within one of s b after b batches, so its samples are within B of s t there, and between two such places
      the difference runs along a straight line. A source with part c of its family adds the deviation inside
      the family, so that |count_i(t) - p_i t| < 1 + c B, and < B where it is alone: at most about a batch.

    In all modes, draws n k to n (k + 1) - 1 of a source with n samples are each of them once.
    Raises PlanError when the sources, the recipe or the exclusions cannot be.
    """
    if len(sources) > MAX_SOURCES:
        raise PlanError(f"mixture: {len(sources)} sources, expected at most {MAX_SOURCES}; merge some")
    ordered = sorted(sources, key=lambda source: source.name)
    barred = _barred_indices(ordered, exclusions or {})
    left = [
        msgspec.structs.replace(source, num_samples=source.num_samples - len(indices))
        for source, indices in zip(ordered, barred, strict=True)
    ]
    portions = shares(left, recipe)
    batch = recipe.global_batch if recipe.mode == "stratified" else 1
    groups = _groups(left, portions, recipe.mode)
    group_portions = [sum((portions[i] for i in members), Fraction(0)) for members in groups.values()]
    group_quotas = cycle_quotas([*groups], group_portions)
    group_cycle = int(group_quotas.sum())
    quotas, cycles = [0] * len(left), [1] * len(left)
    decks = []
    for members, portion, group_quota in zip(
        groups.values(), group_portions, group_quotas.tolist(), strict=True
    ):
        names = [left[i].name for i in members]
        inner = cycle_quotas(names, [portions[i] / portion for i in members], batch)
        decks.append(_lay_deck(names, inner, batch, recipe.seed))
        for i, quota in zip(members, inner.tolist(), strict=True):
            quotas[i], cycles[i] = quota * group_quota, int(inner.sum()) * group_cycle
    return Plan(
        sources=tuple(ordered),
        recipe=recipe,
        sizes=np.array([source.num_samples for source in left], np.int64),
        quotas=tuple(quotas),
        cycles=tuple(cycles),
        groups=tuple(np.array(members, np.int64) for members in groups.values()),
        group_deck=_lay_deck([*groups], group_quotas, 1, recipe.seed),
        decks=tuple(decks),
        gaps=np.concatenate(
            [np.zeros(0, np.int64)]
            # The k-th barred index has k barred ones before it: it bars every rank from itself minus k on.
            + [(i << _POSITION_BITS) + indices - np.arange(len(indices)) for i, indices in enumerate(barred)]
        ),
        digest=_digest(ordered, recipe, barred),
    )


def recipe_digest(recipe: Recipe) -> str:
    """Return xxh3-128 of the recipe as hex: equal recipes, equal digests, on every machine."""
    # Read back with its types, so that 4 and 4.0 are one number.
    typed = msgspec.json.decode(msgspec.json.encode(recipe), type=Recipe)
    return xxhash.xxh3_128_hexdigest(msgspec.json.encode(typed, order="sorted"))


def slots(step: int, rank: int, world: int, global_batch: int) -> range:
    """Return the positions that `rank` of `world` reads in `step`: a contiguous part of the step's batch.

    The parts of all ranks make up the batch and differ by at most one position in length.
    Raises PlanError when there are more ranks than positions.
    """
    if world > global_batch:
        raise PlanError(
            f"slots: {world} ranks share a global batch of {global_batch}, expected at least one sample each; "
            "raise global_batch or use fewer ranks"
        )
    if step < 0 or not 0 <= rank < world:
        raise PlanError(
            f"slots: step {step!r} and rank {rank!r} of {world!r}, expected step >= 0 and 0 <= rank < world; "
            "check how the ranks are started"
        )
    start = step * global_batch
    return range(start + rank * global_batch // world, start + (rank + 1) * global_batch // world)


def shares(sources: Sequence[Source], recipe: Recipe) -> list[Fraction]:
    """Return the share of each source, in the order given; they are exact and sum to 1.

    Roots are rounded to 28 decimal digits, the same on every machine. UniMax is section 3 of arXiv 2304.09151,
    in samples: smallest source first, each takes an even part of the budget that is left, or `cap_epochs`
    passes if that is less. Raises PlanError for a source that is listed twice or empty, and for settings that are
    out of range or belong to another policy.
    """
    _check(sources, recipe)
    sizes = [source.num_samples for source in sources]
    match recipe.policy:
        case "proportional":
            weights = [Fraction(size) for size in sizes]
        case "uniform":
            weights = [Fraction(1) for _ in sizes]
        case "sqrt":
            weights = _roots(sizes, 2.0)
        case "temperature":
            weights = _roots(sizes, recipe.temperature)
        case "unimax":
            budget = sum(sizes) if recipe.budget is None else recipe.budget
            weights = _fill(sources, Fraction(budget), _decimal(recipe.cap_epochs))
        case "explicit":
            weights = _explicit(sources, recipe.weights)
        case _:
            assert_never(recipe.policy)
    total = sum(weights, Fraction(0))
    return [weight / total for weight in weights]


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


def _lay_deck(names: Sequence[str], quotas: Ints, batch: int, seed: int) -> Deck:
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


def _at(deck: Deck, position: Any) -> tuple[Any, Any]:
    """Return the member at `position` of the endless deck and how often it came before; int or int64 array."""
    cycle, place = divmod(position, len(deck.members))
    member = deck.members[place]
    return member, cycle * deck.totals[member] + deck.ordinals[place]


def _tally(deck: Deck, position: int) -> Ints:
    """Return how often each member stands before `position` of the endless deck, as int64 of shape [K]."""
    cycle, place = divmod(position, len(deck.members))
    reach = np.arange(len(deck.totals)) * len(deck.members) + place
    before = np.searchsorted(deck.standings, reach) - (np.cumsum(deck.totals) - deck.totals)
    return cycle * deck.totals + before


def _skip_gaps(gaps: Ints, source: Any, rank: Any) -> Any:
    """Return the rank-th index of the source that is not barred; int or int64 arrays."""
    first = np.searchsorted(gaps, source << _POSITION_BITS)
    return rank + np.searchsorted(gaps, (source << _POSITION_BITS) + rank, side="right") - first


def _groups(sources: Sequence[Source], portions: Sequence[Fraction], mode: Mode) -> dict[str, list[int]]:
    """Return the sources that batches are drawn from together; a family without a share has no batch."""
    if mode != "unmixed":
        return {"": list(range(len(sources)))}
    families: dict[str, list[int]] = {}
    for i, source in enumerate(sources):
        if portions[i] > 0:
            families.setdefault(source.family, []).append(i)
    return dict(sorted(families.items()))


def _check(sources: Sequence[Source], recipe: Recipe) -> None:
    if not sources:
        raise PlanError("mixture: no source, expected at least one; check the shards that are mixed")
    seen: set[str] = set()
    for source in sources:
        if source.name in seen:
            raise PlanError(f"mixture: source {source.name!r} is listed twice, expected once; remove one")
        seen.add(source.name)
        if not 1 <= source.num_samples <= MAX_SIZE:
            raise PlanError(
                f"mixture: source {source.name!r} has {source.num_samples} samples to serve, "
                "expected 1 to 2**48; leave it out"
            )
    if recipe.global_batch < 1:
        raise PlanError(f"recipe: global_batch is {recipe.global_batch!r}, expected at least 1; raise it")
    if recipe.policy == "temperature" and not 0.01 <= recipe.temperature < math.inf:
        raise PlanError(
            f"recipe: temperature is {recipe.temperature!r}, expected 0.01 or more; 1 is proportional to size"
        )
    if recipe.policy == "unimax" and not 0 < recipe.cap_epochs < math.inf:
        raise PlanError(
            f"recipe: cap_epochs is {recipe.cap_epochs!r}, expected a number above 0; "
            "use policy 'uniform' to cap nothing"
        )
    if recipe.policy == "unimax" and recipe.budget is not None and recipe.budget < 1:
        raise PlanError(f"recipe: budget is {recipe.budget!r}, expected at least 1 sample; leave it out")
    if recipe.weights and recipe.policy != "explicit":
        raise PlanError(
            f"recipe: policy {recipe.policy!r} reads no weights, expected 'explicit' with them; "
            "change the policy or remove the weights"
        )


def _roots(sizes: Sequence[int], degree: float) -> list[Fraction]:
    """Return the degree-th root of each size; ln and exp of `decimal` are correctly rounded, those of libm not."""
    with localcontext() as context:
        context.prec = 28
        return [Fraction((Decimal(size).ln() / Decimal(str(degree))).exp()) for size in sizes]


def _fill(sources: Sequence[Source], budget: Fraction, cap_epochs: Fraction) -> list[Fraction]:
    """Return the samples that UniMax gives each source out of the budget."""
    given = [Fraction(0)] * len(sources)
    by_size = sorted(range(len(sources)), key=lambda i: sources[i].num_samples)
    for num_done, i in enumerate(by_size):
        given[i] = min(budget / (len(sources) - num_done), cap_epochs * sources[i].num_samples)
        budget -= given[i]
    return given


def _explicit(sources: Sequence[Source], weights: Mapping[str, float]) -> list[Fraction]:
    """Return the weight of each source: its own, or its part by size of its task's."""
    names = {source.name for source in sources}
    task_samples = {source.task: 0 for source in sources if source.name not in weights}
    for source in sources:
        if source.name not in weights:
            task_samples[source.task] += source.num_samples
    for name, weight in weights.items():
        if name not in names and name not in task_samples:
            known = names | {source.task for source in sources}
            hint = (
                "; each source of that task has its own: remove one"
                if name in known
                else nearest(name, known)
            )
            raise PlanError(f"weights: {name!r} is no source and no task that needs a weight{hint}")
        if not 0 <= weight < math.inf:
            raise PlanError(f"weights: {name!r} is {weight!r}, expected a number from 0 on; 0 leaves it out")
    given = []
    for source in sources:
        if source.name in weights:
            given.append(_decimal(weights[source.name]))
        elif source.task in weights:
            part = Fraction(source.num_samples, task_samples[source.task])
            given.append(_decimal(weights[source.task]) * part)
        else:
            raise PlanError(
                f"weights: source {source.name!r} has none, expected {source.name!r} or its task {source.task!r}; "
                "add one, 0 leaves it out"
            )
    if not any(given):
        raise PlanError("weights: all are 0, expected one above 0; give the sources to serve a weight")
    return given


def _largest_remainder(portions: Sequence[Fraction], total: int) -> list[int]:
    """Return whole numbers that sum to `total`, each the floor of its portion (sum 1) of it or one more."""
    quotas = [math.floor(portion * total) for portion in portions]
    by_remainder = sorted(range(len(portions)), key=lambda i: quotas[i] - portions[i] * total)
    for i in by_remainder[: total - sum(quotas)]:
        quotas[i] += 1
    return quotas


def _barred_indices(sources: Sequence[Source], exclusions: Mapping[str, Collection[int]]) -> list[Ints]:
    """Return the excluded indices of each source, ascending."""
    names = {source.name for source in sources}
    for name in exclusions:
        if name not in names:
            raise PlanError(f"exclusions: {name!r} is no source of the mixture{nearest(name, names)}")
    barred = []
    for source in sources:
        indices = np.array(sorted(set(exclusions.get(source.name, ()))), np.int64)
        wrong = indices[(indices < 0) | (indices >= source.num_samples)]
        if len(wrong):
            raise PlanError(
                f"exclusions: index {int(wrong[0])} of {source.name!r}, expected 0 to {source.num_samples - 1}; "
                "were the shards rebuilt since they were excluded?"
            )
        barred.append(indices)
    return barred


def _digest(sources: Sequence[Source], recipe: Recipe, barred: Sequence[Ints]) -> str:
    digest = xxhash.xxh3_128(f"{_ORDER_VERSION} {recipe_digest(recipe)} ".encode())
    for source, indices in zip(sources, barred, strict=True):
        digest.update(msgspec.json.encode(source))
        digest.update(f" {len(indices)} ".encode() + indices.astype("<i8").tobytes())
    return digest.hexdigest()


def _require_positions(start: int, stop: int) -> None:
    if not 0 <= start <= stop <= MAX_POSITION:
        raise PlanError(f"plan: positions {start!r} to {stop!r}, expected 0 <= start <= stop <= 2**48")


def _decimal(number: float) -> Fraction:
    """Return the number as it is written: 0.1 is a tenth, so that cycles stay short."""
    return Fraction(str(number))


def _ceil_div(dividend: Ints, divisor: Ints) -> Ints:
    return np.negative(np.negative(dividend) // divisor)
