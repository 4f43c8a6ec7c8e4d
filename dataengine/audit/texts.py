"""What is written: captions, expressions, questions, answers, instructions, turns and words on objects."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import msgspec

from dataengine.audit.plain import MIN_REPEATED, NO_ANSWERS, NO_VALUES, STAND_INS, TextKind
from dataengine.audit.rule import LATIN, Facts, Hit, Text
from dataengine.tokens import special_tokens

# What somebody wrote in one go; turns have paragraphs and code, answers and words are of any shape.
_SENTENCES: frozenset[TextKind] = frozenset({"caption", "expression", "question", "edit"})
_LINES: frozenset[TextKind] = _SENTENCES | {"answer", "choice", "word"}

# What UTF-8 looks like that was read as Windows-1252 or Latin-1: a first byte above 0xC1, then bytes 0x80 to 0xBF.
_CP1252 = bytes(range(0x80, 0xA0)).decode("cp1252", errors="ignore")
_MISREAD = re.compile(f"[\u00c2-\u00f4][\u0080-\u00bf{_CP1252}]+")
# What of the repaired is no accident: "É»" is a quoted word's end in French, and a phonetic sign when it is read again.
_REPAIRED = re.compile(
    "[\u00a0-\u017f\u0370-\u04ff\u05d0-\u05ea\u0620-\u064a\u0900-\u0dff\u0e00-\u0e7f"
    "\u1e00-\u20cf\u2100-\u27bf\u3000-\u9fff\uac00-\ud7a3\uff00-\uffef\U0001f000-\U0001faff]+"
)
_LOST = re.compile("\ufffd|\\w\u00b4\\w")
# C0 and C1 controls but tab and line ends, soft hyphen, invisible signs, direction marks. Joiners are part of scripts.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)
_DIRECTIONS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff]")
_STRAY_SPACE = re.compile(r"  |[\t\r\n\v\f]")
# A mark that stands apart, as tokenisers leave it, or two that contradict each other: not "...", "?!" or "D.C.?".
_TERMINAL = re.compile(r"(?m)(?: [.,;:?!]|[,;:][.,;:?!]|[.?!][,;:]|(?<!\.)\.\.|[?!]\.)$")
SHOUTED_LETTERS = 12
PARAGRAPH_CHARACTERS = 240
_FIELDS = re.compile(r'\s*(?:-?\d+(?:\.\d+)?\s*[,;\t]\s*){4,}|.*""\S')
MAX_CHARACTERS = 8192
REPEATS = 4
MAX_PERIOD = 24

# A box in words: four numbers in brackets, each with a point, as shares of the picture's sides are written.
_SHARES = re.compile(r"\[\s*(-?\d*\.\d+)\s*,\s*(-?\d*\.\d+)\s*,\s*(-?\d*\.\d+)\s*,\s*(-?\d*\.\d+)\s*\]")
# Tools write a border as 1.001; what is this far beyond was no share of a side.
_ROUNDED = 0.005

# The letters of scripts, and the languages that are written in them.
_LATIN = "A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff"
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_CYRILLIC, _ARABIC, _DEVANAGARI = (
    "\u0400-\u052f",
    "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff",
    "\u0900-\u097f",
)
_WRITTEN_IN = (
    (_LATIN, " ".join(LATIN)),
    (_CYRILLIC, "ru uk bg be mk"),
    (_ARABIC, "ar fa ur"),
    (_DEVANAGARI, "hi mr ne"),
    (_HAN, "zh"),
    (f"{_HAN}\u3040-\u30ff", "ja"),
    (f"{_HAN}\uac00-\ud7a3\u1100-\u11ff\u3130-\u318f", "ko"),
    ("\u0370-\u03ff\u1f00-\u1fff", "el"),
    ("\u0590-\u05ff", "he"),
    ("\u0e00-\u0e7f", "th"),
    ("\u0980-\u09ff", "bn"),
    ("\u0b80-\u0bff", "ta"),
    ("\u0c00-\u0c7f", "te"),
    ("\u10a0-\u10ff", "ka"),
    ("\u0530-\u058f", "hy"),
)
_SCRIPTS = {lang: script for script, langs in _WRITTEN_IN for lang in langs.split()}
_LETTERS = {script: re.compile(f"[{script}]") for script in set(_SCRIPTS.values())}
# Letters of Cyrillic that look like Latin ones, inside a Latin word, or the other way round.
_TWO_SCRIPTS = re.compile(f"[A-Za-z][{_CYRILLIC}]|[{_CYRILLIC}][A-Za-z]")
# Letters that look like Latin ones, each alone, of a text that has no other letter of Cyrillic.
_ALIKE = re.compile(
    "\\b[\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0406]\\b"
)
MIN_LETTERS = 4
MAX_FOREIGN = 0.8


def norm_range(facts: Facts) -> Iterator[Hit]:
    """Yield texts with a box of which most numbers are shares of a side, and one is beyond."""
    for one in facts.odd_texts:
        for match in _SHARES.finditer(one.text) if "[" in one.text else ():
            numbers = [float(number) for number in match.groups()]
            beyond = sum(not -_ROUNDED <= number <= 1 + _ROUNDED for number in numbers)
            if beyond in (1, 2) and max(map(abs, numbers)) < 2:
                yield Hit(f"{one.name}: {match[0]}")


def empty(facts: Facts) -> Iterator[Hit]:
    """Yield texts without a character that is seen."""
    return (Hit(one.name) for one in facts.odd_texts if not one.text.strip())


def stand_in(facts: Facts) -> Iterator[Hit]:
    """Yield texts that are what a program writes where there is none."""
    for one in facts.odd_texts:
        if len(one.text) <= 16 and one.text.strip() in _stand_ins(one.kind):
            yield _quoted(one)


def _stand_ins(kind: TextKind) -> frozenset[str]:
    if kind == "word":
        return NO_VALUES
    return NO_ANSWERS if kind in ("answer", "choice") else STAND_INS


def special_token(facts: Facts) -> Iterator[Hit]:
    """Yield texts that hold the model's tokens."""
    if not special_tokens(facts.written):
        return
    for one in facts.odd_texts:
        if found := special_tokens(one.text):
            yield Hit(f"{one.name}: {found[0]!r}")


