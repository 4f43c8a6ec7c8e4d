"""Whether a text is plainly sound: one look at its letters says so of nearly all, and no rule needs another.

That no such text breaks a rule is for the tests to show.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

# What a text is; "word" is what an object says, or what is said of it.
TextKind = Literal["caption", "expression", "question", "answer", "choice", "edit", "word", "turn"]

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


# What a byte is, as bits: a letter that is small; a digit; what may end a text; a mark behind it; what parts words, and
# texts; what parts the digits of telephone numbers; what is never plain.
_SMALL, _DIGIT, _END, _MARK, _GAP, _DASH, _ODD = 1, 2, 4, 8, 16, 32, 64
# A word that is longer is none: the text is of a script without spaces, or no text.
_LONGEST_WORD = 30
_MOST_CHARACTERS, _MOST_WORDS_A_LOOP = 8000, 24
# What is passed over is taken for this letter.
PASSED_OVER = "x"
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Places = np.ndarray[Any, np.dtype[np.intp]]


def _table(allowed: str, gaps: str) -> bytes:
    """Return the bits of each byte, where so many characters are allowed and some of them part words."""
    table = np.full(256, _ODD, np.uint8)
    for char in allowed:
        bits = _SMALL * char.islower() | _DIGIT * char.isdigit() | _MARK * (char in ".?!")
        table[ord(char)] = bits | _END * (char.isalnum() or char in ")'\"") | _DASH * (char in ".- ")
    for char in gaps:
        table[ord(char)] = _GAP | _DASH * (char == " ")
    table[0] = _GAP
    return table.tobytes()


_LETTERS = "".join(map(chr, (*range(65, 91), *range(97, 123))))
_ALLOWED = f"{_LETTERS}0123456789'&/$%(),;:.!?=*_-\""
_SENTENCES, _FREES = _table(_ALLOWED, " "), _table(f"{_ALLOWED}#", " \n")
_FIRST_OF_SENTENCE = np.isin(np.arange(256), [*map(ord, f'{_LETTERS}"')])
_FIRST_OF_FREE = np.isin(np.arange(256), [*map(ord, f"{_LETTERS}0123456789")])


class Joined:
    """Texts as the bytes of one, NUL before and after each.

    What is `passed_over` is taken for a letter; `passed` are the places where it stood.
    """

    def __init__(self, texts: Sequence[str], passed_over: str = "") -> None:
        self.texts = texts
        self.passed_over = passed_over
        self.passed: Places = np.zeros(0, np.intp)
        self.data = "\0".join(["", *texts, ""]).encode(errors="surrogatepass")
        if passed_over and len(parts := self.data.split(passed_over.encode())) > 1:
            self.data = PASSED_OVER.encode().join(parts)
            self.passed = np.cumsum([len(part) + 1 for part in parts[:-1]]) - 1
        self.found: Bytes = np.frombuffer(self.data, np.uint8)
        self.borders: Places = np.flatnonzero(self.found == 0)
        # False where a text holds what parts them: nobody knows then which is where.
        self.parted = len(self.borders) == len(texts) + 1
        self.first = self.borders[:-1] + 1
        self.num_bytes = self.borders[1:] - self.first


def doubtful(texts: Sequence[str], *, sentences: bool, passed_over: str = "") -> Places:
    """Return the places of the texts that may not be plainly sound, in Latin letters: sentences, or turns and answers.

    All of them are looked at together, a byte in a few nanoseconds. What is `passed_over` is taken for a letter.
    """
    return doubts(Joined(texts, passed_over), sentences=sentences)


def doubts(joined: Joined, *, sentences: bool) -> Places:
    """Return the places of the texts that may not be plainly sound, as `doubtful` does."""
    texts, data, found, borders = joined.texts, joined.data, joined.found, joined.borders
    if not texts:
        return np.zeros(0, np.intp)
    if not joined.parted:
        return np.arange(len(texts))
    first, size = joined.first, joined.num_bytes
    last = borders[1:] - 1
    bits = np.frombuffer(data.translate(_SENTENCES if sentences else _FREES), np.uint8)
    all_bits = np.bitwise_or.reduceat(bits, borders[:-1])
    odd = (all_bits & _ODD) != 0
    odd |= (size > _MOST_CHARACTERS) | (size < 1 + sentences)
    odd |= ~(_FIRST_OF_SENTENCE if sentences else _FIRST_OF_FREE)[found[first]]
    ending, before = bits[last], bits[np.maximum(last - 1, 0)]
    if sentences:
        odd |= (ending & _END == 0) & ((ending & _MARK == 0) | (before & _END == 0))
        odd |= all_bits & _SMALL == 0
    else:
        odd |= ending & _GAP != 0
    gap = (bits & _GAP) != 0
    if sentences:
        odd[_owners(borders, np.flatnonzero(gap[1:] & gap[:-1]))] = True
    if (all_bits & _DIGIT).any():
        odd[_owners(borders, _numbers(bits))] = True
    odd[_owners(borders, _loops(found, gap, borders))] = True
    if not STAND_INS.isdisjoint(texts):
        odd |= np.fromiter((text in STAND_INS for text in texts), bool, len(texts))
    return np.flatnonzero(odd)


def _owners(borders: Places, places: Places) -> Places:
    """Return the texts in which some bytes stand; the border behind a text is its own."""
    return np.minimum(np.searchsorted(borders, places, side="right") - 1, len(borders) - 2)


def _numbers(bits: Bytes) -> Places:
    """Return where four digits follow a digit and a dash, as telephone numbers have it."""
    digit = (bits & _DIGIT) != 0
    four = digit[2:-3] & digit[3:-2] & digit[4:-1] & digit[5:]
    return np.flatnonzero(digit[:-5] & ((bits[1:-4] & _DASH) != 0) & four)


def _loops(found: Bytes, gap: np.ndarray[Any, np.dtype[np.bool_]], borders: Places) -> Places:
    """Return where words may begin to say the same four times in succession, or are too long to be words.

    Words of one length, first and last letter are taken as one. A phrase of n words, said four times, has four words in
    succession alike among every n-th of all words, wherever one begins to count.
    """
    edges = np.flatnonzero(gap[1:] != gap[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    sizes = ends - starts
    words = sizes.astype(np.uint16) << 10 | (found[starts] & 31).astype(np.uint16) << 5 | found[ends - 1] & 31
    places = [starts[sizes > _LONGEST_WORD]]
    num_words = int(np.diff(np.searchsorted(starts, borders)).max())
    for count in range(1, min(_MOST_WORDS_A_LOOP, num_words // 4) + 1):
        alike = words[count::count] == words[: len(words) - count : count]
        # Three in succession are rarely found, and this looks for them fastest.
        if alike.tobytes().find(b"\1\1\1") >= 0:
            again = np.flatnonzero(alike[2:] & alike[1:-1] & alike[:-2]) * count
            first = starts[again]
            # Texts that are alike follow each other often, and are no loop.
            together = _owners(borders, first) == _owners(borders, starts[again + 3 * count])
            places.append(first[together])
    return np.concatenate(places)
