from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.errors import BudgetBroken, DataEngineError, SourceError
from dataengine.ledger import Ledger, add, dump, load

REASONS = st.dictionaries(
    st.sampled_from(["box.degenerate", "image.missing", "text.empty"]), st.integers(1, 9)
)


def _ledger(**fields: Any) -> Ledger:
    values = {"units": 10, "samples": 6, "skipped": {"unit.none": 1}, "quarantined": {"image.missing": 3}}
    return Ledger(**{**values, "records": 10, "images": 7, **fields})


LEDGERS = st.builds(
    lambda samples, skipped, quarantined, records: Ledger(
        units=samples + sum(skipped.values()) + sum(quarantined.values()),
        samples=samples,
        skipped=skipped,
        quarantined=quarantined,
        records=records,
        images=records,
    ),
    st.integers(0, 50),
    REASONS,
    REASONS,
    st.integers(0, 50),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(LEDGERS, max_size=5))
def test_the_sum_of_balanced_accounts_balances(parts: list[Ledger]) -> None:
    total = add(parts)

    total.check("sum")
    assert total.units == sum(part.units for part in parts)
    assert sum(total.skipped.values()) == sum(sum(part.skipped.values()) for part in parts)
    assert list(total.quarantined) == sorted(total.quarantined)


@pytest.mark.parametrize("units", [9, 11])
def test_an_account_that_does_not_balance_is_an_error(units: int) -> None:
    with pytest.raises(DataEngineError, match=f"here: {units} units, but 10 accounted for"):
        _ledger(units=units).check("here")


def test_a_balanced_account_passes() -> None:
    _ledger().check("here")


@pytest.mark.parametrize("reason", ["image.missing", "unit.none"])
def test_a_budget_counts_skipped_and_quarantined_units(reason: str) -> None:
    ledger = _ledger(
        skipped={"unit.none": 1, "image.missing": 1}, samples=5, quarantined={"image.missing": 3}
    )

    ledger.check_budgets("x", {"image.missing": 0.4, "unit.none": 0.1})

    with pytest.raises(BudgetBroken, match=rf"x: {reason} hit . of 10 units, budget 0\.09"):
        ledger.check_budgets("x", {reason: 0.09})


def test_a_budget_of_nothing_holds_where_nothing_happened() -> None:
    _ledger().check_budgets("x", {"box.degenerate": 0.0, "text.empty": 0.0})


def test_a_ledger_comes_back_from_its_file(tmp_path: Path) -> None:
    ledger = _ledger(objects_read=4, objects_dropped={"box.degenerate": 1})
    (tmp_path / "ledger.json").write_bytes(dump(ledger))

    assert load(tmp_path / "ledger.json") == ledger
    plain = msgspec.json.decode(dump(ledger))
    assert {"units", "samples", "skipped", "quarantined"} <= set(plain)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"units": "ten"}', b"\xff"])
def test_a_broken_ledger_is_one_line_that_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ledger.json").write_bytes(content)

    with pytest.raises(SourceError, match=r"ledger\.json: not a ledger: .*; convert again") as caught:
        load(tmp_path / "ledger.json")

    assert "\n" not in str(caught.value)
