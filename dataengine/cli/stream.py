"""`dataengine stream`: what a rank is served, by position, or what all would be."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import click
import msgspec

from dataengine.cli.mix import read_recipe, recipe_options
from dataengine.cli.output import json_option, on_command_line, print_json, print_table, size_text
from dataengine.errors import PlanError, UsageError
from dataengine.render import RenderOptions
from dataengine.simulate import Run, simulate
from dataengine.state import Hole
from dataengine.store import Url, locate
from dataengine.stream import Stream

# The options that only one of the two ways of asking reads.
_SIMULATED = ("workers", "steps", "stop_at", "then_world", "then_workers")
_LISTED = ("rank", "count", "render")


@click.command("stream")
@click.argument("shards", type=locate)
@click.option("--position", type=click.IntRange(0), default=0, show_default=True, help="First position.")
@click.option(
    "--count", type=click.IntRange(0), default=10, show_default=True, help="Positions, over all ranks."
)
@click.option("--world", type=click.IntRange(1), default=1, show_default=True)
@click.option("--rank", type=click.IntRange(0), default=0, show_default=True)
@click.option("--use", type=click.Choice(["train", "eval"]), default="train", show_default=True)
@click.option(
    "--simulate",
    "do_simulate",
    is_flag=True,
    help="Say what every rank would read, and prove it is the plan.",
)
@click.option(
    "--workers", type=click.IntRange(0), default=0, show_default=True, help="Worker processes a rank."
)
@click.option(
    "--steps", type=click.IntRange(1), help="Steps to simulate; one pass over the samples by default."
)
@click.option(
    "--stop-at", type=click.IntRange(0), metavar="T", help="Stop before position T, and start again."
)
@click.option("--then-world", type=click.IntRange(1), help="Ranks after the stop; as before by default.")
@click.option("--then-workers", type=click.IntRange(0), help="Workers after the stop; as before by default.")
@recipe_options
@click.option(
    "--render", is_flag=True, help="With --json: the conversations too, worded anew from the second pass on."
)
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    shards: Path | Url,
    position: int,
    count: int,
    world: int,
    rank: int,
    use: str,
    do_simulate: bool,
    workers: int,
    steps: int | None,
    stop_at: int | None,
    then_world: int | None,
    then_workers: int | None,
    recipe_file: Path | None,
    weights_file: Path | None,
    render: bool,
    as_json: bool,
    **fields: Any,
) -> None:
    """List what SHARDS serve at positions POSITION to POSITION + COUNT to one RANK of WORLD.

    All ranks together list each position once, whatever their number. With --simulate: what every rank would read
    in --steps steps from POSITION on, also with a stop at T and another number of ranks after it, from the index alone.
    """
    _check_options(on_command_line(context), do_simulate)
    if render and not as_json:
        raise UsageError("stream: --render shows whole conversations, expected --json with it; add --json")
    stream = Stream(
        shards,
        read_recipe(context, recipe_file, weights_file, fields),
        use=use,
        render=RenderOptions() if render else None,
    )
    if do_simulate:
        global_batch = stream.plan.recipe.global_batch
        steps = steps or max(1, int(stream.plan.sizes.sum()) // global_batch)
        stop = (position // global_batch + steps) * global_batch
        first = Run(start=position, stop=stop, world=world, workers=workers)
        _simulate(stream, _stopped(first, stop_at, then_world, then_workers), as_json)
        return
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


def _check_options(told: Collection[str], do_simulate: bool) -> None:
    """Raise UsageError for an option that would change nothing."""
    idle: tuple[str, ...] = _SIMULATED
    why = "belongs to a simulation, expected --simulate with it; add it"
    if do_simulate:
        idle, why = (
            _LISTED,
            "belongs to a list of positions, expected none with --simulate; remove one of them",
        )
    for name in idle:
        if name in told:
            raise UsageError(f"stream: --{name.replace('_', '-')} {why}")
    for name in ("then_world", "then_workers"):
        if name in told and "stop_at" not in told:
            raise UsageError(
                f"stream: --{name.replace('_', '-')} says what comes after a stop, expected --stop-at with it; add it"
            )


def _stopped(run: Run, stop_at: int | None, then_world: int | None, then_workers: int | None) -> list[Run]:
    """Return a run as it is, or cut in two at a position. Raises PlanError where that lies outside of it."""
    if stop_at is None:
        return [run]
    if not run.start <= stop_at <= run.stop:
        raise PlanError(
            f"--stop-at: position {stop_at}, expected {run.start} to {run.stop}, where the run is; raise --steps"
        )
    return [
        msgspec.structs.replace(run, stop=stop_at),
        Run(
            start=stop_at,
            stop=run.stop,
            world=then_world or run.world,
            workers=run.workers if then_workers is None else then_workers,
        ),
    ]


def _simulate(stream: Stream, runs: list[Run], as_json: bool) -> None:
    found = simulate(stream, runs)
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        for run, ranks in zip(found.runs, found.ranks, strict=True):
            print_table(
                f"positions {run.start} to {run.stop}: {run.world} ranks, {run.workers} worker processes each",
                ("rank", "steps", "positions", "samples", "shards", "open files", "bytes", "tasks"),
                [
                    (row.rank, row.steps, row.positions, row.samples, row.shards, row.open_files,
                     size_text(row.bytes), ", ".join(f"{task} {count}" for task, count in row.tasks.items()))
                    for row in ranks
                ],
            )  # fmt: skip
        for finding in found.findings:
            click.echo(finding)
        if not found.findings:
            click.echo(
                f"{found.positions} positions, each served once, each the sample of plan {found.plan};"
                " equal steps on all ranks"
            )
    if found.findings:
        raise click.exceptions.Exit(1)


def _worded(stream: Stream, position: int) -> dict[str, Any]:
    """Return the pass over its source in which a position stands, and the words that its sample has in it.

    A damaged sample gives the reason instead: the positions behind it are read all the same.
    """
    found = stream.describe(position)
    words: dict[str, Any] = (
        {"hole": {"reason": found.reason, "detail": found.detail}}
        if isinstance(found, Hole)
        else msgspec.to_builtins(
            {"conversation": found.conversation, "routes": found.routes, "prompt": found.prompt}
        )
    )
    return {"epoch": stream.epoch(position), **words}
