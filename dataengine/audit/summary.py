"""What an audit comes to: counts by rule and subject, what changed since the last one, and what it was made with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec
import xxhash

from dataengine import __version__
from dataengine.audit.findings import Finding
from dataengine.audit.identity import Identity
from dataengine.audit.run import Broken
from dataengine.audit.table import RULES
from dataengine.report.text import number

EXAMPLES = 20  # findings of a rule that are listed


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """report.json: hits by rule, the budgets that are broken, what was looked at, and the account of each subject.

    `hits` are those of each rule by subject, `versions` what the audit was made with, `identities` the lines of
    `audit --account`.
    """

    rules: dict[str, int]
    checked: dict[str, int]
    broken: list[Broken] = []
    accounts: list[dict[str, object]]
    hits: dict[str, dict[str, int]] = {}
    versions: dict[str, str] = {}
    identities: list[Identity] = []


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """How many hits of a rule a subject had in the audit before, and has now; a `subject` of "" is all of them."""

    rule: str
    subject: str
    before: int
    now: int

    @property
    def state(self) -> str:
        """What became of them, in a word."""
        if self.before == self.now:
            return "same"
        if not self.before or not self.now:
            return "gone" if self.before else "new"
        return "more" if self.now > self.before else "fewer"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of the findings when all have gone by: how many, by (rule, subject, place), and the first few."""

    counts: Counter[tuple[str, str, str]]
    first: dict[str, list[Finding]]

    def hits(self) -> dict[str, dict[str, int]]:
        """Return the hits of each rule by subject, rules with the most first."""
        by_rule: dict[str, Counter[str]] = {}
        for (rule, subject, _), count in self.counts.items():
            by_rule.setdefault(rule, Counter())[subject] += count
        ordered = sorted(by_rule.items(), key=lambda one: (-one[1].total(), one[0]))
        return {rule: dict(sorted(subjects.items())) for rule, subjects in ordered}


def versions() -> dict[str, str]:
    """Return what an audit is made with: the program, and a digest of the rules with all that they say."""
    rows = [(one.id, one.severity, one.action, one.budget, one.says, one.among) for one in RULES]
    digest = xxhash.xxh3_64_hexdigest(msgspec.json.encode(rows))
    return {"program": f"dataengine {__version__}", "rules": f"{len(RULES)} rules, {digest}"}


def changes(before: Summary, hits: Mapping[str, Mapping[str, int]]) -> list[Change]:
    """Return what each rule found in each subject before and now, by rules alone where the old report knows no more."""
    old: Mapping[str, Mapping[str, int]] = before.hits
    if before.rules and not old:
        old = {rule: {"": count} for rule, count in before.rules.items()}
        hits = {rule: {"": sum(subjects.values())} for rule, subjects in hits.items()}
    pairs = {
        (rule, subject) for side in (old, hits) for rule, subjects in side.items() for subject in subjects
    }
    return [
        Change(
            rule=rule,
            subject=subject,
            before=old.get(rule, {}).get(subject, 0),
            now=hits.get(rule, {}).get(subject, 0),
        )
        for rule, subject in sorted(pairs)
    ]


def several(place: str) -> str:
    """Return the word for several places of a kind."""
    return place if place.endswith("s") else f"{place}es" if place.endswith("x") else f"{place}s"


def counted(count: int, place: str) -> str:
    """Return so many places of a kind in words."""
    return f"{number(count)} {place if count == 1 else several(place)}"


def says_broken(one: Broken) -> str:
    """Return a broken budget as a line."""
    places = one.place if one.checked == 1 else several(one.place)
    return f"{one.subject}: {one.rule} hit {one.hits} of {one.checked} {places}, budget {one.budget:g}"
