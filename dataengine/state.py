"""What a job needs to go on: the next position, which plan it was, and what turned out to be bad on the way.

The state of a stream is one small object, the same for all ranks and workers: each rank adds the holes that it found,
and `merge` makes one state of theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import msgspec

from dataengine.errors import BudgetBroken, PlanError

# A budget is a share of the positions passed so far; over fewer than these a single hole would break any.
LEAST_POSITIONS = 1000
_MOST_NAMED = 3


class Hole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A position that serves nothing, and why: sample `index` of `source`, whose bad bytes are in `file` at `offset`.

    `lasts` says that the sample can never be served: its bytes are damaged, or its picture cannot be decoded. Others
    are skipped at this position, and may do at another one, where augmentation or wording differ.
    """

    position: int
    reason: str
    id: str
    source: str
    index: int
    file: str
    offset: int
    detail: str
    lasts: bool = True

    def __str__(self) -> str:
        return f"{self.file}: offset {self.offset}: {self.id} at position {self.position}: {self.reason}"


class SourceMark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A source as a plan saw it: its name, its samples, and the fingerprint of its manifest ("" where unknown)."""

    name: str
    num_samples: int
    fingerprint: str = ""


def differences(then: Iterable[SourceMark], now: Iterable[SourceMark]) -> str:
    """Return which sources appeared, vanished or changed, in words; "" where none did, or nobody knows what was."""
    old, new = {one.name: one for one in then}, {one.name: one for one in now}
    if not old:
        return ""
    found = []
    for name in sorted(old | new):
        if name not in new:
            found.append(f"{name} is gone")
        elif name not in old:
            found.append(f"{name} is new")
        elif old[name].num_samples != new[name].num_samples:
            found.append(f"{name} had {old[name].num_samples} samples and has {new[name].num_samples}")
        elif old[name].fingerprint != new[name].fingerprint:
            found.append(
                f"{name} was converted from other files or by another version, or other samples are left out"
            )
    return ", ".join(found)


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a job needs to go on, on any number of ranks and workers.

    `exclusions` were known before the run and shape the plan of `sources`, whose digest is `plan`. `holes` were found
    on the way and last; they never move another sample. `render` says how samples were worded ("" where nobody noted).
    """

    position: int
    plan: str
    exclusions: dict[str, tuple[int, ...]] = {}
    holes: tuple[Hole, ...] = ()
    sources: tuple[SourceMark, ...] = ()
    render: str = ""


def union(holes: Iterable[Hole]) -> tuple[Hole, ...]:
    """Return the holes that last, each sample once, by source and index; where several tell of one, the first does."""
    first: dict[tuple[str, int], Hole] = {}
    for hole in holes:
        place = (hole.source, hole.index)
        if hole.lasts:
            first[place] = min(first.get(place, hole), hole, key=lambda one: (one.position, one.detail))
    return tuple(first[place] for place in sorted(first))


def merge(states: Sequence[State]) -> State:
    """Return the one state of all ranks, whatever their order. Raises PlanError where they are not of one moment."""
    if not states:
        raise PlanError("states: none to merge, expected one of each rank; gather them first")
    for field in ("position", "plan", "exclusions", "render"):
        first, *others = [getattr(state, field) for state in states]
        for other in others:
            if other != first:
                raise PlanError(
                    f"states: {field} is {first!r} on one rank and {other!r} on another, expected the same;"
                    " save the states of all ranks after the same step"
                )
    for state in states:
        if changed := differences(states[0].sources, state.sources):
            raise PlanError(
                f"states: ranks read different shards ({changed}), expected the same; give all of them one set"
            )
    holes = union(hole for state in states for hole in state.holes)
    return msgspec.structs.replace(states[0], holes=holes)


def check_budget(holes: Collection[Hole], positions: int, max_bad_ratio: float) -> None:
    """Raise BudgetBroken where more samples proved bad than `max_bad_ratio` of the positions passed, at least 1000.

    One hole in 1000 positions is as many as one in 10: a short run is not ended by its first bad sample, unless the
    ratio is 0.
    """
    allowed = max_bad_ratio * max(positions, LEAST_POSITIONS)
    if len(holes) <= allowed:
        return
    reasons = Counter(hole.reason for hole in holes)
    counts = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    named = sorted(holes, key=lambda hole: (hole.position, hole.source, hole.index))[:_MOST_NAMED]
    raise BudgetBroken(
        f"{named[0].file}: {len(holes)} bad samples ({counts}) in {positions} positions, expected at most {allowed:g}"
        f" (max_bad_ratio {max_bad_ratio:g} of at least {LEAST_POSITIONS}); first {'; '.join(map(str, named))};"
        " mend the shards with 'dataengine shard --rebuild', or allow more"
    )
