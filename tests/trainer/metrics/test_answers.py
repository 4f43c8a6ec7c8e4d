"""Short answers: cases worked out from the definitions, and second implementations where one is short."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.metrics import answers
from trainer.metrics.answers import (
    anls,
    choice_accuracy,
    choice_of,
    correlations,
    counting_errors,
    exact_match,
    rating_of,
    relaxed_accuracy,
    vqa_accuracy,
    vqa_normal,
    yes_no_scores,
)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("A red car.", "red car"),
        ("Two", "2"),
        ("none", "0"),
        ("1,000 people", "1000 people"),
        ("3.5", "3.5"),
        ("Mr. Smith", "mr smith"),
        ("black-white", "black white"),
        ("black - white", "black white"),
        ("dont know", "don't know"),
        ("red/blue?", "red blue"),
        ("yes!", "yes"),
    ],
)
def test_answers_to_questions_are_compared_without_what_does_not_matter(text: str, normal: str) -> None:
    assert vqa_normal(text) == normal


@pytest.mark.parametrize(
    ("said", "times", "accuracy"),
    # Ten answers, n of which are what is said: over the ten choices of nine, (10 - n) min(1, n/3) + n min(1, (n-1)/3).
    [
        ("blue", 10, 1.0),
        ("blue", 4, 1.0),
        ("blue", 3, 0.9),
        ("blue", 2, 0.6),
        ("blue", 1, 0.3),
        ("blue", 0, 0.0),
    ],
)
def test_an_answer_is_right_as_far_as_three_people_gave_it(said: str, times: int, accuracy: float) -> None:
    accepted = [said] * times + ["green"] * (10 - times)

    assert vqa_accuracy(f"The {said}.", accepted) == pytest.approx(accuracy)


@given(
    st.lists(st.sampled_from(["a1", "b1", "c1"]), min_size=10, max_size=10),
    st.sampled_from(["a1", "b1", "d1"]),
)
def test_vqa_accuracy_is_the_mean_over_choices_of_nine(accepted: list[str], said: str) -> None:
    choices = [accepted[:k] + accepted[k + 1 :] for k in range(10)]

    assert vqa_accuracy(said, accepted) == pytest.approx(
        sum(min(1, nine.count(said) / 3) for nine in choices) / 10
    )


def test_fewer_answers_need_fewer_people() -> None:
    assert vqa_accuracy("cat", ["cat"]) == 1
    assert vqa_accuracy("cat", ["dog", "cat"]) == 1
    assert vqa_accuracy("cow", ["dog", "cat"]) == 0
    # Of two others each: dog, dog -> 1; dog, cat -> 1/2, twice.
    assert vqa_accuracy("dog", ["cat", "dog", "dog"]) == pytest.approx(2 / 3)


CHOICES = ("a cat", "a dog", "both")


@pytest.mark.parametrize(
    ("said", "choice"),
    [
        ("B", 1), ("b.", 1), ("(B)", 1), ("B. a dog", 1), ("B: because it barks", 1), ("The answer is B.", 1),
        ("Answer: C", 2), ("Option A", 0), ("A. a cat", 0), ("a dog", 1), ("A dog.", 1), ("A dog on a sofa", 1),
        ("It is a dog", 1), ("a cat or a dog", None), ("A horse", None), ("D", None), ("", None),
    ],
)  # fmt: skip
def test_a_choice_is_named_by_its_letter_or_its_text(said: str, choice: int | None) -> None:
    assert choice_of(said, CHOICES) == choice
    assert choice_accuracy(said, CHOICES, 1) == float(choice == 1)


def test_pope_counts_yes_as_positive_and_the_unclear_as_no() -> None:
    pairs = [
        ("Yes, there is.", True), ("yes", True), ("Yes", False), ("No.", False), ("no", True), ("Perhaps", True),
        ("There is no cat", False),
    ]  # fmt: skip

    found = yes_no_scores(pairs)

    # Three times yes, two of them right, of four; right are yes, yes, no, no; one says neither.
    assert found == pytest.approx(
        {
            "yes_no_accuracy": 4 / 7, "yes_precision": 2 / 3, "yes_recall": 2 / 4, "yes_f1": 2 * 2 / (3 + 4),
            "yes_ratio": 3 / 7, "unclear_ratio": 1 / 7,
        }
    )  # fmt: skip


def test_an_exact_match_knows_case_blanks_and_the_last_stop_alone() -> None:
    assert exact_match(" A  red Car. ", ["a red car"]) == 1
    assert exact_match("red car", ["a red car", "Red car."]) == 1
    assert exact_match("a red, car", ["a red car"]) == 0


def edits(a: str, b: str) -> int:
    """Levenshtein's distance by its recursion, row by row."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, start=1):
        row, before = [i], row
        for j, other in enumerate(b, start=1):
            row.append(min(row[-1] + 1, before[j] + 1, before[j - 1] + (one != other)))
    return row[-1]


@given(st.text("ab c", max_size=8), st.lists(st.text("ab c", max_size=8), min_size=1, max_size=3))
def test_anls_is_the_best_similarity_above_one_half(said: str, accepted: list[str]) -> None:
    spoken, wanted = " ".join(said.split()), [" ".join(one.split()) for one in accepted]
    nearest = min(edits(spoken, one) / max(len(spoken), len(one), 1) for one in wanted)

    assert anls(said, accepted) == pytest.approx(1 - nearest if nearest <= 0.5 else 0)


def test_anls_by_hand() -> None:
    assert anls("Hello Worlt", ["hello world"]) == pytest.approx(1 - 1 / 11)
    assert anls("abcd", ["wxyz"]) == 0
    assert anls("x", []) == 0


@pytest.mark.parametrize(
    ("said", "wanted", "right"),
    [
        ("105", "100", 1), ("105.1", "100", 0), ("95", "100", 1), ("1,050", "1000", 1), ("14%", "0.14", 1),
        ("Yes", "yes", 1), ("ten", "10", 0), ("0", "0", 1), ("0.1", "0", 0), ("-95", "-100", 1),
    ],
)  # fmt: skip
def test_numbers_of_charts_may_be_five_percent_off(said: str, wanted: str, right: int) -> None:
    assert relaxed_accuracy(said, [wanted]) == right


def test_counts_are_read_from_digits_or_words() -> None:
    found = counting_errors([("3", 3.0), ("There are five.", 3.0), ("1,200 birds", 1204.0), ("many", 2.0)])

    assert found == pytest.approx(
        {"count_exact": 0.25, "count_mae": (2 + 4 + 2) / 4, "count_rmse": math.sqrt((4 + 16 + 4) / 4),
         "uncounted_ratio": 0.25}
    )  # fmt: skip


def test_ratings_are_words_in_order() -> None:
    assert [rating_of(word) for word in answers.RATINGS] == [1, 2, 3, 4, 5]
    assert rating_of("The quality is Good.") == 4
    assert rating_of("blue") is None
    assert correlations([1, 2, 3], [1, 3, 2]) == pytest.approx({"plcc": 0.5, "srcc": 0.5})
    assert correlations([1, 1], [1, 2]) is None
