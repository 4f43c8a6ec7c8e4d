"""`dataengine explore`: samples in a browser on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import click

from dataengine.cli.output import LOCAL


@click.command("explore")
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=LOCAL)
@click.option("--report", type=LOCAL, help="A folder that 'audit --report' wrote: adds its findings.")
@click.option(
    "--selection", type=LOCAL, help="Where marks are saved.  [default: selection.parquet in the first DIR]"
)
@click.option(
    "--cache",
    type=LOCAL,
    help="Where the search index is kept.  [default: dataengine/explore in the user's cache]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="The port; 0 takes a free one.",
)
def command(
    folders: tuple[Path, ...], report: Path | None, selection: Path | None, cache: Path | None, port: int
) -> None:
    """Browse the samples in DIR..., folders of manifests or shards, and mark which to keep and which to drop.

    Serves on 127.0.0.1 alone and prints the address, which holds a secret. Marks are saved at once; 'dataengine shard
    --selection' honours them. Ctrl-C ends it.
    """
    from dataengine.explore.server import Server
    from dataengine.explore.session import Session

    session = Session(
        [*folders],
        cache or _cache(),
        selection or folders[0] / "selection.parquet",
        report,
    )
    try:
        for line in session.left_out:
            click.echo(f"note: {line}", err=True)
        with Server(session, port) as server:
            click.echo(f"{len(session.collection)} samples at {server.address}")
            server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        click.echo(f"stopped; {len(session.marks)} marks are in {session.marks.path}", err=True)
    finally:
        session.close()


def _cache() -> Path:
    """Return the folder of a user's caches (XDG Base Directory Specification)."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if Path(given).is_absolute() else Path.home() / ".cache") / "dataengine" / "explore"
