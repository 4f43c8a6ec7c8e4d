"""`dataengine mix`: the plan of a mixture, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
import msgspec

from dataengine import strict, yaml12
from dataengine.cli.output import LOCAL, flags, given, json_option, on_command_line, print_json, print_table
from dataengine.errors import PlanError, UsageError
from dataengine.index import Index
from dataengine.mix import plan, segment_rows, totals
from dataengine.served import account, run_plan, served_totals
from dataengine.shares import Mode, Policy, Recipe
from dataengine.store import Url, locate
from dataengine.stream import check_index, recipe, sources

_LEVELS = click.Choice([policy for policy in get_args(Policy) if policy != "hierarchical"])
_RECIPE_OPTIONS = (
    click.option(
        "--recipe",
        "recipe_file",
        type=LOCAL,
        help="A YAML file of a recipe's fields, such as a pipeline's mix; the options here win.",
    ),
    click.option("--policy", type=click.Choice(get_args(Policy)), default="unimax", show_default=True),
    click.option(
        "--weights",
        "weights_file",
        type=LOCAL,
        help="For --policy explicit, token_weighted or repeats: a YAML file, name: weight.",
    ),
    click.option("--temperature", type=float, help="For --policy temperature; 1 is proportional."),
    click.option("--cap-epochs", type=float, help="For --policy unimax: the most epochs of any source."),
    click.option("--budget", type=int, help="For --policy unimax: samples in all; one pass by default."),
    click.option(
        "--cap-samples", type=int, help="For --policy cap: the size from which sources count as equal."
    ),
    click.option("--tasks", type=_LEVELS, help="For --policy hierarchical: the policy among tasks."),
    click.option(
        "--datasets", type=_LEVELS, help="For --policy hierarchical: the policy among a task's datasets."
    ),
    click.option("--mode", type=click.Choice(get_args(Mode)), default="mixed", show_default=True),
    click.option("--global-batch", type=click.IntRange(1), default=64, show_default=True),
    click.option("--seed", type=int, default=0, show_default=True),
)
_Command = TypeVar("_Command", bound=Callable[..., Any])


def recipe_options(command: _Command) -> _Command:
    """Give a command the options that make a recipe; `read_recipe` reads them."""
    for option in reversed(_RECIPE_OPTIONS):
        command = option(command)
    return command


def read_recipe(
    context: click.Context, recipe_file: Path | None, weights_file: Path | None, fields: Mapping[str, Any]
) -> Recipe:
    """Return the recipe of a command's options and its file, where options that were given win.

    Raises SpecError for a wrong file and PlanError for wrong options.
    """
    weights = None if weights_file is None else _read_weights(weights_file)
    chosen = given(**fields, weights=weights)
    if recipe_file is None:
        return recipe(**chosen)
    told = {name: value for name, value in chosen.items() if name in (*on_command_line(context), "weights")}
    return strict.convert({**chosen, **yaml12.load(recipe_file), **told}, Recipe, recipe_file, [])


def _read_weights(path: Path) -> dict[str, float]:
    found = yaml12.load(path)
    for name, weight in found.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise PlanError(
                f"{path}: {name!r} is {weight!r}, expected a number, the weight of a source or task"
            )
    return found


@click.command("mix")
@click.argument("shards", type=locate)
@recipe_options
@click.option(
    "--steps", type=click.IntRange(1), help="Steps to account for; one pass over the samples by default."
)
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
    **fields: Any,
) -> None:
    """Print what a mixture of SHARDS serves: share, samples, tokens and epochs of every source, task and dataset.

    With --served, hold what a run was served against its plan: a difference of a single sample is printed, and ends
    with status 1.
    """
    index = Index(shards)
    check_index(index)
    if run is not None:
        told = [name for name in on_command_line(context) if name not in ("shards", "run", "as_json")]
        _print_served(index, run, flags(context, told), as_json)
        return
    made_of = read_recipe(context, recipe_file, weights_file, fields)
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


def _print_served(index: Index, run: Path, told: str, as_json: bool) -> None:
    """Print what a run was served; end with status 1 where that is not its plan."""
    if told:
        raise UsageError(f"--served: {told} given too, expected none: the recipe is the run's; remove them")
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
