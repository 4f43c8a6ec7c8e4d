"""Ablations of the paper (section B.3), one command each: arms that differ in one setting, trained and measured alike.

    python -m trainer.ablation queries SHARDS --out out/ablations --steps 600

An arm is a run of its own under `out/<study>/<arm>`: it goes on where it was stopped. One that changes nothing in the
model that was asked for is the same run in every study, `out/given`. What is measured is added to `out/results.jsonl`,
and `out/ablations.md` holds the newest table of each study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from dataengine import yaml12
from dataengine.cli.output import progress
from dataengine.errors import DataEngineError, UsageError, nearest
from dataengine.files import make_folder, write_atomic
from dataengine.store import locate
from dataengine.tokens import ADDED_TOKENS, EDIT, GEN
from trainer.config import make_config
from trainer.evaluate import evaluate_run
from trainer.model.config import ModelConfig, make_model
from trainer.model.decoders import DECODERS, find_decoder
from trainer.model.options import overlay
from trainer.train import train

RESULTS, PAGE = "results.jsonl", "ablations.md"
Progress = Callable[[int, str], None]


@dataclass(frozen=True)
class Study:
    """A question and its arms: for each, what it lays over the model's options, given the names of its decoders."""

    question: str
    arms: Mapping[str, Callable[[Sequence[str]], dict[str, Any]]]


def _queries(number: int) -> Callable[[Sequence[str]], dict[str, Any]]:
    """Return what sets N for every decoder that finds something; pictures have an N of their own."""

    def options(decoders: Sequence[str]) -> dict[str, Any]:
        return {
            name: {"num_queries": number}
            for name in decoders
            if not {GEN, EDIT} & {*find_decoder(name).tokens}
        }

    return options


STUDIES = {
    "queries": Study(
        "How many super-link queries follow a routing token?", {"N=1": _queries(1), "N=4": _queries(4)}
    ),
    "tables": Study(
        "Has each decoder its own queries, or do all share one table?",
        {"separate": lambda _: {}, "shared": lambda _: {"superlink": {"shared": True}}},
    ),
    "tokens": Study(
        "Are the queries vectors of their own, or the embeddings of the placeholders' tokens?",
        {"super-link": lambda _: {}, "token embeddings": lambda _: {"superlink": {"mode": "token"}}},
    ),
}


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one arm came to. `numbers` are the headline and the text loss of each task, by `dataset/task measure`; the
    answers' routing tokens are given (teacher-forced)."""

    study: str
    arm: str
    steps: int
    global_batch: int
    seed: int
    samples: int
    when: str
    numbers: dict[str, float | None]


def run_arm(
    study: str, arm: str, fields: Mapping[str, Any], out: Path, *, bar: Progress = lambda *_: None, **how: Any
) -> Result:
    """Train one arm on top of a run's settings, evaluate it and return what it came to; goes on where it was.

    `how` are arguments of `evaluate_run`.
    """
    model = fields.get("model", {})
    model = {"preset": model} if isinstance(model, str) else {"preset": "tiny", **model}
    model.setdefault("decoders", list(DECODERS))
    changed = overlay(model, STUDIES[study].arms[arm](model["decoders"]))
    folder = out / study / arm.replace(" ", "_")
    if _built(changed) == _built(model):
        changed, folder = model, out / "given"
    config = make_config({**fields, "model": changed}, f"{study}, {arm}")
    train(config, folder, progress=bar)
    found = evaluate_run(folder, locate(config.shards), folder, replace=True, free=False, progress=bar, **how)
    return Result(
        study=study,
        arm=arm,
        steps=config.steps,
        global_batch=config.global_batch,
        seed=config.seed,
        samples=found["samples"],
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        numbers={
            f"{task} {report['headline']}": report["forced"].get(report["headline"])
            for task, report in found["tasks"].items()
        }
        | {f"{task} text_loss": report["forced"]["text_loss"] for task, report in found["tasks"].items()},
    )


def _built(options: Mapping[str, Any]) -> ModelConfig:
    """Return the model that options describe, but for the tokenizer's numbers, which all arms share."""
    return make_model(options, {token: number for number, token in enumerate(ADDED_TOKENS)})


def read_results(path: Path) -> list[Result]:
    """Return what was measured so far, oldest first."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Result) for line in path.read_bytes().splitlines()]


def page(results: Sequence[Result]) -> str:
    """Return a table for each study, of the newest result of each of its arms."""
    parts = ["# Ablations\n"]
    for name, study in STUDIES.items():
        newest = {one.arm: one for one in results if one.study == name}
        arms = [newest[arm] for arm in study.arms if arm in newest]
        if not arms:
            continue
        parts.append(f"## {study.question}\n")
        parts += [
            f"* {one.arm}: {one.steps} steps of {one.global_batch}, seed {one.seed}, {one.samples} samples, {one.when}"
            for one in arms
        ]
        parts.append(f"\n| measure | {' | '.join(one.arm for one in arms)} |\n| --- |{' --- |' * len(arms)}")
        for measure in dict.fromkeys(key for one in arms for key in one.numbers):
            cells = [_cell(one.numbers.get(measure)) for one in arms]
            parts.append(f"| {measure} | {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts)


def _cell(number: float | None) -> str:
    return "" if number is None else f"{number:.3f}"


@click.command()
@click.argument("studies", nargs=-1, required=True, metavar=f"[{'|'.join(STUDIES)}|all]... SHARDS")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/ablations"), show_default=True)
@click.option(
    "--config", type=click.Path(path_type=Path), help="A YAML file of settings that all arms share."
)
@click.option("--steps", type=click.IntRange(1), default=600, show_default=True, help="Steps of each arm.")
@click.option("--global-batch", type=click.IntRange(1), default=8, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--use", type=click.Choice(["train", "eval"]), default="eval", show_default=True)
@click.option(
    "--limit", type=click.IntRange(1), help="Evaluate on at most so many samples, one source after another."
)
@click.pass_context
def main(
    context: click.Context,
    studies: tuple[str, ...],
    out: Path,
    config: Path | None,
    steps: int,
    global_batch: int,
    seed: int,
    use: str,
    limit: int | None,
) -> None:
    """Train and measure the arms of studies on SHARDS, and write a table of each."""
    *names, shards = studies
    names = list(STUDIES) if names == ["all"] else names
    for name in names:
        if name not in STUDIES:
            raise UsageError(f"{name}: no such study{nearest(name, STUDIES)}")
    options = {"steps": steps, "global_batch": global_batch, "seed": seed}
    given = {
        name: value
        for name, value in options.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    fields = options | (yaml12.load(config) if config is not None else {}) | given | {"shards": shards}
    path = make_folder(out) / RESULTS
    for name in names:
        for arm in STUDIES[name].arms:
            with progress(f"{name}, {arm}", "steps") as bar:
                result = run_arm(name, arm, fields, out, bar=bar, use=use, limit=limit)
            with path.open("ab") as file:
                file.write(msgspec.json.encode(result) + b"\n")
            write_atomic(out / PAGE, page(read_results(path)).encode())
    click.echo((out / PAGE).read_text())


if __name__ == "__main__":
    try:
        main()
    except DataEngineError as error:
        raise SystemExit(str(error)) from error
