"""`dataengine mix`: the plan of a mixture, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
from click.core import ParameterSource

from dataengine import strict, yaml12
from dataengine.cli.output import LOCAL, json_option, print_json, print_table
from dataengine.errors import PlanError, UsageError
from dataengine.index import Index
from dataengine.mix import plan, segment_rows, totals
from dataengine.served import account, run_plan, served_totals
from dataengine.shares import Mode, Policy, Recipe
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
    type=LOCAL,
    help="For --policy explicit, token_weighted or repeats: a YAML file, name: weight.",
)
_LEVELS = click.Choice([policy for policy in get_args(Policy) if policy != "hierarchical"])


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
@click.option(
    "--recipe",
    "recipe_file",
    type=LOCAL,
    help="A YAML file of a recipe's fields, such as a pipeline's mix; the options here win.",
)
@policy_option
@weights_option
@temperature_option
@click.option("--cap-epochs", type=float, help="For --policy unimax: the most epochs of any source.")
@click.option("--cap-samples", type=int, help="For --policy cap: the size from which sources count as equal.")
@click.option("--tasks", type=_LEVELS, help="For --policy hierarchical: the policy among tasks.")
@click.option(
    "--datasets", type=_LEVELS, help="For --policy hierarchical: the policy among a task's datasets."
)
@click.option(
    "--steps", type=click.IntRange(1), help="Steps to account for; one pass over the samples by default."
)
@mode_option
@batch_option
@seed_option
@click.option(
    "--served",
    "run",
    type=LOCAL,
    help="A training run: its mixture as it happened, beside its plan.",
)
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    shards: Path | Url,
    recipe_file: Path | None,
    weights_file: Path | None,
    steps: int | None,
    run: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Print what a mixture of SHARDS serves: share, samples, tokens and epochs of every source, task and dataset.

    With --served, hold what a run was served against its plan: a difference of a single sample is printed, and ends
    with status 1.
    """
    index = Index(shards)
    given = [
        name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if run is not None:
        _print_served(
            index, run, [name for name in given if name not in ("shards", "run", "as_json")], as_json
        )
        return
    fields = {name: value for name, value in options.items() if value is not None}
    fields |= {"weights": weights} if (weights := read_weights(weights_file)) is not None else {}
    if recipe_file is not None:
        told = {name: value for name, value in fields.items() if name in given or name == "weights"}
        made_of = strict.convert({**fields, **yaml12.load(recipe_file), **told}, Recipe, recipe_file, [])
    else:
        made_of = recipe(**fields)
    found = sources(index)
    made = plan(found, made_of)
    steps = steps or max(1, sum(source.num_samples for source in found) // made_of.global_batch)
    rows = made.table(steps)
    by_task, by_dataset = totals(rows, "task"), totals(rows, "dataset")
    segments = segment_rows(made, steps)
    if as_json:
        tables = {"rows": rows, "tasks": by_task, "datasets": by_dataset, "segments": segments}
        print_json({"steps": steps, "plan": made.digest, **msgspec.to_builtins(tables)})
        return
    print_table(
        f"{made_of.policy}, {made_of.mode}, {steps} steps of {made_of.global_batch}",
        ("source", "family", "share", "samples", "tokens", "epochs"),
        [(row.source, row.family, row.share, row.samples, row.tokens, row.epochs) for row in rows],
    )
    for name, some in (("task", by_task), ("dataset", by_dataset)):
        print_table(
            "",
            (name, "share", "samples", "tokens", "epochs"),
            [(one.name, one.share, one.samples, one.tokens, one.epochs) for one in some],
        )
    if len(made.segments) > 1:
        print_table(
            "",
            ("task", "from step", "to step", "share", "samples"),
            [(one.task, one.start, one.stop, one.share, one.samples) for one in segments],
        )


def _print_served(index: Index, run: Path, given: Sequence[str], as_json: bool) -> None:
    """Print what a run was served; end with status 1 where that is not its plan."""
    if given:
        raise UsageError(
            f"--served: {', '.join(sorted(given))} given too, expected none: the recipe is the run's; remove them"
        )
    made = account(index, run_plan(index, run), run)
    if as_json:
        print_json(msgspec.to_builtins(made))
    else:
        columns = ("planned", "served", "skipped", "tokens", "epochs")
        print_table(
            f"{run}, {made.steps} steps",
            ("source", *columns),
            [
                (row.source, row.planned, row.samples, row.skipped, row.tokens, row.epochs)
                for row in made.rows
            ],
        )
        for by in ("task", "dataset"):
            print_table("", (by, *columns), served_totals(made.rows, by))
        for line in made.differences:
            click.echo(line)
    if made.differences:
        raise click.exceptions.Exit(1)
