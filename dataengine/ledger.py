"""The account of a conversion: units = samples + skipped + quarantined, or it is an error."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from dataengine.errors import BudgetBroken, DataEngineError, EmptySplit, SourceError


class Ledger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Counts of one converted split.

    `records` are source items, `units` what they explode into. Objects lost inside samples have their own account:
    `objects_read` = kept + `objects_dropped` by reason; `objects_fixed` were kept, but changed.
    """

    units: int
    samples: int
    skipped: dict[str, int]
    quarantined: dict[str, int]
    records: int
    images: int
    objects_read: int = 0
    objects_dropped: dict[str, int] = {}
    objects_fixed: dict[str, int] = {}

    def check(self, place: str) -> None:
        """Raise if the account does not balance: that would be a defect of this program, not of the data."""
        total = self.samples + sum(self.skipped.values()) + sum(self.quarantined.values())
        if total != self.units:
            raise DataEngineError(
                f"{place}: {self.units} units, but {total} accounted for; please report this"
            )

    def check_budgets(self, place: str, budgets: dict[str, float]) -> None:
        """Raise BudgetBroken where a reason took more than its share of the units (or, for objects, of the objects)."""
        for reason, rate in budgets.items():
            lost = self.skipped.get(reason, 0) + self.quarantined.get(reason, 0)
            for count, total, noun in (
                (lost, self.units, "units"),
                (self.objects_dropped.get(reason, 0), self.objects_read, "objects"),
            ):
                if count > rate * total:
                    raise BudgetBroken(
                        f"{place}: {reason} hit {count} of {total} {noun}, budget {rate}; see quarantine.parquet"
                    )

    def check_some(self, place: str) -> None:
        """Raise EmptySplit where there is no sample."""
        if self.samples:
            return
        lost = Counter(self.skipped) + Counter(self.quarantined)
        why = ", ".join(f"{reason} {count}" for reason, count in lost.most_common(3))
        raise EmptySplit(
            f"{place}: no sample of {self.units} units ({why}), expected some; see quarantine.parquet and the spec, or"
            " give --allow-empty where this is right"
            if self.units
            else f"{place}: the source has no record for it, expected some; is the split's file the right one? Give"
            " --allow-empty, or records_expected: 0 in the spec, where this is right"
        )


def add(ledgers: list[Ledger]) -> Ledger:
    """Return the sum of several accounts."""

    def reasons(name: str) -> dict[str, int]:
        total = sum((Counter(getattr(ledger, name)) for ledger in ledgers), Counter[str]())
        return dict(sorted(total.items()))

    return Ledger(
        units=sum(ledger.units for ledger in ledgers),
        samples=sum(ledger.samples for ledger in ledgers),
        skipped=reasons("skipped"),
        quarantined=reasons("quarantined"),
        records=sum(ledger.records for ledger in ledgers),
        images=sum(ledger.images for ledger in ledgers),
        objects_read=sum(ledger.objects_read for ledger in ledgers),
        objects_dropped=reasons("objects_dropped"),
        objects_fixed=reasons("objects_fixed"),
    )


def load(path: Path) -> Ledger:
    """Read a ledger.json. Raises SourceError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Ledger)
    except (OSError, msgspec.DecodeError) as error:
        raise SourceError(f"{path}: not a ledger: {error}; convert again") from error


def dump(ledger: Ledger) -> bytes:
    """Return the ledger as JSON with sorted keys."""
    return msgspec.json.format(msgspec.json.encode(ledger, order="sorted"), indent=2) + b"\n"
