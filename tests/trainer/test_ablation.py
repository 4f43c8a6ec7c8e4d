"""One command trains and measures the arms of a study, and they differ in what is asked and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from dataengine import yaml12
from dataengine.errors import UsageError
from trainer.ablation import STUDIES, Result, main, page, read_results, run_arm
from trainer.checkpoint import load_model

CONFIG = """
max_tiles: 1
num_workers: 0
decoder_short: [64]
decoder_longest: 64
model: {decoders: [detection], detection: {num_objects: 8, denoising: 0}}
"""


def call(*arguments: str | Path) -> Any:
    return CliRunner().invoke(main, [str(one) for one in arguments], catch_exceptions=False)


def result(arm: str, ap: float, study: str = "queries", steps: int = 3) -> Result:
    numbers: dict[str, float | None] = {"scenes/detection AP": ap}
    return Result(
        study=study, arm=arm, steps=steps, global_batch=2, seed=0, samples=9, when="2026", numbers=numbers
    )


def test_a_study_is_trained_measured_and_told(scene_shards: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG)
    out = tmp_path / "out"

    found = call(
        "queries",
        scene_shards,
        "--out",
        out,
        "--config",
        config,
        "--steps",
        "1",
        "--use",
        "train",
        "--limit",
        "4",
    )

    assert found.exit_code == 0
    results = read_results(out / "results.jsonl")
    assert [(one.study, one.arm, one.steps, one.samples) for one in results] == [
        ("queries", "N=1", 1, 4), ("queries", "N=4", 1, 4),
    ]  # fmt: skip
    models = [load_model(out / run)[0] for run in ("queries/N=1", "given")]
    assert [model.superlink.num_queries for model in models] == [{"detection": 1}, {"detection": 4}]
    assert [model.config.decoders["detection"]["num_objects"] for model in models] == [8, 8]
    assert (out / "ablations.md").read_text() == page(results)
    assert "| measure | N=1 | N=4 |" in found.output

    # The arm of another study that changes nothing either is the same run, which has all of its steps.
    begun = (out / "given/served.jsonl").read_bytes()
    fields = yaml12.load(config) | {"shards": str(scene_shards), "steps": 1, "global_batch": 8, "seed": 0}
    same = run_arm("tables", "separate", fields, out, use="train", limit=4)
    assert same.numbers == results[1].numbers
    assert (out / "given/served.jsonl").read_bytes() == begun
    assert not (out / "tables").exists()


@pytest.mark.parametrize(
    ("study", "arm", "expected"),
    [
        ("queries", "N=1", {"detection": {"num_queries": 1}}),
        ("tables", "separate", {}),
        ("tables", "shared", {"superlink": {"shared": True}}),
        ("tokens", "token embeddings", {"superlink": {"mode": "token"}}),
    ],
)
def test_an_arm_changes_what_the_study_is_about(study: str, arm: str, expected: dict[str, Any]) -> None:
    assert STUDIES[study].arms[arm](["detection", "generation"]) == expected


def test_the_page_holds_the_newest_result_of_each_arm() -> None:
    results = [
        result("N=4", 0.1),
        result("N=1", 0.25),
        result("N=4", 0.5, steps=7),
        result("shared", 0.3, "tables"),
    ]

    lines = page(results).splitlines()

    assert "| scenes/detection AP | 0.250 | 0.500 |" in lines
    assert "| scenes/detection AP | 0.300 |" in lines
    assert "* N=4: 7 steps of 2, seed 0, 9 samples, 2026" in lines


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(msgspec.json.encode(result("N=1", 0.5)) + b"\n")

    assert read_results(path) == [result("N=1", 0.5)]
    assert read_results(tmp_path / "none") == []


def test_an_unknown_study_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="querys: no such study; did you mean 'queries'"):
        call("querys", "shards")
