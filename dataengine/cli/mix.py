"""`dataengine mix`: the plan of a mixture, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click
import msgspec

from dataengine import yaml12
from dataengine.cli.output import json_option, print_json, print_table
from dataengine.errors import PlanError
from dataengine.index import Index
from dataengine.mix import plan
from dataengine.shares import Mode, Policy
from dataengine.store import Url, locate
from dataengine.stream import recipe, sources

policy_option = click.option(
    "--policy",
    type=click.Choice(get_args(Policy)),
    default="unimax",
    show_default=True,
)
mode_option = click.option("--mode", type=click.Choice(get_args(Mode)), default="mixed", show_default=True)
batch_option = click.option("--global-batch", type=click.IntRange(1), default=64, show_default=True)
seed_option = click.option("--seed", type=int, default=0, show_default=True)
temperature_option = click.option(
    "--temperature", type=float, help="For --policy temperature; 1 is proportional."
)
weights_option = click.option(
    "--weights",
    "weights_file",
    type=click.Path(path_type=Path),
    help="For --policy explicit: a YAML file, name: weight.",
)


def read_weights(path: Path | None) -> dict[str, float] | None:
    """Return the weights of a YAML file. Raises PlanError where one is no number."""
    if path is None:
        return None
    try:
        return msgspec.convert(yaml12.load(path), dict[str, float])
    except msgspec.ValidationError as error:
        raise PlanError(f"{path}: {error}; expected a mapping of source or task to a number") from error


@click.command("mix")
@click.argument("shards", type=locate)
@policy_option
@weights_option
@temperature_option
@click.option("--cap-epochs", type=float, help="For --policy unimax: the most epochs of any source.")
@click.option(
    "--steps", type=click.IntRange(1), help="Steps to account for; one pass over the samples by default."
)
@mode_option
@batch_option
@seed_option
@json_option
def command(
    shards: Path | Url,
    policy: Policy,
    weights_file: Path | None,
    temperature: float | None,
    cap_epochs: float | None,
    steps: int | None,
    mode: Mode,
    global_batch: int,
    seed: int,
    as_json: bool,
) -> None:
    """Print what a mixture of SHARDS serves: share, samples, tokens and epochs of every source."""
    found = sources(Index(shards))
    made = plan(
        found,
        recipe(
            seed=seed,
            global_batch=global_batch,
            policy=policy,
            mode=mode,
            temperature=temperature,
            cap_epochs=cap_epochs,
            weights=read_weights(weights_file),
        ),
    )
    steps = steps or max(1, sum(source.num_samples for source in found) // global_batch)
    rows = made.table(steps)
    if as_json:
        print_json({"steps": steps, "plan": made.digest, "rows": msgspec.to_builtins(rows)})
        return
    print_table(
        f"{policy}, {mode}, {steps} steps of {global_batch}",
        ("source", "family", "share", "samples", "tokens", "epochs"),
        [(row.source, row.family, row.share, row.samples, row.tokens, row.epochs) for row in rows],
    )
