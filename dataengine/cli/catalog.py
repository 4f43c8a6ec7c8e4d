"""`dataengine catalog`: the task specs, one a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dataengine.catalog import Catalog
from dataengine.cli.output import json_option, print_json, print_table, specs_option
from dataengine.spec import Resolved


def entry(spec: Resolved) -> dict[str, Any]:
    """Return what the catalog says of a task spec."""
    dataset = spec.dataset
    uses = {dataset.source.splits[split].use for split in spec.splits}
    return {
        "id": spec.id,
        "dataset": dataset.id,
        "task": spec.task.id,
        "title": dataset.title,
        "format": dataset.source.format,
        "license": {"annotations": dataset.license.annotations, "images": dataset.license.images},
        "status": dataset.status,
        "use": "train" if "train" in uses else "eval",
        "splits": {split: dataset.source.splits[split].use for split in spec.splits},
        "covers": list(dataset.covers) or [dataset.id],
        "unverified": list(dataset.unverified),
        "fetch": dataset.fetch.kinds() if dataset.fetch else [],
    }


@click.command("catalog")
@specs_option
@json_option
def command(spec_dirs: tuple[Path, ...], as_json: bool) -> None:
    """List every task spec: what it reads, its license, and what its conversion has been proven on."""
    entries = [entry(spec) for spec in Catalog(*spec_dirs)]
    if as_json:
        print_json(entries)
        return
    rows = [
        (one["id"], one["format"], one["license"]["annotations"], one["status"], one["use"])
        for one in entries
    ]
    print_table("", ("id", "format", "license", "status", "use"), rows)
