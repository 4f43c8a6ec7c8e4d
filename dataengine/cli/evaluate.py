"""`dataengine evaluate`: what a checkpoint is worth on samples that were kept back."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

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
from dataengine.errors import UsageError
from dataengine.store import StoreSettings, Url, locate
from dataengine.strict import convert


@click.command("evaluate")
@click.argument("run", type=LOCAL, required=False)
@click.argument("data", type=locate, required=False)
@click.option(
    "--out", type=LOCAL, help="Where predictions, numbers and page go; the run's folder by default."
)
@click.option("--use", type=click.Choice(["train", "eval"]), default="eval", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="At most so many samples.")
@click.option(
    "--forced-only", is_flag=True, help="Give the model the answers alone; it does not answer by itself."
)
@click.option("--batch-size", type=click.IntRange(1), help="Samples at a time.  [default: 8]")
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    help="The longest answer of its own, in tokens.  [default: 512]",
)
@click.option(
    "--replace", is_flag=True, help="Lose the predictions in --out of another model, other data or settings."
)
@click.option(
    "--from",
    "predictions",
    type=LOCAL,
    help="Compute the numbers anew from predictions.jsonl, without RUN, DATA and a model.",
)
@click.option(
    "--max-bad-ratio",
    type=click.FloatRange(0, 1),
    help="The share of samples that may be damaged; the run's by default.",
)
@cache_dir_option
@cache_bytes_option
@json_option
def command(
    run: Path | None,
    data: Path | Url | None,
    out: Path | None,
    use: str,
    limit: int | None,
    forced_only: bool,
    batch_size: int | None,
    max_new_tokens: int | None,
    replace: bool,
    predictions: Path | None,
    max_bad_ratio: float | None,
    cache_dir: str | None,
    cache_bytes: int | None,
    as_json: bool,
) -> None:
    """Evaluate RUN (a run or a checkpoint) on DATA (shards or their URL, or a folder of manifests).

    The model answers by itself, calling its decoders, and is measured once more with the true answer given. Predictions
    are written as they come; the same command again goes on behind them.
    """
    # The trainer is found by name: the engine must not import torch.
    evaluator = importlib.import_module("trainer.evaluate")
    if predictions is not None:
        if run is not None:
            raise UsageError(f"evaluate: --from needs no RUN, got {run}; leave one of them out")
        result = evaluator.evaluate_predictions(predictions, out or predictions.parent)
    elif run is None or data is None:
        raise UsageError("evaluate: RUN or DATA is missing, expected both; or give predictions with --from")
    else:
        cache = given(cache_dir=cache_dir, cache_bytes=cache_bytes)
        settings = given(
            store=convert(cache, StoreSettings, "evaluate", []) if cache else None,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
        )
        with progress("evaluate", "samples") as update:
            result = evaluator.evaluate_run(
                run,
                data,
                out or run,
                use=use,
                limit=limit,
                max_bad_ratio=max_bad_ratio,
                replace=replace,
                free=not forced_only,
                progress=update,
                **settings,
            )
    _show(evaluator.PAGE, result, out or (predictions.parent if predictions is not None else run), as_json)


def _show(page: str, result: dict[str, Any], out: Path | None, as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    columns = ("task", "samples", "measure", "own answer", "answer given")
    print_table("", columns, importlib.import_module("trainer.report").rows_of(result))
    for reason, count in result["skipped"].items():
        click.echo(f"skipped: {reason} {count}")
    click.echo(f"page: {out}/{page}")
