"""`dataengine trace`: from a sample to its source record and its steps, and back from both."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import msgspec

from dataengine.annotation import Turn
from dataengine.became import Became, became
from dataengine.cli.output import LOCAL, json_option, print_json, print_table, size_text
from dataengine.errors import UsageError
from dataengine.index import Index
from dataengine.origins import Spot
from dataengine.store import Url, locate
from dataengine.trace import Picture, Step, Trace, served_by, step_of, stored, trace, worded

SHOWN = 5  # servings, parts and the like that are printed; --json has all
_CHARS = 400  # of a text


@click.command("trace")
@click.argument("shards", type=locate)
@click.argument("sample_id", metavar="[ID]", required=False)
@click.option(
    "--run", type=LOCAL, help="A training run: adds the steps that the sample served, with its words there."
)
@click.option(
    "--step",
    type=click.IntRange(1),
    help="With --run: the samples that a step was made of; with ID, that step alone.",
)
@click.option(
    "--source",
    metavar="FILE[:RECORD]",
    help="What became of a source record; SHARDS may be a folder of manifests.",
)
@click.option("--root", type=LOCAL, help="The folder of the source, where it is not where it was converted.")
@click.option(
    "--tokens", is_flag=True, help="With --run: the tokens of the sample, exactly as its last step had them."
)
@click.option("--tokenizer", help="The sample's tokens by the tokenizer in a folder.")
@json_option
def command(
    shards: Path | Url,
    sample_id: str | None,
    run: Path | None,
    step: int | None,
    source: str | None,
    root: Path | None,
    tokens: bool,
    tokenizer: str | None,
    as_json: bool,
) -> None:
    """Print where the sample ID of SHARDS comes from: source record, spec, words, shard and bytes, steps.

    The way back: --source tells what became of a record, --step with --run what a step was made of.
    """
    _check(sample_id, run, step, source, tokens, tokenizer)
    if source is not None:
        answer = became(shards, source, root)
        _print(answer, as_json, _became_lines(answer))
        return
    index = Index(shards)
    if sample_id is None:
        assert run is not None and step is not None
        _print_step(step_of(index, run, step), as_json)
        return
    found = trace(index, sample_id, root)
    if run is not None:
        found = served_by(index, found, run, step)
    if tokens or tokenizer is not None:
        found = msgspec.structs.replace(found, tokens=_tokens(index, found, run, tokenizer))
    _print(found, as_json, _trace_lines(found))


def _check(
    sample_id: str | None,
    run: Path | None,
    step: int | None,
    source: str | None,
    tokens: bool,
    tokenizer: str | None,
) -> None:
    """Raise UsageError for options that do not go together."""
    if source is not None and (sample_id is not None or run is not None):
        raise UsageError("trace: --source asks from a record on, expected neither ID nor --run; remove them")
    if step is not None and run is None:
        raise UsageError("trace: --step counts the steps of a run, expected --run with it; add it")
    if sample_id is None and source is None and step is None:
        raise UsageError("trace: nothing to trace, expected ID, --source FILE:RECORD, or --step N with --run")
    if tokens and (run is None or sample_id is None):
        raise UsageError("trace: --tokens are those of a sample in a run, expected ID and --run with it")
    if tokenizer is not None and sample_id is None:
        raise UsageError("trace: --tokenizer reads a sample, expected ID with it; add it")


def _tokens(index: Index, found: Trace, run: Path | None, tokenizer: str | None) -> dict[str, Any]:
    """Return a sample's tokens: of its last step, or of its stored words by a tokenizer."""
    # The trainer is found by name: the engine must not import torch.
    trainer = importlib.import_module("trainer.trace")
    if tokenizer is not None:
        return asdict(trainer.tokens_of(tokenizer, stored(index, found.id)))
    if run is None or not found.servings:
        raise UsageError(
            f"trace: {run} did not serve {found.id}, expected a step for --tokens; give --tokenizer"
        )
    last = found.servings[-1]
    told = asdict(trainer.tokens_at(run, worded(index, run, last, found.id), last.t))
    return {"step": last.step, "t": last.t, **told}


def _print(found: Trace | Became, as_json: bool, lines: Iterable[tuple[str, object]]) -> None:
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    for name, value in lines:
        click.echo(f"{name:>12}  {value}")


