"""`dataengine stream`: what a rank is served, by position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

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
from dataengine.errors import UsageError
from dataengine.render import RenderOptions
from dataengine.shares import Mode, Policy
from dataengine.stream import Stream, recipe


@click.command("stream")
@click.argument("shards", type=click.Path(path_type=Path))
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
@click.option(
    "--render", is_flag=True, help="With --json: the conversations too, worded anew from the second pass on."
)
@json_option
def command(
    shards: Path,
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
    render: bool,
    as_json: bool,
) -> None:
    """List what SHARDS serve at positions POSITION to POSITION + COUNT to one RANK of WORLD.

    All ranks together list each position once, whatever their number.
    """
    if render and not as_json:
        raise UsageError("stream: --render shows whole conversations, expected --json with it; add --json")
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
        render=RenderOptions() if render else None,
    )
    positions = stream.positions(position, position + count, rank=rank, world=world)
    if as_json:
        for one in positions:
            print_json({**stream.entry(one), **(_worded(stream, one) if render else {})})
        return
    entries = [stream.entry(one) for one in positions]
    print_table(
        "",
        ("t", "id", "task", "shard", "offset"),
        [[e[k] for k in ("t", "id", "task", "shard", "offset")] for e in entries],
    )


def _worded(stream: Stream, position: int) -> dict[str, Any]:
    """Return the pass over its source in which a position stands, and the words that its sample has in it."""
    sample, _ = stream.read(position)
    words: dict[str, Any] = msgspec.to_builtins(
        {"conversation": sample.conversation, "routes": sample.routes, "prompt": sample.prompt}
    )
    return {"epoch": stream.plan[position].epoch, **words}
