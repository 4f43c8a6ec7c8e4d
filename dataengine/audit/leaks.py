"""Leaks of evaluation sets into what is to be trained on, as a report and as a selection."""

from __future__ import annotations

from collections.abc import Iterable

from dataengine.audit.findings import Finding, Findings
from dataengine.audit.state import Account, Progress, Report
from dataengine.audit.table import rule_of
from dataengine.errors import UsageError
from dataengine.leaks.check import SIGNS, Against, By, Leak, check
from dataengine.leaks.evalset import EvalSet
from dataengine.leaks.ids import Spaces
from dataengine.leaks.parts import Part
from dataengine.selection import Choice


def leaks(
    parts: Iterable[Part],
    sets: Iterable[EvalSet],
    spaces: Spaces,
    *,
    signs: Iterable[By] = SIGNS,
    workers: int = 1,
    progress: Progress = lambda count, text: None,
) -> tuple[Report, list[Choice]]:
    """Hold the splits to train on against evaluation sets; return what leaks, and the samples to leave out for it.

    Raises UsageError where no split is to train on.
    """
    against = Against(sets)
    accounts: list[Account] = []
    findings = Findings()
    choices: list[Choice] = []
    checked = {"picture": 0, "sample": 0}
    for part in parts:
        if part.use != "train":
            continue
        number = {"picture": sum(1 for _ in part.pictures()), "sample": sum(1 for _ in part.statements())}
        for leak in check(part, against, spaces, signs, workers, progress):
            findings.append(_finding(part, leak))
            choices += [
                Choice(id=one, keep=False, reason=leak.rule, note=leak.detail) for one in leak.samples
            ]
        accounts.append(
            Account(
                subject=part.subject,
                kind="part",
                records=0,
                samples=number["sample"],
                images=number["picture"],
                root=part.root,
                checked=number,
            )
        )
        checked = {name: checked[name] + number[name] for name in checked}
    if not accounts:
        raise UsageError("no split to train on here (use: train), so nothing can leak into one")
    return Report(accounts=accounts, findings=findings, checked=checked), choices


def _finding(part: Part, leak: Leak) -> Finding:
    return Finding(
        rule=leak.rule,
        severity=rule_of(leak.rule).severity,
        subject=part.subject,
        place="sample" if leak.key else "picture",
        key=leak.key,
        file="",
        record="",
        detail=leak.detail,
        image=leak.image,
        other_image=leak.other.image,
        other_subject=leak.other.source if leak.other.image else "",
    )