def mojibake(facts: Facts) -> Iterator[Hit]:
    """Yield texts that were read in another encoding than they were written in."""
    if facts.written.isascii():
        return
    for one in facts.odd_texts:
        if one.text.isascii():
            continue
        for match in _MISREAD.finditer(one.text):
            repaired = _reread(match[0])
            if repaired is not None:
                yield Hit(f"{one.name}: {match[0]!r} should be {repaired!r}")
                break
        else:
            if lost := _LOST.search(one.text):
                yield Hit(f"{one.name}: {lost[0]!r} stands for a character that was lost")


def _reread(text: str) -> str | None:
    """Return what the bytes of a misread text say in UTF-8, None where they say nothing that is likely."""
    data = b"".join(_byte(char) for char in text)
    # The last character may be the next one's, rightly read.
    for end in range(len(data), 1, -1):
        try:
            found = data[:end].decode()
        except UnicodeDecodeError:
            continue
        return found if _REPAIRED.fullmatch(found) else None
    return None


def _byte(char: str) -> bytes:
    try:
        return char.encode("cp1252")
    except UnicodeEncodeError:
        return char.encode("latin-1")


def control(facts: Facts) -> Iterator[Hit]:
    """Yield texts with characters that nobody sees; direction marks are sound beside letters that run to the left."""
    if not _CONTROL.search(facts.written):
        return
    for one in facts.odd_texts:
        turned = _DIRECTIONS if _RIGHT_TO_LEFT.search(one.text) else frozenset()
        found = [char for char in _CONTROL.findall(one.text) if char not in turned]
        if found:
            yield Hit(f"{one.name}: holds U+{ord(found[0]):04X}")


def whitespace(facts: Facts) -> Iterator[Hit]:
    """Yield texts that begin or end with a space, and sentences that hold a doubled one, a tab or a new line.

    Questions may list their choices, and long captions have paragraphs: there a new line is sound.
    """
    for one in facts.odd_texts:
        text = one.text
        if one.kind == "turn" or not text.strip():
            continue
        inner = False
        if one.kind in _SENTENCES:
            lines = one.kind == "question" or len(text) > PARAGRAPH_CHARACTERS
            inner = _STRAY_SPACE.search(text.replace("\n", "|") if lines else text) is not None
        if inner or text != text.strip():
            yield _quoted(one)


def case(facts: Facts) -> Iterator[Hit]:
    """Yield sentences in capital letters alone; most letters of some scripts are neither capital nor small."""
    for one in facts.odd_texts:
        if one.kind in _SENTENCES and one.text.isupper():
            capitals = sum(map(str.isupper, one.text))
            if capitals >= SHOUTED_LETTERS and 2 * capitals > _num_letters(one.text):
                yield _quoted(one)


