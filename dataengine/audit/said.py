"""The texts of many annotations, looked at together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dataengine.annotation import Annotation
from dataengine.audit.plain import doubtful, is_plain
from dataengine.audit.rule import LATIN, Facts
from dataengine.tokens import IMAGE

# So many characters are looked at together: what is made of them fits into a processor's cache.
CHARACTERS = 1 << 16


class Texts:
    """Keeps annotations until there are enough texts, and tells those of which one may not be plainly sound.

    `last` is how many texts the last annotation had.
    """

    def __init__(self, lang: str | None) -> None:
        self._latin = lang is None or lang in LATIN
        self.last = 0
        self._clear()

    def _clear(self) -> None:
        self._facts: list[Facts] = []
        self._odd: list[int] = []
        # Texts, and how many there are up to each annotation.
        self._sentences: list[str] = []
        self._frees: list[str] = []
        self._sentences_up_to: list[int] = []
        self._frees_up_to: list[int] = []
        self._characters = 0

    @property
    def full(self) -> bool:
        """Whether there are enough to look at."""
        return self._characters >= CHARACTERS

    def add(self, facts: Facts) -> bool:
        """Keep the texts of an annotation; say whether it has any."""
        of = facts.annotation
        sentences, frees = len(self._sentences), len(self._frees)
        plain = self._latin
        if of.captions:
            self._sentences += [one.text for one in of.captions]
            plain = _are_latin(of, plain)
        if of.expressions:
            self._sentences += [one.text for one in of.expressions]
        for question in of.questions:
            self._sentences.append(question.text)
            self._frees += question.answers
            self._frees += question.choices
        if of.edits:
            self._sentences += [one.instruction for one in of.edits]
        for dialog in of.dialogs:
            # A turn that only shows a picture is not empty.
            self._frees += [turn.text.replace(IMAGE, "x") for turn in dialog.turns]
        words = [one.text for one in of.instances if one.text is not None] if of.instances else ()
        new_sentences, new_frees = self._sentences[sentences:], self._frees[frees:]
        self.last = len(new_sentences) + len(new_frees) + len(words)
        if not self.last:
            return False
        if not plain or not all(is_plain("word", text) for text in words):
            self._odd.append(len(self._facts))
        self._facts.append(facts)
        self._sentences_up_to.append(len(self._sentences))
        self._frees_up_to.append(len(self._frees))
        self._characters += sum(map(len, new_sentences)) + sum(map(len, new_frees)) + len(words)
        return True

    def doubtful(self) -> Iterator[Facts]:
        """Yield the annotations with a text that may not be plainly sound, in their order, and forget all."""
        facts, odd = self._facts, set(self._odd)
        for texts, up_to, sentences in (
            (self._sentences, self._sentences_up_to, True),
            (self._frees, self._frees_up_to, False),
        ):
            places = doubtful(texts, sentences=sentences) if texts else ()
            if len(places):
                odd.update(np.searchsorted(up_to, places, side="right").tolist())
        self._clear()
        for number in sorted(odd):
            yield facts[number]


def _are_latin(of: Annotation, otherwise: bool) -> bool:
    """Say whether the captions are in languages of Latin letters; `otherwise` is said of those that state none."""
    return all(otherwise if one.lang is None else one.lang in LATIN for one in of.captions)
