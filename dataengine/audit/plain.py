"""Whether a text is plainly sound: one look at its letters says so of nearly all, and no rule needs another.

That no such text breaks a rule is for the tests to show.
"""

from __future__ import annotations

import re

# Words of ASCII with one space between, that begin with a letter and end in one mark at most; no sign that begins a
# token, a list or an address, and no digit before four others, as telephone numbers have it.
_SIGNS = r"A-Za-z0-9'&/$%(),;:.!?=*_-"
_NO_NUMBER = r"(?!.*\d[ .-]\d{4})"
_WORD = re.compile(rf"{_NO_NUMBER}[A-Za-z][{_SIGNS}]*(?: [{_SIGNS}]+)*")
_SENTENCE = re.compile(
    rf"{_NO_NUMBER}(?=.*[a-z])[A-Z\"a-z][\"{_SIGNS}]*(?: [\"{_SIGNS}]+)*(?<=[A-Za-z0-9)'\"])[.?!]?"
)
_FREE = re.compile(rf"{_NO_NUMBER}[A-Za-z0-9](?:[\"# \n{_SIGNS}]*[\"{_SIGNS}])?", re.DOTALL)
# What programs write where there is no text; see `dataengine.audit.texts`.
NO_VALUES = frozenset({"nan", "NaN"})
# "None" and "N/A" are answers, too; a sign can say "NULL".
NO_ANSWERS = NO_VALUES | {"null", "NULL", "undefined", "#N/A"}
STAND_INS = NO_ANSWERS | {
    "None", "N/A", "none", "HOLD", "TODO", "TBD", "test", "Test", "TEST", "placeholder", "lorem ipsum",
}  # fmt: skip
# Shorter ones cannot say the same four times at length.
MIN_REPEATED = 40


def is_plain(kind: str, text: str) -> bool:
    """Say whether a text in Latin letters, or in a language that nothing states, is plainly sound."""
    size = len(text)
    if size < MIN_REPEATED:
        if kind in ("answer", "choice", "word") and text.isalnum() and text.isascii():
            return text not in NO_ANSWERS
        if text in STAND_INS:
            return False
    elif not varied(text) or size > 2000:
        return False
    if kind in ("turn", "answer", "choice"):
        return _FREE.fullmatch(text) is not None
    pattern = _WORD if kind == "word" else _SENTENCE
    return size > 1 and pattern.fullmatch(text) is not None


def varied(text: str) -> bool:
    """Say whether more than half of a text's words are different, of those that spaces part."""
    words = text.split()
    return len(set(words)) * 2 > len(words) and len(words) * 30 >= len(text)
