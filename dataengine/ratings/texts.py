"""Ratings of one text: what a sample answers."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import cache, lru_cache
from typing import NamedTuple

from dataengine.wording import num_words

NGRAM = 3
MIN_LETTERS = 20  # of a text whose language can be told
# Below, a language is not told: of short texts the library is often sure without reason.
MIN_CONFIDENCE = 0.5
IDENTIFIER = "py3langid"
# Words, and of scripts without spaces single letters.
_UNITS = re.compile(
    r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W_]+(?:['’][^\W_]+)*"
)


class TextRatings(NamedTuple):
    """Ratings of a text: see `dataengine.ratings.table` for what each says; None where it cannot be told."""

    words: int
    repetition: float
    script: str | None
    language: str | None


@lru_cache(maxsize=4096)  # answers that a template words are the same again and again
def rate(text: str) -> TextRatings:
    """Rate a text."""
    return TextRatings(num_words(text), _repetition(text), _script(text), _language(text))


def _repetition(text: str) -> float:
    """Return the share of runs of three words that stood in the text before; 0 for one that has no two runs."""
    units = [unit.casefold() for unit in _UNITS.findall(text)]
    runs = [tuple(units[start : start + NGRAM]) for start in range(len(units) - NGRAM + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def _script(text: str) -> str | None:
    """Return the script of most letters, by the first word of their names in Unicode: LATIN, CJK, HIRAGANA, …"""
    letters = Counter(filter(str.isalpha, text))
    counts = Counter[str]()
    for letter, number in letters.items():
        counts[unicodedata.name(letter, "UNKNOWN").split(" ")[0].split("-")[0].lower()] += number
    return max(counts, key=lambda name: (counts[name], name)) if counts else None


def _language(text: str) -> str | None:
    identify = _identifier()
    if identify is None or sum(map(str.isalpha, text)) < MIN_LETTERS:
        return None
    language, confidence = identify(text)
    return language if confidence >= MIN_CONFIDENCE else None


def identifier_version() -> str:
    """Return which library tells languages, "" where none is installed."""
    try:
        return f"{IDENTIFIER} {importlib.metadata.version(IDENTIFIER)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


@cache
def _identifier() -> Callable[[str], tuple[str, float]] | None:
    if not identifier_version():
        return None
    module = importlib.import_module(f"{IDENTIFIER}.langid")
    found = module.LanguageIdentifier.from_model_file(module.MODEL_FILE, norm_probs=True)
    classify: Callable[[str], tuple[str, float]] = found.classify
    return classify
