"""`dataengine show`: a resolved task spec."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from dataengine.catalog import Catalog
from dataengine.cli.output import json_option, print_json, specs_option


@click.command("show")
@click.argument("spec")
@specs_option
@json_option
def command(spec: str, spec_dirs: tuple[Path, ...], as_json: bool) -> None:
    """Print SPEC (a dataset, dataset/task, or a YAML file) with everything that it names."""
    found = Catalog(*spec_dirs).find(spec)
    values = [
        {
            "id": one.id,
            "hash": one.hash(),
            **{k: v for k, v in msgspec.to_builtins(one).items() if k != "path"},
        }
        for one in found
    ]
    if as_json:
        print_json(values[0] if len(values) == 1 else values)
        return
    for value in values:
        click.echo(msgspec.yaml.encode(value).decode())