def _trace_lines(found: Trace) -> Iterable[tuple[str, object]]:
    yield "id", found.id
    yield from _spot_lines(found.source, found.record)
    seed = "" if found.seed is None else f", seed {found.seed}"
    yield "spec", f"{found.spec} {found.spec_hash}, by reader {found.reader}{seed}"
    yield "license", ", ".join(f"{name}: {value}" for name, value in found.license.items())
    whole = "as its digest says" if found.whole else "DAMAGED"
    end = found.offset + found.size
    yield "shard", f"{found.shard}, key {found.key}"
    yield "json", f"bytes {found.offset} to {end} ({found.size}), {found.digest}, {whole}"
    yield from (("picture", _picture(one)) for one in found.pictures)
    yield from _turn_lines(found.conversation)
    yield from _serving_lines(found)
    if isinstance(found.tokens, dict):
        yield from _token_lines(found.tokens)
    for note in found.notes:
        yield "note", note


def _picture(one: Picture) -> str:
    whole = "as its digest says" if one.whole else "DAMAGED"
    terms = f", {one.license}" if one.license else ""
    end, size = one.offset + one.size, size_text(one.size)
    return (
        f"{one.path} ({one.width} x {one.height} {one.format}, {one.role}{terms}), bytes {one.offset} to {end}"
        f" ({size}), {one.digest}, {whole}"
    )


def _spot_lines(spot: Spot, record: str) -> Iterable[tuple[str, object]]:
    yield "file", spot.file
    yield "record", record
    if spot.at:
        yield "at", spot.at + _bytes(spot)
    if spot.text:
        yield "says", _one_line(spot.text)
    for part in spot.parts[:SHOWN]:
        yield "with", f"{part.at}{_bytes(part)} {_one_line(part.text, 80)}"
    if len(spot.parts) > SHOWN:
        yield "with", f"{len(spot.parts) - SHOWN} more"
    if spot.note:
        yield "note", spot.note


def _bytes(spot: Spot) -> str:
    return "" if spot.start is None else f", bytes {spot.start} to {spot.stop}"


def _one_line(text: str, most: int = _CHARS) -> str:
    words = " ".join(text.split())
    return words if len(words) <= most else f"{words[:most]} …"


def _turn_lines(turns: Sequence[Turn], indent: str = "") -> Iterable[tuple[str, object]]:
    for turn in turns:
        yield turn.role, indent + _one_line(turn.text)


def _serving_lines(found: Trace) -> Iterable[tuple[str, object]]:
    if isinstance(found.servings, tuple):
        for one in found.servings[:SHOWN]:
            outcome = "" if one.outcome == "served" else f", {one.outcome}"
            words = "" if one.conversation is None else ", worded anew:"
            yield "step", f"{one.step}, position {one.t}, pass {one.epoch}{outcome}{words}"
            yield from _turn_lines(one.conversation or (), "  ")
        if len(found.servings) > SHOWN:
            yield "step", f"{len(found.servings) - SHOWN} more, --json has all"
        if not found.servings:
            yield "steps", "none"
    elif isinstance(found.steps, tuple):
        yield "steps", ", ".join(map(str, found.steps)) or "none"


def _token_lines(tokens: dict[str, Any]) -> Iterable[tuple[str, object]]:
    if tokens["skipped"]:
        yield "tokens", f"none: {tokens['skipped']}"
        return
    of = f"of step {tokens['step']}" if "step" in tokens else "of the stored words"
    changed = "".join(f", {one}" for one in tokens["changed"])
    yield "text", _one_line(tokens["text"])
    yield "tokens", f"{len(tokens['ids'])} {of}, {sum(tokens['learnt'])} of them to be said{changed}"
    runs = ((token, len([*some])) for token, some in groupby(tokens["tokens"]))
    yield "", _one_line(" ".join(token if count == 1 else f"{token}×{count}" for token, count in runs))


def _became_lines(found: Became) -> Iterable[tuple[str, object]]:
    yield "file", found.file
    yield "record", found.record or "all of it"
    for one in found.units:
        place = f" in {one.shard} at {one.offset}" if one.shard else ""
        why = f": {one.reason}" if one.reason else ""
        detail = f" ({one.detail})" if one.detail else ""
        record = "" if found.record else f", from {one.record}"
        yield one.outcome, f"{one.id}{place}{why}{detail}, {one.source}{record}"
    for note in found.notes:
        yield "note", note


def _print_step(found: Step, as_json: bool) -> None:
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    print_table(
        f"step {found.step} of plan {found.plan}",
        ("id", "t", "source", "pass", "shard", "offset", "outcome"),
        [(one.id, one.t, one.source, one.epoch, one.shard, one.offset, one.outcome) for one in found.rows],
    )
    for one in found.unplanned:
        click.echo(f"not in the plan of this step: {one}")
