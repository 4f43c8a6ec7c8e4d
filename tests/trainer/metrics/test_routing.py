"""Emitted routing tokens meet the wanted ones by name, or by order where an answer says no name."""

from __future__ import annotations

import pytest

from dataengine.sample import Route
from dataengine.tokens import ROUTING_TOKENS
from trainer.metrics.routing import Alignment, align, routing_scores, said_in


def aligned(said: str, wanted: str, names: list[str], kind: str = "category") -> Alignment:
    true = said_in(wanted, ROUTING_TOKENS)
    routes = [Route(token=one.token, kind=kind, name=name) for one, name in zip(true, names, strict=True)]  # type: ignore[arg-type]
    return align(said_in(said, ROUTING_TOKENS), routes, true)


def test_names_of_a_list_are_met_in_any_order() -> None:
    found = aligned("I see dog[DET], cat[DET].", "Here is what I found: cat[DET], dog[DET].", ["cat", "dog"])

    assert found == Alignment((1, 0), (), 2)


def test_a_longer_name_is_another_one() -> None:
    wanted, names = "Found: hot dog[DET], cat[DET].", ["hot dog", "cat"]

    assert aligned("Found: cat[DET], dog[DET].", wanted, names) == Alignment((1, None), (0,), 2)
    assert aligned(
        "Found: cat[DET], hot dog[DET].", "Found: dog[DET], cat[DET].", ["dog", "cat"]
    ) == Alignment((1, None), (0,), 2)


def test_wrong_names_and_second_ones_are_false_triggers() -> None:
    found = aligned("cat[DET], cat[DET], cow[DET]", "cat[DET], dog[DET]", ["cat", "dog"])

    assert found == Alignment((0, None, None), (1,), 2)


def test_an_answer_that_says_no_name_is_met_by_its_token() -> None:
    assert aligned("Sure, here: [GRD]", "It is [GRD].", ["the cat"], "expression") == Alignment((0,), (), 1)
    assert aligned("Sure: [DET]", "It is [GRD].", ["the cat"], "expression") == Alignment((None,), (0,), 0)


def test_phrases_are_met_in_running_text() -> None:
    wanted = "A dog[DET] and a dog[DET] near the red bus[DET]."
    names = ["dog", "dog (2)", "red bus"]

    assert aligned("One dog[DET] by a red bus[DET]", wanted, names, "expression") == Alignment(
        (0, 2), (1,), 2
    )


def test_the_longest_name_that_fits_is_meant() -> None:
    wanted, names = "A dog[DET] eats a hot dog[DET].", ["dog", "hot dog"]

    assert aligned("I see a hot dog[DET]", wanted, names, "expression") == Alignment((1,), (0,), 1)


def test_a_phrase_that_comes_again_has_to_be_said_again() -> None:
    found = aligned(
        "A dog[DET] and a cat[DET]", "A dog[DET] and a dog[DET].", ["dog", "dog (2)"], "expression"
    )

    assert found == Alignment((0, None), (1,), 2)


def test_objects_and_keypoints_and_quoted_words_are_met() -> None:
    wanted = "Found: person[DET]. The keypoints are nose[POSE], left eye[POSE]."
    said = "I see person[DET]. Points: nose[POSE], eye[POSE]."

    assert aligned(said, wanted, ["person", "nose", "left eye"]) == Alignment((0, 1, None), (2,), 3)
    assert aligned(
        '"STOP"[DET], "Bar"[DET]', 'It reads "STOP"[DET], "bar"[DET].', ["STOP", "bar"]
    ) == Alignment((0, 1), (), 2)
    assert aligned("目标是猫[DET]、狗[DET]", "已找到：狗[DET]、猫[DET]。", ["狗", "猫"]) == Alignment(
        (1, 0), (), 2
    )


def test_precision_and_recall_are_over_all_tokens() -> None:
    found = routing_scores(
        [
            Alignment((0, None), (1,), 2),
            Alignment((0,), (), 1),
            Alignment((), (), 0),
            Alignment((None,), (), 0),
        ]
    )

    assert found == pytest.approx(
        {
            "routing_precision": 2 / 4, "routing_recall": 2 / 3, "routing_f1": 4 / 7, "token_precision": 3 / 4,
            "token_recall": 1.0, "exact_routing": 2 / 4, "false_triggers": 2.0,
        }
    )  # fmt: skip


def test_nothing_to_route_and_nothing_routed_is_right() -> None:
    found = routing_scores([Alignment((), (), 0)])

    assert found["routing_precision"] == found["routing_recall"] == found["exact_routing"] == 1.0
    assert routing_scores([Alignment((None,), (), 0)])["routing_precision"] == 0.0
