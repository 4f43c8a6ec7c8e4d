from __future__ import annotations

import time

import pytest

from dataengine.errors import FEW, MOST_CHARS, MOST_LISTED, nearest


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


def test_words_of_a_file_that_are_endless_are_cut_and_not_compared_for_ever() -> None:
    started = time.monotonic()

    text = nearest("y" * 1_000_000, ["x" * 1_000_000, "cat"])

    assert text == f"; known: cat, {'x' * MOST_CHARS}"
    assert time.monotonic() - started < 5
