"""`dataengine shard`: manifests to tars, and proof that the tars are what they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import click
from click.core import ParameterSource

from dataengine.cli.output import (
    LOCAL,
    address_option,
    json_option,
    print_json,
    print_table,
    progress,
    runner_option,
    workers_option,
)
from dataengine.errors import UsageError
from dataengine.index import ShardSet, load_set
from dataengine.layout import Layout
from dataengine.peers.beside import Peer, write_beside
from dataengine.restore import index
from dataengine.runners import RunnerName
from dataengine.shard import append, shard, strays
from dataengine.store import Store, Url, locate
from dataengine.verify import rebuild, verify


@click.command("shard")
@click.argument("places", metavar="[PATHS]...", nargs=-1, type=locate)
@click.option("--out", type=LOCAL, help="Where tars, index.parquet and shards.json go.")
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
@click.option(
    "--selection",
    "selections",
    multiple=True,
    type=LOCAL,
    help="Leave out what this table says, as curate and others write it; may be given several times.",
)
@click.option("--verify", "do_verify", is_flag=True, help="Read every tar again and compare digests.")
@click.option(
    "--rebuild", "do_rebuild", is_flag=True, help="Write every tar again and compare; mend damaged ones."
)
@click.option("--only", help="With --rebuild: one shard.")
@click.option(
    "--index",
    "do_index",
    is_flag=True,
    help="Index tars that have no index: ours get it back, those of others get members.parquet.",
)
@click.option(
    "--for",
    "peers",
    multiple=True,
    type=click.Choice(["croissant", "dali", "energon"]),
    help="Write what another program wants beside the tars; may be given several times.",
)
@runner_option
@workers_option
@address_option
@json_option
def command(
    places: tuple[Path | Url, ...],
    out: Path | None,
    layout: Layout,
    samples_per_shard: int,
    do_append: bool,
    replace: bool,
    selections: tuple[Path, ...],
    do_verify: bool,
    do_rebuild: bool,
    only: str | None,
    do_index: bool,
    peers: tuple[Peer, ...],
    runner: RunnerName,
    workers: int,
    address: str | None,
    as_json: bool,
) -> None:
    """Write the manifests in PATHS as shards into --out.

    Or --verify, --rebuild or --index the shards in PATHS (or --out), or write what is needed beside them --for others.

    --verify takes URLs, too: tars are copied to this machine one at a time.

    The tars' bytes depend on the manifests and the selections alone, never on the runner or the number of workers.
    """
    _require_one_call(
        {"--verify": do_verify, "--rebuild": do_rebuild},
        {"--index": do_index},
        {"--append": do_append, "--replace": replace, "--selection": bool(selections)},
    )
    _require_one_call({"--verify": do_verify, "--rebuild": do_rebuild}, {"--for": bool(peers)})
    if only is not None and not do_rebuild:
        raise UsageError("--only goes with --rebuild; without it nothing is written for one shard alone")
    if do_verify and not do_rebuild:
        _verify(places or ((out,) if out else ()), as_json)
        return
    paths = _here(places)
    folders = list(paths) or ([out] if out else [])
    options: Where = {"runner": runner, "workers": workers, "address": address}
    if do_rebuild:
        _rebuild(folders, do_verify, only, options, as_json)
        return
    if do_index or (peers and (out is None or not paths)):
        faults = _index(folders, runner, workers, as_json) if do_index else []
        _describe(folders, peers, runner, workers, as_json)
        if faults:
            raise click.exceptions.Exit(1)
        return
    if not paths or out is None:
        raise UsageError("shard needs the folders of manifests and --out")
    if replace and not do_append:
        raise UsageError("--replace goes with --append; without it every split that changed is written anew")
    if not do_append:
        with progress("shard", "samples") as update:
            made = shard(
                paths,
                out,
                layout=layout,
                samples_per_shard=samples_per_shard,
                selections=selections,
                progress=update,
                **options,
            )
        _print(made, as_json)
    else:
        made = _append(paths, out, replace, selections, options, as_json)
    if unknown := strays(made, selections):
        click.echo(f"{unknown} samples that the selections leave out are in none of the manifests", err=True)
    _describe([out], peers, runner, workers, as_json)


def _require_one_call(*groups: dict[str, bool]) -> None:
    """Refuse flags of several groups: what a call does not do must not look as if it were done."""
    given = [[name for name, is_set in group.items() if is_set] for group in groups]
    first, *others = [names[0] for names in given if names] or [""]
    if others:
        raise UsageError(f"{first} and {others[0]} are two calls of dataengine shard; give one of them")


def _append(
    paths: tuple[Path, ...],
    out: Path,
    replace: bool,
    selections: tuple[Path, ...],
    options: Where,
    as_json: bool,
) -> ShardSet:
    for name in ("layout", "samples_per_shard"):
        if click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise UsageError(f"--{name.replace('_', '-')} is the set's own: leave it out with --append")
    with progress("shard", "samples") as update:
        done = append(paths, out, replace=replace, selections=selections, progress=update, **options)
    _print(done.set, as_json, {"added": list(done.added), "unchanged": list(done.unchanged)})
    if not as_json:
        for name in done.unchanged:
            click.echo(f"{name}: is in the set already, from the same conversion")
    return done.set


class Where(TypedDict):
    """Where the work runs."""

    runner: RunnerName
    workers: int
    address: str | None


def _index(folders: list[Path], runner: RunnerName, workers: int, as_json: bool) -> list[str]:
    if not folders:
        raise UsageError("name the folder of tars to index")
    done = []
    for folder in folders:
        with progress("index", "samples") as update:
            done.append(index(folder, runner=runner, workers=workers, progress=update))
    faults = [line for one in done for line in one.faults]
    if as_json:
        print_json(
            {
                "tars": sum(one.tars for one in done),
                "samples": sum(one.samples for one in done),
                "restored": [
                    name for one in done if one.set for name in (file.name for file in one.set.shards)
                ],
                "members": [str(one.members) for one in done if one.members],
                "unknown": [line for one in done for line in one.unknown],
                "faults": faults,
            }
        )
    else:
        for folder, one in zip(folders, done, strict=True):
            click.echo(f"{folder}: {one.tars} tars, {one.samples} samples, {len(one.faults)} faults")
            if one.set is not None:
                click.echo(f"restored the index of {len(one.set.shards)} shards")
                for line in one.unknown:
                    click.echo(f"not known: {line}")
            if one.members is not None:
                click.echo(f"wrote {one.members}")
        for line in faults:
            click.echo(line)
    return faults


def _describe(
    folders: list[Path], peers: tuple[Peer, ...], runner: RunnerName, workers: int, as_json: bool
) -> None:
    if not folders:
        raise UsageError("name the folder of tars to describe")
    for folder in folders if peers else []:
        with progress("describe", "samples") as update:
            lines = write_beside(folder, peers, runner=runner, workers=workers, progress=update)
        if not as_json:
            for line in lines:
                click.echo(line)


def _here(places: tuple[Path | Url, ...]) -> tuple[Path, ...]:
    """Return folders of this machine. Raises UsageError for a URL."""
    for place in places:
        if isinstance(place, Url):
            raise UsageError(
                f"PATHS: {place} is a URL, expected a path of this machine; only --verify reads one, for the rest copy"
                " it here first (docs/remote.md)"
            )
    return tuple(place for place in places if isinstance(place, Path))


def _verify(places: Sequence[Path | Url], as_json: bool) -> None:
    if not places:
        raise UsageError("name the folder of shards to verify")
    for place in places:
        store = Store(place) if isinstance(place, Url) else None
        load_set(place, store)  # a wrong name is told before hours of reading, which would be told to nobody
    findings = []
    for place in places:
        with progress("verify", "samples") as update:
            findings += verify(place, update)
    _print_findings(findings, as_json)


def _rebuild(folders: list[Path], do_verify: bool, only: str | None, where: Where, as_json: bool) -> None:
    if not folders:
        raise UsageError("name the folder of shards to rebuild")
    for folder in folders:
        load_set(folder)
    findings = []
    for folder in folders:
        with progress("verify" if do_verify else "rebuild", "samples") as update:
            if do_verify:
                findings += verify(folder, update)
            findings += rebuild(folder, only=only, progress=update, **where)
    _print_findings(findings, as_json)


def _print_findings(findings: list[str], as_json: bool) -> None:
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
    for reason, count in Counter(one.reason for one in made.dropped if one.is_selected).most_common():
        click.echo(f"left out {count}: {reason}")
    for one in [one for one in made.dropped if not one.is_selected][:20]:
        click.echo(f"dropped {one.id}: {one.reason}: {one.detail}")
