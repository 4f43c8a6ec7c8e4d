"""What a model is worth is measured without showing it the answer's objects."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from PIL import Image

from dataengine import images, manifest
from dataengine.annotation import Turn
from dataengine.errors import BudgetBroken, Damage, SourceError
from dataengine.index import Index
from dataengine.sample import ImageTargets, InstanceTargets, KeypointTargets, Mark, Route, Sample
from dataengine.shard import shard
from trainer import generate as generation
from trainer.batch import Batch
from trainer.checkpoint import load_model
from trainer.collate import collate
from trainer.config import TrainConfig, encode_settings
from trainer.encode import encode
from trainer.evaluate import evaluate, evaluate_run
from trainer.forced import blind
from trainer.model.config import make_model
from trainer.model.visionllm import VisionLLM
from trainer.predictions import PREDICTIONS, Prediction, read
from trainer.samples import read_samples, serve_samples
from trainer.score import FORCED, View
from trainer.shorten import with_classes
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


@pytest.fixture(scope="module")
def maker(straight: Path) -> tuple[Any, Any, Any]:
    """An untrained model that also makes and edits pictures, its tokenizer and settings."""
    _, tokenizer, config = load_model(straight)
    model = VisionLLM(
        make_model(
            {"preset": "tiny", "decoders": ["detection", "generation", "editing"]},
            tokenizer.get_vocab(),
            seed=0,
        )
    )
    return model, tokenizer, encode_settings(config, model.config)


def edit_of(sample: Sample, picture: bytes, kind: str) -> tuple[Sample, list[bytes]]:
    """Return the toy sample as one that asks for a picture: from text alone, or for its own with colours turned."""
    pixels = images.decode(picture)
    sink = io.BytesIO()
    Image.fromarray(255 - pixels).save(sink, "PNG")
    wanted = msgspec.structs.replace(sample.images[0], path="wanted.png", role="target")
    token, shown = ("[EDIT]", (sample.images[0],)) if kind == "image_edit" else ("[GEN]", ())
    return msgspec.structs.replace(
        sample,
        task=kind,
        images=(*shown, wanted),
        conversation=(Turn("user", f"{'<image>' * len(shown)}Make it."), Turn("assistant", f"Here {token}.")),
        routes=(Route(token=token, kind="image", name="it"),),
        targets=ImageTargets(image=len(shown), caption="it"),
    ), [*[picture] * len(shown), sink.getvalue()]


@pytest.mark.parametrize("kind", ["image_edit", "text_to_image"])
def test_made_pictures_are_measured_and_shown(
    maker: tuple[Any, Any, Any], make_sample: MakeSample, tmp_path: Path, kind: str
) -> None:
    some = [edit_of(make_sample(n, "vqa")[0], make_sample(n, "vqa")[1][0], kind) for n in (1, 2)]

    found = evaluate(*maker, some, tmp_path, max_new_tokens=3)["tasks"][f"toy/{kind}"]["forced"]

    lines = read(tmp_path / PREDICTIONS).lines
    assert found["noise_loss"] > 0
    for line in lines:
        assert isinstance(line, Prediction) and line.look is not None and line.look.forced is not None
        assert line.forced.picture is not None and line.forced.picture["psnr"] > 0
        assert Image.open(io.BytesIO(line.look.forced)).size[0] > 1
    # A picture made from words alone is only held against the noise: no two painters paint the same.
    assert ("psnr" in found) == (kind == "image_edit")


def test_a_picture_is_edited_when_the_model_says_so(
    maker: tuple[Any, Any, Any], make_sample: MakeSample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer, settings = maker
    sample, pictures = edit_of(make_sample(1, "vqa")[0], make_sample(1, "vqa")[1][0], "image_edit")
    edit = tokenizer.convert_tokens_to_ids("[EDIT]")

    def says_edit(logits_BV: torch.Tensor, *_: Any) -> list[int]:
        return [edit] * len(logits_BV)

    monkeypatch.setattr(generation, "_choose", says_edit)

    found = evaluate(model, tokenizer, settings, [(sample, pictures)], tmp_path, max_new_tokens=1)

    free = found["tasks"]["toy/image_edit"]["free"]
    assert (free["routing_recall"], free["false_triggers"]) == (1.0, 0.0)
    assert free["psnr"] > 0
    (line,) = read(tmp_path / PREDICTIONS).lines
    assert isinstance(line, Prediction) and line.look is not None and line.look.free is not None


def posed(sample: Sample) -> Sample:
    """Return the toy sample as one that asks for two keypoints of its objects' three."""
    assert isinstance(sample.targets, InstanceTargets)
    names = [route.name for route in sample.routes]
    return msgspec.structs.replace(
        sample,
        task="keypoints",
        conversation=(
            Turn("user", f"<image>\nFind {', '.join(names)}. Mark left, right."),
            Turn(
                "assistant",
                f"Here: {', '.join(f'{name}[DET]' for name in names)}. Points: left[POSE], right[POSE].",
            ),
        ),
        routes=(
            *(Route(token="[DET]", kind="category", name=name) for name in names),
            *(Route(token="[POSE]", kind="keypoint", name=name) for name in ("left", "right")),
        ),
        targets=KeypointTargets(
            names=("right", "middle", "left"),
            instances=tuple(
                msgspec.structs.replace(
                    item,
                    mask=None,
                    keypoints=((item.box[2], item.box[1], 2), (0.0, 0.0, 0), (*item.box[:2], 2)),
                )
                for item in sample.targets.instances
            ),
        ),
    )


