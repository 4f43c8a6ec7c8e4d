"""`dataengine shard`: manifests to tars, and proof that the tars are what they were."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import click
from click.core import ParameterSource

from dataengine.cli.output import (
    address_option,
    json_option,
    print_json,
    print_table,
    progress,
    runner_option,
    workers_option,
)
from dataengine.errors import UsageError
from dataengine.index import ShardSet
from dataengine.layout import Layout
from dataengine.runners import RunnerName
from dataengine.shard import append, shard
from dataengine.verify import rebuild, verify


@click.command("shard")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where tars, index.parquet and shards.json go.")
@click.option("--layout", type=click.Choice(["by_task", "mixed"]), default="by_task", show_default=True)
@click.option("--samples-per-shard", type=click.IntRange(1), default=1000, show_default=True)
@click.option(
    "--append",
    "do_append",
    is_flag=True,
    help="Add the splits to the set in --out, in its layout; its tars stay, its old manifests are not needed.",
)
@click.option(
    "--replace",
    is_flag=True,
    help="With --append: write the shards of a split anew that was converted again.",
)
@click.option("--verify", "do_verify", is_flag=True, help="Read every tar again and compare digests.")
@click.option(
    "--rebuild", "do_rebuild", is_flag=True, help="Write every tar again and compare; mend damaged ones."
)
@click.option("--only", help="With --rebuild: one shard.")
@runner_option
@workers_option
@address_option
@json_option
def command(
    paths: tuple[Path, ...],
    out: Path | None,
    layout: Layout,
    samples_per_shard: int,
    do_append: bool,
    replace: bool,
    do_verify: bool,
    do_rebuild: bool,
    only: str | None,
    runner: RunnerName,
    workers: int,
    address: str | None,
    as_json: bool,
) -> None:
    """Write the manifests in PATHS as shards into --out; or --verify / --rebuild the shards in PATHS (or --out).

    The tars' bytes depend on the manifests alone, never on the runner or the number of workers.
    """
    if do_verify or do_rebuild:
        where: Where = {"runner": runner, "workers": workers, "address": address}
        _prove(list(paths) or ([out] if out else []), do_verify, do_rebuild, only, where, as_json)
        return
    if not paths or out is None:
        raise UsageError("shard needs the folders of manifests and --out")
    if replace and not do_append:
        raise UsageError("--replace goes with --append; without it every split that changed is written anew")
    options: Where = {"runner": runner, "workers": workers, "address": address}
    if not do_append:
        with progress("shard", "samples") as update:
            made = shard(
                paths, out, layout=layout, samples_per_shard=samples_per_shard, progress=update, **options
            )
        _print(made, as_json)
        return
    for name in ("layout", "samples_per_shard"):
        if click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise UsageError(f"--{name.replace('_', '-')} is the set's own: leave it out with --append")
    with progress("shard", "samples") as update:
        done = append(paths, out, replace=replace, progress=update, **options)
    _print(done.set, as_json, {"added": list(done.added), "unchanged": list(done.unchanged)})
    if not as_json:
        for name in done.unchanged:
            click.echo(f"{name}: is in the set already, from the same conversion")


class Where(TypedDict):
    """Where the work runs."""

    runner: RunnerName
    workers: int
    address: str | None


def _prove(
    folders: list[Path],
    do_verify: bool,
    do_rebuild: bool,
    only: str | None,
    where: Where,
    as_json: bool,
) -> None:
    if not folders:
        raise UsageError("name the folder of shards to verify or rebuild")
    findings: list[str] = []
    for folder in folders:
        with progress("verify" if do_verify else "rebuild", "samples") as update:
            if do_verify:
                findings += verify(folder, update)
            if do_rebuild:
                findings += rebuild(folder, only=only, progress=update, **where)
    if as_json:
        print_json({"findings": findings})
    else:
        for line in findings:
            click.echo(line)
        click.echo(f"{len(findings)} findings")
    if findings:
        raise click.exceptions.Exit(1)


def _print(made: ShardSet, as_json: bool, more: dict[str, list[str]] | None = None) -> None:
    if as_json:
        print_json(
            {
                "shards": len(made.shards),
                "samples": sum(source.samples for source in made.sources),
                "dropped": len(made.dropped),
                "sources": {source.name: source.samples for source in made.sources},
                **(more or {}),
            }
        )
        return
    print_table(
        "",
        ("source", "use", "samples", "family"),
        [(source.name, source.use, source.samples, source.family) for source in made.sources],
    )
    click.echo(f"{len(made.shards)} shards, {len(made.dropped)} samples dropped")
    for one in made.dropped[:20]:
        click.echo(f"dropped {one.id}: {one.reason}: {one.detail}")
