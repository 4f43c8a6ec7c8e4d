"""`dataengine trace`: from a sample to its source record, and to the steps that it served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dataengine.cli.output import LOCAL, json_option, print_json
from dataengine.index import Index
from dataengine.store import Url, locate
from dataengine.trace import steps_of


@click.command("trace")
@click.argument("shards", type=locate)
@click.argument("sample_id", metavar="ID")
@click.option("--run", type=LOCAL, help="A training run: adds the steps that it served.")
@json_option
def command(shards: Path | Url, sample_id: str, run: Path | None, as_json: bool) -> None:
    """Print where the sample ID of SHARDS comes from: source file and record, spec, shard and offset."""
    index = Index(shards)
    row = index.row(index.find(sample_id))
    source = next(entry for entry in index.set.sources if entry.name == row["source"])
    found: dict[str, Any] = {
        "id": row["id"],
        "file": row["file"],
        "record": row["record"],
        "spec": f"{row['dataset']}/{row['task']}",
        "spec_hash": source.spec_hash,
        "shard": f"{row['shard']}.tar",
        "key": row["key"],
        "offset": row["json_offset"],
    }
    if run is not None:
        found["steps"] = steps_of(run, sample_id)
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        click.echo(f"{key:>10}  {value}")
