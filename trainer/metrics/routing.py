"""Whether the model by itself called the decoders that it should have: for the right names, and for no others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dataengine.sample import Route
from trainer.metrics.answers import harmonic

_QUOTES = "\"'“”„«»「」『』‘’"
# A phrase that comes again has its number behind it, in facts alone: an answer says the phrase.
_AGAIN = re.compile(r" \(\d+\)$")
# What stands before an item of a list.
_PARTS = ",;:，、；：،؛"
_AND = re.compile(r"(?:^|\s)(?:and|or)$")


@dataclass(frozen=True)
class Said:
    """A routing token of an answer and the words before it, back to the routing token before that or the beginning."""

    token: str
    before: str


@dataclass(frozen=True)
class Alignment:
    """For each emitted routing token the wanted one that it stands for (None: a false trigger).

    `tokens_only` counts the pairs that the right token for any name would have given.
    """

    wanted: tuple[int | None, ...]
    missed: tuple[int, ...]
    tokens_only: int


def said_in(text: str, tokens: Sequence[str]) -> list[Said]:
    """Return the routing tokens of an answer, in order."""
    parts = re.split(f"({'|'.join(map(re.escape, tokens))})", text)
    return [Said(token, before) for before, token in zip(parts[0::2], parts[1::2], strict=False)]


def align(said: Sequence[Said], routes: Sequence[Route], wanted: Sequence[Said]) -> Alignment:
    """Return which wanted route each emitted token stands for.

    `wanted` are the tokens of the true answer, one for each of `routes`. A route whose name stands before its token
    there is met by the first such token with the name before it; an item of a list has to be the name, and no longer
    one that ends with it. All other routes ("It is [GRD].") are met by their token alone, in order.
    """
    names = [_AGAIN.sub("", route.name) for route in routes]
    named = [number for number, one in enumerate(wanted) if _ends(one.before, names[number])]
    unnamed = [number for number in range(len(routes)) if number not in set(named)]
    met: list[int | None] = [None] * len(said)
    # What is called "dog" is also what "hot dog" ends with: longer names go first.
    for number in [*sorted(named, key=lambda k: -len(names[k])), *unnamed]:
        for place, one in enumerate(said):
            fits = number in unnamed or _is(
                said, place, names[number], listed=routes[number].kind != "expression"
            )
            if met[place] is None and one.token == routes[number].token and fits:
                met[place] = number
                break
    missed = tuple(number for number in range(len(routes)) if number not in met)
    shared = Counter(one.token for one in said) & Counter(route.token for route in routes)
    return Alignment(tuple(met), missed, shared.total())


def _clean(text: str) -> str:
    return " ".join(text.split()).strip(_QUOTES + " ").casefold()


def _ends(before: str, name: str) -> bool:
    return bool(_clean(name)) and _clean(before).endswith(_clean(name))


def _is(said: Sequence[Said], place: int, name: str, *, listed: bool) -> bool:
    """Say whether the words before a token end with a name: with all of an item where the answer lists names."""
    if not _ends(said[place].before, name):
        return False
    rest = _clean(said[place].before)[: -len(_clean(name))].rstrip(_QUOTES)
    if not rest.strip():
        return True
    token = said[place].token
    first = all(one.token != token for one in said[:place])
    if listed and not first:
        return rest.rstrip()[-1] in _PARTS or _AND.search(rest.rstrip()) is not None
    # The words of a sentence before its first item, or before a phrase; Chinese has no blanks between them.
    return not rest[-1].isalnum() or not name[0].isascii()


def routing_scores(alignments: Sequence[Alignment]) -> dict[str, float]:
    """Return precision and recall of emitted routing tokens with their names, over all samples together.

    `token_precision` and `token_recall` are those of tokens whatever they are said to stand for; `exact_routing` is the
    share of samples with all wanted tokens and no others; `false_triggers` counts emitted ones that nothing asked for.
    """
    emitted = sum(len(one.wanted) for one in alignments)
    met = sum(number is not None for one in alignments for number in one.wanted)
    wanted = met + sum(len(one.missed) for one in alignments)
    shared = sum(one.tokens_only for one in alignments)
    # Nothing to route and nothing routed is right.
    precision = met / emitted if emitted else float(not wanted)
    recall = met / wanted if wanted else 1.0
    whole = [not one.missed and None not in one.wanted for one in alignments]
    return {
        "routing_precision": precision,
        "routing_recall": recall,
        "routing_f1": harmonic(precision, recall),
        "token_precision": shared / emitted if emitted else float(not wanted),
        "token_recall": shared / wanted if wanted else 1.0,
        "exact_routing": sum(whole) / len(whole) if whole else 1.0,
        "false_triggers": float(emitted - met),
    }
