"""How right short answers are: questions, choices, yes or no, documents, charts, numbers and ratings."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

ANLS_THRESHOLD = 0.5
# The words by which a rating is given (ITU-R BT.500), worst first.
RATINGS = ("bad", "poor", "fair", "good", "excellent")

_ARTICLES = frozenset({"a", "an", "the"})
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: str(value) for value, word in enumerate(_DIGITS)} | {"none": "0"}
# Contractions that people also write without their apostrophe, where that is no other word ("were", "ill").
_APOSTROPHES = """
    ain't aren't can't couldn't couldn't've didn't doesn't don't hadn't hasn't haven't he'd he's how'd how's i'm i've
    isn't it'd it'll mightn't mustn't needn't oughtn't shan't she's should've shouldn't somebody's someone's that's
    there's they'd they'll they're they've wasn't we've weren't what'll what's where'd where's who'd who'll who's why's
    won't would've wouldn't y'all you'd you'll you're you've
"""
_CONTRACTIONS = {word.replace("'", ""): word for word in _APOSTROPHES.split()}
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_COMMA = re.compile(r"(?<=\d),(?=\d)")
_STOP = re.compile(r"\.(?!\d)")
# "B", "(b)", "B. a dog", "The answer is B": a letter, and what shows that it is one.
_LETTER = re.compile(
    r"\W*(?:(?:the\s+)?(?:answer|option|choice)\s*(?:is)?\s*:?\s*)?\(?([a-z])(?:\s*$|([).:,])|\s)",
    re.IGNORECASE,
)
_INTEGER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
_YES_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)


def plain(text: str) -> str:
    """Return a text in lower case, runs of blanks as one, without the stop at its end: what an exact match compares."""
    return " ".join(text.lower().split()).rstrip(".。").rstrip()


def exact_match(said: str, accepted: Sequence[str]) -> float:
    """Return 1 where the text is one of the accepted ones, compared as `plain` texts; else 0."""
    return float(plain(said) in {plain(one) for one in accepted})


def vqa_normal(text: str) -> str:
    """Return an answer as the VQA evaluation compares it (Antol et al. 2015; its published evaluation code).

    Lower case; a mark of punctuation becomes a blank, or nothing where one stands beside it or where a number holds a
    comma; full stops go unless a digit follows; number words become digits; articles go; contractions get their
    apostrophe.
    """
    text = " ".join(text.split())
    numeric = _COMMA.search(text) is not None
    for mark in _MARKS:
        loose = numeric or f"{mark} " in text or f" {mark}" in text
        text = text.replace(mark, "" if loose else " ")
    words = [_NUMBERS.get(word, word) for word in _STOP.sub("", text).lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(said: str, accepted: Sequence[str]) -> float:
    """Return the VQA v2 accuracy: the mean over all accepted answers but one of min(1, those that are said / 3).

    With fewer than ten answers, three become as many as the others are, at most three; where all of them differ, each
    is fully right: people gave them, and how many is not known.
    """
    wanted = [vqa_normal(one) for one in accepted]
    spoken = vqa_normal(said)
    if len(wanted) < 10 and len(set(wanted)) == len(wanted):
        return float(spoken in wanted)
    enough = min(3, len(wanted) - 1)
    matches = wanted.count(spoken)
    return sum(min(1.0, (matches - (one == spoken)) / enough) for one in wanted) / len(wanted)


def choice_of(said: str, choices: Sequence[str]) -> int | None:
    """Return which choice an answer names: by its text, by its letter, or by the one text that it holds; else None."""
    spoken = plain(said)
    texts = [plain(one) for one in choices]
    if texts.count(spoken) == 1:
        return texts.index(spoken)
    if (number := _letter(said)) is not None and number < len(choices):
        return number
    held = [
        k for k, text in enumerate(texts) if text and re.search(rf"(?<!\w){re.escape(text)}(?!\w)", spoken)
    ]
    return held[0] if len(held) == 1 else None


def _letter(said: str) -> int | None:
    """Return the place in the alphabet of the letter that an answer starts with; "a" before a word is an article."""
    match = _LETTER.match(said)
    if match is None:
        return None
    alone = match[2] is not None or match.end() == len(said)
    return string.ascii_lowercase.index(match[1].lower()) if alone or match[1].lower() not in "ai" else None


def choice_accuracy(said: str, choices: Sequence[str], right: int) -> float:
    """Return 1 where the answer names the right choice, by letter or by text."""
    return float(choice_of(said, choices) == right)


def yes_or_no(said: str) -> bool | None:
    """Return what an answer says first, yes (True) or no (False); None where it says neither."""
    match = _YES_NO.search(said)
    return None if match is None else match[1].lower() == "yes"


def yes_no_scores(pairs: Sequence[tuple[str, bool]]) -> dict[str, float]:
    """Return POPE's numbers for (what was said, the truth): yes is the positive class (Li et al. 2023).

    An answer that says neither counts as no, as in POPE, and is told as `unclear_ratio`.
    """
    said = [yes_or_no(text) for text, _ in pairs]
    yes = [one is True for one in said]
    hits = sum(one and truth for one, (_, truth) in zip(yes, pairs, strict=True))
    precision = hits / sum(yes) if any(yes) else 0.0
    positives = sum(truth for _, truth in pairs)
    recall = hits / positives if positives else 0.0
    return {
        "yes_no_accuracy": float(np.mean([one == truth for one, (_, truth) in zip(yes, pairs, strict=True)])),
        "yes_precision": precision,
        "yes_recall": recall,
        "yes_f1": harmonic(precision, recall),
        "yes_ratio": float(np.mean(yes)),
        "unclear_ratio": float(np.mean([one is None for one in said])),
    }


def harmonic(precision: float, recall: float) -> float:
    """Return the harmonic mean of precision and recall (F1), 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def anls(said: str, accepted: Sequence[str]) -> float:
    """Return the average normalised Levenshtein similarity of one answer (Biten et al. 2019).

    It is that to the nearest accepted one, in lower case, blanks joined; below one half it counts as nothing.
    """
    spoken = " ".join(said.lower().split())
    best = max(
        (Levenshtein.normalized_similarity(spoken, " ".join(one.lower().split())) for one in accepted),
        default=0.0,
    )
    return best if best >= ANLS_THRESHOLD else 0.0


