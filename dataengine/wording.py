"""Text of a source made fit to stand in a template, as pure functions."""

from __future__ import annotations

import string

from dataengine.annotation import Annotation
from dataengine.tokens import IMAGE

_TRAILING = ".,;:!?…"
_QUOTES = (('"', '"'), ("“", "”"), ("'", "'"))


def one_line(text: str) -> str:
    """Return the text without outer spaces, every run of white space a single space."""
    return " ".join(text.split())


def phrase(text: str) -> str:
    """Return a phrase in lower case, on one line, without quotes around it and punctuation after it.

    So that a template can put it into the middle of a sentence and end that sentence itself.
    """
    words = one_line(text)
    while words:
        shorter = words.rstrip(_TRAILING).rstrip()
        for left, right in _QUOTES:
            if len(shorter) > 1 and shorter.startswith(left) and shorter.endswith(right):
                shorter = shorter[1:-1].strip()
        if shorter == words:
            break
        words = shorter
    return words.lower()


def sentence(text: str) -> str:
    """Return the text on one line, its first letter a capital, ended by a full stop unless it ends by `!` or `?`."""
    words = one_line(text).rstrip(",;: ")
    if not words:
        return ""
    return words[0].upper() + words[1:] + ("" if words[-1] in ".!?" else ".")


def pictures(annotation: Annotation) -> str:
    """Return the lines that show all input pictures, in order, before the words of a first turn."""
    return "".join(f"{IMAGE}\n" for image in annotation.images if image.role == "input")


def lettered(choices: tuple[str, ...]) -> str:
    """Return options one a line, `A. …`, `B. …`; at most 26 of them."""
    return "\n".join(
        f"{letter}. {choice}" for letter, choice in zip(string.ascii_uppercase, choices, strict=False)
    )


def spoken(name: str) -> str:
    """Return a keypoint's name as prompts write it: `left_eye` is "left eye"."""
    return " ".join(name.replace("_", " ").split())
