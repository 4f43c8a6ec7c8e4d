"""Ratings of texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataengine.ratings import texts
from dataengine.ratings.texts import rate


@pytest.mark.parametrize(
    ("text", "words", "script"),
    [
        ("A cat on a mat.", 5, "latin"),
        ("", 0, None),
        ("12 + 3", 3, None),
        ("一只猫坐在垫子上", 4, "cjk"),
        ("Кошка на коврике", 3, "cyrillic"),
        ("猫がマットの上に座っている", 7, "hiragana"),
        ("قطة على سجادة", 3, "arabic"),
    ],
)
def test_words_and_script(text: str, words: int, script: str | None) -> None:
    found = rate(text)

    assert (found.words, found.script) == (words, script)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("one two three four five", 0),
        ("a cat, a cat, a cat, a cat", 4 / 6),  # runs: a cat a, cat a cat, …: two kinds of six
        ("A dog. a DOG. a dog.", 2 / 4),
        ("one two", 0),
        ("", 0),
        ("好好好好好好", 3 / 4),
    ],
)
def test_repetition_is_the_share_of_runs_that_stood_there_before(text: str, share: float) -> None:
    assert rate(text).repetition == pytest.approx(share)


@given(st.text(max_size=200))
def test_any_text_is_rated(text: str) -> None:
    found = rate(text)

    assert 0 <= found.repetition < 1
    assert found.words >= 0


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("A brown dog lies on the grass beside a tree.", "en"),
        ("Ein brauner Hund liegt im Gras neben einem Baum.", "de"),
        ("Un chien brun est couché dans l'herbe près d'un arbre.", "fr"),
        ("一只棕色的狗躺在树旁边的草地上，看着远处的孩子们玩耍。", "zh"),
        ("yes", None),
    ],
)
def test_the_language_of_a_sentence_is_told_and_that_of_a_word_is_not(
    text: str, language: str | None
) -> None:
    pytest.importorskip(texts.IDENTIFIER)

    assert rate(text).language == language


def test_without_the_library_no_language_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "IDENTIFIER", "no_such_library")
    for cached in (texts.rate, texts._identifier):
        cached.cache_clear()

    try:
        assert rate("A brown dog lies on the grass beside a tree.").language is None
        assert texts.identifier_version() == ""
    finally:
        for cached in (texts.rate, texts._identifier):
            cached.cache_clear()
