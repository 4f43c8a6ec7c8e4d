"""What is written: captions, expressions, questions, answers, instructions, turns and labels of text."""

from __future__ import annotations

from collections.abc import Iterator

from dataengine.audit.rule import Facts, Hit
from dataengine.tokens import IMAGE, special_tokens


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
