"""Run the rules over whatever a path holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from dataengine import manifest as manifests
from dataengine.audit.foreign import audit_foreign
from dataengine.audit.manifests import audit_manifest
from dataengine.audit.pictures import Pictures
from dataengine.audit.shards import audit_shards
from dataengine.audit.state import Finding, Progress, Report
from dataengine.audit.table import rule_of
from dataengine.errors import UsageError
from dataengine.index import SHARDS
from dataengine.store import StoreSettings, Url


def audit(
    paths: Iterable[Path | Url],
    *,
    format_name: str | None = None,
    root: Path | None = None,
    options: dict[str, str] | None = None,
    workers: int = 1,
    store: StoreSettings | None = None,
    progress: Progress = lambda count, text: None,
) -> Report:
    """Audit manifests, shard sets, or foreign annotation files of a format; `store` says how a URL's shards are read.

    Raises SourceError, SpecError or UsageError, and StoreError for a URL that cannot be read.
    """
    reports = []
    # Several tasks show the same pictures: each is decoded once.
    pictures: Pictures = {}
    for path in paths:
        if isinstance(path, Url):
            reports.append(audit_shards(path, progress, store))
        elif format_name is not None:
            reports.append(audit_foreign(path, format_name, root, options or {}, workers, progress))
        elif (path / SHARDS).is_file():
            reports.append(audit_shards(path, progress))
        elif path.is_dir():
            reports += [audit_manifest(one, workers, progress, pictures) for one in manifests.find(path)]
        else:
            raise UsageError(
                f"{path}: neither a folder of manifests nor of shards; name its layout with --format"
            )
    checked = sum((Counter(report.checked) for report in reports), Counter[str]())
    return Report(
        accounts=[account for report in reports for account in report.accounts],
        findings=[finding for report in reports for finding in report.findings],
        checked=dict(checked),
    )


def rates(report: Report) -> list[tuple[str, str, str, int, int]]:
    """Return (rule, severity, action, hits, subjects hit) for every rule with hits, the most frequent first."""
    hits = Counter(finding.rule for finding in report.findings)
    subjects = {rule: len({f.subject for f in report.findings if f.rule == rule}) for rule in hits}
    return [
        (rule, rule_of(rule).severity, rule_of(rule).action, count, subjects[rule])
        for rule, count in sorted(hits.items(), key=lambda pair: (-pair[1], pair[0]))
    ]


def examples(report: Report, rule: str, count: int) -> Iterator[Finding]:
    """Yield the first findings of a rule that can be shown on a picture."""
    shown = 0
    for finding in report.findings:
        if finding.rule == rule and finding.image and shown < count:
            shown += 1
            yield finding
