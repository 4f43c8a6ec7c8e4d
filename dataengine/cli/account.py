"""`dataengine audit --account`: what every stage from source to run holds, counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import get_args

import click
import msgspec

from dataengine.audit.account import findings, prove
from dataengine.audit.identity import COLUMNS, Verdict, by_stage
from dataengine.audit.report import write
from dataengine.audit.state import Report
from dataengine.cli.output import flags, on_command_line, print_json, print_table, progress
from dataengine.errors import UsageError
from dataengine.store import StoreSettings, Url

# What says how foreign files are read.
_FOREIGN = ("format_name", "root", "source_options")


def print_account(
    context: click.Context,
    paths: tuple[Path | Url, ...],
    report_dir: Path | None,
    settings: StoreSettings,
    workers: int,
    as_json: bool,
) -> None:
    """Print the account of some paths; end with status 1 where a line of it differs."""
    if told := [name for name in on_command_line(context) if name in _FOREIGN]:
        raise UsageError(
            f"--account: {flags(context, told)} given too, expected none: it reads what convert, shard and train wrote;"
            " remove them"
        )
    with progress("account", "rows and members") as update:
        lines = prove(paths, workers=workers, store=settings, progress=update)
    differing = findings(lines)
    if report_dir is not None:
        write(Report(accounts=[], findings=differing, checked={}), report_dir, lines)
    verdicts = Counter(line.verdict for line in lines)
    if as_json:
        print_json({"account": msgspec.to_builtins(lines), "verdicts": verdicts})
    else:
        for says, some in by_stage(lines):
            print_table(says, COLUMNS, [line.cells for line in some])
        # Once more in one line each, so that no name is broken over two.
        for found in differing:
            click.echo(f"differs: {found.subject}: {found.detail}")
        counts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in get_args(Verdict))
        click.echo(counts + (f", see {report_dir / 'index.html'}" if report_dir else ""))
    if differing:
        raise click.exceptions.Exit(1)
