from __future__ import annotations

import pytest

from dataengine.errors import FEW, MOST_LISTED, nearest


@pytest.mark.parametrize(("word", "close"), [("lisence", "license"), ("coco_instance", "coco_instances")])
def test_a_close_word_is_proposed(word: str, close: str) -> None:
    assert nearest(word, ["license", "coco_instances", "source"]) == f"; did you mean {close!r}?"


def test_without_a_close_word_all_are_listed() -> None:
    assert nearest("zzzz", ["source", "license"]) == "; known: license, source"
    assert nearest("zzzz", []) == ""


def test_of_very_many_words_a_few_are_named() -> None:
    words = [f"dataset_{number}" for number in range(MOST_LISTED + 1)]

    text = nearest("zzzz", words)

    assert text.startswith(f"; {MOST_LISTED + 1} are known, such as ")
    assert text.count("dataset_") == FEW
