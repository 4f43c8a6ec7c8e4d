"""Texts of a source as a page shows them: whatever they hold, they are read as they stand, and cannot grow a page."""

from __future__ import annotations

import re

MAX_TEXT = 2000
# What nobody sees, or what turns the letters around it: controls but tab and line ends, direction marks, line and
# paragraph separators, the byte order mark, halves of pairs and what is no character. Joiners are part of scripts.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufffe\uffff]"
)


def seen(text: str, limit: int = MAX_TEXT) -> str:
    """Return a text cut to so many characters, with its length where it was longer; the unseen is spelled `\\u202e`."""
    cut = text if len(text) <= limit else f"{text[:limit]} … ({len(text):,} characters)"
    return cut if cut.isascii() and cut.isprintable() else _UNSEEN.sub(_spelled, cut)


def _spelled(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def number(value: float) -> str:
    """Return a number for people: whole ones with commas between thousands, others with four digits."""
    if isinstance(value, int) or (abs(value) < 1e15 and value == int(value)):
        return f"{int(value):,}"
    return f"{value:.4g}"


def percent(share: float) -> str:
    """Return a share as a percentage, one that is small but not zero as such."""
    if share == 0:
        return "0 %"
    return f"{share:.2%}".replace("%", " %") if share >= 0.0001 else "< 0.01 %"
