"""`dataengine convert`: source files to manifests."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from dataengine import manifest as manifests
from dataengine.catalog import Catalog
from dataengine.cli.output import (
    LOCAL,
    address_option,
    json_option,
    print_json,
    print_table,
    progress,
    runner_option,
    specs_option,
    workers_option,
)
from dataengine.convert import convert
from dataengine.errors import BudgetBroken, SourceError
from dataengine.ledger import Ledger, load
from dataengine.runners import RunnerName
from dataengine.spec import split_names, with_split


@click.command("convert")
@click.argument("spec")
@click.option("--root", required=True, type=LOCAL, help="The dataset's folder.")
@click.option("--out", required=True, type=LOCAL, help="Where manifests are written.")
@click.option("--split", help="One split only.")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many source items.")
@click.option(
    "--allow-empty",
    is_flag=True,
    help="A split without any sample is right; else it fails, as a broken budget.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of templates and class choices.")
@runner_option
@workers_option
@address_option
@specs_option
@json_option
def command(
    spec: str,
    root: Path,
    out: Path,
    split: str | None,
    limit: int | None,
    allow_empty: bool,
    seed: int,
    runner: RunnerName,
    workers: int,
    address: str | None,
    spec_dirs: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Convert SPEC (a dataset, dataset/task, or a YAML file) into OUT/<dataset>/<task>/<split>/.

    Finished splits are recognised and not done again; a stopped run resumes. A split that cannot be read is one line on
    stderr and costs no other split.
    """
    ledgers: dict[str, Ledger] = {}
    failures: list[SourceError | BudgetBroken] = []
    for one in with_split(Catalog(*spec_dirs).find(spec), split):
        for name in split_names(one, split):
            place = f"{one.id}/{name}"
            try:
                with progress(place, "units") as update:
                    ledgers[place] = convert(
                        one,
                        name,
                        root,
                        out,
                        limit=limit,
                        seed=seed,
                        runner=runner,
                        workers=workers,
                        address=address,
                        allow_empty=allow_empty,
                        progress=update,
                    )
            except BudgetBroken as error:
                failures.append(error)
                ledgers[place] = load(
                    out / place / manifests.LEDGER
                )  # broken or not, the account was written
                click.echo(f"error: {error}", err=True)
            except SourceError as error:
                failures.append(error)
                click.echo(f"error: {place}: {error}", err=True)
    for place in ledgers:
        for line in manifests.load(out / place).doubts:
            click.echo(f"warning: {place}: {line}", err=True)
    if as_json:
        print_json({place: msgspec.to_builtins(ledger) for place, ledger in ledgers.items()})
    else:
        print_table(
            "",
            ("split", "units", "samples", "skipped", "quarantined"),
            [
                (place, ledger.units, ledger.samples, reasons(ledger.skipped), reasons(ledger.quarantined))
                for place, ledger in ledgers.items()
            ],
        )
    if failures:
        raise click.exceptions.Exit(2 if any(isinstance(error, SourceError) for error in failures) else 3)


def reasons(counts: dict[str, int]) -> str:
    """Return counts by reason as a short text, the most frequent first."""
    if not counts:
        return "0"
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return f"{sum(counts.values())} ({', '.join(f'{reason} {count}' for reason, count in ordered)})"
