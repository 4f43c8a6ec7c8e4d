"""Run the rules over whatever a path holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import msgspec

from dataengine import manifest as manifests
from dataengine.audit.findings import Finding, Findings
from dataengine.audit.foreign import Beside, audit_foreign, audit_guessed
from dataengine.audit.gallery import Gallery
from dataengine.audit.guess import guess
from dataengine.audit.leaks import leaks
from dataengine.audit.manifests import audit_manifest
from dataengine.audit.pictures import Looked, Pictures
from dataengine.audit.saved import audit_saved, saved_in
from dataengine.audit.shapes import Shapes
from dataengine.audit.shards import audit_shards
from dataengine.audit.splits import compared
from dataengine.audit.state import Account, Progress, Report
from dataengine.audit.table import rule_of
from dataengine.audit.tars import are_tars, audit_tars
from dataengine.errors import SourceError, UsageError
from dataengine.index import SHARDS
from dataengine.leaks import ids
from dataengine.leaks.evalset import EvalSet
from dataengine.leaks.parts import parts_of
from dataengine.spill import Kept
from dataengine.store import StoreSettings, Url


def audit(
    paths: Iterable[Path | Url],
    *,
    format_name: str | None = None,
    root: Path | None = None,
    options: dict[str, str] | None = None,
    workers: int = 1,
    store: StoreSettings | None = None,
    never: Iterable[EvalSet] = (),
    progress: Progress = lambda count, text: None,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Audit manifests, shard sets, or what nobody has converted, of a format or else of one that is recognised.

    `store` says how a URL's shards are read; what is to train on is held against the sets that it must `never` touch;
    `say` is told what was recognised, and why. Raises SourceError, SpecError or UsageError, and StoreError for a URL
    that cannot be read.
    """
    sets = list(never)
    # Several tasks show the same pictures: each is decoded once.
    pictures: Pictures = Kept(tuple[str, str], Looked)
    gallery = Gallery(ids.load())
    beside = Beside(gallery, [])
    accounts: list[Account] = []
    findings = Findings()
    checked: Counter[str] = Counter()
    shapes = Shapes()

    def take(report: Report) -> None:
        accounts.extend(report.accounts)
        findings.extend(report.findings)
        checked.update(report.checked)
        shapes.extend(report.shapes)

    for path in paths:
        if sets and isinstance(path, Url):
            raise UsageError(
                f"{path}: only what lies here is held against evaluation sets; copy the set first"
            )
        if isinstance(path, Url):
            take(audit_shards(path, progress, gallery, store))
        elif format_name is not None:
            take(audit_foreign(path, format_name, root, options or {}, workers, progress, beside))
        elif (path / SHARDS).is_file():
            take(audit_shards(path, progress, gallery))
            beside.parts.extend(parts_of([path]) if sets else [])
        elif folders := manifests.inside(path):
            for one in folders:
                take(audit_manifest(one, workers, progress, pictures, gallery))
            beside.parts.extend(parts_of(folders) if sets else [])
        else:
            before = len(beside.parts)
            for report in _recognised(path, root, workers, progress, say, beside):
                take(report)
            if sets and len(beside.parts) == before:
                raise UsageError(
                    f"{path}: rows of tables and tars of others are not held against evaluation sets; convert it first"
                )
    for finding in compared(gallery):
        findings.append(finding)
    if sets:
        found, _ = leaks(beside.parts, sets, gallery.spaces, workers=workers, progress=progress)
        findings.extend(found.findings)
        shapes.extend(found.shapes)
        known = {account.subject for account in accounts}
        accounts.extend(account for account in found.accounts if account.subject not in known)
    return Report(accounts=accounts, findings=findings, checked=dict(checked), shapes=shapes.of)


def _recognised(
    path: Path,
    root: Path | None,
    workers: int,
    progress: Progress,
    say: Callable[[str], None],
    beside: Beside,
) -> Iterator[Report]:
    """Yield the reports of what nobody has converted, and say what it was taken for."""
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    saved = saved_in(path) if path.is_dir() else None
    if saved is not None:
        say(f"{path}: a Hugging Face dataset ({saved.why})")
        yield from audit_saved(path, saved, workers, progress, beside.gallery)
    elif are_tars(path):
        say(f"{path}: tars as WebDataset reads them, without an index of ours")
        yield audit_tars(path, workers, progress, beside.gallery)
    else:
        found = guess(path, root)
        say(f"{path}: format {found.format} ({found.why})")
        yield from audit_guessed(path, found, root, workers, progress, beside)


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """How often a rule was broken: hits, subjects hit, and the largest share of the places that it looked at."""

    rule: str
    severity: str
    action: str
    hits: int
    subjects: int
    share: float


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """A budget that a subject broke: so many of the places that were looked at, where `budget` is the largest share."""

    subject: str
    rule: str
    place: str
    hits: int
    checked: int
    budget: float


def rates(report: Report) -> list[Rate]:
    """Return every rule with hits, the most frequent first."""
    found: dict[str, dict[str, tuple[int, float]]] = {}
    for (subject, rule, _), (hits, checked) in _places(report).items():
        old = found.setdefault(rule, {}).get(subject, (0, 0.0))
        found[rule][subject] = (old[0] + hits, max(old[1], hits / checked))
    return sorted(
        (
            Rate(
                rule=rule,
                severity=rule_of(rule).severity,
                action=rule_of(rule).action,
                hits=sum(hits for hits, _ in subjects.values()),
                subjects=len(subjects),
                share=max(share for _, share in subjects.values()),
            )
            for rule, subjects in found.items()
        ),
        key=lambda rate: (-rate.hits, rate.rule),
    )


def broken(report: Report) -> list[Broken]:
    """Return the budgets that are broken: those of a subject's spec, or else the rules' own."""
    budgets = {account.subject: account.budgets for account in report.accounts}
    found = []
    for (subject, rule, place), (hits, checked) in _places(report).items():
        budget = budgets.get(subject, {}).get(rule, rule_of(rule).budget)
        if budget is not None and hits > budget * checked:
            found.append(
                Broken(subject=subject, rule=rule, place=place, hits=hits, checked=checked, budget=budget)
            )
    return sorted(found, key=lambda one: (one.subject, one.rule, one.place))


def _places(report: Report) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Return (hits, looked at) for each subject, rule and kind of place.

    A place can break a rule twice, and a record that no reader can read was not looked at: so many there were at least.
    """
    checked = {account.subject: account.checked for account in report.accounts}
    return {
        key: (count, max(checked.get(key[0], {}).get(key[2], 0), count))
        for key, count in report.findings.counts.items()
    }


def examples(report: Report, rule: str, count: int) -> Iterator[Finding]:
    """Return the first findings of a rule that can be shown on a picture."""
    return islice(report.findings.of(rule, pictured=True), count)
