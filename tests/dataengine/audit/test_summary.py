"""What an audit comes to, and what changed since the last one."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataengine.audit import summary
from dataengine.audit.run import Broken
from dataengine.audit.summary import Change, Seen, Summary, changes, counted, says_broken, several, versions
from dataengine.audit.table import RULES

names = st.sampled_from(["a", "b", "c"])
hits = st.dictionaries(names, st.dictionaries(names, st.integers(1, 99), min_size=1), max_size=3)


def before(**given: object) -> Summary:
    return msgspec.convert({"rules": {}, "checked": {}, "accounts": [], **given}, Summary)


@given(hits, hits)
def test_changes_are_all_that_was_and_all_that_is(
    old: dict[str, dict[str, int]], new: dict[str, dict[str, int]]
) -> None:
    found = changes(before(hits=old), new)

    assert {(one.rule, one.subject): one.before for one in found if one.before} == {
        (rule, subject): count for rule, subjects in old.items() for subject, count in subjects.items()
    }
    assert {(one.rule, one.subject): one.now for one in found if one.now} == {
        (rule, subject): count for rule, subjects in new.items() for subject, count in subjects.items()
    }
    assert len({(one.rule, one.subject) for one in found}) == len(found)


@given(hits)
def test_an_audit_that_finds_the_same_again_changes_nothing(old: dict[str, dict[str, int]]) -> None:
    assert {one.state for one in changes(before(hits=old), old)} <= {"same"}


def test_a_report_that_knows_rules_alone_is_compared_by_rules_alone() -> None:
    found = changes(before(rules={"a": 5, "b": 1}), {"a": {"x": 2, "y": 4}, "c": {"x": 1}})

    assert [(one.rule, one.subject, one.before, one.now) for one in found] == [
        ("a", "", 5, 6), ("b", "", 1, 0), ("c", "", 0, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "now", "state"),
    [(0, 2, "new"), (2, 0, "gone"), (2, 3, "more"), (3, 2, "fewer"), (2, 2, "same")],
)
def test_a_change_has_a_word(old: int, now: int, state: str) -> None:
    assert Change(rule="a", subject="b", before=old, now=now).state == state


def test_hits_are_by_rule_the_most_first_whatever_they_lie_in() -> None:
    counts = Counter(
        {("a", "y", "box"): 1, ("b", "x", "box"): 2, ("b", "w", "target"): 1, ("a", "y", "target"): 1}
    )

    assert list(Seen(counts=counts, first={}).hits().items()) == [("b", {"w": 1, "x": 2}), ("a", {"y": 2})]


def test_versions_change_with_what_a_rule_says(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = RULES
    same = versions()
    changed = type(first)(id=first.id, severity=first.severity, action=first.action, says="something else")
    monkeypatch.setattr(summary, "RULES", (changed, *others))

    assert versions()["program"] == same["program"]
    assert versions()["rules"] != same["rules"]


def test_one_is_no_several() -> None:
    assert (several("box"), several("picture"), several("tars"), several("pose")) == (
        "boxes", "pictures", "tars", "poses",
    )  # fmt: skip
    assert (counted(1, "subject"), counted(0, "box"), counted(2100, "mask")) == (
        "1 subject", "0 boxes", "2,100 masks",
    )  # fmt: skip
    one = Broken(subject="s", rule="r", place="box", hits=1, checked=1, budget=0.001)
    assert says_broken(one) == "s: r hit 1 of 1 box, budget 0.001"
    more = msgspec.structs.replace(one, hits=812, checked=1000)
    assert says_broken(more) == "s: r hit 812 of 1000 boxes, budget 0.001"
