from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dataengine.errors import Quarantine
from dataengine.records.values import Value, get, optional_int, optional_text, text, texts

ROW: dict[str, Any] = {"a": " x ", "none": None, "n": 3, "f": 0.5, "many": ["x", 2], "kind": "no"}


def _value(**keys: Any) -> Value:
    return msgspec.convert(keys, Value, strict=True)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"from": "a", "ops": ["strip"]}, "x"),
        ({"from": ["a", "none", "n"]}, [" x ", None, 3]),
        ({"template": "{n}:{kind}"}, "3:no"),
        ({"from": "none"}, None),
        ({"from": "none", "default": "d", "ops": ["strip"]}, "d"),
        ({"from": "absent", "default": 0}, 0),
        ({"from": "absent", "default": None}, None),
        ({"template": "{absent}", "default": "d"}, "d"),
        ({"from": "a", "ops": [{"regex_take": "z"}], "default": "d"}, "d"),
        ({"from": "a", "when": "kind == 'yes'"}, None),
        ({"from": "a", "when": "kind == 'yes'", "default": "d"}, None),
        ({"from": "absent", "when": "kind == 'yes'"}, None),
        ({"from": "n", "when": "kind == 'no'"}, 3),
    ],
)
def test_a_value_is(keys: dict[str, Any], expected: Any) -> None:
    assert get(_value(**keys), ROW, "it") == expected


@pytest.mark.parametrize(
    ("keys", "reason", "detail"),
    [
        ({"from": "absent"}, "field.missing", "it: no absent"),
        ({"from": ["a", "absent.b"]}, "field.missing", "it: no absent.b"),
        ({"template": "{absent}"}, "field.missing", "it: no absent"),
        ({"from": "a", "ops": [{"regex_take": "z"}]}, "field.missing", "it: its operations find nothing"),
        ({"from": "n", "ops": ["strip"], "default": "d"}, "schema", "3 is a number, expected text"),
    ],
)
def test_a_value_that_is_not_there_rejects_the_row(keys: dict[str, Any], reason: str, detail: str) -> None:
    with pytest.raises(Quarantine) as caught:
        get(_value(**keys), ROW, "it")

    assert (caught.value.reason, caught.value.detail) == (reason, detail)


def test_a_number_may_stand_for_text_and_text_for_a_number() -> None:
    assert [text("n", ROW, "it"), text("f", ROW, "it")] == ["3", "0.5"]
    assert texts("many", ROW, "it") == ("x", "2")
    assert optional_int(_value(template="012"), ROW, "it") == 12


def test_an_optional_fact_may_be_left_out_or_null() -> None:
    assert optional_text(None, ROW, "it") is None
    assert optional_text("none", ROW, "it") is None
    assert texts("none", ROW, "it") == texts(None, ROW, "it") == ()
    assert optional_int("none", ROW, "it") is None


@pytest.mark.parametrize("keys", [{}, {"ops": ["strip"]}, {"from": "a", "template": "b"}])
def test_a_value_stands_in_one_place(keys: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="either 'from' or 'template'"):
        _value(**keys)


@pytest.mark.parametrize("value", [10**30, -(10**30), "9" * 30, 1e30])
def test_a_whole_number_that_no_size_or_position_is_rejects_the_row(value: Any) -> None:
    with pytest.raises(Quarantine, match=r"w is -?1e.30, expected at most"):
        optional_int("n", {"n": value}, "w")
