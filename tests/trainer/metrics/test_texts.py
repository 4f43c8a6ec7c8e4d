"""Captions and read text: against numbers of the reference code, and by hand."""

from __future__ import annotations

import pytest

from dataengine.geometry import rle_of_box
from dataengine.sample import TargetInstance
from trainer.metrics.captions import cider, meteor, words
from trainer.metrics.objects import Found, Scene
from trainer.metrics.reading import reading_scores, spotting_scores


def test_cider_is_that_of_the_reference_code() -> None:
    said = ["a cat on the mat", "two dogs run through the park the park", "a blue train"]
    accepted = [
        ["a cat sits on the mat", "the cat is on a mat"],
        ["two dogs run in the park", "dogs running through a green park"],
        ["a red bus on a street"],
    ]

    # pycocoevalcap 1.2 (Cider().compute_score) on the same words.
    assert cider(said, accepted) == pytest.approx([3.2373831506806683, 2.051146214005887, 0.0])
    assert cider([], []) == []


def test_saying_a_reference_scores_ten_where_its_words_are_rare() -> None:
    said = ["one two three four", "five six seven eight"]

    assert cider(said, [[one] for one in said]) == pytest.approx([10, 10])


def test_sentences_are_split_as_captions_are() -> None:
    assert words('The well-known dog\'s "ball", 2nd.') == ["the", "well-known", "dog", "'s", "ball", "2nd"]
    assert words("一只猫 cat。") == ["一", "只", "猫", "cat"]


def by_definition(matches: int, chunks: int, said: int, wanted: int) -> float:
    """Banerjee and Lavie 2005, with nltk's constants: a mean that favours recall, less half of (chunks / matches)^3."""
    precision, recall = matches / said, matches / wanted
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    return mean * (1 - 0.5 * (chunks / matches) ** 3)


def test_meteor_counts_words_and_stems_and_their_order() -> None:
    assert meteor("a cat sits here", ["a cat sits here"]) == pytest.approx(by_definition(4, 1, 4, 4))
    assert meteor("dogs running", ["a dog runs"]) == pytest.approx(by_definition(2, 1, 2, 3))
    assert meteor("here a cat", ["a cat sits here", "unlike"]) == pytest.approx(by_definition(3, 2, 3, 4))
    assert meteor("nothing", ["a cat"]) == 0
    assert meteor("", ["a cat"]) == 0


def test_reading_counts_edits_words_and_texts() -> None:
    found = reading_scores(
        [("STOP", "STOP"), ("EXIT NOW", "EXIT  NOW"), ("cafe", "café bar"), ("abcd", "ab")]
    )

    # Edits 0, 0, 5, 2 over 4 + 8 + 8 + 2 characters; words 1, 2, 0, 0 of 1, 2, 2, 1. The last is half right.
    assert found == pytest.approx(
        {"word_accuracy": 0.5, "word_recall": 3 / 6, "cer": 7 / 22, "ned": (1 + 1 + (1 - 5 / 8) + 0.5) / 4}
    )


def word(text: str, x: float, *, ignore: bool = False) -> TargetInstance:
    return TargetInstance(label=text, box=(x, 0, x + 10, 10), area=100.0, ignore=ignore)


def read(text: str, x: float, score: float = 0.9) -> Found:
    return Found(text, (x, 0, x + 10, 10), score, rle_of_box((x, 0, x + 10, 10), 100, 100))


def test_a_word_is_spotted_where_letters_and_place_are_right() -> None:
    truth = [word("STOP", 0), word("EXIT", 20), word("###", 60, ignore=True)]
    found = [read("Stop", 1), read("STOP", 0), read("EXIT", 40), read("x", 60), read("EXIT", 20, 0.1)]

    # Stop is right, STOP again and EXIT elsewhere are wrong, what lies on unreadable text does not count.
    assert spotting_scores([Scene(100, 20, truth, found)]) == pytest.approx(
        {"text_precision": 1 / 3, "text_recall": 1 / 2, "text_f1": 2 / 5}
    )
    assert spotting_scores([Scene(100, 20, [], found)]) is None
