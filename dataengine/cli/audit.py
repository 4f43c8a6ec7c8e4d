"""`dataengine audit`: rules over manifests, shards and foreign annotation files."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from dataengine.audit.report import write
from dataengine.audit.run import audit, broken, rates
from dataengine.audit.summary import says_broken
from dataengine.audit.table import rule_of
from dataengine.cli.output import (
    LOCAL,
    cache_bytes_option,
    cache_dir_option,
    given,
    json_option,
    print_json,
    print_table,
    progress,
    workers_option,
)
from dataengine.errors import UsageError
from dataengine.store import StoreSettings, Url, locate
from dataengine.strict import convert


@click.command("audit")
@click.argument("paths", nargs=-1, required=True, type=locate)
@click.option(
    "--format", "format_name", help="The layout of foreign annotation files, such as coco_instances."
)
@click.option("--root", type=LOCAL, help="With --format: the folder of the pictures.")
@click.option("--source", "source_options", multiple=True, help="With --format: KEY=VALUE for the reader.")
@click.option(
    "--report",
    "report_dir",
    type=LOCAL,
    help="Write index.html, issues.parquet, report.json.",
)
@cache_dir_option
@cache_bytes_option
@workers_option
@json_option
def command(
    paths: tuple[Path | Url, ...],
    format_name: str | None,
    root: Path | None,
    source_options: tuple[str, ...],
    report_dir: Path | None,
    cache_dir: str | None,
    cache_bytes: int | None,
    workers: int,
    as_json: bool,
) -> None:
    """Audit PATHS: folders of manifests or shards, or with --format annotation files that nobody has converted.

    Shards at a URL are audited through --cache-dir, where each is checked as a whole. Exit 1 where there are findings
    (other than infos), 3 where they break a budget: the spec's, or else the rule's own.
    """
    options: dict[str, str] = {}
    for pair in source_options:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--source {pair!r}: expected KEY=VALUE")
        options[key] = value
    settings = convert(given(cache_dir=cache_dir, cache_bytes=cache_bytes), StoreSettings, "audit", [])
    with progress("audit", "places") as update:
        report = audit(
            paths,
            format_name=format_name,
            root=root,
            options=options,
            workers=workers,
            store=settings,
            progress=update,
        )
    if report_dir is not None:
        write(report, report_dir)
    found, over = rates(report), broken(report)
    if as_json:
        print_json(
            {
                "rules": {one.rule: one.hits for one in found},
                "broken": msgspec.to_builtins(over),
                "checked": report.checked,
                "findings": msgspec.to_builtins(report.findings),
            }
        )
    else:
        print_table(
            "",
            ("rule", "severity", "hits", "subjects", "share", "says"),
            [
                (one.rule, one.severity, one.hits, one.subjects, f"{one.share:.2%}", rule_of(one.rule).says)
                for one in found
            ],
        )
        for line in map(says_broken, over):
            click.echo(f"budget broken: {line}")
        click.echo(
            f"{len(report.findings)} findings" + (f", see {report_dir / 'index.html'}" if report_dir else "")
        )
    if over:
        raise click.exceptions.Exit(3)
    if any(one.severity != "info" for one in found):
        raise click.exceptions.Exit(1)
