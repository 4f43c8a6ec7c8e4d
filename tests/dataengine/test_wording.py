from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataengine.annotation import Annotation, Image, Origin
from dataengine.wording import (
    apart,
    joined,
    lettered,
    num_words,
    one_line,
    phrase,
    pictures,
    quoted,
    sentence,
)


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


@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        ("穿T恤的男人。", "zh", "穿T恤的男人"),
        ("「左边的猫」！", "ja", "左边的猫"),
        ("“一只白色的狗。”", "zh", "一只白色的狗"),
        ("Der rote Bus.", "de", "Der rote Bus"),
        ("قطة على السجادة؟", "ar", "قطة على السجادة"),
    ],
)
def test_a_phrase_of_another_language_keeps_its_capitals(text: str, lang: str, expected: str) -> None:
    assert phrase(text, lang) == expected


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


@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        ("一辆红色的公交车", "zh", "一辆红色的公交车。"),
        ("这是什么？", "zh", "这是什么？"),
        ("iPhone手机，", "zh", "iPhone手机。"),
        ("赤いバス", "ja", "赤いバス。"),
        ("ein Bus", "de", "Ein Bus."),
        ("एक लाल बस", "hi", "एक लाल बस।"),
        ("รถบัสสีแดง", "th", "รถบัสสีแดง"),
    ],
)
def test_a_sentence_ends_as_its_language_does(text: str, lang: str, expected: str) -> None:
    assert sentence(text, lang) == expected


def test_a_list_and_quotes_follow_the_language() -> None:
    assert joined(("猫", "狗"), "zh") == "猫、狗"
    assert joined(("Hund", "Katze"), "de") == "Hund, Katze"
    assert joined(["a"]) == "a"
    assert (quoted("停", "zh"), quoted("停", "ja"), quoted("stop")) == ("“停”", "「停」", '"stop"')


@pytest.mark.parametrize(
    ("text", "expected"), [("a red  bus", 3), ("红色的公交车", 3), ("猫", 1), ("一台iPhone", 2), ("", 0)]
)
def test_two_letters_of_a_script_without_spaces_are_a_word(text: str, expected: int) -> None:
    assert num_words(text) == expected


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


def test_the_pictures_of_a_first_turn_stand_apart_from_its_words_unless_they_stand_between_them() -> None:
    assert apart("<image>\n<image>\nWhich is red?", 2) == ("<image>\n<image>\n", "Which is red?")
    assert apart("<image>\nA cat\n<image>\nWhich is this?", 2) == (
        "",
        "<image>\nA cat\n<image>\nWhich is this?",
    )
    assert apart("Draw a cat.", 0) == ("", "Draw a cat.")
