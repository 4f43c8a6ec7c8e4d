from __future__ import annotations

from typing import Any

import pytest

from dataengine.errors import Quarantine
from dataengine.records.conditions import holds, parse_condition

ROW: dict[str, Any] = {
    "split": "train",
    "score": 0.5,
    "crowd": 0,
    "text": "1",
    "none": None,
    "class": "cat",
    "Finding Labels": "Mass",
    "tags": ["a", "b"],
    "img": {"width": 10, "in.side": 1},
    "null": 2,
    "$key": 3,
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("split == 'train'", True),
        ("split != 'train'", False),
        ("split in ['train', 'val']", True),
        ("split not in ('train', 'val')", False),
        ("0 < score <= 0.5", True),
        ("score >= 0.6 or img.width > 9", True),
        ("not crowd and score < 1", True),
        ("crowd == 1", False),
        ("none == null", True),
        ("absent == null and img.depth == null", True),
        ("absent != null", False),
        ("crowd == false", True),
        ("'a' in tags", True),
        ("'rai' in split", True),
        ("'a' in absent", False),
        ("none in [null, true] and split in ['x', `split`]", True),
        ("tags[-1] == 'b' and tags[0] < 'b'", True),
        ("`Finding Labels` == 'Mass'", True),
        ("`class` == 'cat'", True),
        ("img.`in.side` == 1 and `null` == 2", True),
        ("$key == 3", True),
        ("'$key' == '`x`'", False),
        ("img.width == -10", False),
    ],
)
def test_a_condition_says_whether_it_holds(condition: str, expected: bool) -> None:
    assert holds(condition, ROW) is expected


@pytest.mark.parametrize(
    "condition",
    ["text == 1", "1 in [text]", "text < 2", "none < 1", "split", "tags < ['c']", "score in img.width"],
)
def test_what_does_not_compare_rejects_the_row(condition: str) -> None:
    with pytest.raises(Quarantine) as caught:
        holds(condition, ROW)

    assert caught.value.reason == "schema"
    assert condition in caught.value.detail


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "open('x')",
        "a.b()",
        "a if b else c",
        "lambda: 1",
        "[x for x in y]",
        "a + 1 == 2",
        "a is null",
        "a == f'{b}'",
        "(a := 1) == 1",
        "a == b'x'",
        "a[b] == 1",
        "class == 'cat'",
        "a = 1",
        "a == [b(), 1]",
        "x" * 2001,
        "(" * 400 + "a" + ")" * 400,
    ],
)
def test_only_comparisons_of_paths_and_literals_are_read(condition: str) -> None:
    with pytest.raises(ValueError, match="condition"):
        parse_condition(condition)


def test_a_condition_tells_the_names_that_it_needs() -> None:
    condition = parse_condition("img.width > 3 and (split in ['train'] or $qa != null) and not `a b`.c")

    assert condition.names == {"img", "split", "$qa", "a b"}
