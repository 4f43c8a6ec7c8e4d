"""Shares that change along a run: each segment keeps its bound, and every source's passes go on."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.errors import PlanError
from dataengine.mix import Plan, plan
from dataengine.schedule import Segment
from dataengine.shares import Change, Mode, Recipe, Source

FAMILIES = ("text", "detection", "pose")


def make_sources(sizes: list[int], num_families: int = 1) -> list[Source]:
    return [
        Source(
            name=f"d{i}/t{i % 3}/train",
            task=f"t{i % 3}",
            dataset=f"d{i}",
            family=FAMILIES[i % num_families],
            num_samples=size,
            num_tokens=size * 10,
        )
        for i, size in enumerate(sizes)
    ]


def weighted(sizes: list[int], *schedule: Change, **changes: Any) -> Plan:
    chosen: dict[str, Any] = {"seed": 1, "global_batch": 4, "policy": "proportional"} | changes
    return plan(make_sources(sizes), Recipe(**chosen, schedule=schedule))


@st.composite
def scheduled(draw: st.DrawFn) -> Plan:
    """A plan with up to four changes, some along a line, in any mode."""
    sizes = draw(st.lists(st.integers(1, 60), min_size=3, max_size=9))
    sources = make_sources(sizes, draw(st.integers(1, 3)))
    step, changes = 0, []
    for _ in range(draw(st.integers(1, 4))):
        over = draw(st.sampled_from([0, 0, 1, 7, 30]))
        weights = {task: draw(st.integers(1, 9)) / 8 for task in ("t0", "t1", "t2")}
        changes.append(Change(step=step, over=over, policy="explicit", weights=weights))
        step += max(over, 1) + draw(st.integers(0, 40))
    return plan(
        sources,
        Recipe(
            seed=draw(st.integers(0, 2**63)),
            global_batch=draw(st.integers(3, 8)),
            policy=draw(st.sampled_from(["uniform", "proportional"])),
            mode=draw(st.sampled_from(get_args(Mode))),
            schedule=tuple(changes),
        ),
    )


def bounds_of(segment: Segment, unit: int) -> list[Fraction]:
    """Return how far off each source stays in a segment: along a line that of both orders, and a turn's difference."""
    own = segment.order.shares
    if segment.earlier is None:
        return [Fraction(unit)] * len(own)
    return [
        2 * unit + segment.turn * abs(share - other)
        for share, other in zip(own, segment.earlier.shares, strict=True)
    ]


@given(made=scheduled())
@settings(deadline=None, max_examples=15)
def test_every_segment_keeps_its_bound_and_the_whole_adds_them_up(made: Plan) -> None:
    batch = made.recipe.global_batch
    whole_batches = made.recipe.mode in ("unmixed", "accumulate")
    unit = batch if whole_batches else 1
    # Stratified batches are shuffled inside: there the bound holds where a batch ends.
    every = batch if made.recipe.mode == "stratified" else 1
    last = made.segments[-1].start + 40 * batch

    for start, stop in itertools.pairwise([*(one.start for one in made.segments), last]):
        (segment,) = [one for one in made.segments if one.start == start]
        bounds = bounds_of(segment, unit)
        before, expected_before = made.counts(start), made.expected(start)
        for position in range(start, stop + 1, every):
            counts = (made.counts(position) - before).tolist()
            expected = [a - b for a, b in zip(made.expected(position), expected_before, strict=True)]
            assert all(abs(a - b) < bound for a, b, bound in zip(counts, expected, bounds, strict=True))
    sums = [sum(bounds) for bounds in zip(*(bounds_of(one, unit) for one in made.segments), strict=True)]
    deviation = [a - b for a, b in zip(made.counts(last).tolist(), made.expected(last), strict=True)]
    assert all(abs(off) < bound for off, bound in zip(deviation, sums, strict=True))


def test_a_line_in_turns_of_a_batch_may_be_off_by_more_than_three() -> None:
    steep = Change(step=0, over=30, policy="explicit", weights={"t0": 0.125, "t1": 1.125, "t2": 0.125})
    made = weighted([1, 1, 1], steep, seed=0, global_batch=5, policy="uniform", mode="stratified")

    off = [abs(count - share) for count, share in zip(made.counts(85), made.expected(85), strict=True)]

    assert 3 < max(off) < max(bounds_of(made.segments[0], 1))


@given(made=scheduled(), start=st.integers(0, 900), length=st.integers(0, 60))
@settings(deadline=None, max_examples=15)
def test_a_slice_over_segments_is_its_items(made: Plan, start: int, length: int) -> None:
    drawn = made.slice(start, start + length)

    items = [made[position] for position in range(start, start + length)]
    assert [(item.source, item.epoch, item.index) for item in items] == list(
        zip(drawn.source.tolist(), drawn.epoch.tolist(), drawn.index.tolist(), strict=True)
    )
    tally = np.bincount(drawn.source, minlength=len(made.sources))
    assert (made.counts(start) + tally).tolist() == made.counts(start + length).tolist()
    assert made.counts(start).sum() == start


