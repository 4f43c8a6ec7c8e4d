"""`dataengine leaks`: indexes of evaluation sets, and training data held against them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click
import msgspec

from dataengine import selection
from dataengine.audit.leaks import leaks
from dataengine.audit.report import write
from dataengine.audit.run import broken
from dataengine.audit.summary import says_broken
from dataengine.cli.output import (
    LOCAL,
    json_option,
    print_json,
    print_table,
    progress,
    specs_option,
    workers_option,
)
from dataengine.errors import UsageError
from dataengine.leaks import evalset
from dataengine.leaks.check import SIGNS, By
from dataengine.leaks.ids import Spaces, load
from dataengine.leaks.parts import Part, parts_of

links_option = click.option(
    "--links",
    multiple=True,
    help="SPACE=FILE: which pictures of a space of ids are others, such as visual_genome=image_data.json. Files in the"
    " root of a manifest are found by themselves.",
)


@click.group("leaks")
def command() -> None:
    """Keep what is to be evaluated on out of what is trained on."""


@command.command("index")
@click.argument("paths", nargs=-1, required=True, type=LOCAL)
@click.option("--out", type=LOCAL, required=True, help="The Parquet file to write.")
@click.option("--name", help="What the set is called in reports; else as the file is.")
@links_option
@specs_option
@workers_option
@json_option
def index(
    paths: tuple[Path, ...],
    out: Path,
    name: str | None,
    links: tuple[str, ...],
    spec_dirs: tuple[Path, ...],
    workers: int,
    as_json: bool,
) -> None:
    """Write the index of an evaluation set: what the pictures and texts of the splits to evaluate on in PATHS, folders
    of manifests or shards, are known by."""
    parts = parts_of(paths)
    spaces = _spaces(parts, links, spec_dirs)
    with progress("leaks index", "pictures") as update:
        found = evalset.make(name or out.stem, parts, spaces, workers, update)
    evalset.write(found, out)
    told = {
        "name": found.name,
        "splits": len(found.made_from),
        "pictures": sum(bool(row.image) for row in found.rows),
        "unread": found.unread,
        "questions": sum(len(row.questions) for row in found.rows),
        "runs": sum(len(row.runs) for row in found.rows),
        "common": found.common,
    }
    if as_json:
        print_json(told)
        return
    print_table("", ("what", "count"), [pair for pair in told.items() if pair[0] != "name"])
    click.echo(f"{out}: evaluation set {found.name}")


@command.command("check")
@click.argument("paths", nargs=-1, required=True, type=LOCAL)
@click.option(
    "--against",
    multiple=True,
    required=True,
    type=LOCAL,
    help="An index of an evaluation set, or a .txt of ids; may be given several times.",
)
@click.option(
    "--by",
    "signs",
    multiple=True,
    type=click.Choice(SIGNS),
    help="Look for these signs alone; may be given several times. Ids and text need no picture.",
)
@click.option(
    "--drop",
    type=LOCAL,
    help="Write the samples that leak as a selection for 'dataengine shard --selection', and exit 0.",
)
@click.option("--report", "report_dir", type=LOCAL, help="Write index.html, issues.parquet, report.json.")
@links_option
@specs_option
@workers_option
@json_option
def check(
    paths: tuple[Path, ...],
    against: tuple[Path, ...],
    signs: tuple[By, ...],
    drop: Path | None,
    report_dir: Path | None,
    links: tuple[str, ...],
    spec_dirs: tuple[Path, ...],
    workers: int,
    as_json: bool,
) -> None:
    """Hold the splits to train on in PATHS, folders of manifests or shards, against evaluation sets.

    Exit 1 where near pictures leak, 3 where pictures or texts do, 0 where none does or --drop takes them out.
    """
    parts = parts_of(paths)
    spaces = _spaces(parts, links, spec_dirs)
    sets = [evalset.read(path) for path in against]
    with progress("leaks check", "pictures") as update:
        report, choices = leaks(parts, sets, spaces, signs=signs or SIGNS, workers=workers, progress=update)
    if report_dir is not None:
        write(report, report_dir)
    left_out = {choice.id for choice in choices}
    if drop is not None:
        selection.write(choices, drop)
    counts = Counter[str]()
    for (_, rule, _), hits in report.findings.counts.items():
        counts[rule] += hits
    if as_json:
        print_json(
            {
                "rules": dict(counts),
                "checked": report.checked,
                "samples": len(left_out),
                "findings": msgspec.to_builtins(list(report.findings)),
            }
        )
    else:
        print_table(
            "",
            ("rule", "subject", "hits"),
            [(rule, subject, hits) for (subject, rule, _), hits in sorted(report.findings.counts.items())],
        )
        click.echo(f"{len(report.findings)} leaks, in {len(left_out)} of {report.checked['sample']} samples")
        for line in map(says_broken, broken(report) if drop is None else ()):
            click.echo(f"budget broken: {line}")
    if drop is not None:
        return
    if broken(report):
        raise click.exceptions.Exit(3)
    if len(report.findings):
        raise click.exceptions.Exit(1)


def _spaces(parts: list[Part], links: tuple[str, ...], spec_dirs: tuple[Path, ...]) -> Spaces:
    spaces = load(spec_dirs)
    for root in dict.fromkeys(part.root for part in parts if part.root):
        spaces.link(Path(root))
    for pair in links:
        space, equals, file = pair.partition("=")
        if not equals:
            raise UsageError(f"--links {pair!r}: expected SPACE=FILE")
        spaces.read_links(space, Path(file))
    return spaces
