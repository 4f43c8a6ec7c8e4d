"""What of a subject a rule had to look at: nothing was found is only worth saying where there was something to find."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dataengine.audit.rule import LISTS, Rule
from dataengine.audit.state import Account, Kind


class Reach(NamedTuple):
    """The kinds of subjects that a reason can be given for, and the places that it is about."""

    kinds: frozenset[Kind]
    places: tuple[str, ...]


_READ: frozenset[Kind] = frozenset({"manifest", "annotations"})
_LOOSE: frozenset[Kind] = frozenset({"tars", "dataset"})
_OURS: frozenset[Kind] = frozenset({"manifest", "shard set"})
_ALL = _READ | _LOOSE | _OURS
# Of rules without a function: what conversion, a reader or the audit itself says. One that is missing here is nowhere
# looked for.
_GIVEN = {
    "schema": Reach(_ALL, ("annotation", "sample")),
    "count.expected": Reach(frozenset({"manifest", "dataset"}), ("subject",)),
    "ledger.unbalanced": Reach(_OURS, ("subject",)),
    "shard.damaged": Reach(frozenset({"shard set", "tars"}), ("subject",)),
    "sample.incomplete": Reach(frozenset({"tars"}), ("annotation",)),
    "sample.left_out": Reach(_LOOSE, ("annotation",)),
    "box.convention": Reach(_ALL, ("box",)),
    "box.size_mismatch": Reach(_READ, ("box",)),
    "keypoint.count": Reach(_READ, ("pose",)),
    "keypoint.convention": Reach(_READ, ("pose",)),
    "category.unknown": Reach(_READ, ("annotation",)),
    "split.overlap": Reach(_OURS | {"dataset"}, ("picture",)),
    "leak.image": Reach(_OURS | {"part"}, ("picture",)),
    "leak.near": Reach(_OURS | {"part"}, ("picture",)),
    "leak.text": Reach(frozenset({"part"}), ("sample",)),
    "path.outside": Reach(_READ, ("annotation",)),
    "image.missing": Reach(_ALL - {"shard set"}, ("picture",)),
    "image.corrupt": Reach(_ALL, ("picture",)),
    "image.too_large": Reach(_ALL, ("picture",)),
    "image.format": Reach(_ALL, ("picture",)),
    "image.duplicate_exact": Reach(_ALL, ("picture",)),
    "image.duplicate_near": Reach(_OURS, ("picture",)),
    # A picture in a tar is called by its format, whatever its source called it.
    "image.format_vs_extension": Reach(_ALL - {"shard set"}, ("picture",)),
}
# What of Facts a rule is about, where it is no kind of place itself.
_AMONG = {
    "drawn": ("outline", "mask"),
    "instances": ("box", "outline", "mask", "quad", "pose"),
    "pointing": ("expression", "question", "edit"),
}


def looked_at(rule: Rule, accounts: Iterable[Account]) -> dict[str, int]:
    """Return how many places of each kind a rule looked at in all subjects; none of a kind is left out."""
    found: dict[str, int] = {}
    for account in accounts:
        for place in _places(rule, account):
            if count := account.checked.get(place, 0):
                found[place] = found.get(place, 0) + count
    return found


def looks_at(rule: Rule) -> tuple[str, ...]:
    """Return the kinds of places that a rule is about, whatever the subject."""
    if rule.id in _GIVEN:
        return _GIVEN[rule.id].places
    if rule.picture is not None:
        return ("picture",)
    if rule.whole is not None:
        return ("pose",) if rule.id.startswith("keypoint.") else ("subject",)
    places: tuple[str, ...] = ()
    if rule.annotation is not None or rule.corpus is not None:
        places = _AMONG.get(rule.among) or (LISTS.get(rule.among, "annotation"),)
    if rule.sample is not None:
        places += ("target" if places and rule.place == "box" else "sample",)
    return places


def looked_for_in(rule: Rule) -> frozenset[Kind]:
    """Return the kinds of subjects that a rule without a function of its own looks into; none for all others."""
    return _GIVEN[rule.id].kinds if rule.id in _GIVEN else frozenset()


def _places(rule: Rule, account: Account) -> tuple[str, ...]:
    if rule.id in _GIVEN:
        return _GIVEN[rule.id].places if account.kind in _GIVEN[rule.id].kinds else ()
    if account.kind == "part" or (rule.whole is not None and not (account.labels or account.classes)):
        return ()
    return looks_at(rule)
