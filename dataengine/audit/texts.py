"""What is written: captions, expressions, questions, answers, instructions, turns and labels of text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dataengine.audit.rule import Facts, Hit
from dataengine.tokens import IMAGE, special_tokens

# A box in words: four numbers in brackets, each with a point, as shares of the picture's sides are written.
_SHARES = re.compile(r"\[\s*(-?\d*\.\d+)\s*,\s*(-?\d*\.\d+)\s*,\s*(-?\d*\.\d+)\s*,\s*(-?\d*\.\d+)\s*\]")
# Tools write a border as 1.001; what is this far beyond was no share of a side.
_ROUNDED = 0.005


def norm_range(facts: Facts) -> Iterator[Hit]:
    """Yield texts with a box of which most numbers are shares of a side, and one is beyond."""
    for name, text in facts.texts:
        for match in _SHARES.finditer(text) if "[" in text else ():
            numbers = [float(number) for number in match.groups()]
            beyond = sum(not -_ROUNDED <= number <= 1 + _ROUNDED for number in numbers)
            if beyond in (1, 2) and max(map(abs, numbers)) < 2:
                yield Hit(f"{name}: {match[0]}")


def placeholder(facts: Facts) -> Iterator[Hit]:
    """Yield dialogs that place another number of pictures than there are."""
    inputs = sum(image.role == "input" for image in facts.annotation.images)
    for dialog in facts.annotation.dialogs:
        count = sum(turn.text.count(IMAGE) for turn in dialog.turns)
        # Without any placeholder the pictures stand before the first question: nothing is in doubt.
        if count not in (0, inputs):
            yield Hit(f"dialog {dialog.id}: {count} <image>, {inputs} pictures")


def empty(facts: Facts) -> Iterator[Hit]:
    """Yield texts without a character that is seen."""
    return (Hit(name) for name, text in facts.texts if not text.strip())


def special_token(facts: Facts) -> Iterator[Hit]:
    """Yield texts that hold the model's tokens."""
    for name, text in facts.texts:
        if found := special_tokens(text):
            yield Hit(f"{name}: {found[0]!r}")
