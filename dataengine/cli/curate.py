"""`dataengine curate`: rate samples, and write down which ones to leave out of a build."""

from __future__ import annotations

import importlib
from pathlib import Path

import click
import msgspec

from dataengine import licenses, selection
from dataengine import manifest as manifests
from dataengine.cli.output import LOCAL, json_option, print_json, print_table, progress, workers_option
from dataengine.curate import Left, curate, parse
from dataengine.errors import UsageError
from dataengine.ratings import table as ratings
from dataengine.ratings.table import Histogram, Rated, Scorer


@click.command("curate")
@click.argument("places", metavar="MANIFESTS...", nargs=-1, required=True, type=LOCAL)
@click.option(
    "--profile", help="Leave out what a license profile does not allow: commercial_ok, research_only."
)
@click.option("--profiles", type=LOCAL, help="A YAML file of licenses and profiles of your own.")
@click.option("--rate", "do_rate", is_flag=True, help="Write ratings.parquet beside each manifest first.")
@click.option(
    "--agreement", type=LOCAL, help="With --rate: the folder of a CLIP model, for picture and text."
)
@click.option(
    "--where",
    "filters",
    multiple=True,
    help="Leave out what compares so, such as 'sharpness < 20'; of several each leaves out.",
)
@click.option("--out", type=LOCAL, help="Write the selection here; without it nothing is written.")
@workers_option
@json_option
def command(
    places: tuple[Path, ...],
    profile: str | None,
    profiles: Path | None,
    do_rate: bool,
    agreement: Path | None,
    filters: tuple[str, ...],
    out: Path | None,
    workers: int,
    as_json: bool,
) -> None:
    """Say what of MANIFESTS a license profile and filters on ratings leave out, and write it as a selection to --out.

    `dataengine shard --selection` honours it. With neither, print how the ratings spread. Nothing is deleted.
    """
    where = [parse(text) for text in filters]
    terms = licenses.load(profiles)
    if profile is not None:
        terms.profile(profile)
    if agreement is not None and not do_rate:
        raise UsageError("--agreement goes with --rate; without it nothing is rated")
    if out is not None and profile is None and not where:
        raise UsageError("--out needs --profile or --where: without them nothing is left out")
    folders = sorted({folder for place in places for folder in manifests.find(place)})
    rated = _rate(folders, agreement, workers) if do_rate else []
    if profile is None and not where:
        _print_spread(folders, rated, as_json)
        return
    with progress("curate", "samples") as update:
        choices, counts = curate(folders, profile=profile, terms=terms, where=where, progress=update)
    if out is not None:
        selection.write(choices, out)
    _print(counts, len({one.id for one in choices}), rated, out, as_json)


def _rate(folders: list[Path], agreement: Path | None, workers: int) -> list[Rated]:
    scorer: Scorer | None = None
    if agreement is not None:
        # The trainer is found by name: the engine must not import torch.
        scorer = importlib.import_module("trainer.agreement").load(agreement)
    with progress("rate", "pictures and samples") as update:
        done = ratings.rate(folders, workers=workers, scorer=scorer, progress=update)
    for one in done:
        if one.unread:
            click.echo(f"{one.name}: {one.unread} pictures could not be read and have no ratings", err=True)
    return done


def _print(counts: list[Left], out_of: int, rated: list[Rated], out: Path | None, as_json: bool) -> None:
    samples = sum({one.source: one.samples for one in counts}.values())
    if as_json:
        print_json(
            {
                "rated": msgspec.to_builtins(rated),
                "left_out": msgspec.to_builtins(counts),
                "samples": samples,
                "distinct": out_of,
            }
        )
        return
    print_table(
        "",
        ("source", "by", "left out", "of", "share", "not rated"),
        [
            (one.source, one.by, one.out, one.samples, one.out / max(one.samples, 1), one.unrated)
            for one in counts
        ],
    )
    where = f"; wrote {out}" if out is not None else "; nothing is written without --out"
    click.echo(f"{out_of} of {samples} samples left out{where}")


def _print_spread(folders: list[Path], rated: list[Rated], as_json: bool) -> None:
    found = ratings.histograms(folders)
    if as_json:
        print_json({"rated": msgspec.to_builtins(rated), "histograms": msgspec.to_builtins(found)})
        return
    if rated:
        print_table(
            "",
            ("source", "samples", "pictures not read", "stood already"),
            [(one.name, one.samples, one.unread, one.kept) for one in rated],
        )
    print_table(
        "",
        ("dataset", "rating", "samples by value", "none"),
        [(one.dataset, one.rating, _spread(one), one.missing) for one in found],
    )


def _spread(found: Histogram) -> str:
    starts = found.words or tuple(f"{edge:g}-" for edge in found.edges)
    return "  ".join(f"{start}: {count}" for start, count in zip(starts, found.counts, strict=True) if count)
