from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataengine.annotation import Annotation, Image, Origin
from dataengine.wording import lettered, one_line, phrase, pictures, sentence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The  Man\tin Red. ", "the man in red"),
        ("left-most person, please!?", "left-most person, please"),
        ('"the dog."', "the dog"),
        ("dog's ball", "dog's ball"),
        ("upright bottle; ", "upright bottle"),
        ("u.s. flag", "u.s. flag"),
        (" ?! ", ""),
        ('"', '"'),
    ],
)
def test_a_phrase_loses_what_a_template_gives(text: str, expected: str) -> None:
    assert phrase(text) == expected


@given(st.text())
def test_a_phrase_is_clean_once_cleaned(text: str) -> None:
    words = phrase(text)

    # Lower case of some letters (such as İ) is not stable under Unicode; ASCII shows the point.
    if words.isascii():
        assert phrase(words) == words
    assert words == one_line(words)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red  bus", "A red bus."),
        ("It is here!", "It is here!"),
        ("is it,", "Is it."),
        ("NASA logo.", "NASA logo."),
        (" ,;: ", ""),
        ("éclair", "Éclair."),
    ],
)
def test_a_sentence_starts_with_a_capital_and_ends(text: str, expected: str) -> None:
    assert sentence(text) == expected


def test_options_are_lettered_one_a_line() -> None:
    assert lettered(("red", "dark green")) == "A. red\nB. dark green"
    assert lettered(tuple("x" * 26)).splitlines()[-1] == "Z. x"


def test_only_input_pictures_are_shown() -> None:
    annotation = Annotation(
        key="1",
        images=(Image(path="a.jpg"), Image(path="b.jpg", role="target"), Image(path="c.jpg")),
        origin=Origin(file="f", record="r"),
    )

    assert pictures(annotation) == "<image>\n<image>\n"
