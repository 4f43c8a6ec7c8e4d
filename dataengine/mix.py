"""The mixture as arithmetic: which sample stands at position t is a function of (sources, recipe, t) alone.

Three steps lead there. A policy turns sizes into exact shares (`shares`). Shares become integer quotas of one cycle of
positions, laid out so that no prefix of the stream is off its shares by a sample (`deck`). The j-th draw of a source is
the j-th sample of a keyed shuffle that is itself a formula (`permute`). Nothing here opens a file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import xxhash

from dataengine.deck import Ints
from dataengine.errors import PlanError, nearest
from dataengine.order import Order, lay_out, stand, standings, step_groups
from dataengine.permute import key, permute_many
from dataengine.shares import Recipe, Source, recipe_digest, shares

MAX_SOURCES = (1 << 15) - 1
_POSITION_BITS = 48
MAX_POSITION = 1 << _POSITION_BITS

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


class Plan(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A mixture for ever: `plan[t]` is the `Draw` at position t, the same on every machine.

    `sources` are sorted by name, and draws number them in that order. `sizes` [K] are the samples left of each
    after exclusions, `order` says which source stands where, and `digest` covers the recipe, sources and
    exclusions.
    """

    sources: tuple[Source, ...]
    recipe: Recipe
    sizes: Ints
    order: Order
    gaps: Ints
    digest: str

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """The exact share of each source in the plan; they sum to 1."""
        return tuple(
            Fraction(quota, cycle) for quota, cycle in zip(self.order.quotas, self.order.cycles, strict=True)
        )

    def __getitem__(self, position: int) -> Draw:
        """Return the draw at `position` (>= 0), in time that depends on neither position nor sizes."""
        one = self.slice(position, position + 1)
        return Draw(source=int(one.source[0]), epoch=int(one.epoch[0]), index=int(one.index[0]))

    def slice(self, start: int, stop: int) -> Draws:
        """Return the draws at positions start to stop - 1; equal to asking for each, and much faster."""
        _require_positions(start, stop)
        sources, nths = stand(self.order, np.arange(start, stop, dtype=np.int64))
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
        return standings(self.order, position)

    def parts(self, step: int) -> tuple[StepPart, ...]:
        """Return what a step is made of, in the order of its positions, which the parts cover without a gap.

        Mode accumulate: a part for each family, and one for each task that `loss_weights` names. Mode unmixed: one
        part, of the family that the batch has. Modes mixed and stratified: one part, of family "".
        """
        start = step * self.recipe.global_batch
        _require_positions(start, start + self.recipe.global_batch)
        parts = []
        for name, first, last in step_groups(self.order, step):
            family = name.partition("/")[0]
            if (
                self.recipe.mode == "unmixed" and not name
            ):  # batches of one sample are laid out as in mode mixed
                family = self.sources[self[start].source].family
            weight = self.recipe.loss_weights.get(name, self.recipe.loss_weights.get(family, 1.0))
            parts.append(StepPart(family=family, start=start + first, stop=start + last, weight=weight))
        return tuple(parts)

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
                self.sources, self.order.quotas, self.order.cycles, counts, self.sizes.tolist(), strict=True
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
    * unmixed: every batch has one family, and |count_i(t) - p_i t| < B for every t and i (see `order.lay_out`).

    * accumulate: every batch has the same number of samples of each family. The shares are those that these numbers
      give: |count_i(t) - p_i t| < 1 wherever a batch ends, and < B inside.

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
    return Plan(
        sources=tuple(ordered),
        recipe=recipe,
        sizes=np.array([source.num_samples for source in left], np.int64),
        order=lay_out(left, shares(left, recipe), recipe),
        gaps=np.concatenate(
            [np.zeros(0, np.int64)]
            # The k-th barred index has k barred ones before it: it bars every rank from itself minus k on.
            + [(i << _POSITION_BITS) + indices - np.arange(len(indices)) for i, indices in enumerate(barred)]
        ),
        digest=_digest(ordered, recipe, barred),
    )


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
        digest.update(msgspec.json.encode(source))
        digest.update(f" {len(indices)} ".encode() + indices.astype("<i8").tobytes())
    return digest.hexdigest()


def _require_positions(start: int, stop: int) -> None:
    if not 0 <= start <= stop <= MAX_POSITION:
        raise PlanError(f"plan: positions {start!r} to {stop!r}, expected 0 <= start <= stop <= 2**48")
