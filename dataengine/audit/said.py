"""The texts of many annotations, looked at together."""

from __future__ import annotations

import numpy as np

from dataengine.annotation import Annotation
from dataengine.audit.plain import doubtful, is_plain
from dataengine.audit.rule import LATIN, Facts
from dataengine.tokens import IMAGE

# So many texts, half as many turns, are looked at together. What is made of more of them is too large for the
# allocator's own store, and for a processor's cache: it takes twice the time.
TEXTS_AT_ONCE = 512


class Texts:
    """Keeps annotations until there are enough texts, and tells those of which one may not be plainly sound."""

    def __init__(self, lang: str | None) -> None:
        self._latin = lang is None or lang in LATIN
        self._clear()

    def _clear(self) -> None:
        self._facts: list[Facts] = []
        self._odd: set[int] = set()
        # What is written as sentences, what is said, what is anything else; and how many of each stand up to each
        # annotation.
        self._sentences: list[str] = []
        self._turns: list[str] = []
        self._answers: list[str] = []
        self._up_to: list[tuple[int, int, int]] = []

    @property
    def enough(self) -> bool:
        """Whether there are enough to look at."""
        return len(self._sentences) + 2 * len(self._turns) + len(self._answers) >= TEXTS_AT_ONCE

    def add(self, facts: Facts) -> int:
        """Keep the texts of an annotation, and return how many it has."""
        of = facts.annotation
        before = len(self._sentences) + len(self._turns) + len(self._answers)
        plain = self._latin
        if of.captions:
            self._sentences += [one.text for one in of.captions]
            plain = _are_latin(of, plain)
        if of.expressions:
            self._sentences += [one.text for one in of.expressions]
        if of.questions:
            self._sentences += [one.text for one in of.questions]
            for question in of.questions:
                self._answers += question.answers
                self._answers += question.choices
        if of.edits:
            self._sentences += [one.instruction for one in of.edits]
        for dialog in of.dialogs:
            self._turns += [turn.text for turn in dialog.turns]
        after = len(self._sentences), len(self._turns), len(self._answers)
        added = sum(after) - before
        if facts.worded:
            words = [one.text for one in facts.worded if one.text is not None]
            added += len(words)
            plain = plain and all([is_plain("word", text) for text in words])  # noqa: C419 - the faster
        if added:
            if not plain:
                self._odd.add(len(self._facts))
            self._facts.append(facts)
            self._up_to.append(after)
        return added

    def doubtful(self) -> list[Facts]:
        """Return the annotations with a text that may not be plainly sound, in their order, and forget all."""
        if not self._facts:
            return []
        facts, odd = self._facts, self._odd
        turns = doubtful(self._turns, sentences=False, passed_over=IMAGE)
        found = (doubtful(self._sentences, sentences=True), turns, doubtful(self._answers, sentences=False))
        for places, up_to in zip(found, np.array(self._up_to).T, strict=True):
            odd.update(np.searchsorted(up_to, places, side="right").tolist())
        self._clear()
        return [facts[number] for number in sorted(odd)]


def _are_latin(of: Annotation, otherwise: bool) -> bool:
    """Say whether the captions are in languages of Latin letters; `otherwise` is said of those that state none."""
    return all([otherwise if one.lang is None else one.lang in LATIN for one in of.captions])  # noqa: C419
