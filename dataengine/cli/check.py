"""`dataengine check`: every mistake in specs, without data."""

from __future__ import annotations

from pathlib import Path

import click

from dataengine.catalog import Catalog
from dataengine.check import check_all, check_spec
from dataengine.cli.output import json_option, print_json, specs_option


@click.command("check")
@click.argument("specs", nargs=-1)
@specs_option
@json_option
def command(specs: tuple[str, ...], spec_dirs: tuple[Path, ...], as_json: bool) -> None:
    """Check SPECS (datasets, dataset/task, YAML files; all by default). Exit 1 where there is a mistake."""
    catalog = Catalog(*spec_dirs)
    count, mistakes = (
        (len(specs), [text for name in specs for text in check_spec(catalog, name)])
        if specs
        else check_all(catalog)
    )
    if as_json:
        print_json({"specs": count, "mistakes": mistakes})
    else:
        for text in mistakes:
            click.echo(text)
        click.echo(f"{count} specs, {len(mistakes)} mistakes")
    if mistakes:
        raise click.exceptions.Exit(1)
