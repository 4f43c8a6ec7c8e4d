"""The texts of many annotations, looked at together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from dataengine.annotation import Annotation, Caption, Edit, Expression, Question, Turn
from dataengine.audit.plain import Joined, Places, doubts, is_plain
from dataengine.audit.rule import LATIN, Facts, TextKind
from dataengine.tokens import IMAGE

# So many texts, half as many turns, are looked at together. What is made of more of them is too large for the
# allocator's own store, and for a processor's cache: it takes twice the time.
TEXTS_AT_ONCE = 512
_SENTENCES = ("caption", "expression", "question", "edit")


class Said(NamedTuple):
    """Texts by kind, and how many are in each language, as it is stated: "" where nothing states it."""

    texts: Mapping[TextKind, Joined]
    langs: Mapping[str, int]


class Texts:
    """Keeps annotations until there are enough texts, and tells those of which one may not be plainly sound.

    `lang` is the language of what states none. All texts are shown to `look`.
    """

    def __init__(self, lang: str | None, look: Callable[[Said], None] = lambda said: None) -> None:
        self._lang = lang
        self._latin = lang is None or lang in LATIN
        self._look = look
        self._clear()

    def _clear(self) -> None:
        self._facts: list[Facts] = []
        self._odd: set[int] = set()
        self._held = 0
        self._captions: list[Caption] = []
        self._expressions: list[Expression] = []
        self._questions: list[Question] = []
        self._edits: list[Edit] = []
        self._turns: list[Turn] = []
        self._words: list[str] = []

    @property
    def enough(self) -> bool:
        """Whether there are enough to look at."""
        return self._held >= TEXTS_AT_ONCE

    def add(self, facts: Facts) -> int:
        """Keep the texts of an annotation, and return how many it has."""
        of = facts.annotation
        added, turns = 0, 0
        if of.captions:
            self._captions += of.captions
            added = len(of.captions)
        if of.expressions:
            self._expressions += of.expressions
            added += len(of.expressions)
        if of.questions:
            self._questions += of.questions
            added += sum([1 + len(one.answers) + len(one.choices) for one in of.questions])
        if of.edits:
            self._edits += of.edits
            added += len(of.edits)
        for dialog in of.dialogs:
            self._turns += dialog.turns
            turns += len(dialog.turns)
        if facts.worded:
            words = [one.text for one in facts.worded if one.text is not None]
            self._words += words
            added += len(words)
            if not all([is_plain("word", text) for text in words]):  # noqa: C419 - the faster
                self._odd.add(len(self._facts))
        added += turns
        if added:
            self._facts.append(facts)
            self._held += added + turns
        return added

    def doubtful(self) -> list[Facts]:
        """Return the annotations with a text that may not be plainly sound, in their order, and forget all."""
        if not self._facts:
            return []
        facts, odd = self._facts, self._odd
        texts: dict[TextKind, list[str]] = {
            "caption": [one.text for one in self._captions],
            "expression": [one.text for one in self._expressions],
            "question": [one.text for one in self._questions],
            "answer": [text for one in self._questions for text in one.answers],
            "choice": [text for one in self._questions for text in one.choices],
            "edit": [one.instruction for one in self._edits],
            "turn": [one.text for one in self._turns],
            "word": self._words,
        }
        joined = {kind: Joined(some, IMAGE if kind == "turn" else "") for kind, some in texts.items() if some}
        for kind, some in joined.items():
            if kind != "word":
                places = doubts(some, sentences=kind in _SENTENCES)
                if len(places):
                    odd.update(self._owners(kind, places))
        self._foreign()
        self._look(Said(joined, self._langs(sum(map(len, texts.values())))))
        self._clear()
        return [facts[number] for number in sorted(odd)]

    def _owners(self, kind: TextKind, places: Places) -> list[int]:
        """Return whose the texts of a kind are that stand in some places."""
        up_to = np.cumsum([_NUM[kind](one.annotation) for one in self._facts])
        owners: list[int] = np.searchsorted(up_to, places, side="right").tolist()
        return owners

    def _foreign(self) -> None:
        """Note whose texts may not be in Latin letters: where there are captions, these say so."""
        latin = self._latin
        if not latin:
            self._odd.update([place for place, one in enumerate(self._facts) if not one.annotation.captions])
        if not latin or any([one.lang is not None for one in self._captions]):  # noqa: C419 - the faster
            stated = [latin if one.lang is None else one.lang in LATIN for one in self._captions]
            self._odd.update(self._owners("caption", np.flatnonzero(~np.array(stated, bool))))

    def _langs(self, num_texts: int) -> Counter[str]:
        otherwise = self._lang or ""
        stated = [one.lang for one in self._captions if one.lang is not None]
        langs = Counter([lang or otherwise for lang in stated])
        langs[otherwise] += num_texts - len(stated)
        return +langs


_NUM: dict[TextKind, Callable[[Annotation], int]] = {
    "caption": lambda of: len(of.captions),
    "expression": lambda of: len(of.expressions),
    "question": lambda of: len(of.questions),
    "answer": lambda of: sum([len(one.answers) for one in of.questions]),
    "choice": lambda of: sum([len(one.choices) for one in of.questions]),
    "edit": lambda of: len(of.edits),
    "turn": lambda of: sum([len(one.turns) for one in of.dialogs]),
}
