"""What a model is worth is measured without showing it the answer's objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from dataengine.annotation import Turn
from dataengine.errors import BudgetBroken, Damage, SourceError
from dataengine.index import Index
from dataengine.sample import InstanceTargets, Route, Sample
from dataengine.shard import shard
from trainer.batch import Batch
from trainer.checkpoint import load_model
from trainer.collate import collate
from trainer.config import TrainConfig, encode_settings
from trainer.encode import encode
from trainer.evaluate import evaluate, evaluate_run
from trainer.forced import blind
from trainer.samples import read_samples, serve_samples
from trainer.train import train

MakeSample = Callable[[int, str], tuple[Sample, list[bytes]]]


@pytest.fixture
def loaded(straight: Path) -> tuple[Any, Any, Any]:
    """The model of a short run, its tokenizer and settings."""
    model, tokenizer, config = load_model(straight)
    return model, tokenizer, encode_settings(config, model.config)


def grounded(sample: Sample) -> Sample:
    """Return the toy sample as an expression that names its first object."""
    assert isinstance(sample.targets, InstanceTargets)
    name = sample.targets.instances[0].label
    return msgspec.structs.replace(
        sample,
        task="grounding",
        conversation=(Turn("user", f"<image>\nWhere is the {name}?"), Turn("assistant", "It is [GRD].")),
        routes=(Route(token="[GRD]", kind="expression", name=name),),
        targets=InstanceTargets(instances=sample.targets.instances[:1]),
    )


def test_each_task_gets_its_measures_and_a_file(
    loaded: tuple[Any, Any, Any], make_sample: MakeSample, tmp_path: Path
) -> None:
    samples = [make_sample(n, "detection") for n in (1, 3, 5)] + [make_sample(n, "vqa") for n in (7, 8)]
    expression, pictures = make_sample(9, "detection")
    broken = (make_sample(11, "vqa")[0], [b"no picture"])

    found = evaluate(
        *loaded,
        [*samples, (grounded(expression), pictures), broken],
        tmp_path,
        batch_size=2,
        max_new_tokens=24,
    )

    assert found == json.loads((tmp_path / "evaluation.json").read_text())
    assert found["samples"] == 6
    assert found["skipped"] == {"image.corrupt": 1}
    tasks = found["tasks"]
    assert {name: task["samples"] for name, task in tasks.items()} == {
        "toy/detection": 3, "toy/grounding": 1, "toy/vqa": 2,
    }  # fmt: skip
    aps = {f"{kind}_{name}" for kind in ("box", "mask") for name in ("ap", "ap50", "ap75")}
    routing = {f"{kind}_{name}" for kind in ("routing", "token") for name in ("precision", "recall")}
    routing |= {"routing_f1", "exact_routing", "false_triggers", "cut_ratio"}
    said = {"false_triggers", "cut_ratio", "vqa_accuracy", "accuracy", "anls", "relaxed_accuracy"}
    sides = {name: (set(task["free"]), set(task["forced"])) for name, task in tasks.items()}
    assert sides["toy/vqa"] == (said | {"exact_match"}, {"exact_match", "text_loss"})
    assert sides["toy/detection"] == (aps | routing | {"exact_match"}, aps | {"exact_match", "text_loss"})
    assert sides["toy/grounding"][1] == {"precision_at_50", "exact_match", "text_loss"}
    assert [task["headline"] for task in tasks.values()] == ["box_ap", "precision_at_50", "vqa_accuracy"]
    assert all(task["forced"]["text_loss"] > 0 for task in tasks.values())


def test_masks_that_some_objects_lack_are_not_measured(
    loaded: tuple[Any, Any, Any], make_sample: MakeSample, tmp_path: Path
) -> None:
    found = evaluate(
        *loaded, [make_sample(1, "detection"), make_sample(2, "detection")], tmp_path, free=False
    )

    assert "box_ap" in found["tasks"]["toy/detection"]["forced"]
    assert "mask_ap" not in found["tasks"]["toy/detection"]["forced"]


def test_predictions_do_not_depend_on_the_true_boxes(
    loaded: tuple[Any, Any, Any], make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, tokenizer, settings = loaded
    batches: list[Batch] = []
    whole = model.predict

    def watched(batch: Batch, family: str, **choices: Any) -> Any:
        batches.append(batch)
        return whole(batch, family, **choices)

    monkeypatch.setattr(model, "predict", watched)
    sample, pictures = make_sample(1, "detection")
    assert isinstance(sample.targets, InstanceTargets)
    moved = [msgspec.structs.replace(item, box=(0, 0, 9, 9)) for item in sample.targets.instances]
    other = msgspec.structs.replace(sample, targets=InstanceTargets(instances=tuple(moved)))

    for one in (sample, other):
        evaluate(model, tokenizer, settings, [(one, pictures)], tmp_path, free=False)

    predicted = [whole(batch, "detection")[0] for batch in batches]
    assert torch.equal(predicted[0].boxes_K4, predicted[1].boxes_K4)
    assert all(
        len(target.boxes_n4) == len(target.masks_nHW) == 0 for batch in batches for target in batch.targets
    )


def test_a_blind_batch_keeps_all_but_the_targets(
    loaded: tuple[Any, Any, Any], make_sample: MakeSample
) -> None:
    from dataengine import images

    _, tokenizer, settings = loaded
    sample, pictures = make_sample(1, "detection")
    encoded = encode(sample, [images.decode(data) for data in pictures], tokenizer, settings, None)
    batch = collate([encoded], tokenizer.pad_token_id)

    hidden = blind(batch)

    assert len(batch.targets[0].labels_n) > 0 and len(hidden.targets[0].labels_n) == 0
    assert torch.equal(hidden.input_ids_BL, batch.input_ids_BL)
    assert hidden.images_B3HW is batch.images_B3HW


@pytest.mark.slow
def test_training_on_a_few_pictures_is_measured_as_success(
    make_run: Callable[..., TrainConfig],
    make_sample: MakeSample,
    make_reader: Callable[..., Any],
    tmp_path: Path,
) -> None:
    samples = [make_sample(n, task) for n in (1, 3) for task in ("detection", "vqa")]
    asked = [samples[0], samples[2], samples[1], samples[3]]

    config = make_run(steps=150, flip_ratio=0.0)

    before: list[dict[str, Any]] = []
    after: list[dict[str, Any]] = []
    for steps, results in ((1, before), (150, after)):
        out = tmp_path / str(steps)
        train(msgspec.structs.replace(config, steps=steps), out, reader=make_reader(samples=asked))
        model, tokenizer, saved = load_model(out)
        results.append(
            evaluate(model, tokenizer, encode_settings(saved, model.config), samples, out, free=False)
        )

    untrained, trained = before[0]["tasks"], after[0]["tasks"]
    assert trained["toy/vqa"]["forced"]["exact_match"] == 1.0 > untrained["toy/vqa"]["forced"]["exact_match"]
    assert (
        trained["toy/detection"]["forced"]["text_loss"]
        < 0.5 * untrained["toy/detection"]["forced"]["text_loss"]
    )
    for measure in ("box_ap50", "mask_ap50"):
        assert (
            trained["toy/detection"]["forced"][measure] > 0.8 > untrained["toy/detection"]["forced"][measure]
        )


def test_a_picture_that_is_gone_since_conversion_is_named(tiny: Any) -> None:
    tiny.convert("val")
    picture = sorted((tiny.root / "images").iterdir())[-1]
    picture.unlink()

    with pytest.raises(SourceError, match=f"{picture.name}: cannot be read"):
        list(read_samples(tiny.out))


def test_a_manifest_and_the_shards_made_of_it_are_read_alike(tiny: Any, tmp_path: Path) -> None:
    directory, ledger = tiny.convert("val")
    shard([directory], tmp_path / "shards")

    direct, packed = list(read_samples(tiny.out)), list(read_samples(tmp_path / "shards"))

    assert len(direct) == ledger.samples == 3
    assert [pictures for _, pictures in direct] == [pictures for _, pictures in packed]
    assert [sample.id for sample, _ in direct] == [sample.id for sample, _ in packed]


def damaged(tiny: Any, folder: Path) -> Path:
    """Return shards of which one sample's picture has another byte."""
    tiny.convert("val")
    shard([tiny.out], folder)
    index = Index(folder)
    (row, *_) = index.rows_by_source["tiny/detection/val"].tolist()
    place = index.place(row)
    content = bytearray((folder / place.file).read_bytes())
    content[place.spans[1][0] + 9] ^= 1
    (folder / place.file).write_bytes(content)
    return folder


