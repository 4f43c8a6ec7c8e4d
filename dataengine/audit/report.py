"""An audit as Parquet, JSON and one self-contained page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dataengine.audit.findings import Finding, Findings
from dataengine.audit.identity import COLUMNS, Identity, by_stage
from dataengine.audit.run import Broken, broken, examples, rates
from dataengine.audit.state import Report
from dataengine.audit.table import rule_of
from dataengine.errors import Quarantine
from dataengine.files import Root, atomic, make_folder, write_atomic
from dataengine.images import decode, read
from dataengine.report.draw import SIDE, color_of, mark_box
from dataengine.report.page import Card, Section, Table, data_uri, render
from dataengine.report.plots import bars

EXAMPLES = 6
ISSUES_A_GROUP = 1 << 14
ISSUES_SCHEMA = pa.schema(
    [
        (name, pa.string())
        for name in ("rule", "severity", "subject", "key", "file", "record", "detail", "image", "other_image")
    ]
    + [("other_subject", pa.string()), ("box", pa.list_(pa.float64()))]
)


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """report.json: hits by rule, the budgets that are broken, what was looked at, and the account of each subject.

    `identities` are the lines of `audit --account`.
    """

    rules: dict[str, int]
    checked: dict[str, int]
    broken: list[Broken] = []
    accounts: list[dict[str, object]]
    identities: list[Identity] = []


def write(report: Report, directory: Path, identities: Sequence[Identity] = ()) -> None:
    """Write issues.parquet, report.json and index.html; the page compares with the report that stood there before."""
    make_folder(directory)
    before = _before(directory / "report.json")
    _write_issues(report.findings, directory / "issues.parquet")
    rules: Counter[str] = Counter()
    for (_, rule, _), hits in report.findings.counts.items():
        rules[rule] += hits
    summary = Summary(
        rules=dict(rules),
        checked=report.checked,
        broken=broken(report),
        accounts=[msgspec.to_builtins(account) for account in report.accounts],
        identities=[*identities],
    )
    write_atomic(directory / "index.html", page(report, before, identities).encode())
    data = msgspec.json.format(msgspec.json.encode(summary, order="sorted"), indent=1)
    write_atomic(directory / "report.json", data + b"\n")


def _write_issues(findings: Findings, path: Path) -> None:
    """Write findings as a table, a row group of ISSUES_A_GROUP at a time."""
    rest = iter(findings)
    with atomic(path) as file, pq.ParquetWriter(file, ISSUES_SCHEMA, compression="zstd") as table:
        while rows := [msgspec.to_builtins(finding) for finding in islice(rest, ISSUES_A_GROUP)]:
            table.write_table(pa.Table.from_pylist(rows, ISSUES_SCHEMA))


def _before(path: Path) -> dict[str, int] | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Summary).rules
    except (OSError, msgspec.DecodeError):
        return None


def page(report: Report, before: dict[str, int] | None, identities: Sequence[Identity] = ()) -> str:
    """Return the audit as HTML."""
    found = rates(report)
    columns = ["rule", "severity", "action", "hits", "subjects", "share", "says"]
    rows: list[list[object]] = [
        [
            one.rule,
            one.severity,
            one.action,
            one.hits,
            one.subjects,
            f"{one.share:.2%}",
            rule_of(one.rule).says,
        ]
        for one in found
    ]
    if before is not None:
        columns.insert(4, "last time")
        for row in rows:
            row.insert(4, before.get(str(row[0]), 0))
        gone = sorted(set(before) - {str(row[0]) for row in rows})
        rows += [
            [rule, rule_of(rule).severity, rule_of(rule).action, 0, before[rule], 0, "", rule_of(rule).says]
            for rule in gone
        ]
    account_rows = [
        [one.subject, one.records, one.samples, sum(one.skipped.values()), sum(one.quarantined.values()),
         one.images, one.objects, _short(one.licenses)]
        for one in report.accounts
    ]  # fmt: skip
    sections = [
        Section(
            title="Summary",
            note=f"{len(report.findings)} findings by {len(found)} rules in {len(report.accounts)} subjects; looked at "
            + ", ".join(f"{count} {several(what)}" for what, count in sorted(report.checked.items())),
            tables=[Table(columns=columns, rows=rows)] if rows else [],
        ),
        *_budgets(report),
        Section(
            title="Account",
            tables=[
                Table(
                    columns=[
                        "subject",
                        "records",
                        "samples",
                        "skipped",
                        "quarantined",
                        "images",
                        "objects",
                        "licenses",
                    ],
                    rows=account_rows,
                ),
                *(
                    Table(title=says, columns=COLUMNS, rows=[one.cells for one in some])
                    for says, some in by_stage(identities)
                ),
            ],
        ),
        *(_rule_section(report, one.rule, one.hits) for one in found),
        Section(title="Labels and sizes", plots=_statistics(report)),
    ]
    return render("Audit", sections)


def several(place: str) -> str:
    """Return the word for several places of a kind."""
    return f"{place}es" if place.endswith("x") else f"{place}s"


def says_broken(one: Broken) -> str:
    """Return a broken budget as a line."""
    return f"{one.subject}: {one.rule} hit {one.hits} of {one.checked} {several(one.place)}, budget {one.budget:g}"


def _budgets(report: Report) -> list[Section]:
    lines = [[says_broken(one)] for one in broken(report)]
    note = f"{len(lines)} budgets are broken: more places are hit than the spec, or else the rule, allows"
    return (
        [Section(title="Budgets", note=note, tables=[Table(columns=["broken"], rows=lines)])] if lines else []
    )


def _short(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{name}: {count}" for name, count in ordered[:6]) + (" …" if len(ordered) > 6 else "")


def _rule_section(report: Report, rule: str, hits: int) -> Section:
    hit_rows = [
        [one.subject, one.key or one.image, f"{one.file} {one.record}".strip(), one.detail]
        for one in islice(report.findings.of(rule), 20)
    ]
    roots = {account.subject: account.root for account in report.accounts}
    cards = []
    for finding in examples(report, rule, EXAMPLES):
        picture = _picture(finding, roots.get(finding.subject, ""))
        if picture is not None:
            cards.append(
                Card(
                    id=finding.key or finding.image,
                    pictures=[data_uri(picture)],
                    turns=[(rule, finding.detail)],
                    origin=f"{finding.file} {finding.record}",
                    alt=finding.detail,
                )
            )
    return Section(
        title=rule,
        note=f"{rule_of(rule).says}; {hits} hits, the first {len(hit_rows)} here, all in issues.parquet",
        tables=[Table(columns=["subject", "key", "record", "detail"], rows=hit_rows)],
        cards=cards,
    )


def _picture(finding: Finding, root: str) -> Image.Image | None:
    """Return the picture of a finding with its box, or None where it cannot be shown."""
    if not root or not Path(root).is_dir():
        return None
    try:
        pixels = decode(read(Root(Path(root)).inside(finding.image)))
    except (Quarantine, OSError):
        return None
    scale = min(SIDE / max(pixels.shape[:2]), 4.0)
    size = (max(round(pixels.shape[1] * scale), 1), max(round(pixels.shape[0] * scale), 1))
    picture = Image.fromarray(pixels).resize(size)
    if finding.box is not None and all(abs(value) < 1e6 for value in finding.box):
        x0, y0, x1, y1 = finding.box
        ordered = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        mark_box(picture, ordered, scale, color_of(finding.rule), finding.rule, dashed=False)
    return picture


def _statistics(report: Report) -> list[str]:
    labels: Counter[str] = Counter()
    sides: Counter[str] = Counter()
    for account in report.accounts:
        labels.update(account.labels)
        sides.update(account.sides)
    order = ["< 128", "< 256", "< 512", "< 1024", "< 2048", "< 4096", ">= 4096"]
    return [
        bars("Objects by label (the 30 most frequent)", dict(labels.most_common(30))),
        bars("Pictures by longest side in pixels", {name: sides[name] for name in order if sides[name]}),
    ]
