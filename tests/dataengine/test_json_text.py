from __future__ import annotations

import pytest

from dataengine.json_text import without_nan


def test_nan_and_infinity_become_null_and_nothing_else_changes() -> None:
    text = b'{"a": [NaN, -Infinity, 1.5], "b": "NaN and Infinity", "c": {"d": Infinity}}'

    assert without_nan(text) == b'{"a":[null,null,1.5],"b":"NaN and Infinity","c":{"d":null}}'


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1}',
        b'{"a": "NaN"}',
        b'{"a": NaN',
        b'[NaN, "\\ud800"]',
        b"[NaN, " + b"[" * 100_000,
        b'[NaN, "\xff"]',
    ],
    ids=["none", "in a text", "cut off", "half a character", "without end", "not UTF-8"],
)
def test_a_document_that_cannot_be_mended_is_left_alone(text: bytes) -> None:
    assert without_nan(text) is None
