from __future__ import annotations

from typing import Any

import pytest

from dataengine.errors import Quarantine
from dataengine.records.operations import NAMES, Operation, apply, check


@pytest.mark.parametrize(
    ("operations", "value", "expected"),
    [
        (["strip"], " a ", "a"),
        ([{"strip": ".!"}], "so.!", "so"),
        (["strip"], [" a", "b "], ["a", "b"]),
        (["lower"], "ÄB", "äb"),
        (["nfc"], "e\u0301", "\u00e9"),
        (["nonempty"], "a", "a"),
        (["keys"], {"a": 1, "b": 2}, ["a", "b"]),
        (["values"], {"a": 1, "b": 2}, [1, 2]),
        (["first"], [1, 2], 1),
        (["last"], [1, 2], 2),
        ([{"nth": 1}], [1, 2], 2),
        (["first"], [], None),
        ([{"nth": 5}, "strip"], [1, 2], None),
        ([{"join": ", "}], ["a", "b"], "a, b"),
        (["join"], ["a", "b"], "ab"),
        ([{"split": "|"}], "a|b", ["a", "b"]),
        (["split"], " a  b ", ["a", "b"]),
        ([{"regex_take": r"(\d+)\.jpg$"}], "x/012.jpg", "012"),
        ([{"regex_take": r"\d+"}], "a7b", "7"),
        ([{"regex_take": r"\d+"}], "ab", None),
        ([{"map_values": {"1": "yes", "0": "no"}}], 1, "yes"),
        ([{"map_values": {"true": "yes", "false": "no"}}], True, "yes"),
        ([{"map_values": {"1": "a", "2": "b"}}], ["2", "1"], ["b", "a"]),
        (["parse_json"], '{"a": [1]}', {"a": [1]}),
        (["parse_list"], "[2, 'x']", [2, "x"]),
        (["parse_list"], [1], [1]),
        (["majority"], ["b", "a", "a"], "a"),
        (["majority"], ["b", "a", "a", "b"], "b"),
        (["ranked"], ["c", "b", "a", "a"], ["a", "c", "b"]),
        (["unique"], ["b", "a", "b", [1], [1]], ["b", "a", [1]]),
        (["present"], ["a", None, "", 0], ["a", 0]),
        ([{"scale": 0.5}], [2, 4], [1.0, 2.0]),
        (["round"], 2.6, 3),
        ([{"round": 1}], 2.66, 2.7),
        (["int"], "012", 12),
        (["int"], 3.0, 3),
        (["float"], "1e-3", 0.001),
        (["bool"], "Yes", True),
        (["bool"], 0, False),
        ([{"prefix": "a/"}, {"suffix": ".jpg"}], "b", "a/b.jpg"),
        (["basename"], "a\\b/c.jpg", "c.jpg"),
        (["sha256"], "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (["sha256"], ["é"], ["4a99557e4033c3539de2eb65472017cad5f9557f7a0625a09f1c3f6e2ba69c4c"]),
        ([{"replace": {"old": ",", "new": "."}}, "float"], "0,25", 0.25),
        ([{"bands": {"good": 5, "bad": 1.8}}], "1.8", "bad"),
        ([{"bands": {"bad": 1.8, "good": 5}}], [1.81, 5], ["good", "good"]),
        ([{"mean_vote": 1}], ["0", "1", "3"], 2.75),
        ([{"mean_vote": 0}], [1, 1], 0.5),
    ],
)
def test_an_operation_gives(operations: list[Operation], value: Any, expected: Any) -> None:
    check(operations)

    found = apply(operations, value)

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("operation", "value", "reason"),
    [
        ("strip", 3, "schema"),
        ("lower", {"a": 1}, "schema"),
        ("nonempty", " \n", "text.empty"),
        ("nonempty", [], "text.empty"),
        ("keys", ["a"], "schema"),
        ("values", "a", "schema"),
        ("first", "ab", "schema"),
        ({"join": ","}, ["a", 1], "schema"),
        ({"split": ","}, ["a"], "schema"),
        ({"map_values": {"1": "yes"}}, 2, "value.unknown"),
        ("parse_json", "{", "schema"),
        ("parse_json", "\udcff", "schema"),  # a byte of a file name that is no UTF-8
        ("parse_list", "{'a': 1}", "schema"),
        ("parse_list", "__import__('os')", "schema"),
        ("parse_list", "[" * 5000, "schema"),
        ("majority", [[1], [1]], "schema"),
        ("int", "1.5", "schema"),
        ("int", 1.5, "schema"),
        ("int", float("inf"), "schema"),
        ("int", True, "schema"),
        ("float", "one", "schema"),
        ("bool", "maybe", "schema"),
        ({"scale": 2}, "3", "schema"),
        ({"bands": {"bad": 1, "good": 2}}, 2.5, "value.unknown"),
        ({"bands": {"bad": 1, "good": 2}}, "many", "schema"),
        ({"mean_vote": 1}, [0, 0], "schema"),
        ({"mean_vote": 1}, [3, -1], "schema"),
        ({"mean_vote": 1}, [], "schema"),
        ({"scale": 0.5}, 10**400, "schema"),
        ("round", float("nan"), "schema"),
        ("round", [1.5, float("inf")], "schema"),
    ],
)
def test_a_value_that_an_operation_cannot_take_rejects_the_row(
    operation: Operation, value: Any, reason: str
) -> None:
    with pytest.raises(Quarantine) as caught:
        apply([operation], value)

    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ("stripp", "unknown operation 'stripp'; did you mean 'strip'?"),
        ({"nth": "1"}, "operation 'nth': '1', expected a whole number"),
        ("nth", "operation 'nth': None, expected a whole number"),
        ({"lower": True}, "operation 'lower': takes no argument"),
        ({"regex_take": "("}, "operation 'regex_take': '\\(' is no pattern"),
        ({"replace": {"old": "a"}}, "operation 'replace': .*, expected {old: text, new: text}"),
        ({"map_values": {}}, "operation 'map_values': {}, expected a mapping"),
        ({"scale": True}, "operation 'scale': True, expected a number"),
        ({"bands": {"bad": 1}}, "operation 'bands': {'bad': 1}, expected {name: upper limit}"),
        ({"bands": {"bad": 1, "good": 1}}, "each limit another"),
        ({"mean_vote": "1"}, "operation 'mean_vote': '1', expected a whole number"),
        ({"split": ""}, "operation 'split': '', expected text"),
        ({"a": 1, "b": 2}, "has 2 names, expected one"),
    ],
)
def test_a_spec_with_a_wrong_operation_is_refused(operation: Operation, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check([operation])


def test_every_operation_has_an_example_here() -> None:
    marks = test_an_operation_gives.pytestmark
    shown = {
        name if isinstance(name, str) else next(iter(name))
        for mark in marks
        for case in mark.args[1]
        for name in case[0]
    }

    assert shown == set(NAMES)