def test_a_damaged_sample_is_counted_and_the_others_are_measured(
    loaded: tuple[Any, Any, Any], tiny: Any, tmp_path: Path
) -> None:
    shards = damaged(tiny, tmp_path / "shards")

    found = evaluate(*loaded, serve_samples(shards), tmp_path, max_new_tokens=24)

    assert (found["samples"], found["skipped"]) == (2, {"shard.damaged": 1})
    with pytest.raises(Damage, match="digest"):
        list(read_samples(shards))


def test_more_damage_than_the_budget_ends_an_evaluation(
    loaded: tuple[Any, Any, Any], tiny: Any, tmp_path: Path
) -> None:
    shards = damaged(tiny, tmp_path / "shards")

    with pytest.raises(BudgetBroken, match=r"1 bad samples \(shard.damaged 1\) in 1 positions"):
        evaluate(*loaded, serve_samples(shards), tmp_path, max_bad_ratio=0.0, free=False)
    assert not (tmp_path / "evaluation.json").exists()


def test_the_budget_of_an_evaluation_is_the_runs_unless_another_is_given(
    straight: Path, tiny: Any, tmp_path: Path
) -> None:
    shards = damaged(tiny, tmp_path / "shards")

    assert evaluate_run(straight, shards, tmp_path, free=False)["skipped"] == {"shard.damaged": 1}
    with pytest.raises(BudgetBroken):
        evaluate_run(straight, shards, tmp_path, max_bad_ratio=0.0, free=False)