def test_poses_are_measured_by_names(
    loaded: tuple[Any, Any, Any],
    make_sample: MakeSample,
    make_run: Callable[..., TrainConfig],
    tmp_path: Path,
) -> None:
    _, tokenizer, _ = loaded
    model = VisionLLM(
        make_model({"preset": "tiny", "decoders": ["detection", "pose"]}, tokenizer.get_vocab(), seed=0)
    )
    settings = encode_settings(make_run(), model.config)
    toys = [make_sample(n, "detection") for n in (1, 2)]
    samples = [(posed(sample), pictures) for sample, pictures in toys]

    found = evaluate(model, tokenizer, settings, samples, tmp_path, max_new_tokens=3)["tasks"][
        "toy/keypoints"
    ]

    assert found["headline"] == "keypoint_ap"
    assert {"keypoint_ap", "keypoint_ap50", "pck_at_20", "box_ap"} <= set(found["free"]) & set(
        found["forced"]
    )
    (line, _) = read(tmp_path / PREDICTIONS).lines
    assert isinstance(line, Prediction) and line.forced.found
    first = line.forced.found[0]
    assert first.token < 3 and [token for token, _, _ in first.points or ()] == [3, 4]
    assert set(View(line, FORCED).found[0].keypoints or {}) == {"left", "right"}


