"""`dataengine evaluate`: what a checkpoint is worth on samples that were kept back."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from dataengine.cli.output import (
    LOCAL,
    cache_bytes_option,
    cache_dir_option,
    given,
    json_option,
    print_json,
    print_table,
    progress,
)
from dataengine.store import StoreSettings, Url, locate
from dataengine.strict import convert


@click.command("evaluate")
@click.argument("run", type=LOCAL)
@click.argument("data", type=locate)
@click.option("--out", type=LOCAL, help="Where evaluation.json goes; the run's folder by default.")
@click.option("--use", type=click.Choice(["train", "eval"]), default="eval", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="At most so many samples.")
@click.option(
    "--max-bad-ratio",
    type=click.FloatRange(0, 1),
    help="The share of samples that may be damaged; the run's by default.",
)
@cache_dir_option
@cache_bytes_option
@json_option
def command(
    run: Path,
    data: Path | Url,
    out: Path | None,
    use: str,
    limit: int | None,
    max_bad_ratio: float | None,
    cache_dir: str | None,
    cache_bytes: int | None,
    as_json: bool,
) -> None:
    """Evaluate RUN (a run or a checkpoint) on DATA (shards or their URL, or a folder of manifests), teacher-forced."""
    cache = given(cache_dir=cache_dir, cache_bytes=cache_bytes)
    settings = given(store=convert(cache, StoreSettings, "evaluate", []) if cache else None)
    # The trainer is found by name: the engine must not import torch.
    evaluator = importlib.import_module("trainer.evaluate")
    with progress("evaluate", "samples") as update:
        result = evaluator.evaluate_run(
            run,
            data,
            out or run,
            use=use,
            limit=limit,
            max_bad_ratio=max_bad_ratio,
            progress=update,
            **settings,
        )
    if as_json:
        print_json(result)
        return
    rows = [(task, name, value) for task, values in result["tasks"].items() for name, value in values.items()]
    print_table("", ("task", "measure", "value"), rows)
    for reason, count in result["skipped"].items():
        click.echo(f"skipped: {reason} {count}")
