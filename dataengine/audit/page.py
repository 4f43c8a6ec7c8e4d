"""The page of an audit: the verdict first, then the account, the rules, the data, and examples with pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from dataengine.audit.figures import figures
from dataengine.audit.identity import COLUMNS, Identity, Verdict, by_stage
from dataengine.audit.reach import looked_at, looked_for_in, looks_at
from dataengine.audit.rule import Rule
from dataengine.audit.run import Broken, broken
from dataengine.audit.shapes import PICTURED
from dataengine.audit.state import Account, Report
from dataengine.audit.summary import EXAMPLES, Change, Seen, Summary, changes, counted, several, versions
from dataengine.audit.table import RULES, rule_of
from dataengine.audit.views import Drawn, draw_findings, lacking
from dataengine.report.page import Card, Cell, Number, Section, Table, Tone, render
from dataengine.report.plots import bars
from dataengine.report.text import number, percent

MOST_ROWS = 1000  # of a table; report.json has all
MOST_SPECS, MOST_LICENSES, DIGITS = 3, 3, 12
SUBJECT_COLUMNS = ("subject", "what it is", "spec", "reader", "license of pictures")
TONES: dict[str, Tone] = {"error": "bad", "warn": "warn", "info": "note"}
VERDICTS: dict[Verdict, Tone] = {"proven": "good", "not proven": "note", "differs": "bad"}


def page(
    report: Report,
    seen: Seen,
    before: Summary | None = None,
    identities: Sequence[Identity] = (),
    doubt: str = "",
) -> str:
    """Return the audit as HTML."""
    over = broken(report)
    changed = changes(before, seen.hits()) if before is not None else []
    pictures = draw_findings(seen.first, report.accounts, report.shapes)
    sections = [
        _summary(report, seen, over, changed, before, doubt),
        *_budgets(over),
        *_accounts(report.accounts, seen, identities),
        _rules(report, seen, over, changed),
        *_changes(changed, before),
        Section(title="Data", id="data", plots=figures(report), note=_data_note(report)),
        *_examples(seen, pictures),
        Section(title="Rules without a hit", id="unbroken", tables=[_without_hits(report, seen)]),
    ]
    subjects = [account.subject for account in report.accounts]
    named = ", ".join(subjects[:3]) + (f" and {len(subjects) - 3} more" if len(subjects) > 3 else "")
    return render("Audit", sections, named)


def _verdict(seen: Seen, over: Sequence[Broken]) -> tuple[Tone, str]:
    total, rules = seen.counts.total(), len(seen.first)
    found = f"{number(total)} {'finding' if total == 1 else 'findings'} by {rules} {'rule' if rules == 1 else 'rules'}"
    if over:
        are = "1 budget is" if len(over) == 1 else f"{len(over)} budgets are"
        return "bad", f"{are} broken: more places are hit than the spec, or else the rule, allows. {found}."
    if not total:
        return "good", "Fine: no rule is broken."
    severities = {rule_of(rule).severity for rule in seen.first}
    if severities == {"info"}:
        return "note", f"Fine, with {found} that only inform."
    return "warn", f"{found}; no budget is broken."


def _summary(
    report: Report,
    seen: Seen,
    over: Sequence[Broken],
    changed: Sequence[Change],
    before: Summary | None,
    doubt: str,
) -> Section:
    severities: Counter[str] = Counter()
    for (rule, _, _), count in seen.counts.items():
        severities[rule_of(rule).severity] += count
    accounts = report.accounts
    numbers = [
        Number(label="Subjects", value=len(accounts)),
        Number(label="Records", value=sum(one.records for one in accounts)),
        Number(label="Samples", value=sum(one.samples for one in accounts)),
        Number(label="Pictures decoded", value=report.checked.get("picture", 0)),
        Number(label="Errors", value=severities["error"], tone="bad" if severities["error"] else "good"),
        Number(label="Warnings", value=severities["warn"], tone="warn" if severities["warn"] else "good"),
        Number(label="Infos", value=severities["info"]),
        Number(
            label="Rules broken",
            value=len(seen.first),
            note=f"of {len({*seen.first, *(one.id for one in RULES)})}",
        ),
        Number(label="Budgets broken", value=len(over), tone="bad" if over else "good"),
    ]
    if before is not None:
        numbers.append(_change_number(changed))
    looked = _counts(dict(sorted(report.checked.items())))
    return Section(
        title="Summary",
        id="summary",
        verdict=_verdict(seen, over),
        numbers=numbers,
        note=f"Looked at {looked or 'nothing'}. {doubt}".strip(),
        tables=[
            _cut("What was audited", SUBJECT_COLUMNS, [*map(_subject, accounts)]),
            Table(title="Audited with", columns=["what", "version"], rows=list(versions().items())),
        ],
    )


def _change_number(changed: Sequence[Change]) -> Number:
    more = sum(max(one.now - one.before, 0) for one in changed)
    less = sum(max(one.before - one.now, 0) for one in changed)
    tone: Tone = "warn" if more else "good"
    value = f"+{number(more)} −{number(less)}" if more or less else "the same"
    return Number(label="Since last time", value=value, note="findings", tone=tone)


def _subject(one: Account) -> list[object]:
    specs = [_spec(said) for what, said in one.versions.items() if what.startswith("spec")]
    return [
        one.subject,
        one.kind or "–",
        _some(specs, MOST_SPECS) or "–",
        one.versions.get("reader", "–"),
        _some(_most(one.licenses), MOST_LICENSES) or "–",
    ]


def _spec(said: str) -> str:
    """Return a spec and its digest as a table has room for them; the whole of both is in report.json."""
    name, _, digest = said.rpartition(" ")
    return f"{name.rsplit('/', 1)[-1] if name.endswith('.yaml') else name} {digest[:DIGITS]}"


def _most(counts: Mapping[str, int]) -> list[str]:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [f"{name}: {number(count)}" for name, count in ordered]


def _some(parts: Sequence[str], most: int) -> str:
    more = len(parts) - most
    return ", ".join(parts[:most]) + (f" and {more} more" if more > 0 else "")


def _cut(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], note: str = "") -> Table:
    if len(rows) > MOST_ROWS:
        note = f"{note} The first {number(MOST_ROWS)} of {number(len(rows))}; all are in report.json.".strip()
    return Table(title=title, columns=columns, rows=rows[:MOST_ROWS], note=note)


def _budgets(over: Sequence[Broken]) -> list[Section]:
    rows = [
        [one.subject, _rule_cell(one.rule, "bad"), one.hits, counted(one.checked, one.place),
         _rate(one.hits, one.checked), Cell(text=percent(one.budget), value=one.budget)]
        for one in over
    ]  # fmt: skip
    columns = ["subject", "rule", "hits", "looked at", "rate", "budget"]
    return [Section(title="Broken budgets", id="budgets", tables=[_cut("", columns, rows)])] if over else []


def _rule_cell(rule: str, tone: Tone = "") -> Cell:
    return Cell(text=rule, to=f"rule-{rule}", tone=tone)


def _rate(hits: int, checked: int) -> Cell:
    share = min(hits / checked, 1.0) if checked else 1.0
    return Cell(text=percent(share), value=share, bar=share)


def _accounts(accounts: Sequence[Account], seen: Seen, identities: Sequence[Identity]) -> list[Section]:
    rows = [_account_row(one) for one in accounts]
    columns = ["subject", "records", "units", "samples", "skipped", "quarantined", "difference", "pictures",
               "objects read", "objects dropped", "objects mended"]  # fmt: skip
    tables = [_cut("", columns, rows), *_reasons(accounts, seen)]
    tables += [_cut(says, COLUMNS, [*map(_identity, some)]) for says, some in by_stage(identities)]
    lost = sum((Counter(one.skipped) + Counter(one.quarantined) for one in accounts), Counter[str]())
    return [
        Section(
            title="Account",
            id="account",
            note="Records of the source become units, one for each sample that is asked for; a unit ends as a sample,"
            " or is skipped or quarantined for a reason. The difference is what is left of the units: it must be 0.",
            tables=tables,
            plots=[bars("Units that became no sample", dict(lost.most_common(20)), "units")] if lost else [],
        )
    ]


def _account_row(one: Account) -> list[object]:
    skipped, quarantined = sum(one.skipped.values()), sum(one.quarantined.values())
    converted = bool(one.units or one.samples)
    left = one.units - one.samples - skipped - quarantined
    difference = Cell(text=number(left), value=left, tone="bad" if left else "good")
    return [
        one.subject,
        one.records,
        one.units if converted else Cell(text="not converted"),
        one.samples,
        skipped,
        quarantined,
        difference if converted else Cell(text="–"),
        one.images,
        one.objects,
        sum(one.objects_dropped.values()),
        sum(one.objects_fixed.values()),
    ]


def _reasons(accounts: Sequence[Account], seen: Seen) -> list[Table]:
    rows: list[list[object]] = []
    for one in accounts:
        for what, counts, total in (
            ("unit skipped", one.skipped, one.units or one.records),
            ("unit quarantined", one.quarantined, one.units or one.records),
            ("object dropped", one.objects_dropped, one.objects),
            ("object mended", one.objects_fixed, one.objects),
        ):
            rows += [
                [
                    one.subject,
                    what,
                    _rule_cell(reason) if reason in seen.first else reason,
                    count,
                    _rate(count, total),
                ]
                for reason, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
            ]
    return [_cut("By reason", ["subject", "what", "reason", "number", "share"], rows)] if rows else []


def _identity(one: Identity) -> list[object]:
    *counts, verdict, detail = one.cells
    return [*counts, Cell(text=str(verdict), tone=VERDICTS[one.verdict]), detail]


def _rules(report: Report, seen: Seen, over: Sequence[Broken], changed: Sequence[Change]) -> Section:
    hits = seen.hits()
    budgets = {one.rule for one in over}
    before: Counter[str] = Counter()
    for one in changed:
        before[one.rule] += one.before
    columns = ["rule", "severity", "hits", *(["last time"] if changed else []), "looked at", "rate", "subjects",
               "budget", "conversion", "what a hit means"]  # fmt: skip
    rows = []
    for rule, subjects in hits.items():
        known, total = rule_of(rule), sum(subjects.values())
        checked = _looked_at(report, seen, rule)
        rows.append([
            _rule_cell(rule),
            Cell(text=known.severity, tone=TONES[known.severity]),
            total,
            *([before[rule]] if changed else []),
            Cell(text=_counts(checked), value=sum(checked.values())),
            _rate(total, max(sum(checked.values()), total)),
            len(subjects),
            _budget(known, report, broken=rule in budgets),
            known.action,
            known.says,
        ])  # fmt: skip
    tables = (
        [_cut("Rules with hits", columns, rows, "A click on a rule leads to its examples.")] if rows else []
    )
    if len(report.accounts) > 1 and rows:
        tables.append(_by_subject(report, seen))
    return Section(title="Rules", id="rules", tables=tables)


def _looked_at(report: Report, seen: Seen, rule: str) -> dict[str, int]:
    """Return how many places of each kind that the rule hit were looked at in all subjects."""
    places = sorted({place for (of, _, place) in seen.counts if of == rule})
    return {
        place: max(
            sum(account.checked.get(place, 0) for account in report.accounts),
            sum(count for (of, _, where), count in seen.counts.items() if (of, where) == (rule, place)),
        )
        for place in places
    }


def _budget(rule: Rule, report: Report, *, broken: bool) -> Cell:
    stated = [account.budgets[rule.id] for account in report.accounts if rule.id in account.budgets]
    values = sorted({*stated, *([rule.budget] if rule.budget is not None else [])})
    text = (
        "–" if not values else " to ".join(percent(value) for value in dict.fromkeys((values[0], values[-1])))
    )
    return Cell(text=f"{text}, broken" if broken else text, value=values[0] if values else None,
                tone="bad" if broken else "")  # fmt: skip


def _by_subject(report: Report, seen: Seen) -> Table:
    checked = {account.subject: account.checked for account in report.accounts}
    rows: list[list[object]] = []
    for (rule, subject, place), count in sorted(seen.counts.items(), key=lambda one: (-one[1], one[0])):
        looked = max(checked.get(subject, {}).get(place, 0), count)
        rows.append([_rule_cell(rule), subject, count, counted(looked, place), _rate(count, looked)])
    return _cut("By subject", ["rule", "subject", "hits", "looked at", "rate"], rows)


def _without_hits(report: Report, seen: Seen) -> Table:
    rows: list[list[object]] = []
    for rule in RULES:
        if rule.id not in seen.first:
            checked = looked_at(rule, report.accounts)
            said = Cell(
                text=_counts(checked) or _nothing(rule, report.accounts),
                value=sum(checked.values()),
                tone="good" if checked else "",
            )
            rows.append([rule.id, rule.severity, said, rule.says])
    rows.sort(key=lambda row: not isinstance(row[2], Cell) or not row[2].value)
    return Table(
        title="Rules without a hit", columns=["rule", "severity", "looked at", "what a hit means"], rows=rows
    )


def _nothing(rule: Rule, accounts: Sequence[Account]) -> str:
    """Return why a rule looked at nothing."""
    kinds = looked_for_in(rule)
    if kinds and not kinds & {one.kind for one in accounts}:
        return f"only looked for in {', '.join(sorted(several(kind) for kind in kinds))}"
    places = [*map(several, looks_at(rule))]
    return f"no {' or '.join(places)} here" if places else "not looked for"


def _counts(places: Mapping[str, int]) -> str:
    return ", ".join(counted(count, place) for place, count in places.items())


def _changes(changed: Sequence[Change], before: Summary | None) -> list[Section]:
    if before is None:
        return []
    tones: dict[str, Tone] = {"new": "bad", "more": "warn", "fewer": "note", "gone": "good"}
    moved = sorted(
        (one for one in changed if one.state != "same"),
        key=lambda one: (-abs(one.now - one.before), one.rule),
    )
    rows = [
        [_rule_cell(one.rule) if one.now else one.rule, one.subject or "all", one.before, one.now,
         Cell(text=f"{one.now - one.before:+,}", value=one.now - one.before),
         Cell(text=one.state, tone=tones[one.state])]
        for one in moved
    ]  # fmt: skip
    note = "Hits in the report that stood here before, and now." if rows else "Nothing has changed since."
    now = versions()
    for what, old in before.versions.items():
        if now.get(what) != old:
            note += f" The last audit was made with {what} {old}, this one with {now.get(what)}."
    columns = ["rule", "subject", "before", "now", "difference", "state"]
    table = [_cut("", columns, rows)] if rows else []
    return [Section(title="Since the last audit", id="changes", note=note, tables=table)]


def _data_note(report: Report) -> str:
    looked = sum(account.checked.get("annotation", 0) for account in report.accounts)
    if looked:
        return "What the annotations of all subjects are like, taken together, as their sources state them."
    return "What the samples of all subjects are like, taken together."


def _all(count: int) -> str:
    return f"all {number(count)} are" if count > 1 else "it is"


def _lacks(one: Drawn) -> list[tuple[str, str]]:
    return [("not shown", one.lacks)] if one.lacks else []


def _examples(seen: Seen, pictures: Mapping[str, Sequence[Drawn]]) -> Iterator[Section]:
    if not seen.first:
        return
    yield Section(
        title="Examples",
        id="examples",
        note=f"The first {EXAMPLES} findings of each rule, {PICTURED} of them with pictures as far as there is room;"
        f" {_all(seen.counts.total())} in issues.parquet, with places. Boxes are in the colour of their rule, outlines"
        " and masks yellow or light blue; a cross is a keypoint that has a place, but is not labelled.",
    )
    for rule, subjects in seen.hits().items():
        hits, some = sum(subjects.values()), seen.first[rule]
        known = rule_of(rule)
        cards = [
            Card(
                id=one.finding.key or one.finding.image,
                pictures=one.pictures,
                captions=one.captions,
                turns=[("", one.finding.detail), *_lacks(one)],
                origin=f"{one.finding.subject} · {one.finding.file} {one.finding.record}".strip(" ·"),
                alt=one.finding.detail,
            )
            for one in pictures.get(rule, ())
            if one.pictures
        ]
        count = (
            f"all {hits}"
            if hits <= EXAMPLES
            else f"the first {len(some)} of {number(hits)}, all in issues.parquet"
        )
        also = f" Public data that breaks it: {', '.join(known.known)}." if known.known else ""
        if without := lacking(pictures.get(rule, ())):
            also += f" Without a picture here: {without}."
        yield Section(
            title=rule,
            id=f"rule-{rule}",
            inner=True,
            note=f"{known.says[:1].upper()}{known.says[1:]} ({known.severity}; {count}).{also}",
            tables=[
                Table(
                    columns=["subject", "key", "record", "detail"],
                    rows=[
                        [one.subject, one.key or one.image, f"{one.file} {one.record}".strip(), one.detail]
                        for one in some
                    ],
                )
            ],
            cards=cards,
        )
