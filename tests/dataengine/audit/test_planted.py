from __future__ import annotations

import re
from pathlib import Path

import pytest

from dataengine.audit.table import BY_ID
from tests.dataengine.audit.planted import IMPLIES, PAGE, PLANTERS, Tally, play
from tests.dataengine.audit.planted_corpora import Clean

# Rounds that the page does not have.
ROUNDS = (1000, 1001)
# Rules that have no planter yet, each with the reason.
WITHOUT = {"leak.text": "it takes an evaluation set: see the tests of leaks and of `audit --never`"}
ROW = re.compile(r"^\| `([^`]+)` \| (\d+) \| (\d+) \| (\S+) \| (.*) \| (\d+) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    return Clean(tmp_path_factory.mktemp("planted") / "planted")


def test_every_rule_has_a_planter() -> None:
    assert {planter.rule for planter in PLANTERS} | set(WITHOUT) == set(BY_ID)
    assert not {planter.rule for planter in PLANTERS} & set(WITHOUT)


def test_nothing_is_found_in_data_without_a_defect(clean: Clean) -> None:
    sets = clean.sets()
    sets.convert()

    found = [
        one
        for corpus in (clean.table(), clean.told(), clean.documents(), sets, clean.sharded(), clean.tars())
        for one in corpus.audit()
    ]

    assert found == []


@pytest.mark.parametrize("number", ROUNDS)
def test_planted_defects_are_found_and_nothing_else(clean: Clean, number: int) -> None:
    tally = Tally()

    play(clean, number, tally)

    assert (dict(tally.missed), dict(tally.false)) == ({}, {})
    assert set(tally.found) | set(WITHOUT) == set(BY_ID)


def test_the_page_has_every_rule_with_many_defects_all_found() -> None:
    rows = ROW.findall((Path(__file__).parents[3] / PAGE).read_text())

    assert [row[0] for row in rows] == list(BY_ID)
    assert [row for row in rows if row[0] not in WITHOUT and (int(row[1]) < 20 or row[3] != "100.0%")] == []
    assert [row for row in rows if row[5] != "0"] == []


def test_every_implication_is_of_rules_and_occurs() -> None:
    rows = ROW.findall((Path(__file__).parents[3] / PAGE).read_text())
    occurred = {row[0]: set(re.findall(r"`([^`]+)`", row[4])) for row in rows}

    assert {rule: found for rule, found in occurred.items() if found} == {
        rule: set(implied) for rule, implied in IMPLIES.items()
    }
