"""`dataengine train`: train the model on shards; the same command again resumes."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import click

from dataengine import yaml12
from dataengine.cli.output import (
    LOCAL,
    cache_bytes_option,
    cache_dir_option,
    given,
    json_option,
    print_json,
    progress,
)
from dataengine.errors import SpecError, UsageError


@click.command("train")
@click.argument("shards", metavar="SHARDS")
@click.option("--out", required=True, type=LOCAL, help="Checkpoints, metrics and served samples.")
@click.option(
    "--config",
    "configs",
    multiple=True,
    metavar="FILE|NAME",
    help="A YAML file of settings, or one of ours: stage1a, stage1b, stage2, stage3, joint. Of several, the last that"
    " says something wins; the options here win over all.",
)
@click.option("--steps", type=click.IntRange(1), help="Steps in all.")
@click.option("--global-batch", type=click.IntRange(1), help="Samples a step, over all ranks.")
@click.option(
    "--stage", type=click.Choice(["1a", "1b", "2", "3", "joint"]), help="What learns, and how fast."
)
@click.option("--init-from", help="A run, or a checkpoint of one, whose weights this one starts with.")
@click.option("--seed", type=int)
@click.option("--lr", type=float, help="One learning rate for all that learns.")
@click.option("--device", help="cpu, cuda or auto.")
@click.option(
    "--ray-workers", type=click.IntRange(1), help="Train in so many processes that Ray Train starts."
)
@click.option("--address", help="With --ray-workers, a Ray cluster: HOST:PORT, or auto.")
@cache_dir_option
@cache_bytes_option
@json_option
def command(
    shards: str,
    out: Path,
    configs: tuple[str, ...],
    cache_dir: str | None,
    cache_bytes: int | None,
    ray_workers: int | None,
    address: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train on SHARDS (or their URL) into OUT. A run that was stopped goes on where it was, bit for bit on a CPU.

    Several processes, one a GPU: `torchrun --nproc-per-node 8 -m dataengine train ...`, or --ray-workers 8.
    """
    if address is not None and ray_workers is None:
        raise UsageError(
            "--address: names a Ray cluster, expected --ray-workers with it; add that, or leave it out"
        )
    # The trainer is found by name: the engine must not import torch.
    settings = importlib.import_module("trainer.config")
    fields: dict[str, Any] = {}
    for config in configs:
        fields |= yaml12.load(Path(config)) if Path(config).exists() else settings.stage_fields(config)
    place = ", ".join(configs) or "train"
    if cache := given(cache_dir=cache_dir, cache_bytes=cache_bytes):
        store = fields.get("store", {})
        if not isinstance(store, dict):
            raise SpecError(f"{place}: store is {store!r}, expected a mapping; the options here add to it")
        fields["store"] = {**store, **cache}
    fields |= given(**options)
    fields["shards"] = shards
    fields.setdefault("steps", 1000)
    fields.setdefault("global_batch", 8)
    result = _train(settings.make_config(fields, place), out, ray_workers, address)
    if result.rank:
        return  # another process tells
    summary = {
        "step": result.step,
        "stopped": result.stopped,
        "checkpoint": str(result.checkpoint),
        "skipped": result.skipped,
        "nonfinite": list(result.nonfinite),
    }
    if as_json:
        print_json(summary)
    else:
        click.echo(", ".join(f"{key} {value}" for key, value in summary.items()))


def _train(config: Any, out: Path, ray_workers: int | None, address: str | None) -> Any:
    """Train here, as one of the processes that torchrun started, or in those that Ray Train starts."""
    if ray_workers is not None:
        cluster = importlib.import_module("trainer.cluster")
        return cluster.train_on_ray(config, out, workers=ray_workers, address=address)
    trainer = importlib.import_module("trainer.train")
    if os.environ.get("RANK", "0") != "0":
        return trainer.train(config, out)
    with progress("train", "steps") as update:
        return trainer.train(config, out, progress=update)
