"""Text of a source made fit to stand in a template, as pure functions.

What a language writes otherwise than English is said here alone: which mark ends a sentence, which one stands between
the parts of a list, which quotes it has. Only English is put into lower case: a German noun keeps its capital.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

from dataengine.annotation import Annotation
from dataengine.tokens import IMAGE

_TRAILING = ".,;:!?…。，、；：！？।،؛؟"
_QUOTES = (('"', '"'), ("“", "”"), ("'", "'"), ("„", "“"), ("«", "»"), ("「", "」"), ("『", "』"))
_STOPS = {"zh": "。", "ja": "。", "hi": "।", "bn": "।", "th": ""}
_COMMAS = {"zh": "、", "ja": "、", "ar": "، ", "fa": "، "}
_ENDS = ".!?。！？।؟…"
# Scripts that put no space between words: two letters are about one word.
_UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def one_line(text: str) -> str:
    """Return the text without outer spaces, every run of white space a single space."""
    return " ".join(text.split())


def num_words(text: str) -> int:
    """Return the number of words; of scripts without spaces, such as Chinese, two letters count as one."""
    unspaced = len(_UNSPACED.findall(text))
    return len(_UNSPACED.sub(" ", text).split()) + (unspaced + 1) // 2


def joined(parts: Iterable[str], lang: str = "en") -> str:
    """Return a list in one line, with the mark that the language puts between its parts."""
    return _COMMAS.get(lang, ", ").join(parts)


def quoted(text: str, lang: str = "en") -> str:
    """Return the text in quotes."""
    left, right = {"zh": ("“", "”"), "ja": ("「", "」")}.get(lang, ('"', '"'))
    return left + text + right


def phrase(text: str, lang: str = "en") -> str:
    """Return a phrase on one line, without quotes around it and punctuation after it, in English in lower case.

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
    return words.lower() if lang == "en" else words


def sentence(text: str, lang: str = "en") -> str:
    """Return the text on one line, its first letter a capital, ended by the full stop of its language.

    Not where it ends by `!` or `?` already. A first letter that belongs to a text without spaces stays as it is.
    """
    words = one_line(text).rstrip(",;:，、；：،؛ ")
    if not words:
        return ""
    stop = "" if words[-1] in _ENDS else _STOPS.get(lang, ".")
    first = words[0] if lang in ("zh", "ja", "th") else words[0].upper()
    return first + words[1:] + stop


def described(name: str, description: str, lang: str = "en") -> str:
    """Return a name with what it means behind it, as a sentence; the name alone where nothing is known of it."""
    return sentence(f"{name}: {description}" if description else name, lang)


def pictures(annotation: Annotation) -> str:
    """Return the lines that show all input pictures, in order, before the words of a first turn."""
    return "".join(f"{IMAGE}\n" for image in annotation.images if image.role == "input")


def apart(text: str, total: int) -> tuple[str, str]:
    """Return the lines of a first turn that show pictures, and its words; nothing where not all `total` stand there.

    Pictures that stand between the words belong to them.
    """
    shown = f"{IMAGE}\n" * total
    return (shown, text[len(shown) :]) if text.startswith(shown) else ("", text)


def lettered(choices: tuple[str, ...]) -> str:
    """Return options one a line, `A. …`, `B. …`; at most 26 of them."""
    return "\n".join(
        f"{letter}. {choice}" for letter, choice in zip(string.ascii_uppercase, choices, strict=False)
    )


def spoken(name: str) -> str:
    """Return a keypoint's name as prompts write it: `left_eye` is "left eye"."""
    return " ".join(name.replace("_", " ").split())
