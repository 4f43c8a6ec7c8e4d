"""Texts that a regular expression finds something in: what a miniature calls a file whose name says its class."""

from __future__ import annotations

import itertools
import re
from re import _constants, _parser  # type: ignore[attr-defined]  # the parser of the standard library itself
from typing import Any

_CLASSES = {
    _constants.CATEGORY_DIGIT: "1",
    _constants.CATEGORY_WORD: "a",
    _constants.CATEGORY_SPACE: " ",
    _constants.CATEGORY_NOT_SPACE: "a",
    _constants.CATEGORY_NOT_DIGIT: "a",
    _constants.CATEGORY_NOT_WORD: "-",
}
_LETTERS = "a1x7 -_/.b2c3d4e5f"


def matching(pattern: str, wanted: str | None = None, unlike: int = 0) -> str | None:
    """Return a short text in which the first group of a pattern (or the whole match) is what is wanted.

    Without `wanted` it is any text that matches; another number `unlike` gives another text where the pattern allows
    it. None where no text was found.
    """
    tree = _parser.parse(pattern)
    groups = re.compile(pattern).groups
    # Parts that may be left out are, then stand once, then as often as the others may.
    for times, letter in itertools.product((1, 0, 2, 4), _LETTERS):
        text = _text(tree, wanted if groups else None, times, letter, unlike)
        if not groups and wanted is not None:
            text = wanted
        found = re.search(pattern, text)
        if found and (wanted is None or (found[1] if groups else found[0]) == wanted):
            return text
    return None


def _text(tree: Any, group: str | None, times: int, letter: str, unlike: int) -> str:
    made = ""
    for kind, value in tree:
        match kind:
            case _constants.LITERAL:
                made += chr(value)
            case _constants.NOT_LITERAL:
                made += letter if ord(letter) != value else "b"
            case _constants.ANY:
                made += letter
            case _constants.IN:
                made += _one_of(value, letter, unlike)
            case _constants.MAX_REPEAT | _constants.MIN_REPEAT | _constants.POSSESSIVE_REPEAT:
                least, most, inner = value
                count = max(least, min(most, times))
                made += "".join(_text(inner, group, times, letter, unlike) for _ in range(count))
            case _constants.BRANCH:
                branches = value[1]
                made += _text(branches[unlike % len(branches)], group, times, letter, unlike)
            case _constants.SUBPATTERN:
                number, _, _, inner = value
                stands = number == 1 and group is not None
                made += str(group) if stands else _text(inner, group, times, letter, unlike)
    return made


def _one_of(choices: Any, letter: str, unlike: int) -> str:
    """Return a character of a set; the letter asked for where it is in."""
    if choices[0][0] == _constants.NEGATE:
        denied = {chr(value) for kind, value in choices[1:] if kind == _constants.LITERAL}
        allowed: list[str] = [one for one in (letter, *_LETTERS) if one not in denied]
        return allowed[0]
    found: list[str] = []
    for kind, value in choices:
        if kind == _constants.LITERAL:
            found.append(chr(value))
        elif kind == _constants.RANGE:
            found += [chr(one) for one in range(value[0], value[1] + 1)]
        elif kind == _constants.CATEGORY:
            found.append(_CLASSES[value])
    return letter if letter in found else found[unlike % len(found)]
