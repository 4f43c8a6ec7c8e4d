"""`dataengine shard`: manifests to tars, and proof that the tars are what they were."""

from __future__ import annotations

from pathlib import Path

import click

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
from dataengine.runners import RunnerName
from dataengine.shard import Layout, shard
from dataengine.verify import rebuild, verify


@click.command("shard")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where tars, index.parquet and shards.json go.")
@click.option("--layout", type=click.Choice(["by_task", "mixed"]), default="by_task", show_default=True)
@click.option("--samples-per-shard", type=click.IntRange(1), default=1000, show_default=True)
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
        folders = list(paths) or ([out] if out else [])
        if not folders:
            raise UsageError("name the folder of shards to verify or rebuild")
        findings: list[str] = []
        for folder in folders:
            with progress("verify" if do_verify else "rebuild", "samples") as update:
                if do_verify:
                    findings += verify(folder, update)
                if do_rebuild:
                    findings += rebuild(
                        folder,
                        only=only,
                        runner=runner,
                        workers=workers,
                        address=address,
                        progress=update,
                    )
        if as_json:
            print_json({"findings": findings})
        else:
            for line in findings:
                click.echo(line)
            click.echo(f"{len(findings)} findings")
        if findings:
            raise click.exceptions.Exit(1)
        return
    if not paths or out is None:
        raise UsageError("shard needs the folders of manifests and --out")
    with progress("shard", "samples") as update:
        result = shard(
            paths,
            out,
            layout=layout,
            samples_per_shard=samples_per_shard,
            runner=runner,
            workers=workers,
            address=address,
            progress=update,
        )
    if as_json:
        print_json(
            {
                "shards": len(result.shards),
                "samples": sum(source.samples for source in result.sources),
                "dropped": len(result.dropped),
                "sources": {source.name: source.samples for source in result.sources},
            }
        )
        return
    print_table(
        "",
        ("source", "use", "samples", "family"),
        [(source.name, source.use, source.samples, source.family) for source in result.sources],
    )
    click.echo(f"{len(result.shards)} shards, {len(result.dropped)} samples dropped")
    for one in result.dropped[:20]:
        click.echo(f"dropped {one.id}: {one.reason}: {one.detail}")
