"""How well a sentence says what people said: CIDEr-D and METEOR.

No Java runs here, so sentences are split by `words`, not by the Penn Treebank's tokeniser, and METEOR knows no
synonyms: compare numbers with each other, not with those of published tools.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

ORDERS = (1, 2, 3, 4)  # lengths of n-grams
SIGMA = 6.0  # of the Gaussian over differences of length, in words
# Words with their inner hyphens, what follows an apostrophe, and each sign of a script that writes no blanks.
_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|'\w+|[^\W_぀-ヿ㐀-鿿가-힯]+(?:-[^\W_]+)*")

Grams = Counter[tuple[str, ...]]


def words(text: str) -> list[str]:
    """Return the words of a sentence in lower case, without punctuation."""
    return _WORD.findall(text.lower().replace("’", "'"))


def cider(said: Sequence[str], accepted: Sequence[Sequence[str]]) -> list[float]:
    """Return the CIDEr-D of each sentence against its references (Vedantam et al. 2015), 0 to 10.

    n-grams are weighted by how few of the samples have them in a reference; so the value of a sentence depends on the
    others, and of one sample alone it is 0.
    """
    found = [_grams(one) for one in said]
    wanted = [[_grams(one) for one in ones] for ones in accepted]
    documents = Counter(gram for ones in wanted for gram in {gram for one in ones for gram in one})
    log_size = math.log(max(len(wanted), 1))

    def weigh(grams: Grams) -> list[dict[tuple[str, ...], float]]:
        weights: list[dict[tuple[str, ...], float]] = [{} for _ in ORDERS]
        for gram, count in grams.items():
            weights[len(gram) - 1][gram] = count * (log_size - math.log(max(1, documents[gram])))
        return weights

    return [
        10
        * float(
            np.mean([_similarity(weigh(one), weigh(other), _length(one) - _length(other)) for other in ones])
        )
        for one, ones in zip(found, wanted, strict=True)
    ]


def _grams(text: str) -> Grams:
    found = words(text)
    return Counter(tuple(found[k : k + n]) for n in ORDERS for k in range(len(found) - n + 1))


def _length(grams: Grams) -> int:
    return sum(count for gram, count in grams.items() if len(gram) == 1)


def _similarity(
    found: Sequence[dict[tuple[str, ...], float]], wanted: Sequence[dict[tuple[str, ...], float]], longer: int
) -> float:
    """Return the mean over n of the cosine, where no n-gram counts more often than it is wanted."""
    cosines = []
    for one, other in zip(found, wanted, strict=True):
        dot = sum(min(weight, other[gram]) * other[gram] for gram, weight in one.items() if gram in other)
        norms = math.hypot(*one.values()) * math.hypot(*other.values())
        cosines.append(dot / norms if norms else 0.0)
    return float(np.mean(cosines)) * math.exp(-(longer**2) / (2 * SIGMA**2))


class _NoSynonyms:
    """A dictionary without entries: nltk's own one would have to be downloaded."""

    def synsets(self, word: str) -> list[object]:
        return []


def meteor(said: str, accepted: Sequence[str]) -> float:
    """Return the METEOR of a sentence by exact words and stems (Banerjee and Lavie 2005), by nltk.

    It is that to the reference that fits best.
    """
    # nltk takes two seconds to import.
    from nltk.translate.meteor_score import meteor_score

    return float(meteor_score([words(one) for one in accepted], words(said), wordnet=_NoSynonyms()))