def relaxed_accuracy(said: str, accepted: Sequence[str]) -> float:
    """Return 1 where an answer is right as in ChartQA (Masry et al. 2022): numbers within 5 %, other texts exactly."""
    return float(any(_relaxed(said, one) for one in accepted))


def _relaxed(said: str, wanted: str) -> bool:
    spoken, number = as_number(said), as_number(wanted)
    if spoken is None or number is None:
        return plain(said) == plain(wanted)
    return abs(spoken - number) <= 0.05 * abs(number)


def as_number(text: str) -> float | None:
    """Return the number that a whole text is, a percentage as a share; None for any other text."""
    stripped = text.strip().rstrip(".").replace(",", "")
    try:
        value = float(stripped.removesuffix("%")) * (0.01 if stripped.endswith("%") else 1.0)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def counted(said: str) -> float | None:
    """Return the first number of an answer, in digits or as a word up to ten; None where it has none."""
    if (match := _INTEGER.search(said)) is not None:
        return float(match[0].replace(",", ""))
    words = re.findall(r"[a-z]+", said.lower())
    return next((float(_NUMBERS[word]) for word in words if word in _NUMBERS), None)


def counting_errors(pairs: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Return the errors of counts for (what was said, the truth): mean absolute, root mean square, share without any.

    An answer without a number counts as zero, and is told as `uncounted_ratio`.
    """
    said = [counted(text) for text, _ in pairs]
    errors = np.array([(one or 0.0) - truth for one, (_, truth) in zip(said, pairs, strict=True)])
    exact = [one is not None and one == truth for one, (_, truth) in zip(said, pairs, strict=True)]
    return {
        "count_exact": float(np.mean(exact)),
        "count_mae": float(np.abs(errors).mean()),
        "count_rmse": float(np.sqrt((errors**2).mean())),
        "uncounted_ratio": float(np.mean([one is None for one in said])),
    }


def rating_of(said: str) -> float | None:
    """Return the first rating word of an answer as 1 (bad) to 5 (excellent); None where it has none."""
    words = re.findall(r"[a-z]+", said.lower())
    return next((float(RATINGS.index(word) + 1) for word in words if word in RATINGS), None)


def correlations(found: Sequence[float], truth: Sequence[float]) -> dict[str, float] | None:
    """Return Pearson's (`plcc`) and Spearman's (`srcc`) correlation; None where either side does not vary."""
    from scipy.stats import pearsonr, spearmanr

    if len(set(found)) < 2 or len(set(truth)) < 2:
        return None
    return {
        "plcc": float(pearsonr(found, truth).statistic),
        "srcc": float(spearmanr(found, truth).statistic),
    }
