"""`dataengine audit`: rules over manifests, shards and foreign annotation files."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click
import msgspec

from dataengine.audit.report import write
from dataengine.audit.run import Broken, Rate, audit, broken, rates
from dataengine.audit.state import Report
from dataengine.audit.summary import says_broken
from dataengine.audit.table import rule_of
from dataengine.cli.account import print_account
from dataengine.cli.output import (
    LOCAL,
    cache_bytes_option,
    cache_dir_option,
    given,
    json_option,
    print_table,
    progress,
    workers_option,
)
from dataengine.errors import UsageError
from dataengine.leaks import evalset
from dataengine.store import StoreSettings, Url, locate
from dataengine.strict import convert

PRINTED_AT_ONCE = 1000


@click.command("audit")
@click.argument("paths", nargs=-1, required=True, type=locate)
@click.option(
    "--format",
    "format_name",
    help="The layout of annotation files, such as coco_instances; by default it is recognised.",
)
@click.option("--root", type=LOCAL, help="Of an annotation file: the folder of its pictures.")
@click.option("--source", "source_options", multiple=True, help="With --format: KEY=VALUE for the reader.")
@click.option(
    "--never",
    multiple=True,
    type=LOCAL,
    help="What must not be trained on: an index that 'dataengine leaks index' wrote, or a .txt of ids; may be given"
    " several times.",
)
@click.option(
    "--report",
    "report_dir",
    type=LOCAL,
    help="Write index.html, issues.parquet, report.json.",
)
@click.option(
    "--account",
    "account_only",
    is_flag=True,
    help="No rules, but the account: every record, sample, tar member and position from source to run, counted.",
)
@cache_dir_option
@cache_bytes_option
@workers_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    paths: tuple[Path | Url, ...],
    format_name: str | None,
    root: Path | None,
    source_options: tuple[str, ...],
    never: tuple[Path, ...],
    report_dir: Path | None,
    account_only: bool,
    cache_dir: str | None,
    cache_bytes: int | None,
    workers: int,
    as_json: bool,
) -> None:
    """Audit PATHS: manifests, shards, or what nobody has converted: annotation files, tars, Hugging Face folders.

    Without --format a layout is recognised, and said. Shards at a URL are audited through --cache-dir, where each is
    checked as a whole. Exit 1 where there are findings (other than infos), 3 where they break a budget: the spec's, or
    else the rule's own.

    With --account, PATHS are folders of manifests, shards and training runs, in any number together, or one folder
    that holds them all. Each line is a number held against the same number counted elsewhere; exit 1 where a single
    unit differs.
    """
    settings = convert(given(cache_dir=cache_dir, cache_bytes=cache_bytes), StoreSettings, "audit", [])
    if account_only:
        print_account(context, paths, report_dir, settings, workers, as_json)
        return
    options: dict[str, str] = {}
    for pair in source_options:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--source {pair!r}: expected KEY=VALUE")
        options[key] = value
    with progress("audit", "places") as update:
        report = audit(
            paths,
            format_name=format_name,
            root=root,
            options=options,
            workers=workers,
            store=settings,
            never=map(evalset.read, never),
            progress=update,
            say=lambda line: click.echo(f"recognised {line}", err=True),
        )
    if report_dir is not None:
        write(report, report_dir)
    found, over = rates(report), broken(report)
    if as_json:
        _print_json(report, found, over)
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


def _print_json(report: Report, found: list[Rate], over: list[Broken]) -> None:
    """Print one JSON value, its findings as they come from where they lie."""

    def encoded(value: object) -> bytes:
        return msgspec.json.encode(value, order="sorted")

    rest = iter(report.findings)
    click.echo(encoded({"broken": over, "checked": report.checked})[:-1] + b',"findings":[', nl=False)
    between = b""
    while some := list(islice(rest, PRINTED_AT_ONCE)):
        click.echo(between + b",".join(map(encoded, some)), nl=False)
        between = b","
    click.echo(b'],"rules":' + encoded({one.rule: one.hits for one in found}) + b"}")