def test_a_class_list_beyond_the_decoders_limit_is_asked_in_parts(
    loaded: tuple[Any, Any, Any], make_sample: MakeSample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found is what the model finds when it is asked for these classes alone, under the names of the whole."""
    model, tokenizer, settings = loaded
    sample, pictures = make_sample(1, "detection")
    names = [route.name for route in sample.routes]
    decoder = model.decoders["detection"]
    monkeypatch.setattr(decoder, "config", replace(decoder.config, max_groups=2))

    evaluate(model, tokenizer, settings, [(sample, pictures)], tmp_path, max_new_tokens=4)

    (whole,) = read(tmp_path / PREDICTIONS).lines
    assert isinstance(whole, Prediction) and whole.forced.found is not None and whole.free is not None
    assert [[names[number] for number in ask.routes] for ask in whole.asks] == [names[:1], names[1:]]
    assert len(whole.free.texts) == 2
    alone: list[tuple[str, float, Any]] = []
    for part in (names[:1], names[1:]):
        one = with_classes(sample, part)
        assert one is not None
        evaluate(model, tokenizer, settings, [(one, pictures)], tmp_path, free=False)
        (line,) = read(tmp_path / PREDICTIONS).lines
        alone += [(item.label, item.score, item.box) for item in View(line, FORCED).found]  # type: ignore[arg-type]
    together = [(item.label, item.score, item.box) for item in View(whole, FORCED).found]
    assert len(together) == 100 and {label for label, _, _ in together} == set(names)
    # Two classes that are asked for in one batch with another part may differ in the last bits.
    for mine, other in zip(together, sorted(alone, key=lambda item: -item[1]), strict=False):
        assert mine[0] == other[0]
        assert (mine[1], *mine[2]) == pytest.approx((other[1], *other[2]), rel=1e-4, abs=1e-4)


def test_a_list_that_is_too_long_for_the_text_loses_no_class(
    loaded: tuple[Any, Any, Any], make_sample: MakeSample, tmp_path: Path
) -> None:
    """In training absent classes are taken from such a list; to leave them out here would tell the truth."""
    model, tokenizer, settings = loaded
    sample, pictures = make_sample(1, "detection")
    images_of = [images.decode(data) for data in pictures]
    length = len(encode(sample, images_of, tokenizer, settings, None).input_ids_L)
    short = replace(settings, max_length=length - 1)
    assert encode(sample, images_of, tokenizer, short, None).shortened["classes"] >= 1

    found = evaluate(model, tokenizer, short, [(sample, pictures)], tmp_path, max_new_tokens=4)

    (line,) = read(tmp_path / PREDICTIONS).lines
    assert isinstance(line, Prediction)
    assert found["skipped"] == {} and len(line.asks) == 2
    assert sorted(number for ask in line.asks for number in ask.routes) == [0, 1, 2]


def test_marks_of_manifests_are_on_the_pictures(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, _ = tiny.convert("val")
    sample = next(manifest.read_samples(directory))
    height, width = sample.images[0].height, sample.images[0].width
    mark = Mark(kind="box", color="red", solid=True, box=(2.0, 2.0, width / 2, height / 2))
    plain = {one.id: pictures[0] for one, pictures in read_samples(tiny.out)}[sample.id]
    marked = msgspec.structs.replace(sample, marks=(mark,))
    monkeypatch.setattr(manifest, "read_samples", lambda _: iter([marked]))

    ((_, (drawn,)),) = read_samples(tiny.out)

    assert images.decode(drawn).shape == images.decode(plain).shape
    assert drawn != plain
    red = images.decode(drawn)[2 : height // 2, 2 : width // 2].astype(int)
    assert ((red[..., 0] > 150) & (red[..., 1] < 90)).any()


def test_a_blind_batch_keeps_all_but_the_targets(
    loaded: tuple[Any, Any, Any], make_sample: MakeSample
) -> None:
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

    results = []
    for steps in (1, 150):
        out = tmp_path / str(steps)
        train(msgspec.structs.replace(config, steps=steps), out, reader=make_reader(samples=asked))
        model, tokenizer, saved = load_model(out)
        encoding = encode_settings(saved, model.config)
        # What an untrained model says is long.
        results.append(
            evaluate(model, tokenizer, encoding, samples, out, free=steps > 1, max_new_tokens=60)["tasks"]
        )

    untrained, trained = results
    forced, before = trained["toy/vqa"]["forced"], untrained["toy/vqa"]["forced"]
    assert forced["exact_match"] == 1.0 > before["exact_match"]
    # An answer is right token by token when it is given, and so word by word when it is not.
    assert trained["toy/vqa"]["free"]["exact_match"] == trained["toy/vqa"]["free"]["vqa_accuracy"] == 1.0
    forced, before = trained["toy/detection"]["forced"], untrained["toy/detection"]["forced"]
    assert forced["text_loss"] < 0.5 * before["text_loss"]
    for measure in ("box_ap50", "mask_ap50"):
        assert forced[measure] > 0.8 > before[measure]
    # It says the whole list by itself, so its decoder is asked the same.
    free = trained["toy/detection"]["free"]
    assert free["exact_match"] == free["routing_f1"] == forced["exact_match"] == 1.0
    assert free | forced == forced | free


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
