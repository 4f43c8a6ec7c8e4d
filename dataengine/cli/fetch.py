"""`dataengine fetch`: the files of a dataset, from where its spec says they are."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import click
import msgspec

from dataengine.catalog import Catalog
from dataengine.cli.output import (
    LOCAL,
    json_option,
    print_json,
    print_table,
    size_text,
    specs_option,
    transfers,
)
from dataengine.errors import SpecError, UsageError, nearest
from dataengine.fetch import Item, fetch, look, wanted
from dataengine.remote import KEPT, Fetch
from dataengine.spec import DatasetSpec


@click.command("fetch")
@click.argument("spec")
@click.option("--root", required=True, type=LOCAL, help="The dataset's folder; made if need be.")
@click.option("--split", help="Only what one split needs.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be fetched and stop; nothing is asked of any server."
)
@click.option(
    "--hub",
    help="Another address of the Hugging Face hub, or a folder with its repositories: FOLDER/<owner>/<name>.",
)
@specs_option
@json_option
def command(
    spec: str,
    root: Path,
    split: str | None,
    yes: bool,
    dry_run: bool,
    hub: str | None,
    spec_dirs: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Download the files of SPEC (a dataset, dataset/task, or a YAML file) into ROOT, check and unpack them.

    Prints license, sizes and free space first and asks; no other command uses the network. What is there is not
    fetched again, what was begun is continued. Exit 1 where a step is left to a person or a file of an archive was
    refused, 2 where something could not be fetched.
    """
    catalog = Catalog(*spec_dirs)
    path, task = catalog.file_of(spec)
    dataset = catalog.dataset(path)
    parts = wanted(dataset, _splits(dataset, task, split))
    before = look(parts, root)
    if not as_json:
        _introduce(dataset, parts, before, root)
    if dry_run:
        _tell(before if as_json else [item for item in before if item.kind == "manual"], as_json)
        return
    todo = [item for item in before if item.state in ("missing", "partly")]
    if todo and not yes:
        _ask(todo, root)
    done: list[Item] = []
    with transfers() as shown:
        for item in fetch(parts, root, shown, hub) if todo else before:
            done.append(item)
            _tell([item], as_json)
            if item.state == "failed":
                click.echo(f"error: {item.detail}", err=True)
    if any(item.state == "failed" for item in done):
        raise click.exceptions.Exit(2)
    if any(item.state == "by hand" or item.refused for item in done):
        raise click.exceptions.Exit(1)


def _splits(dataset: DatasetSpec, task: str | None, split: str | None) -> tuple[str, ...]:
    """Return the splits that are meant: one, those of a task, or all. Raises SpecError for what there is not."""
    if task is not None and task not in dataset.tasks:
        raise SpecError(f"dataset {dataset.id!r} has no task {task!r}{nearest(task, dataset.tasks)}")
    uses = [dataset.tasks[one] for one in ([task] if task else dataset.tasks)]
    found = tuple(dict.fromkeys(one for use in uses for one in use.splits or dataset.source.splits))
    if split is None:
        return found
    if split not in found:
        raise SpecError(f"dataset {dataset.id!r} has no split {split!r}{nearest(split, found)}")
    return (split,)


def _introduce(dataset: DatasetSpec, parts: Fetch, items: list[Item], root: Path) -> None:
    """Say what is about to be fetched, under which terms, and whether there is room for it."""
    place = root
    while not place.exists() and place != place.parent:
        place = place.parent
    click.echo(f"{dataset.title} ({dataset.id})")
    for name, value in (
        ("homepage", dataset.homepage or "not stated"),
        ("license", f"annotations {dataset.license.annotations}, pictures {dataset.license.images}"),
        ("to fetch", _amount(items)),
        ("free", f"{size_text(shutil.disk_usage(place).free)} at {root}"),
    ):
        click.echo(f"{name:>10}  {value}")
    if any(file.unpack for file in parts.files):
        click.echo(f"{'':>10}  archives need about their size again, unpacked")
    if "fetch" in dataset.unverified and (parts.files or parts.hub):
        click.echo(f"{'':>10}  nobody has tried these addresses yet")
    print_table(
        "",
        ("file or folder", "from", "size", "state"),
        [
            (
                item.item,
                item.source,
                "?" if item.size_bytes is None else size_text(item.size_bytes),
                item.state,
            )
            for item in items
        ],
    )


def _amount(items: Iterable[Item]) -> str:
    todo = [item for item in items if item.state in ("missing", "partly")]
    known = sum(max((item.size_bytes or 0) - item.have_bytes, 0) for item in todo)
    unknown = sum(item.size_bytes is None for item in todo)
    if not todo:
        return "nothing"
    text = f"{len(todo)} parts, {size_text(known)}" if known else f"{len(todo)} parts"
    return f"{text} and {unknown} of unknown size" if unknown else text


def _ask(todo: list[Item], root: Path) -> None:
    """Go on after a yes alone. Raises UsageError where nobody is there to answer."""
    try:
        agreed = click.confirm(f"Fetch {_amount(todo)} into {root} under these terms?", err=True)
    except click.Abort as error:
        if sys.stdin.isatty():
            raise
        raise UsageError("fetch: nobody answered; add --yes where nobody can") from error
    if not agreed:
        click.echo("nothing was fetched", err=True)
        raise click.exceptions.Exit(1)


def _tell(items: Iterable[Item], as_json: bool) -> None:
    """Print how far parts are: one line each."""
    for item in items:
        if as_json:
            print_json(msgspec.to_builtins(item))
        elif item.kind == "manual":
            click.echo(f"{'done' if item.state == 'there' else 'by hand'}: {item.detail} See {item.source}")
        elif item.state != "failed":
            click.echo(_line(item))


def _line(item: Item) -> str:
    text = f"{item.state}: {item.item}"
    if item.kind == "repository":
        text += f" ({item.source})"
    if item.size_bytes is not None:
        text += f", {size_text(item.size_bytes)}"
    if item.files is not None:
        text += f", {item.files} files"
    if item.sha256:
        text += f", sha256 {item.sha256}"
    if item.refused:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(item.refused.items()))
        text += f"; refused: {reasons}, see {KEPT}/{item.item}*.unpacked"
    return text
