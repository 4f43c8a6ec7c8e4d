from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataengine import yaml12
from dataengine.catalog import shipped_specs
from dataengine.errors import SpecError

KEYS = st.text("abc<~1", min_size=1, max_size=3)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(categories=["L", "N", "P", "S"], include_characters=" "), max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def load(tmp_path: Path, text: str) -> dict[str, Any]:
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return yaml12.load(path)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'spec.yaml'}")
    assert "\n" not in message.strip()
    return message.removeprefix(f"{tmp_path / 'spec.yaml'}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("Yes", "Yes"), ("on", "on"), ("y", "y"), ("true", True), ("FALSE", False), ("tRue", "tRue"),
        ("12:30", "12:30"), ("1:30:00", "1:30:00"), ("2020-01-01", "2020-01-01"), ("1_000", "1_000"), ("0b11", "0b11"),
        ("012", 12), ("0o17", 15), ("0x1F", 31), ("-7", -7), ("+7", 7), ("0o8", "0o8"), ("0x", "0x"),
        ("1e-3", 0.001), ("1.", 1.0), (".5", 0.5), ("-1.5E3", -1500.0), ("1e", "1e"), (".", "."),
        (".inf", math.inf), ("-.Inf", -math.inf), ("+.INF", math.inf), ("inf", "inf"),
        ("null", None), ("~", None), ("", None), ("Null", None), ("nul", "nul"), ("=", "="), ("<<", "<<"),
        ("'12'", "12"), ('"true"', "true"), ("NO", "NO"), ("1 2", "1 2"),
    ],
)  # fmt: skip
def test_a_scalar_is_what_the_core_schema_says(tmp_path: Path, text: str, value: object) -> None:
    found = load(tmp_path, f"key: {text}\n")["key"]

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_not_a_number_is_read_in_every_spelling(tmp_path: Path, text: str) -> None:
    assert math.isnan(load(tmp_path, f"key: {text}")["key"])


@given(value=st.dictionaries(KEYS, PLAIN, max_size=4))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_json_is_yaml(tmp_path: Path, value: dict[str, Any]) -> None:
    assert load(tmp_path, json.dumps(value, ensure_ascii=False)) == value


def test_keys_are_text_even_where_they_look_like_numbers(tmp_path: Path) -> None:
    assert load(tmp_path, "1: a\n2017: b\nno: c\n~: d\n") == {"1": "a", "2017": "b", "no": "c", "~": "d"}


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", ":3:1", "key 'a' stands twice"),
        ("a: {b: 1, b: 2}\n", ":1:11", "key 'b' stands twice"),
        ("a: &x [1]\nb: *x\n", ":2:4", "alias 'x' is not allowed"),
        ("a: !!python/object/apply:os.system [id]\n", ":1:4", "is not allowed"),
        ("a: !!int abc\n", ":1:4", "is not allowed"),
        ("a: !!bool maybe\n", ":1:4", "is not allowed"),
        ("a: !!timestamp x\n", ":1:4", "is not allowed"),
        ("a: !!map [1, 2]\n", ":1:4", "is not allowed"),
        ("a: ! 12\n", ":1:4", "is not allowed"),
        ("!!map a\n", ":1:1", "is not allowed"),
        ("? [a]\n: b\n", ":1:3", "a key must be a scalar"),
        ("a: 1\n---\nb: 2\n", ":2:1", "another document"),
        ("a: [1, 2\n", ":2:1", "expected"),
        ("a: b: c\n", ":1:5", "not allowed here"),
        ("\ta: 1\n", ":1:1", "cannot start any token"),
        (f"a: {'9' * 5000}\n", ":1:4", "5000 digits"),
        ('a: "\\ud800"\n', ":1:4", "surrogate"),
        ("a: \x07\n", ":", "not YAML"),
        ("", ":", "holds nothing, expected a mapping"),
        ("- a\n", ":", "holds list, expected a mapping"),
        ("text\n", ":", "holds str, expected a mapping"),
        (f"a: {'[' * 1200}", ":", "recursion"),
    ],
)
def test_what_is_no_spec_is_refused_in_one_line_with_its_place(
    tmp_path: Path, text: str, place: str, problem: str
) -> None:
    message = refused(tmp_path, text)

    assert message.startswith(place)
    assert problem in message


def test_a_laughing_billion_is_refused(tmp_path: Path) -> None:
    text = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))

    assert "alias 'a0' is not allowed" in refused(tmp_path, text)


def test_a_file_that_is_too_large_or_not_text_or_missing_is_refused(tmp_path: Path) -> None:
    big, binary = tmp_path / "big.yaml", tmp_path / "binary.yaml"
    big.write_text("# " + "x" * yaml12.MAX_BYTES)
    binary.write_bytes(b"a: \xff\xfe")

    for path, problem in (
        (big, "larger than"),
        (binary, "cannot be read"),
        (tmp_path / "no.yaml", "cannot be read"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(SpecError, match=problem):
            yaml12.load(path)


@pytest.mark.parametrize("folder", ["tasks", "labels", "prompts"])
def test_a_pyyaml_without_libyaml_reads_the_same(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted((shipped_specs() / folder).glob("*.yaml"))
    assert yaml.__with_libyaml__
    fast = [yaml12.load(path) for path in files]

    monkeypatch.setattr(yaml, "__with_libyaml__", False)

    assert files
    assert [yaml12.load(path) for path in files] == fast


def test_a_byte_order_mark_is_no_part_of_a_key(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeffid: x\n") == {"id": "x"}


def test_the_line_of_a_key_is_found_through_maps_and_lists(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        "id: x\nsource:\n  splits:\n    train: {a: 1}\n    val:\n      b: 2\nlabels:\n  - name: c\n  - name: d\n"
    )

    lines = [
        yaml12.line_of(path, keys)
        for keys in (
            ["id"],
            ["source", "splits", "val", "b"],
            ["source", "splits", "train", "a"],
            ["labels", "1", "name"],
            ["labels", "9"],
            ["source", "splits", "val", "missing"],
            ["missing"],
        )
    ]  # fmt: skip

    assert lines[:4] == [1, 6, 4, 9]
    # What is not there is looked for where it should stand.
    assert lines[4:] == [7, 5, None]
    assert yaml12.line_of(tmp_path / "none.yaml", ["id"]) is None
