"""`dataengine preview`: the first samples of a spec as one picture or page."""

from __future__ import annotations

from pathlib import Path

import click

from dataengine.catalog import Catalog
from dataengine.cli.convert import reasons
from dataengine.cli.output import specs_option
from dataengine.errors import SourceError, UsageError
from dataengine.preview import preview
from dataengine.report.page import Section, card, render, sheet
from dataengine.spec import split_names, with_split


@click.command("preview")
@click.argument("spec")
@click.option("--root", required=True, type=click.Path(path_type=Path), help="The dataset's folder.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A .png or .html file.")
@click.option("--count", type=click.IntRange(1), default=6, show_default=True, help="Samples of each task.")
@click.option("--split", help="The split to look at; the first one by default.")
@click.option("--seed", type=int, default=0, show_default=True)
@specs_option
def command(
    spec: str, root: Path, out: Path, count: int, split: str | None, seed: int, spec_dirs: tuple[Path, ...]
) -> None:
    """Draw the first samples of SPEC (a dataset, dataset/task, or a YAML file) into OUT."""
    if out.suffix not in (".png", ".html"):
        raise UsageError(f"{out}: a preview is a .png or an .html file")
    sections, drawn = [], []
    for one in with_split(Catalog(*spec_dirs).find(spec), split):
        name = split_names(one, split)[0]
        found = preview(one, name, root, count, seed)
        ledger = found.looked_at.ledger
        note = (
            f"{one.id} {name}: {ledger.samples} samples of {ledger.units} units looked at, "
            f"skipped {reasons(ledger.skipped)}, quarantined {reasons(ledger.quarantined)}"
        )
        click.echo(note)
        for line in found.undrawn:
            click.echo(f"cannot be drawn: {line}")
        cards = [card(sample, pictures, found.labels) for sample, pictures in found.samples]
        sections.append(Section(title=f"{one.id}/{name}", note=note, cards=cards))
        drawn += [(sample, pictures, found.labels) for sample, pictures in found.samples]
    if not drawn:
        raise SourceError(f"{spec}: no sample could be made; the counts above say why")
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".html":
        out.write_text(render(f"Preview of {spec}", sections), encoding="utf-8")
    else:
        sheet(drawn).save(out)
    click.echo(str(out))
