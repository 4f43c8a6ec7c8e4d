"""`dataengine preview`: the first samples of a spec as one picture or page."""

from __future__ import annotations

import io
from pathlib import Path

import click
import msgspec

from dataengine.catalog import Catalog
from dataengine.cli.convert import reasons
from dataengine.cli.output import LOCAL, json_option, print_json, specs_option
from dataengine.errors import SourceError, UsageError
from dataengine.files import write_atomic
from dataengine.preview import preview
from dataengine.report.draw import lacks_letters
from dataengine.report.page import Section, card, render, sheet
from dataengine.spec import split_names, with_split


@click.command("preview")
@click.argument("spec")
@click.option("--root", required=True, type=LOCAL, help="The dataset's folder.")
@click.option("--out", required=True, type=LOCAL, help="A .png or .html file.")
@click.option("--count", type=click.IntRange(1), default=6, show_default=True, help="Samples of each task.")
@click.option("--split", help="The split to look at; the first one by default.")
@click.option("--seed", type=int, default=0, show_default=True)
@specs_option
@json_option
def command(
    spec: str,
    root: Path,
    out: Path,
    count: int,
    split: str | None,
    seed: int,
    spec_dirs: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Draw the first samples of SPEC (a dataset, dataset/task, or a YAML file) into OUT."""
    if out.suffix not in (".png", ".html"):
        raise UsageError(
            f"{out}: has suffix {out.suffix!r}, expected .png or .html; a preview is one of them"
        )
    sections, drawn, looked_at = [], [], {}
    for one in with_split(Catalog(*spec_dirs).find(spec), split):
        name = split_names(one, split)[0]
        found = preview(one, name, root, count, seed)
        ledger = found.looked_at.ledger
        looked_at[f"{one.id}/{name}"] = {"ledger": msgspec.to_builtins(ledger), "undrawn": found.undrawn}
        note = (
            f"{one.id} {name}: {ledger.samples} samples of {ledger.units} units looked at, "
            f"skipped {reasons(ledger.skipped)}, quarantined {reasons(ledger.quarantined)}"
        )
        for line in (note, *(f"cannot be drawn: {line}" for line in found.undrawn)):
            click.echo(line, err=as_json)
        for line in found.doubts:
            click.echo(f"warning: {one.id} {name}: {line}", err=True)
        cards = [card(sample, pictures, found.labels) for sample, pictures in found.samples]
        sections.append(Section(title=f"{one.id}/{name}", note=note, cards=cards))
        drawn += [(sample, pictures, found.labels) for sample, pictures in found.samples]
    if not drawn:
        raise SourceError(f"{spec}: no sample could be made; the counts above say why")
    if out.suffix == ".html":
        write_atomic(out, render(f"Preview of {spec}", sections).encode())
    else:
        sink = io.BytesIO()
        sheet(drawn).save(sink, "PNG")
        write_atomic(out, sink.getvalue())
        said = "".join(turn.text for sample, *_ in drawn for turn in sample.conversation)
        if lacks_letters(said):
            line = f"{out}: letters that its font lacks are boxes; an .html file shows every script"
            click.echo(line, err=True)
    if as_json:
        print_json({"out": str(out), "samples": [sample.id for sample, *_ in drawn], "looked_at": looked_at})
    else:
        click.echo(str(out))
