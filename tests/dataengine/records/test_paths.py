from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.errors import Quarantine
from dataengine.records.paths import EVERY, MISSING, Step, fill, find, parse_path, parse_template, show

ROW: dict[str, Any] = {
    "id": 7,
    "Finding Labels": "Mass",
    "size[w,h]": [3, 4],
    "img": {"file_name": "a.jpg", "license": None},
    "answers": [{"text": "yes", "votes": [1, 2]}, {"text": "no", "votes": [3]}],
    "views": {"front": {"path": "f.jpg"}, "back": {"path": "b.jpg"}},
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", 7),
        ("Finding Labels", "Mass"),
        ("`size[w,h]`[1]", 4),
        ("img.file_name", "a.jpg"),
        ("img.license", None),
        ("answers[].text", ["yes", "no"]),
        ("answers[-1].text", "no"),
        ("answers[].votes[]", [1, 2, 3]),
        ("views[].path", ["f.jpg", "b.jpg"]),
        ("views.front.path", "f.jpg"),
    ],
)
def test_a_path_finds_what_stands_there(path: str, value: Any) -> None:
    assert find(ROW, parse_path(path)) == value


@pytest.mark.parametrize("path", ["name", "img.width", "img.license.name", "answers[2]", "answers[].score"])
def test_what_is_not_there_is_missing(path: str) -> None:
    assert find(ROW, parse_path(path)) is MISSING


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("answers.text", "answers is a list, expected a mapping; take its elements with '[]'"),
        ("id.name", "id is a number, expected a mapping"),
        ("img[0]", "img is a mapping, expected a list"),
        ("id[]", "id is a number, expected a list"),
    ],
)
def test_a_step_that_a_value_cannot_take_names_the_place(path: str, words: str) -> None:
    with pytest.raises(Quarantine) as caught:
        find(ROW, parse_path(path))

    assert (caught.value.reason, caught.value.detail) == ("schema", words)


@pytest.mark.parametrize(
    "path", ["", ".a", "a.", "a..b", "[0]", "a[", "a[x]", "a[]b", "a b ", "a:b", "a{b}", "`"]
)
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        parse_path(path)


names = st.text(st.characters(exclude_characters="`", exclude_categories=["C"]), min_size=1).map(str.strip)
steps = st.lists(st.one_of(names.filter(bool), st.integers(-9, 99), st.just(EVERY)), max_size=5)


@settings(deadline=None, max_examples=100)
@given(first=names.filter(bool), rest=steps)
def test_a_path_is_read_as_it_is_shown(first: str, rest: list[Step]) -> None:
    path = (first, *rest)

    assert parse_path(show(path)) == path


def test_a_template_is_filled_from_the_row() -> None:
    row = {"id": 7, "code": "12", "part": 3.0, "a": {"b c": "x"}, "$key": 0}

    made = fill("{{}}/{a.b c}/{id:012d}-{code:03d}-{part}-{$key}.jpg", row)

    assert made == "{}/x/000000000007-012-3-0.jpg"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{name}", "field.missing"),
        ("{img.license}", "field.missing"),
        ("{answers}", "schema"),
        ("{img.file_name:03d}", "schema"),
    ],
)
def test_a_template_that_cannot_be_filled_rejects_the_row(template: str, reason: str) -> None:
    with pytest.raises(Quarantine) as caught:
        fill(template, ROW)

    assert caught.value.reason == reason


def test_a_number_of_thousands_of_digits_rejects_the_row() -> None:
    with pytest.raises(Quarantine, match="expected a whole number"):
        fill("{id:03d}", {"id": "9" * 5000})


@pytest.mark.parametrize("template", ["{a", "a}", "{}", "{a:s}", "{a:.2f}", "{a:999d}", "{a!r}{"])
def test_a_template_that_is_none_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"template|path"):
        parse_template(template)
