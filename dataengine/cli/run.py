"""`dataengine run`: a whole pipeline by name."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from dataengine.cli.convert import reasons
from dataengine.cli.output import LOCAL, json_option, print_json, print_table, progress
from dataengine.errors import UsageError
from dataengine.pipeline import find
from dataengine.run import Summary, run_pipeline


@click.command("run")
@click.argument("name")
@click.option("--file", type=LOCAL, default=Path("pipelines.yaml"), show_default=True)
@click.option("--out", type=LOCAL, help="Another folder than the pipeline's own.")
@click.option("--root", "root_options", multiple=True, help="NAME=DIR: where a root of the pipeline lies.")
@json_option
def command(name: str, file: Path, out: Path | None, root_options: tuple[str, ...], as_json: bool) -> None:
    """Run pipeline NAME stage by stage; a second run does only what changed."""
    roots: dict[str, Path] = {}
    for pair in root_options:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--root {pair!r}: expected NAME=DIR")
        roots[key] = Path(value)
    summary = run_pipeline(name, find(file, name), progress, out=out, roots=roots)
    if as_json:
        print_json(msgspec.to_builtins(summary))
    else:
        show(summary)


def show(summary: Summary) -> None:
    """Print the summary as tables."""
    one = summary.ledger
    print_table(
        "Account",
        ("what", "count"),
        [
            ("records in", one.records),
            ("units", one.units),
            ("samples", one.samples),
            ("skipped", reasons(one.skipped)),
            ("quarantined", reasons(one.quarantined)),
            ("objects dropped", reasons(one.objects_dropped)),
            ("shards", summary.shards),
            ("audit findings", reasons(summary.audit)),
        ],
    )
    if summary.tasks:
        print_table(
            "\nMixture and loss",
            ("source", "planned", "served", "loss first", "loss last"),
            [
                (
                    task.source,
                    f"{task.planned:.4f}",
                    f"{task.served:.4f}",
                    "-" if task.loss_first is None else f"{task.loss_first:.3f}",
                    "-" if task.loss_last is None else f"{task.loss_last:.3f}",
                )
                for task in summary.tasks
            ],
        )
    click.echo(f"\nreport: {Path(summary.report).resolve()}")
