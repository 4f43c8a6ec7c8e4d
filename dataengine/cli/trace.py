"""`dataengine trace`: from a sample to its source record, and to the steps that it served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from dataengine.cli.output import LOCAL, json_option, print_json
from dataengine.errors import SourceError
from dataengine.index import Index
from dataengine.store import Url, locate

SERVED = "served.jsonl"


class Served(msgspec.Struct):
    """One line of a run's served.jsonl: the ids that a step was made of."""

    step: int
    ids: list[str]


def steps_of(run: Path, sample_id: str) -> list[int]:
    """Return the steps of a run that served a sample. Raises SourceError where the run kept no record."""
    path = run / SERVED if run.is_dir() else run
    decode = msgspec.json.Decoder(Served).decode
    try:
        with path.open("rb") as file:
            return [line.step for line in map(decode, file) if sample_id in line.ids]
    except (OSError, msgspec.DecodeError) as error:
        raise SourceError(
            f"{path}: cannot be read: {error}; expected the folder of a training run"
        ) from error


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
