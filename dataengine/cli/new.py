"""`dataengine new`: from a folder to a spec that reads it."""

from __future__ import annotations

from pathlib import Path

import click

from dataengine.catalog import Catalog
from dataengine.cli.output import LOCAL, json_option, print_json
from dataengine.errors import SourceError, SpecError, UsageError
from dataengine.files import write_atomic
from dataengine.listing import Fit
from dataengine.preview import preview
from dataengine.recognise import id_of, recognise, spec_text

SHOWN = 4


@click.command("new")
@click.argument("directory", type=LOCAL)
@click.option("--out", type=LOCAL, help="The YAML file to write; by default <id>.yaml here.")
@click.option("--format", "only", help="Ask about one layout alone.")
@json_option
def command(directory: Path, out: Path | None, only: str | None, as_json: bool) -> None:
    """Look at DIRECTORY, say which layouts fit and why, and write a spec for the likeliest that gives samples.

    A spec that is already there is never replaced. Exit 1 where no layout fits.
    """
    found = recognise(directory, only)
    tried: list[dict[str, object]] = []
    chosen: Path | None = None
    for name, fit in found.fits:
        if chosen is None:
            chosen, said = _try(directory, name, fit, out)
        else:
            said = "fits less"
        tried.append({"format": name, "why": fit.why, "tasks": list(fit.tasks), "result": said})
    if as_json:
        print_json({"fits": tried, "others": found.others, "spec": str(chosen) if chosen else None})
    else:
        for one in tried:
            click.echo(f"fits: {one['format']}: {one['why']}; {one['result']}")
        for name, reason in found.others.items():
            click.echo(f"  no: {name}: {reason}")
        if chosen is None:
            click.echo("no layout fits; a table of any shape is read by 'format: records' (docs/records.md)")
        else:
            click.echo(f"wrote {chosen}; state its license, then look at it:")
            click.echo(f"  dataengine preview {chosen} --root {directory} --out preview.png")
    if chosen is None:
        raise click.exceptions.Exit(1)


def _try(directory: Path, name: str, fit: Fit, out: Path | None) -> tuple[Path | None, str]:
    """Write the spec of a fit and make its first samples; the spec stays only where it gives some."""
    identity = id_of(out.stem if out else directory.resolve().name)
    text = spec_text(directory, identity, name, fit)
    path = out or Path(f"{identity}.yaml")
    if path.exists():
        raise UsageError(f"{path}: is there already; name another file with --out")
    write_atomic(path, text.encode())
    problems: list[str] = []
    for spec in Catalog().find(str(path)):
        for split in spec.splits:
            try:
                seen = preview(spec, split, directory, SHOWN)
            except (SourceError, SpecError) as error:
                problems.append(str(error))
                continue
            ledger = seen.looked_at.ledger
            if ledger.samples:
                doubts = "".join(f"; {line}" for line in seen.doubts)
                return path, f"{ledger.samples} samples of its first {ledger.records} records{doubts}"
            lost = ", ".join({**ledger.skipped, **ledger.quarantined}) or "nothing to read"
            problems.append(f"{spec.task.id}/{split} gives no sample ({lost})")
    path.unlink()
    return None, "; ".join(dict.fromkeys(problems))
