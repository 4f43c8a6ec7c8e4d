"""A long class list is asked in parts, whose answers together are those to the whole list; rounds are asked in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataengine.annotation import Turn
from dataengine.sample import (
    InstanceTargets,
    KeypointTargets,
    Region,
    Route,
    Sample,
    TargetInstance,
    TextTargets,
)
from trainer.ask import asks_of, parts_of, questions_of
from trainer.forced import merged_maps, merged_objects, places_of
from trainer.predictions import FoundObject

MakeSample = Callable[[int, str], tuple[Sample, list[bytes]]]


def asking_for(sample: Sample, names: list[str]) -> Sample:
    """Return a toy sample that asks for these classes; its objects keep theirs."""
    return msgspec.structs.replace(
        sample,
        conversation=(
            Turn("user", f"<image>\nFind all {', '.join(names)}."),
            Turn("assistant", f"Here: {', '.join(f'{name}[DET]' for name in names)}."),
        ),
        routes=tuple(Route(token="[DET]", kind="category", name=name) for name in names),
        targets=InstanceTargets(instances=tuple(
            TargetInstance(label=name, box=(0, 0, 9, 9), area=81.0) for name in names[::3]
        ), negatives=tuple(names[1::3])),
    )  # fmt: skip


@given(count=st.integers(1, 40), most=st.integers(1, 12), room=st.integers(60, 400))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_hold_every_class_once_in_order_and_each_fits(
    make_sample: MakeSample, count: int, most: int, room: int
) -> None:
    names = [f"class {chr(97 + k // 10)}{k % 10}" for k in range(count)]
    sample = asking_for(make_sample(1, "detection")[0], names)

    def fits(one: Sample) -> bool:
        return len(one.conversation[1].text) <= room

    parts = parts_of(sample, most, fits)

    if count <= most and fits(sample):
        assert parts == [sample]
    assert [route.name for part in parts for route in part.routes] == names
    assert all(len(part.routes) <= most and fits(part) for part in parts)
    assert max(len(part.routes) for part in parts) - min(len(part.routes) for part in parts) <= 1
    for part in parts:
        asked = {route.name for route in part.routes}
        assert isinstance(part.targets, InstanceTargets) and isinstance(sample.targets, InstanceTargets)
        assert part.targets.instances == tuple(
            item for item in sample.targets.instances if item.label in asked
        )
        assert set(part.targets.negatives) == set(sample.targets.negatives) & asked
        assert all((name in part.conversation[0].text) == (name in asked) for name in names)
    # What a token of an ask's answer stands for is found again among the sample's routes.
    asks = asks_of(sample, parts)
    assert [ask.wanted for ask in asks] == [part.conversation[1].text for part in parts]
    assert [sample.routes[number].name for ask in asks for number in ask.routes] == names


def test_a_list_that_the_conversation_does_not_spell_stays_whole(make_sample: MakeSample) -> None:
    sample = asking_for(make_sample(1, "detection")[0], ["red", "green", "blue"])
    hidden = msgspec.structs.replace(
        sample, conversation=(Turn("user", "<image>\nWhat is here?"), sample.conversation[1])
    )

    assert parts_of(hidden, 2, lambda one: True) == [hidden]
    assert len(parts_of(sample, 2, lambda one: True)) == 2


def test_keypoints_are_asked_with_each_part_of_the_classes(make_sample: MakeSample) -> None:
    sample = asking_for(make_sample(1, "detection")[0], ["cat", "dog"])
    posed = msgspec.structs.replace(
        sample,
        conversation=(
            Turn("user", "<image>\nFind cat, dog. Mark nose, tail."),
            Turn("assistant", "Here: cat[DET], dog[DET]. Points: nose[POSE], tail[POSE]."),
        ),
        routes=(
            *sample.routes,
            *(Route(token="[POSE]", kind="keypoint", name=name) for name in ("nose", "tail")),
        ),
        targets=KeypointTargets(names=("nose", "tail"), instances=()),
    )

    parts = parts_of(posed, 1, lambda one: True)

    assert [part.conversation[1].text for part in parts] == [
        "Here: cat[DET]. Points: nose[POSE], tail[POSE].",
        "Here: dog[DET]. Points: nose[POSE], tail[POSE].",
    ]
    assert [ask.routes for ask in asks_of(posed, parts)] == [(0, 2, 3), (1, 2, 3)]


def found(
    scores: dict[tuple[int, str], float], names: list[str], ask: int, top_k: int
) -> tuple[FoundObject, ...]:
    """Return what a decoder finds for a class list: the `top_k` best pairs of query and class, as it orders them."""
    pairs = [(query, k) for query in sorted({query for query, _ in scores}) for k in range(len(names))]
    values = torch.tensor([scores[query, names[k]] for query, k in pairs])
    best = values.topk(min(top_k, len(pairs)))
    return tuple(
        FoundObject(ask=ask, token=pairs[place][1], box=(float(pairs[place][0]), 0.0, 9.0, 9.0), score=score)
        for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    )


@given(data=st.data(), count=st.integers(2, 12), most=st.integers(1, 6), top_k=st.integers(1, 20))
@settings(deadline=None, max_examples=60)
def test_what_parts_find_is_what_the_whole_list_finds(
    data: st.DataObject, count: int, most: int, top_k: int
) -> None:
    """Where a score depends on the picture and its own class alone. A real decoder's class vectors see each other, and
    its queries are chosen by all classes: there, parts give what the same model finds when it is asked for fewer."""
    names = [f"c{k}" for k in range(count)]
    order = data.draw(st.permutations(range(3 * count)))
    # Twelve bits of a float are exact, and no two are equal.
    scores = {(q, name): (order[q * count + k] + 1) / 64 for q in range(3) for k, name in enumerate(names)}
    chunks = [names[start : start + most] for start in range(0, count, most)]

    whole = found(scores, names, 0, top_k)
    parts = merged_objects(
        [found(scores, chunk, number, top_k) for number, chunk in enumerate(chunks)], top_k
    )

    assert [(chunks[one.ask][one.token], one.box, one.score) for one in parts] == [
        (names[one.token], one.box, one.score) for one in whole
    ]


def test_a_label_map_of_parts_is_that_of_the_surest_class() -> None:
    rng = np.random.default_rng(5)
    sums = rng.uniform(size=(7, 6, 8)).astype(np.float32)

    def part(first: int, last: int, ask: int) -> Any:
        some = sums[first:last]
        return some.argmax(0), some.max(0), tuple((ask, token) for token in range(last - first))

    (whole, parts) = merged_maps([part(0, 7, 0)]), merged_maps([part(0, 3, 0), part(3, 7, 1)])

    named = {(one.token if one.ask == 0 else one.token + 3): one.mask for one in parts}
    assert named == {one.token: one.mask for one in whole}
    assert merged_maps([]) == ()


def test_rounds_are_asked_one_by_one_with_the_true_ones_before(make_sample: MakeSample) -> None:
    sample, _ = make_sample(1, "vqa")
    box = (0.0, 0.0, 9.0, 9.0)
    talk = msgspec.structs.replace(
        sample,
        conversation=(
            Turn("user", "<image>\nWhat is <reg>region1<region></reg>?"),
            Turn("assistant", "A cat[DET]."),
            Turn("user", "And <reg>region2<region></reg>?"),
            Turn("assistant", "A dog[DET], a cow[DET]."),
        ),
        routes=tuple(Route(token="[DET]", kind="expression", name=name) for name in ("cat", "dog", "cow")),
        regions=(Region(kind="box", box=box), Region(kind="box", box=(1.0, 1.0, 5.0, 5.0))),
        targets=TextTargets(),
    )
    picture = np.zeros((48, 64, 3), np.uint8)

    asks, questions = asks_of(talk, [talk]), questions_of(talk, [talk], [picture])

    assert [(ask.wanted, ask.routes) for ask in asks] == [
        ("A cat[DET].", (0,)),
        ("A dog[DET], a cow[DET].", (1, 2)),
    ]
    assert [one.turns for one in questions] == [talk.conversation[:1], talk.conversation[:3]]
    assert [len(one.regions) for one in questions] == [1, 2]
    assert places_of(talk, 0) == [(0, 0), (1, 0), (1, 1)]


def test_only_pictures_that_are_shown_are_asked_about(make_sample: MakeSample) -> None:
    sample, _ = make_sample(1, "vqa")
    target = msgspec.structs.replace(sample.images[0], role="target", path="t.png")
    edit = msgspec.structs.replace(
        sample,
        images=(target, sample.images[0]),
        conversation=(Turn("user", "<image>\n<reg>region1<region></reg> red"), Turn("assistant", "[EDIT]")),
        regions=(Region(kind="box", box=(0.0, 0.0, 9.0, 9.0), image=1),),
    )
    made, given_ = np.zeros((48, 64, 3), np.uint8), np.ones((48, 64, 3), np.uint8)

    (question,) = questions_of(edit, [edit], [made, given_])

    assert [int(one.max()) for one in question.pictures] == [1]
    assert question.regions[0].image == 0


@pytest.mark.parametrize("most", [None, 3])
def test_a_short_list_is_asked_at_once(make_sample: MakeSample, most: int | None) -> None:
    sample, _ = make_sample(1, "detection")

    assert parts_of(sample, most, lambda one: True) == [sample]
