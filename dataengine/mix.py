"""The mixture as arithmetic: which sample stands at position t is a function of (sources, recipe, t) alone.

Three steps lead there. A policy turns sizes into exact shares (`shares`). Shares become integer quotas of one cycle of
positions, laid out so that no prefix of the stream is off its shares by a sample (`deck`). The j-th draw of a source is
the j-th sample of a keyed shuffle that is itself a formula (`permute`). Nothing here opens a file.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

import msgspec
import numpy as np
import xxhash

from dataengine.deck import MAX_CYCLE, Ints
from dataengine.errors import PlanError, nearest
from dataengine.order import Order, lay_out, step_groups
from dataengine.permute import key, permute, permute_many
from dataengine.schedule import (
    Segment,
    drawn,
    drawn_one,
    expected,
    follow,
    groups_order,
    lay_out_schedule,
    served,
)
from dataengine.shares import Recipe, Source, recipe_digest
from dataengine.state import SourceMark

MAX_SOURCES = (1 << 15) - 1
_POSITION_BITS = 48
MAX_POSITION = 1 << _POSITION_BITS

# How long a cycle that a run decides on may be: at least, and where the least share does not need a longer one.
_DECIDED_CYCLE = 1 << 14

# Part of every digest: raise it when the same recipe would give another order.
_ORDER_VERSION = 2


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


class StepPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a step that goes through the model at once: the positions [start, stop) of the stream.

    `family` is the decoder that all its samples need, "" where they need several; `weight` is the factor on its loss.
    """

    family: str
    start: int
    stop: int
    weight: float


class PlanRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of the printed plan. `share`, `samples`, `tokens` and `epochs` are those of the steps asked for.

    Of every `cycle` positions `quota` belong to the source where the steps end: exactly, and without a schedule
    everywhere. `size` are the samples of an epoch.
    """

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
    size: int


class Total(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sum of the lines of a task or a dataset; `epochs` is the mean over its samples."""

    name: str
    share: float
    samples: int
    tokens: int
    epochs: float


class SegmentRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a task gives in the steps [start, stop) of a segment: its mean share of them, and its samples."""

    task: str
    start: int
    stop: int
    share: float
    samples: int


class Plan(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A mixture for ever: `plan[t]` is the `Draw` at position t, the same on every machine.

    `sources` are sorted by name, and draws number them in that order. `sizes` [K] are the samples left of each
    after exclusions, `segments` say which source stands where, and `digest` covers the recipe, sources and
    exclusions.
    """

    sources: tuple[Source, ...]
    recipe: Recipe
    sizes: Ints
    segments: tuple[Segment, ...]
    gaps: Ints
    digest: str

    @property
    def marks(self) -> tuple[SourceMark, ...]:
        """What a state keeps of the sources, to tell later which of them changed."""
        return tuple(
            SourceMark(name=one.name, num_samples=one.num_samples, fingerprint=one.fingerprint)
            for one in self.sources
        )

    @property
    def order(self) -> Order:
        """The order in which the plan begins."""
        return self.segments[0].order

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """The exact share of each source with which the plan begins; they sum to 1."""
        return self.order.shares

    def __getitem__(self, position: int) -> Draw:
        """Return the draw at `position` (>= 0), in time that depends on neither position nor sizes."""
        _require_positions(position, position)
        source, nth = drawn_one(self.segments[self._segment(position)], position)
        size = int(self.sizes[source])
        epoch, rank = divmod(nth, size)
        index = permute(rank, size, key(self.recipe.seed, self.sources[source].name, epoch))
        return Draw(source=source, epoch=epoch, index=int(_skip_gaps(self.gaps, source, index)))

    def slice(self, start: int, stop: int) -> Draws:
        """Return the draws at positions start to stop - 1; equal to asking for each, and much faster."""
        _require_positions(start, stop)
        sources, nths = self._drawn(start, stop)
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

    def _drawn(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """Return the source at each position, and how often it was served before."""
        found: list[tuple[Ints, Ints]] = []
        while start < stop or not found:
            number = self._segment(start)
            last = self.segments[number + 1].start if number + 1 < len(self.segments) else stop
            found.append(drawn(self.segments[number], np.arange(start, min(last, stop), dtype=np.int64)))
            start = last
        if len(found) == 1:
            return found[0]
        return np.concatenate([one for one, _ in found]), np.concatenate([nths for _, nths in found])

    def _segment(self, position: int) -> int:
        return bisect_right(self.segments, position, key=lambda segment: segment.start) - 1

    def counts(self, position: int) -> Ints:
        """Return how many samples each source gave before `position`, as int64 of shape [K]."""
        _require_positions(position, position)
        return served(self.segments[self._segment(position)], position)

    def expected(self, position: int) -> list[Fraction]:
        """Return the samples that the shares in effect before `position` sum to, exactly, for each source."""
        _require_positions(position, position)
        last = self._segment(position)
        stops = [segment.start for segment in self.segments[1 : last + 1]] + [position]
        parts = [expected(one, stop) for one, stop in zip(self.segments[: last + 1], stops, strict=True)]
        return [sum(some, Fraction(0)) for some in zip(*parts, strict=True)]

    def parts(self, step: int) -> tuple[StepPart, ...]:
        """Return what a step is made of, in the order of its positions, which the parts cover without a gap.

        Mode accumulate: a part for each family, and one for each task that `loss_weights` names. Mode unmixed: one
        part, of the family that the batch has. Modes mixed and stratified: one part, of family "".
        """
        start = step * self.recipe.global_batch
        _require_positions(start, start + self.recipe.global_batch)
        parts = []
        order, batch = groups_order(self.segments[self._segment(start)], start)
        for name, first, last in step_groups(order, batch):
            family = name.partition("/")[0]
            # Unmixed batches of one sample are laid out as in mode mixed.
            if self.recipe.mode == "unmixed" and not name:
                family = self.sources[self[start].source].family
            weight = self.recipe.loss_weights.get(name, self.recipe.loss_weights.get(family, 1.0))
            parts.append(StepPart(family=family, start=start + first, stop=start + last, weight=weight))
        return tuple(parts)

    def table(self, num_steps: int) -> list[PlanRow]:
        """Return a row for each source: its exact share, and what `num_steps` steps take from it."""
        stop = num_steps * self.recipe.global_batch
        order = self.segments[self._segment(stop)].order
        shares = [count / stop for count in self.expected(stop)] if stop else self.shares
        return [
            PlanRow(
                source=source.name,
                task=source.task,
                dataset=source.dataset,
                family=source.family,
                quota=quota,
                cycle=cycle,
                share=float(share),
                samples=count,
                tokens=count * source.num_tokens // source.num_samples,
                epochs=count / size,
                size=size,
            )
            for source, quota, cycle, share, count, size in zip(
                self.sources,
                order.quotas,
                order.cycles,
                shares,
                self.counts(stop).tolist(),
                self.sizes.tolist(),
                strict=True,
            )
        ]


def segment_rows(plan: Plan, num_steps: int) -> list[SegmentRow]:
    """Return a row for each segment that begins before step `num_steps`, and each task."""
    batch = plan.recipe.global_batch
    starts = [one.start for one in plan.segments if one.start < num_steps * batch]
    rows = []
    for start, stop in pairwise([*starts, num_steps * batch]):
        counts = (plan.counts(stop) - plan.counts(start)).tolist()
        parts = zip(plan.expected(stop), plan.expected(start), strict=True)
        by_task: dict[str, tuple[Fraction, int]] = {}
        for source, (after, before), count in zip(plan.sources, parts, counts, strict=True):
            share, samples = by_task.get(source.task, (Fraction(0), 0))
            by_task[source.task] = (share + (after - before) / (stop - start), samples + count)
        rows += [
            SegmentRow(
                task=task, start=start // batch, stop=stop // batch, share=float(share), samples=samples
            )
            for task, (share, samples) in sorted(by_task.items())
        ]
    return rows


def totals(rows: Sequence[PlanRow], by: Literal["task", "dataset"]) -> list[Total]:
    """Return the sums of a table's lines by task or by dataset, in the order of their names."""
    groups: dict[str, list[PlanRow]] = {}
    for row in rows:
        groups.setdefault(getattr(row, by), []).append(row)
    return [
        Total(
            name=name,
            share=math.fsum(row.share for row in some),
            samples=sum(row.samples for row in some),
            tokens=sum(row.tokens for row in some),
            epochs=sum(row.samples for row in some) / sum(row.size for row in some),
        )
        for name, some in sorted(groups.items())
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
    * unmixed: every batch has one family, and |count_i(t) - p_i t| < B for every t and i (see `order.lay_out`).

    * accumulate: every batch has the same number of samples of each family. The shares are those that these numbers
      give: |count_i(t) - p_i t| < 1 wherever a batch ends, and < B inside.

    A schedule's changes begin a segment each, and another one begins where a line ends. The bound holds of what was
    served since the segment began. A line mixes two orders in turns, of B but in mode `mixed`: there a source is off by
    less than the bounds of both, and a turn times the difference of its two shares. From position 0 on bounds add up:
    a source is off the sum of its shares by less than those of the segments begun.

    In all modes, draws n k to n (k + 1) - 1 of a source with n samples are each of them once.
    Raises PlanError when the sources, the recipe or the exclusions cannot be.
    """
    if len(sources) > MAX_SOURCES:
        raise PlanError(f"mixture: {len(sources)} sources, expected at most {MAX_SOURCES}; merge some")
    ordered = sorted(sources, key=lambda source: source.name)
    barred = _barred_indices(ordered, exclusions or {})
    sizes = [source.num_samples - len(indices) for source, indices in zip(ordered, barred, strict=True)]
    return Plan(
        sources=tuple(ordered),
        recipe=recipe,
        sizes=np.array(sizes, np.int64),
        segments=lay_out_schedule(ordered, sizes, recipe),
        gaps=np.concatenate(
            [np.zeros(0, np.int64)]
            # The k-th barred index has k barred ones before it: it bars every rank from itself minus k on.
            + [(i << _POSITION_BITS) + indices - np.arange(len(indices)) for i, indices in enumerate(barred)]
        ),
        digest=_digest(ordered, recipe, barred),
    )


def task_shares(plan: Plan) -> dict[str, float]:
    """Return the share of each task with which a plan begins; those of no share are left out."""
    shares: dict[str, Fraction] = {}
    for source, share in zip(plan.sources, plan.shares, strict=True):
        shares[source.task] = shares.get(source.task, Fraction(0)) + share
    return {task: float(share) for task, share in sorted(shares.items()) if share}


def adapted(plan: Plan, step: int, weights: Mapping[str, float]) -> Plan:
    """Return a plan whose tasks have the shares `weights` (any sum) from a step on, and which is the same before.

    The sources of a task divide its share as they did at the beginning. Shares are kept to 1 in 2**14, or finer where
    the least would have fewer than 16 places of so many: the order is laid out in a fraction of the time. Raises
    PlanError where a task has no weight, where one is no number from 0 on, and where the plan already changes at a
    later step.
    """
    known = task_shares(plan)
    _check_task_weights(known, weights)
    start = step * plan.recipe.global_batch
    if plan.segments[-1].start > start:
        raise PlanError(
            f"weights: step {step} lies before step {plan.segments[-1].start // plan.recipe.global_batch}, from which "
            "others hold, expected a later one; decide in the order of steps, and without a schedule"
        )
    # Exact parts of the tasks, so that the only rounding is that of the cycle.
    whole: dict[str, Fraction] = {}
    for source, share in zip(plan.sources, plan.shares, strict=True):
        whole[source.task] = whole.get(source.task, Fraction(0)) + share
    total = sum((Fraction(str(weight)) for weight in weights.values()), Fraction(0))
    portions = [
        Fraction(str(weights[source.task])) / total * share / whole[source.task] if share else share
        for source, share in zip(plan.sources, plan.shares, strict=True)
    ]
    least = min(portion for portion in portions if portion)
    places = 1 << (math.ceil(16 / least) - 1).bit_length()
    order = lay_out(plan.sources, portions, plan.recipe, min(max(_DECIDED_CYCLE, places), MAX_CYCLE))
    digest = xxhash.xxh3_128(f"{plan.digest} {step} ".encode() + msgspec.json.encode(weights, order="sorted"))
    return msgspec.structs.replace(
        plan, segments=tuple(follow(plan.segments, start, order)), digest=digest.hexdigest()
    )


def _check_task_weights(known: Collection[str], weights: Mapping[str, float]) -> None:
    for task, weight in weights.items():
        if task not in known:
            raise PlanError(f"weights: {task!r} is no task of the mixture{nearest(task, known)}")
        if not 0 <= weight < math.inf:
            raise PlanError(f"weights: {task!r} is {weight!r}, expected a number from 0 on; 0 leaves it out")
    for task in known:
        if task not in weights:
            raise PlanError(f"weights: task {task!r} has none, expected one for each; 0 leaves it out")
    if not any(weights.values()):
        raise PlanError("weights: all are 0, expected one above 0; give the tasks to serve a weight")


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
    if step < 0:
        raise PlanError(f"slots: step {step!r}, expected 0 or more; check how the steps are counted")
    return _piece(step * global_batch, (step + 1) * global_batch, rank, world)


def part_slots(part: StepPart, rank: int, world: int) -> range:
    """Return the positions that `rank` of `world` reads of a part: a contiguous piece, as `slots` cuts a batch.

    The pieces of all ranks make up the part and differ by at most one position in length. Where a part has fewer
    positions than there are ranks, some get none: the first ones.
    """
    return _piece(part.start, part.stop, rank, world)


def _piece(start: int, stop: int, rank: int, world: int) -> range:
    if not 0 <= rank < world:
        raise PlanError(
            f"slots: rank {rank!r} of {world!r}, expected 0 <= rank < world; check how the ranks are started"
        )
    length = stop - start
    return range(start + rank * length // world, start + (rank + 1) * length // world)


def _skip_gaps(gaps: Ints, source: Any, rank: Any) -> Any:
    """Return the rank-th index of the source that is not barred; int or int64 arrays."""
    first = np.searchsorted(gaps, source << _POSITION_BITS)
    return rank + np.searchsorted(gaps, (source << _POSITION_BITS) + rank, side="right") - first


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
        # Fingerprints came later: they are compared beside the digest, which stays what it was.
        fields = {
            name: value for name, value in msgspec.structs.asdict(source).items() if name != "fingerprint"
        }
        digest.update(msgspec.json.encode(fields))
        digest.update(f" {len(indices)} ".encode() + indices.astype("<i8").tobytes())
    return digest.hexdigest()


def _require_positions(start: int, stop: int) -> None:
    if not 0 <= start <= stop <= MAX_POSITION:
        raise PlanError(f"plan: positions {start!r} to {stop!r}, expected 0 <= start <= stop <= 2**48")
