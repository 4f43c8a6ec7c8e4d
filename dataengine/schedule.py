"""A mixture along a run: segments, each with an order of its own, in which every source's draws go on counting.

A segment lasts from its start to the next one's. Shares are constant in it, or go from those of an earlier order to
those of its own along a line: then each turn (a position, or a batch where batches must stay whole) belongs to one of
the two orders, the later one having had turn**2 / (2 * length) turns before, which is the integral of the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import msgspec
import numpy as np

from dataengine.deck import Ints
from dataengine.errors import PlanError
from dataengine.order import Order, count_of, lay_out, stand, stand_one, standings
from dataengine.permute import MAX_SIZE
from dataengine.shares import Recipe, Source, changed, shares

# So that the square of a turn is an int64.
_MOST_TURNS = 1 << 31


class Segment(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The order from position `start` on; each source was served `before` [K] times until then.

    With `earlier`, shares go from that order's to this one's along a line over `length` positions, in turns of `turn`.
    """

    start: int
    before: Ints
    order: Order
    earlier: Order | None = None
    length: int = 0
    turn: int = 1


def lay_out_schedule(sources: Sequence[Source], sizes: Sequence[int], recipe: Recipe) -> tuple[Segment, ...]:
    """Return the segments of a recipe. Raises PlanError where its schedule cannot be."""
    _check_schedule(recipe)
    changes = recipe.schedule
    now = msgspec.structs.replace(recipe, schedule=())
    segments: list[Segment] = []
    if not changes or changes[0].step > 0 or changes[0].over > 0:
        segments = follow(segments, 0, lay_out(sources, shares(sources, now, sizes), now))
    for change in changes:
        now = changed(now, change)
        try:
            order = lay_out(sources, shares(sources, now, sizes), now)
        except PlanError as error:
            raise PlanError(f"schedule: step {change.step}: {error}") from error
        start = change.step * recipe.global_batch
        length = change.over * recipe.global_batch
        if length:
            turn = 1 if recipe.mode == "mixed" else recipe.global_batch
            segments = follow(segments, start, order, segments[-1].order, length, turn)
        segments = follow(segments, start + length, order)
    return tuple(segments)


def _check_schedule(recipe: Recipe) -> None:
    free_from = 0
    for number, change in enumerate(recipe.schedule):
        if change.step < free_from or change.over < 0:
            raise PlanError(
                f"schedule: change {number} begins at step {change.step} and takes {change.over}, expected steps from "
                f"{free_from} on, where the one before has ended, and over from 0 on; order the changes by step"
            )
        if (change.step + change.over) * recipe.global_batch > MAX_SIZE:
            raise PlanError(
                f"schedule: change {number} begins at step {change.step} and takes {change.over}, expected it to end "
                f"by step {MAX_SIZE // recipe.global_batch}, where positions end; leave it out"
            )
        turns = change.over * (recipe.global_batch if recipe.mode == "mixed" else 1)
        if turns >= _MOST_TURNS:
            raise PlanError(
                f"schedule: change {number} goes over {turns} turns, expected fewer than {_MOST_TURNS}; cut it in two"
            )
        free_from = change.step + max(change.over, 1)


def follow(
    segments: Sequence[Segment],
    start: int,
    order: Order,
    earlier: Order | None = None,
    length: int = 0,
    turn: int = 1,
) -> list[Segment]:
    """Return the segments that begin before `start`, and one from there on."""
    kept = [segment for segment in segments if segment.start < start]
    before = served(kept[-1], start) if kept else np.zeros(len(order.quotas), np.int64)
    added = Segment(start=start, before=before, order=order, earlier=earlier, length=length, turn=turn)
    return [*kept, added]


def served(segment: Segment, position: int) -> Ints:
    """Return how often each source was served before a position of the segment, from position 0 on; int64 [K]."""
    inner = position - segment.start
    if segment.earlier is None:
        return segment.before + standings(segment.order, inner)
    later, _ = _later(segment, np.array([inner]))
    counts = standings(segment.earlier, inner - int(later[0])) + standings(segment.order, int(later[0]))
    return segment.before + counts


def drawn(segment: Segment, positions: Ints) -> tuple[Ints, Ints]:
    """Return the source at each position of the segment, and how often it was served before, from position 0 on."""
    inner = positions - segment.start
    if segment.earlier is None:
        sources, nths = stand(segment.order, inner)
        return sources, segment.before[sources] + nths
    later, own = _later(segment, inner)
    sources = np.where(own, stand(segment.order, later)[0], stand(segment.earlier, inner - later)[0])
    nths = count_of(segment.order, sources, later) + count_of(segment.earlier, sources, inner - later)
    return sources, segment.before[sources] + nths


def drawn_one(segment: Segment, position: int) -> tuple[int, int]:
    """Return what `drawn` does of one position, where shares are constant in a twentieth of the time."""
    if segment.earlier is not None:
        sources, nths = drawn(segment, np.array([position]))
        return int(sources[0]), int(nths[0])
    source, nth = stand_one(segment.order, position - segment.start)
    return source, int(segment.before[source]) + nth


def groups_order(segment: Segment, position: int) -> tuple[Order, int]:
    """Return the order to which the batch at a position of the segment belongs, and the batch's number in it."""
    inner = position - segment.start
    if segment.earlier is None:
        return segment.order, inner // segment.order.batch
    later, own = _later(segment, np.array([inner]))
    own_inner = int(later[0]) if own[0] else inner - int(later[0])
    return (segment.order if own[0] else segment.earlier), own_inner // segment.order.batch


def expected(segment: Segment, position: int) -> list[Fraction]:
    """Return the exact integral of the shares from the segment's start to a position of it, for each source."""
    inner = position - segment.start
    own = segment.order.shares
    if segment.earlier is None:
        return [share * inner for share in own]
    later = Fraction(inner * inner, 2 * segment.length)
    return [
        share * later + other * (inner - later)
        for share, other in zip(own, segment.earlier.shares, strict=True)
    ]


def _later(segment: Segment, inner: Ints) -> tuple[Ints, Ints]:
    """Return the positions of the later order before each inner position of a line, and whether that is one of them."""
    turns, offsets = np.divmod(inner, segment.turn)
    double = 2 * (segment.length // segment.turn)
    before = turns * turns // double
    own = (turns + 1) * (turns + 1) // double > before
    return before * segment.turn + np.where(own, offsets, 0), own
