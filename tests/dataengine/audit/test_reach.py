"""What a rule looked at: nothing is said to be sound that nobody looked at."""

from __future__ import annotations

import pytest

from dataengine.audit.reach import looked_at, looked_for_in, looks_at
from dataengine.audit.state import Account, Kind
from dataengine.audit.table import RULES, rule_of

ALL = {"annotation": 9, "box": 8, "outline": 7, "mask": 6, "quad": 5, "pose": 4, "picture": 3, "sample": 2,
       "target": 10, "subject": 1, "expression": 11, "text": 12}  # fmt: skip


def account(kind: Kind, **given: dict[str, int]) -> Account:
    return Account(subject="s", records=1, kind=kind, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "kind", "expected"),
    [
        ("shard.damaged", "annotations", {}),
        ("shard.damaged", "shard set", {"subject": 1}),
        ("ledger.unbalanced", "annotations", {}),
        ("ledger.unbalanced", "manifest", {"subject": 1}),
        ("sample.left_out", "manifest", {}),
        ("box.degenerate", "manifest", {"box": 8, "target": 10}),
        ("box.convention", "annotations", {"box": 8}),
        ("mask.box_mismatch", "annotations", {"outline": 7, "mask": 6}),
        ("quad.order", "annotations", {"quad": 5}),
        ("text.empty", "manifest", {"text": 12, "sample": 2}),
        ("sample.contradiction", "manifest", {"sample": 2}),
        ("id.orphan", "annotations", {"expression": 11}),
        ("image.format_vs_extension", "shard set", {}),
        ("image.format_vs_extension", "tars", {"picture": 3}),
        ("image.blank", "shard set", {"picture": 3}),
        ("image.blank", "part", {}),
        ("leak.text", "part", {"sample": 2}),
        ("leak.text", "manifest", {}),
        ("category.gap_or_shift", "annotations", {"subject": 1}),
    ],
)
def test_a_rule_looks_at_its_places_in_its_kinds_of_subjects(
    rule: str, kind: Kind, expected: dict[str, int]
) -> None:
    assert looked_at(rule_of(rule), [account(kind, checked=ALL, labels={"cat": 3})]) == expected


def test_a_rule_on_labels_looks_at_nothing_where_there_are_none() -> None:
    rule = rule_of("label.imbalance")

    assert looked_at(rule, [account("annotations", checked=ALL)]) == {}
    assert looked_at(rule, [account("annotations", checked=ALL, classes={"cat": 3})]) == {"subject": 1}


def test_places_of_several_subjects_add_up_and_none_of_a_kind_is_left_out() -> None:
    accounts = [account("annotations", checked={"box": count, "pose": 0}) for count in (2, 3)]

    assert looked_at(rule_of("box.duplicate"), accounts) == {"box": 5}
    assert looked_at(rule_of("keypoint.outside"), accounts) == {}


def test_every_rule_says_what_it_looks_at_and_one_without_function_where() -> None:
    for rule in RULES:
        has = rule.annotation or rule.sample or rule.picture or rule.whole or rule.corpus

        assert looks_at(rule), rule.id
        assert has or looked_for_in(rule), rule.id
