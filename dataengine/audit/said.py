"""The texts of a block of annotations, looked at together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from dataengine.annotation import Annotation
from dataengine.audit.block import Block
from dataengine.audit.plain import Places, TextKind, doubts, is_plain
from dataengine.audit.rule import LATIN

_SENTENCES = ("caption", "expression", "question", "edit")


def num_texts(block: Block) -> int:
    """Return how many texts there are."""
    return sum([len(joined.texts) for joined in block.joined.values()])


def doubtful_texts(block: Block) -> set[int]:
    """Return the places of annotations with a text that may not be plainly sound."""
    if not block.joined:
        return set()
    places = _foreign(block)
    for kind, joined in block.joined.items():
        if kind != "word":
            found = doubts(joined, sentences=kind in _SENTENCES)
            if len(found):
                places.update(_owners(block, kind, found))
        elif not all([is_plain("word", text) for text in joined.texts]):  # noqa: C419 - the faster
            odd = [word is not None and not is_plain("word", word) for word in block.words]
            places.update(block.owners[odd].tolist())
    return places


def languages(block: Block) -> Counter[str]:
    """Return how many texts are in each language, as they or their split state it: "" where nothing does."""
    stated = [one.lang for one in block.captions if one.lang is not None]
    found = Counter([one or block.lang or "" for one in stated])
    found[block.lang or ""] += num_texts(block) - len(stated)
    return +found


def _foreign(block: Block) -> set[int]:
    """Return the places of annotations whose texts may not be in Latin letters: captions say so themselves."""
    latin = block.lang is None or block.lang in LATIN
    places: set[int] = set()
    if not latin:
        places.update([place for place, item in enumerate(block.items) if not item.captions])
    if block.captions and not (latin and all([one.lang is None for one in block.captions])):  # noqa: C419 - the faster
        other = [not (latin if one.lang is None else one.lang in LATIN) for one in block.captions]
        places.update(block.places("captions")[other].tolist())
    return places


def _owners(block: Block, kind: TextKind, found: Places) -> list[int]:
    """Return the places of the annotations whose texts of a kind are found."""
    owners: list[int] = np.repeat(np.arange(len(block.items)), list(map(_NUM[kind], block.items)))[
        found
    ].tolist()
    return owners


_NUM: dict[TextKind, Callable[[Annotation], int]] = {
    "caption": lambda of: len(of.captions),
    "expression": lambda of: len(of.expressions),
    "question": lambda of: len(of.questions),
    "answer": lambda of: sum([len(one.answers) for one in of.questions]),
    "choice": lambda of: sum([len(one.choices) for one in of.questions]),
    "edit": lambda of: len(of.edits),
    "turn": lambda of: sum([len(one.turns) for one in of.dialogs]),
}
