"""The proof that all of it fits together: shards in, and the model that comes out knows more than before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.demo.prepare import prepare
from dataengine.run import Step, task_losses
from dataengine.sample import InstanceTargets
from dataengine.shard import shard
from trainer.checkpoint import load_model
from trainer.config import encode_settings, make_config, model_config
from trainer.evaluate import evaluate
from trainer.log import METRICS
from trainer.model.visionllm import VisionLLM
from trainer.samples import read_samples
from trainer.train import train

pytestmark = pytest.mark.slow

# Samples in a hundred. Boxes take the longest to learn, so that the tasks that teach them get most.
SHARES = {
    "detection": 45,
    "instance_segmentation": 12,
    "grounding": 4,
    "grounding_mask": 4,
    "interactive_segmentation": 4,
    "caption": 3,
    "conversation": 3,
    "image_edit": 4,
    "keypoints": 4,
    "multiple_choice_vqa": 3,
    "region_caption": 3,
    "region_recognition": 3,
    "text_to_image": 4,
    "vqa": 4,
}
STEPS, BATCH = 300, 8


@dataclass(frozen=True)
class Proof:
    """What a run on scenes logged, and detection on scenes held out, before and after it."""

    steps: list[Step]
    untrained: dict[str, float]
    trained: dict[str, float]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of every task on scenes, and of detection on scenes held out."""
    folder = tmp_path_factory.mktemp("scenes")
    for spec in Catalog().find("scenes"):
        boxes = spec.task.id == "detection"
        splits = [split for split in spec.splits if split.startswith("train") or boxes]
        for split in splits:
            count = 100 if split == "val" else 700 if boxes else 100
            convert(spec, split, folder / "source", folder / "manifests", limit=count)
    shard([folder / "manifests"], folder / "shards")
    return folder / "shards"


@pytest.fixture(scope="module")
def proof(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Proof:
    """Train on every task at once."""
    out = tmp_path_factory.mktemp("run")
    mixture = {"policy": "explicit", "weights": SHARES}
    config = make_config(
        {"shards": str(shards), "steps": STEPS, "global_batch": BATCH, "seed": 1, "mixture": mixture}
    )
    samples = list(read_samples(shards))

    train(config, out / "train")
    model, tokenizer, saved = load_model(out / "train")
    settings = encode_settings(saved, model.config)
    fresh = VisionLLM(model_config(config, tokenizer.get_vocab()))
    before, after = (
        forced_on_scenes(evaluate(one, tokenizer, settings, samples, out / name, free=False))
        for name, one in (("untrained", fresh), ("trained", model))
    )
    return Proof(logged(out / "train"), before, after)


def forced_on_scenes(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return what a model makes of the given answers on the scenes that were held out."""
    task = evaluation["tasks"]["scenes/detection"]
    assert task["samples"] == 100
    forced: dict[str, Any] = task["forced"]
    return forced


def logged(out: Path) -> list[Step]:
    """Return a run's steps."""
    decode = msgspec.json.Decoder(Step).decode
    return [decode(line) for line in (out / METRICS).read_bytes().splitlines()]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_every_task_on_scenes_learns(proof: Proof) -> None:
    curves = {task: [loss for _, loss in points] for task, points in task_losses(proof.steps).items()}

    fifths = {task: len(curve) // 5 for task, curve in curves.items()}
    ratios = {
        task: mean(curve[-fifths[task] :]) / mean(curve[: fifths[task]]) for task, curve in curves.items()
    }

    assert set(curves) == set(SHARES)
    assert all(fifth >= 2 for fifth in fifths.values()), fifths
    assert {task: round(ratio, 2) for task, ratio in ratios.items() if ratio > 0.75} == {}


def test_boxes_in_scenes_that_were_held_out_are_found(proof: Proof) -> None:
    before, after = proof.untrained, proof.trained

    assert before["box_ap50"] < 0.01
    assert after["box_ap"] > 0.05
    assert after["box_ap50"] > 0.1
    assert after["box_ap"] > 5 * before["box_ap"]


def test_photographs_are_learnt_by_heart(tmp_path: Path, make_reader: Callable[..., Any]) -> None:
    prepare(tmp_path / "demo")
    (spec,) = Catalog().find("demo_coco/detection")
    convert(spec, "train", tmp_path / "demo", tmp_path / "manifests")
    few = [
        (sample, pictures)
        for sample, pictures in read_samples(tmp_path / "manifests")
        if isinstance(sample.targets, InstanceTargets) and len(sample.targets.instances) <= 6
    ][:4]

    config = make_config({"shards": "none", "steps": 80, "global_batch": 4, "seed": 1, "lr": 2e-3})

    train(config, tmp_path / "run", reader=make_reader(samples=few))

    model, tokenizer, saved = load_model(tmp_path / "run")
    found = evaluate(
        model, tokenizer, encode_settings(saved, model.config), few, tmp_path / "run", free=False
    )
    losses = [step.loss for step in logged(tmp_path / "run") if step.loss is not None]
    assert len(few) == 4
    assert mean(losses[-10:]) < mean(losses[:10]) / 3
    assert found["tasks"]["demo_coco/detection"]["forced"]["box_ap50"] > 0.6
