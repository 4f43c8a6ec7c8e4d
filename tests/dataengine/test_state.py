"""Ranks' states become one, and a budget says when too much is bad."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataengine.errors import BudgetBroken, PlanError
from dataengine.state import Hole, SourceMark, State, check_budget, merge, union


def hole(position: int, source: str = "a/t/train", index: int = 0, **changes: Any) -> Hole:
    fields: dict[str, Any] = {
        "position": position,
        "reason": "shard.damaged",
        "id": f"{source}/{index}",
        "source": source,
        "index": index,
        "file": "a.tar",
        "offset": 512,
        "detail": "bytes differ",
    }
    return Hole(**fields | changes)


holes = st.builds(
    hole,
    st.integers(0, 3),
    source=st.sampled_from(["a", "b"]),
    index=st.integers(0, 3),
    lasts=st.booleans(),
    detail=st.sampled_from(["cut", "gone"]),
)


@given(st.lists(st.lists(holes, max_size=6), min_size=1, max_size=5), st.integers(0, 100))
def test_merging_knows_no_order_and_no_number(found: list[list[Hole]], seed: int) -> None:
    states = [State(position=40, plan="p", holes=union(some)) for some in found]

    merged = merge(states)

    mixed = [*states, *states[:2]]
    random.Random(seed).shuffle(mixed)
    assert merge(mixed) == merged == merge([merged])
    assert merge([merge(states[:2]), *states[2:]]) == merged
    lasting = [one for some in found for one in some if one.lasts]
    assert [(one.source, one.index) for one in merged.holes] == sorted(
        {(one.source, one.index) for one in lasting}
    )
    for one in merged.holes:
        alike = [
            other.position for other in lasting if (other.source, other.index) == (one.source, one.index)
        ]
        assert one.position == min(alike)


@pytest.mark.parametrize("change", [{"position": 5}, {"plan": "q"}, {"exclusions": {"a": (1,)}}])
def test_states_of_different_moments_or_runs_are_not_merged(change: dict[str, Any]) -> None:
    state = State(position=4, plan="p")

    with pytest.raises(PlanError, match=f"states: {next(iter(change))} is .* on one rank and .* on another"):
        merge([state, msgspec.structs.replace(state, **change)])
    with pytest.raises(PlanError, match="none to merge"):
        merge([])


def test_ranks_that_read_other_shards_are_named() -> None:
    one, other = (
        State(position=4, plan="p", sources=(SourceMark(name="a/t/train", num_samples=9, fingerprint=made),))
        for made in ("x", "y")
    )

    with pytest.raises(
        PlanError, match=r"ranks read different shards \(a/t/train was converted from other files"
    ):
        merge([one, other])
    assert merge([one, one]) == one


def test_a_state_survives_json_and_older_ones_without_holes_are_read() -> None:
    state = State(position=7, plan="p", holes=(hole(3),))

    assert msgspec.json.decode(msgspec.json.encode(state), type=State) == state
    assert msgspec.json.decode(b'{"position":7,"plan":"p"}', type=State).holes == ()


@pytest.mark.parametrize(
    ("count", "positions", "ratio", "broken"),
    [
        (1, 10, 0.001, False),  # over at least a thousand positions, one is allowed
        (2, 10, 0.001, True),
        (1, 10, 0.0, True),
        (0, 10, 0.0, False),
        (50, 5000, 0.01, False),
        (51, 5000, 0.01, True),
        (51, 5100, 0.01, False),
    ],
)
def test_a_budget_is_a_share_of_the_positions_passed(
    count: int, positions: int, ratio: float, broken: bool
) -> None:
    found = [hole(position, index=position) for position in range(count)]

    if not broken:
        check_budget(found, positions, ratio)
        return
    with pytest.raises(BudgetBroken):
        check_budget(found, positions, ratio)


def test_a_broken_budget_counts_by_reason_and_names_the_first_three() -> None:
    found = [hole(n, index=n, reason="image.corrupt" if n % 2 else "shard.damaged") for n in range(8, 3, -1)]

    with pytest.raises(BudgetBroken) as caught:
        check_budget(found, 100, 0.002)

    assert str(caught.value) == (
        "a.tar: 5 bad samples (image.corrupt 2, shard.damaged 3) in 100 positions, expected at most 2 (max_bad_ratio"
        " 0.002 of at least 1000); first a.tar: offset 512: a/t/train/4 at position 4: shard.damaged; a.tar:"
        " offset 512: a/t/train/5 at position 5: image.corrupt; a.tar: offset 512: a/t/train/6 at position"
        " 6: shard.damaged; mend the shards with 'dataengine shard --rebuild', or allow more"
    )
