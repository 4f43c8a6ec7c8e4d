"""A sample's parts against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dataengine.audit.rule import Hit, SampleFacts

# Reasons of contradictions that are rules of their own.
NAMED = ("media.placeholder", "text.empty", "text.special_token", "turn.structure")


def contradiction(reason: str) -> Callable[[SampleFacts], Iterator[Hit]]:
    """Return a check of samples whose parts contradict each other for one of the NAMED reasons."""

    def look(facts: SampleFacts) -> Iterator[Hit]:
        found = facts.contradiction
        if found is not None and found[0] == reason:
            yield Hit(f"{found[0]}: {found[1]}")

    return look


def other_contradiction(facts: SampleFacts) -> Iterator[Hit]:
    """Yield a sample whose parts contradict each other for any other reason."""
    found = facts.contradiction
    if found is not None and found[0] not in NAMED:
        yield Hit(f"{found[0]}: {found[1]}")
