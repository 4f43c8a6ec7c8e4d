"""`dataengine export`: a converted split, written as another layout."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from dataengine.cli.output import LOCAL, json_option, print_json
from dataengine.export import export


@click.command("export")
@click.argument("manifest", type=LOCAL)
@click.option(
    "--format", "format_name", required=True, help="The layout to write, by the name of its reader."
)
@click.option("--out", required=True, type=LOCAL, help="Where its files are written.")
@json_option
def command(manifest: Path, format_name: str, out: Path, as_json: bool) -> None:
    """Write the samples of MANIFEST (one split of convert's output) as another layout, pictures beside them.

    OUT gets the layout's files, `images/` and, where a reader knows the layout, a `spec.yaml` that reads them back.
    What the layout has no place for is counted and said.
    """
    done = export(manifest, format_name, out)
    if as_json:
        print_json(msgspec.to_builtins(done))
        return
    back = f"; read them back with: dataengine convert {done.spec} --root {out} --out MANIFESTS"
    click.echo(
        f"{done.samples} samples, {done.annotations} annotations, {done.pictures} pictures"
        f"{back if done.spec is not None else ''}"
    )
    for kind, count in done.left_out.items():
        click.echo(f"left out: {kind} {count}")
