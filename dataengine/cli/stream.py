"""`dataengine stream`: what a rank is served, by position."""

from __future__ import annotations

from pathlib import Path

import click

from dataengine.cli.mix import (
    batch_option,
    mode_option,
    policy_option,
    read_weights,
    seed_option,
    temperature_option,
    weights_option,
)
from dataengine.cli.output import json_option, print_json, print_table
from dataengine.shares import Mode, Policy
from dataengine.store import Url, locate
from dataengine.stream import Stream, recipe


@click.command("stream")
@click.argument("shards", type=locate)
@seed_option
@click.option("--position", type=click.IntRange(0), default=0, show_default=True, help="First position.")
@click.option(
    "--count", type=click.IntRange(0), default=10, show_default=True, help="Positions, over all ranks."
)
@click.option("--world", type=click.IntRange(1), default=1, show_default=True)
@click.option("--rank", type=click.IntRange(0), default=0, show_default=True)
@click.option("--use", type=click.Choice(["train", "eval"]), default="train", show_default=True)
@policy_option
@weights_option
@temperature_option
@mode_option
@batch_option
@json_option
def command(
    shards: Path | Url,
    seed: int,
    position: int,
    count: int,
    world: int,
    rank: int,
    use: str,
    policy: Policy,
    weights_file: Path | None,
    temperature: float | None,
    mode: Mode,
    global_batch: int,
    as_json: bool,
) -> None:
    """List what SHARDS serve at positions POSITION to POSITION + COUNT to one RANK of WORLD.

    All ranks together list each position once, whatever their number.
    """
    stream = Stream(
        shards,
        recipe(
            seed=seed,
            global_batch=global_batch,
            policy=policy,
            mode=mode,
            temperature=temperature,
            weights=read_weights(weights_file),
        ),
        use=use,
    )
    positions = stream.positions(position, position + count, rank=rank, world=world)
    if as_json:
        for one in positions:
            print_json(stream.entry(one))
        return
    entries = [stream.entry(one) for one in positions]
    print_table(
        "",
        ("t", "id", "task", "shard", "offset"),
        [[e[k] for k in ("t", "id", "task", "shard", "offset")] for e in entries],
    )