@given(made=scheduled())
@settings(deadline=None, max_examples=15)
def test_passes_go_on_over_segments_and_serve_every_sample_once(made: Plan) -> None:
    drawn = made.slice(0, 1500)

    for source, size in enumerate(made.sizes.tolist()):
        indices = drawn.index[drawn.source == source]
        passes = drawn.epoch[drawn.source == source]
        assert passes.tolist() == [nth // size for nth in range(len(indices))]
        for epoch in range(len(indices) // size):
            assert sorted(indices[epoch * size : (epoch + 1) * size].tolist()) == list(range(size))


@given(made=scheduled())
@settings(deadline=None, max_examples=15)
def test_parts_cover_the_steps_of_every_segment_and_hold_their_family(made: Plan) -> None:
    batch = made.recipe.global_batch

    for step in range(made.segments[-1].start // batch + 3):
        parts = made.parts(step)

        covered = [position for part in parts for position in range(part.start, part.stop)]
        assert covered == list(range(step * batch, (step + 1) * batch))
        for part in parts:
            drawn = made.slice(part.start, part.stop).source.tolist()
            assert part.family == "" or {made.sources[one].family for one in drawn} == {part.family}
        if made.recipe.mode == "unmixed":
            assert len(parts) == 1 and parts[0].family


@given(made=scheduled())
@settings(deadline=None, max_examples=10)
def test_the_listing_of_sources_does_not_matter_to_a_schedule(made: Plan) -> None:
    other = plan(made.sources[::-1], made.recipe)

    assert other.digest == made.digest
    for name in ("source", "epoch", "index"):
        assert getattr(other.slice(0, 700), name).tolist() == getattr(made.slice(0, 700), name).tolist()


def test_before_its_first_change_a_schedule_is_the_plan_without_it() -> None:
    change = Change(step=50, policy="uniform")

    plain, changed = weighted([30, 10, 5]), weighted([30, 10, 5], change)

    assert plain.slice(0, 200).index.tolist() == changed.slice(0, 200).index.tolist()
    assert plain.digest != changed.digest
    assert changed.segments[1].order.shares == (Fraction(1, 3),) * 3


def test_a_change_at_step_zero_stands_for_the_recipe() -> None:
    weights = {"t0": 1.0, "t1": 3.0}

    made = weighted([5, 5], Change(step=0, weights=weights), policy="explicit")

    assert len(made.segments) == 1
    assert made.shares == (Fraction(1, 4), Fraction(3, 4))


def test_a_change_keeps_the_settings_that_it_does_not_name_and_a_policy_brings_its_own() -> None:
    made = weighted(
        [100, 1000],
        Change(step=1, cap_samples=100),
        Change(step=2, policy="temperature"),
        Change(step=3, policy="cap", cap_samples=50),
        policy="cap",
        cap_samples=300,
    )

    shares = [segment.order.shares[0] for segment in made.segments]
    assert shares[0] == Fraction(1, 4)
    assert shares[1] == shares[3] == Fraction(1, 2)
    assert float(shares[2]) == pytest.approx(1 / (1 + 10 ** (1 / 3)), abs=1e-5)


def test_a_line_passes_the_middle_halfway() -> None:
    weights = [{"t0": 1.0, "t1": 0.0}, {"t0": 0.0, "t1": 1.0}]
    made = weighted(
        [10, 10], Change(step=0, over=1000, weights=weights[1]), policy="explicit", weights=weights[0]
    )

    # The later share rises from 0 to 1 over 4000 positions: it has an eighth of them halfway, and half at the end.
    assert made.counts(2000).tolist() == [1500, 500]
    assert made.counts(4000).tolist() == [2000, 2000]
    assert made.counts(4100).tolist() == [2000, 2100]
    window = [int(made.counts(at + 200)[1] - made.counts(at)[1]) for at in range(0, 4000, 200)]
    assert window == sorted(window)
    assert made.table(1000)[1].share == 0.5


def test_counting_far_into_a_schedule_of_a_thousand_sources_is_arithmetic() -> None:
    made = plan(
        make_sources([20 + i for i in range(1000)], 3),
        Recipe(
            seed=1,
            global_batch=64,
            policy="sqrt",
            schedule=(
                Change(step=10**6, policy="uniform"),
                Change(step=10**7, over=10**4, policy="cap", cap_samples=30),
            ),
        ),
    )

    counts = made.counts(10**9)
    assert counts.sum() == 10**9
    deviation = [a - b for a, b in zip(counts.tolist(), made.expected(10**9), strict=True)]
    assert max(map(abs, deviation)) < 6
    drawn = made.slice(10**9, 10**9 + 20)
    assert (made.counts(10**9 + 20) - counts).tolist() == np.bincount(drawn.source, minlength=1000).tolist()


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ([Change(step=5), Change(step=5)], "change 1 begins at step 5 .* expected steps from 6 on"),
        (
            [Change(step=5, over=10), Change(step=14)],
            "change 1 begins at step 14 .* expected steps from 15 on",
        ),
        ([Change(step=-1)], "change 0 begins at step -1"),
        (
            [Change(step=1 << 47)],
            r"change 0 begins at step 140737488355328 .* expected it to end by step \d+, where",
        ),
        ([Change(step=10**20, policy="sqrt")], "expected it to end by step"),
        ([Change(step=1, over=-2)], "takes -2"),
        ([Change(step=1, over=1 << 30)], "goes over 4294967296 turns"),
        ([Change(step=7, policy="explicit")], "schedule: step 7: weights: source 'd0/t0/train' has none"),
        ([Change(step=7, weights={"t0": 1.0})], "step 7: recipe: policy 'proportional' reads no weights"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(schedule: list[Change], told: str) -> None:
    with pytest.raises(PlanError, match=told):
        weighted([5, 6, 7], *schedule)