def terminal(facts: Facts) -> Iterator[Hit]:
    """Yield sentences whose last mark stands apart, or is two; not those with accents: French sets marks apart."""
    if not _TERMINAL.search(facts.written):
        return
    for one in facts.odd_texts:
        if one.kind in _SENTENCES and one.text.isascii() and _TERMINAL.search(one.text):
            yield _quoted(one)


def delimiter(facts: Facts) -> Iterator[Hit]:
    """Yield words that begin with numbers of another field, or hold the doubled quotes of a CSV file."""
    for one in facts.odd_texts:
        if one.kind == "word" and _FIELDS.match(one.text):
            yield _quoted(one)


def stringified(facts: Facts) -> Iterator[Hit]:
    """Yield texts that are a list or mapping of a program; a list of numbers can be an answer."""
    for one in facts.odd_texts:
        if one.kind in _LINES and one.kind != "word" and one.text[:1] in ("[", "{"):
            value = _literal(one.text)
            listed = isinstance(value, list) and (
                one.kind in _SENTENCES or any(isinstance(item, str | dict) for item in value)
            )
            if listed or isinstance(value, dict):
                yield _quoted(one)


def _literal(text: str) -> object:
    """Return what a text says as JSON or as a literal of Python, None where it is neither."""
    if text.rstrip()[-1:] not in ("]", "}"):
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        pass  # single quotes are Python's
    try:
        return ast.literal_eval(text) if len(text) <= MAX_CHARACTERS else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def script(facts: Facts) -> Iterator[Hit]:
    """Yield sentences in other letters than their language is written in, and words of Latin and Cyrillic letters."""
    for one in facts.odd_texts:
        lang = one.lang or facts.lang
        own = _SCRIPTS.get(lang) if lang is not None else None
        if one.text.isascii() and own in (None, _LATIN):
            continue
        if mixed := _TWO_SCRIPTS.search(one.text):
            yield Hit(f"{one.name}: {mixed[0]!r} is Latin and Cyrillic in one word")
        elif own == _LATIN and _stands_in(one.text):
            yield Hit(f"{one.name}: {_ALIKE.findall(one.text)[0]!r} is a word of Cyrillic among Latin ones")
        elif own is not None and one.kind in _SENTENCES:
            letters = _num_letters(one.text)
            if letters >= MIN_LETTERS and len(_LETTERS[own].findall(one.text)) < (1 - MAX_FOREIGN) * letters:
                yield Hit(f"{one.name}: {one.text[:60]!r} is not in the letters of {lang!r}")


def _stands_in(text: str) -> bool:
    """Say whether all letters of Cyrillic in a text stand alone and look like Latin ones; a quotation has others."""
    alone = len(_ALIKE.findall(text))
    return alone > 0 and alone == len(_LETTERS[_CYRILLIC].findall(text))


def length(facts: Facts) -> Iterator[Hit]:
    """Yield sentences of one character that is no word by itself, and texts longer than a model reads at once."""
    for one in facts.odd_texts:
        if len(one.text) > MAX_CHARACTERS:
            yield Hit(f"{one.name}: {len(one.text)} characters")
        elif (
            one.kind in _SENTENCES and len(one.text) < 3 and len(one.text.strip()) == 1 and one.text.isascii()
        ):
            yield _quoted(one)


def repeat(facts: Facts) -> Iterator[Hit]:
    """Yield texts that say the same REPEATS times in succession, as models do that do not come to an end."""
    for one in facts.odd_texts:
        if one.kind != "word" and len(one.text) >= MIN_REPEATED and (found := _loop(one.text)):
            yield Hit(f"{one.name}: {found[:60]!r} again and again")


def _loop(text: str) -> str:
    """Return what a text says again and again, "" where it does not; scripts without spaces go by characters."""
    words, joint = text.split(), " "
    if len(words) * 30 < len(text):
        words, joint = list(text), ""
    # Most texts hardly repeat a word.
    if len(set(words)) * 2 > len(words):
        return ""
    for period in range(1, min(MAX_PERIOD, len(words) // REPEATS) + 1):
        run = 0
        for number, (word, later) in enumerate(zip(words, words[period:], strict=False)):
            run = run + 1 if word == later else 0
            if run >= (REPEATS - 1) * period:
                phrase = joint.join(words[number + 1 : number + 1 + period])
                if len(phrase) * (run // period + 1) >= MIN_REPEATED:
                    return phrase
    return ""


def _num_letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def _quoted(one: Text) -> Hit:
    return Hit(f"{one.name}: {one.text[:60]!r}")
