"""A run is a function of its configuration and its stream, however often it is interrupted."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import msgspec
import pytest
import torch

from dataengine import images
from dataengine.adapt import Adapt
from dataengine.annotation import Turn
from dataengine.errors import BudgetBroken, ModelError
from dataengine.index import Index
from dataengine.served import account, run_plan
from dataengine.store import StoreSettings, locate
from dataengine.trace import steps_of
from trainer import collate
from trainer.checkpoint import find_all, load_model
from trainer.config import MicroBatches, Packing, TrainConfig, encode_settings
from trainer.data import PartData
from trainer.encode import encode
from trainer.evaluate import evaluate_run
from trainer.log import METRICS, MIXTURE, SERVED
from trainer.train import train
from trainer.update import update

MakeRun = Callable[..., TrainConfig]
MakeReader = Callable[..., Any]
EXACT = (
    "step",
    "loss",
    "family",
    "terms",
    "tasks",
    "ids",
    "positions",
    "lr",
    "grad_norm",
    "skipped",
    "shortened",
)


def lines(run: Path, name: str = METRICS) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a run, or of one of its checkpoints."""
    return load_model(path)[0].state_dict()


def exact(run: Path) -> list[dict[str, Any]]:
    return [{key: line[key] for key in EXACT} for line in lines(run)]


def killer(at: int) -> Callable[[int, str], None]:
    """Return a progress report that stands for a machine that goes away after a step."""

    def report(count: int, text: str) -> None:
        if text.startswith(f"step {at} "):
            raise KeyboardInterrupt

    return report


def test_a_killed_run_goes_on_bit_for_bit(
    straight: Path, tmp_path: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    config = make_run(checkpoint_every=3)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, reader=make_reader(), progress=killer(5))

    # What may change: threads decide when a sample is ready, not what it is.
    changed = msgspec.structs.replace(config, num_workers=2, checkpoint_every=6)
    result = train(changed, tmp_path, reader=make_reader())

    assert result.step == 6
    assert exact(tmp_path) == exact(straight)
    one, other = weights(straight), weights(tmp_path)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [line["ids"] for line in lines(tmp_path, SERVED)] == [
        line["ids"] for line in lines(straight, SERVED)
    ]


@pytest.mark.parametrize(
    "layout",
    [
        {"pack": Packing(max_tokens=2048), "micro_batch": MicroBatches(max_rows=1, multiple_of=2)},
        {"micro_batch": MicroBatches(max_rows=3)},
    ],
    ids=["packed", "cut"],
)
def test_a_killed_run_in_micro_batches_goes_on_bit_for_bit(
    layout: dict[str, Any], tmp_path: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    config = make_run(steps=4, global_batch=5, checkpoint_every=2, **layout)
    broken = {"global_batch": 5, "broken": frozenset({7, 13, 18})}
    train(config, tmp_path / "straight", reader=make_reader(**broken))
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "killed", reader=make_reader(**broken), progress=killer(3))

    changed = msgspec.structs.replace(config, num_workers=3, prefetch=2)
    train(changed, tmp_path / "killed", reader=make_reader(**broken))

    assert exact(tmp_path / "killed") == exact(tmp_path / "straight")
    one, other = weights(tmp_path / "straight"), weights(tmp_path / "killed")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert max(line["micro_batches"] for line in lines(tmp_path / "killed")) > 1


def test_the_same_run_packed_learns_the_same(
    tmp_path: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    config = make_run(steps=3, global_batch=4)
    packed = msgspec.structs.replace(config, pack=Packing())

    train(config, tmp_path / "padded", reader=make_reader(global_batch=4))
    train(packed, tmp_path / "packed", reader=make_reader(global_batch=4))

    padded_lines, packed_lines = lines(tmp_path / "padded"), lines(tmp_path / "packed")
    # Two steps of detection, which are not packed, then one of text.
    assert [line["loss"] for line in packed_lines[:2]] == [line["loss"] for line in padded_lines[:2]]
    assert packed_lines[2]["loss"] == pytest.approx(padded_lines[2]["loss"], rel=1e-5)
    assert packed_lines[2]["tasks"] == pytest.approx(padded_lines[2]["tasks"], rel=1e-5)
    assert [line["sequences"] for line in padded_lines] == [4, 4, 4]
    assert [line["sequences"] for line in packed_lines] == [4, 4, 1]
    assert packed_lines[2]["padding"] == 0.0
    assert packed_lines[2]["fill"] == pytest.approx(packed_lines[2]["tokens"] / 2048)


def test_a_step_of_several_families_adds_up_their_weighted_losses(
    scene_shards: Path, tmp_path: Path, make_run: MakeRun
) -> None:
    families = ("detection", "editing", "generation", "pose", "text")
    config = make_run(
        shards=str(scene_shards),
        steps=1,
        global_batch=16,
        mixture={"policy": "uniform", "mode": "accumulate"},
        decoder_short=(),
        flip_ratio=0.0,
    )
    halved = {**config.mixture, "loss_weights": dict.fromkeys(families, 0.5)}

    train(config, tmp_path / "whole", reader=None)
    train(msgspec.structs.replace(config, mixture=halved), tmp_path / "halved", reader=None)

    (line,), (half,) = lines(tmp_path / "whole"), lines(tmp_path / "halved")
    assert set(line["family"].split("+")) == {"detection", "text"}  # the others have no decoder yet
    assert line["loss"] == pytest.approx(sum(line["terms"].values()), rel=1e-4)
    assert line["micro_batches"] == 5 and len(line["ids"]) == 16
    assert half["ids"] == line["ids"]
    assert half["loss"] == pytest.approx(line["loss"] / 2, rel=1e-5)
    # Terms are what they add to the loss; the losses of tasks are not weighted.
    assert half["terms"] == pytest.approx({name: term / 2 for name, term in line["terms"].items()}, rel=1e-5)
    assert half["tasks"] == pytest.approx(line["tasks"], rel=1e-5)


def test_sigterm_saves_and_the_run_goes_on(
    straight: Path, tmp_path: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    def report(count: int, text: str) -> None:
        if text.startswith("step 2 "):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)

    stopped = train(make_run(), tmp_path, reader=make_reader(), progress=report)
    finished = train(make_run(), tmp_path, reader=make_reader())

    assert (stopped.step, stopped.stopped, stopped.checkpoint.name) == (2, True, "step-00000002")
    assert (finished.step, finished.stopped) == (6, False)
    assert exact(tmp_path) == exact(straight)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_tells_its_terms_tasks_and_samples(straight: Path) -> None:
    metrics, served = lines(straight), lines(straight, SERVED)

    assert [line["step"] for line in metrics] == [1, 2, 3, 4, 5, 6]
    assert [line["positions"] for line in metrics] == [[2 * step, 2 * step + 2] for step in range(6)]
    assert [line["family"] for line in metrics] == ["detection", "detection", "text"] * 2
    assert set(metrics[2]["terms"]) == {"text"} and set(metrics[2]["tasks"]) == {"vqa"}
    assert {"text", "detection/cls", "detection/l1", "detection/giou"} <= set(metrics[0]["terms"])
    assert all(line["loss"] == pytest.approx(sum(line["terms"].values()), rel=1e-4) for line in metrics)
    assert all(0 <= line["stall_share"] <= 1 and line["samples_per_s"] > 0 for line in metrics)
    assert [line["ids"] for line in metrics] == [line["ids"] for line in served]
    assert steps_of(straight, "toy/train/5#vqa") == [3]


def test_a_bad_sample_is_left_out_counted_and_not_replaced(
    tmp_path: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    reader = make_reader(broken=frozenset({1, 4, 5}))

    result = train(make_run(steps=3), tmp_path, reader=reader)

    metrics, served = lines(tmp_path), lines(tmp_path, SERVED)
    assert result.skipped == {"image.corrupt": 3}
    assert [line["ids"] for line in served] == [
        ["toy/train/0#detection"],
        ["toy/train/2#detection", "toy/train/3#detection"],
        [],
    ]
    assert served[0]["skipped"] == [["toy/train/1#detection", "image.corrupt"]]
    assert metrics[2]["loss"] is None and metrics[2]["skipped"] == {"image.corrupt": 2}
    assert sorted(reader.reads) == [0, 1, 2, 3, 4, 5]


def test_what_proved_bad_is_in_the_checkpoint_and_known_to_the_reader_afterwards(
    tmp_path: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    train(make_run(steps=2), tmp_path, reader=make_reader(broken=frozenset({1})))
    known: list[Any] = []
    resumed = make_reader()
    resumed.remember = known.extend

    train(make_run(steps=2), tmp_path, reader=resumed)

    assert [(hole.position, hole.id, hole.reason) for hole in known] == [
        (1, "toy/train/1#detection", "image.corrupt")
    ]


def test_a_run_ends_where_more_is_bad_than_its_budget(
    tmp_path: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    reader = make_reader(broken=frozenset({3}))

    with pytest.raises(
        BudgetBroken, match=r"toy\.tar: 1 bad samples \(image\.corrupt 1\) in 4 positions, .* at most 0"
    ):
        train(make_run(max_bad_ratio=0.0), tmp_path, reader=reader)

    assert [line["step"] for line in lines(tmp_path, SERVED)] == [1]


def test_a_loss_that_is_not_finite_changes_no_weight(
    tmp_path: Path, make_run: MakeRun, make_reader: MakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = collate.collate

    def poisoned(samples: Any, pad_id: int, rows: Any = None) -> Any:
        batch = whole(samples, pad_id, rows)
        if batch.sample_ids[0] == "toy/train/2#detection":
            batch.tiles_T3SS.fill_(float("nan"))
        return batch

    monkeypatch.setattr("trainer.data.collate", poisoned)
    texts: list[str] = []

    result = train(
        make_run(steps=2, checkpoint_every=1),
        tmp_path,
        reader=make_reader(),
        progress=lambda count, text: texts.append(text),
    )

    assert result.nonfinite == (1,)
    assert "not finite, no update: toy/train/2#detection, toy/train/3#detection" in texts[1]
    assert [line["updated"] for line in lines(tmp_path)] == [True, False]
    one, other = map(weights, find_all(tmp_path / "checkpoints"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_gradient_that_is_not_finite_changes_no_weight(
    straight: Path, make_sample: Callable[[int, str], Any], make_run: MakeRun
) -> None:
    model, tokenizer, config = load_model(straight)
    sample, pictures = make_sample(1, "vqa")
    settings = encode_settings(config, model.config)
    encoded = encode(sample, [images.decode(data) for data in pictures], tokenizer, settings, None)
    batch = collate.collate([encoded], tokenizer.pad_token_id)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    overflow = model.language.embeddings.weight.register_hook(lambda gradient: gradient / 0)

    computed, grad_norm = update(make_run(), model, optimizer, [PartData(batches=(batch,))], step=0)
    overflow.remove()
    _, healthy_norm = update(make_run(), model, optimizer, [PartData(batches=(batch,))], step=0)

    assert (
        all(found.finite for found in computed)
        and not math.isfinite(grad_norm)
        and math.isfinite(healthy_norm)
    )
    moved = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert any(name.startswith("language.") for name in moved)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_a_decoders_gradient_does_not_shrink_the_texts_where_parts_are_clipped_by_themselves(
    straight: Path, make_sample: Callable[[int, str], Any], make_run: MakeRun
) -> None:
    model, tokenizer, config = load_model(straight)
    sample, pictures = make_sample(1, "detection")
    settings = encode_settings(config, model.config)
    encoded = encode(sample, [images.decode(data) for data in pictures], tokenizer, settings, None)
    data = [PartData(batches=(collate.collate([encoded], tokenizer.pad_token_id),))]
    parts = model.train().parts()
    optimizer = torch.optim.SGD([{"name": name, "params": params} for name, params in parts.items()], lr=0.0)
    lengths, totals = {}, []

    for clip_by in ("whole", "part"):
        _, total = update(make_run(clip_by=clip_by), model, optimizer, data, step=0)
        totals.append(total)
        lengths[clip_by] = {
            name: math.hypot(*(float(p.grad.norm()) for p in params if p.grad is not None))
            for name, params in parts.items()
        }

    assert totals[1] == pytest.approx(totals[0], rel=1e-4)
    assert math.hypot(*lengths["whole"].values()) == pytest.approx(1, rel=1e-3)
    assert lengths["whole"]["language"] < 0.5 * lengths["part"]["language"]
    assert lengths["part"]["language"] == pytest.approx(1, rel=1e-3)
    assert lengths["part"]["decoders.detection"] == pytest.approx(1, rel=1e-3)


def test_the_tokenizer_of_a_run_knows_the_words_of_its_samples(
    tmp_path: Path, make_sample: Callable[[int, str], Any], make_run: MakeRun, make_reader: MakeReader
) -> None:
    # A word that no prompt bank has.
    samples: list[Any] = []
    for number in range(60):
        sample, _ = make_sample(number, "vqa")
        said = (
            Turn("user", f"Is the plumbuckle here {number}?"),
            Turn("assistant", "A plumbuckle, plumbuckle."),
        )
        samples.append((msgspec.structs.replace(sample, conversation=said, images=()), []))

    train(make_run(steps=1, global_batch=60), tmp_path, reader=make_reader(samples=samples))

    _, tokenizer, _ = load_model(tmp_path)
    assert tokenizer.tokenize(" plumbuckle") == ["Ġplumbuckle"]
    assert tokenizer.tokenize("USER: ASSISTANT:") == ["USER", ":", "ĠASSISTANT", ":"]


def test_a_run_that_is_not_the_same_is_refused(
    straight: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    config = make_run(checkpoint_every=6)

    with pytest.raises(ModelError, match="its plan 'toy' is not the stream's 'other'"):
        train(config, straight, reader=make_reader(digest="other"))
    with pytest.raises(ModelError, match=r"flip_ratio was 0\.5 and is now 0\.1"):
        train(msgspec.structs.replace(config, flip_ratio=0.1), straight, reader=make_reader())
    with pytest.raises(ModelError, match="render was 'stored' and is now 'each_epoch'"):
        train(msgspec.structs.replace(config, render="each_epoch"), straight, reader=make_reader())


def test_a_changed_setting_is_named_before_the_plan_that_it_changes(
    straight: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    config = msgspec.structs.replace(make_run(checkpoint_every=6), global_batch=3)

    with pytest.raises(ModelError, match="global_batch was 2 and is now 3"):
        train(config, straight, reader=make_reader(digest="other"))


def test_a_stage_trains_its_parts_and_nothing_else(
    straight: Path, tmp_path: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    train(make_run(stage="3", steps=4), tmp_path, reader=make_reader())

    model, _, _ = load_model(tmp_path)
    before = type(model)(model.config)
    changed = {
        part
        for part, parameters in model.parts().items()
        if any(not torch.equal(p, q) for p, q in zip(parameters, before.parts()[part], strict=True))
    }
    assert changed == {"superlink", "decoders.detection", "decoders.detection.backbone"}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    # The third step is of text, and what speaks is frozen.
    assert [(line["family"], line["updated"]) for line in lines[1:]] == [
        ("detection", True),
        ("text", False),
        ("detection", True),
    ]


def test_a_run_in_which_nothing_would_learn_is_refused(
    tmp_path: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    everything = (
        "vision",
        "projector",
        "region",
        "language",
        "embeddings",
        "superlink",
        "decoders",
        "backbones",
    )

    with pytest.raises(ModelError, match="all parts of the model are frozen, expected one that learns"):
        train(make_run(learning_rates=dict.fromkeys(everything)), tmp_path, reader=make_reader())


def test_training_outside_the_main_thread_needs_no_signals(
    tmp_path: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    results: list[Any] = []

    thread = threading.Thread(
        target=lambda: results.append(train(make_run(steps=1), tmp_path, reader=make_reader())), daemon=True
    )
    thread.start()
    thread.join(120)

    assert results[0].step == 1


def test_a_run_reads_real_shards(tiny: Any, tmp_path: Path, make_run: MakeRun) -> None:
    from dataengine.shard import shard

    shard([tiny.convert()[0]], tmp_path / "shards")
    config = make_run(
        shards=str(tmp_path / "shards"), steps=3, mixture={"policy": "proportional"}, num_workers=2
    )

    result = train(config, tmp_path / "run")

    served = [name for line in lines(tmp_path / "run", SERVED) for name in line["ids"]]
    assert (result.step, result.skipped) == (3, {})
    # Six samples, three steps of two: one pass, each once.
    assert len(set(served)) == len(served) == 6
    assert {line["family"] for line in lines(tmp_path / "run")} == {"detection"}


def losses_as_weights(
    step: int, losses: Mapping[str, float], weights: Mapping[str, float]
) -> Mapping[str, float]:
    """Weigh each task by its loss, or as before where it had none."""
    return {task: losses.get(task, weight) for task, weight in weights.items()}


@pytest.fixture
def two_tasks(tiny: Any, tmp_path: Path) -> Path:
    """Shards of a task that needs a decoder and one that does not."""
    from dataengine.shard import shard

    tiny.spec.write_text(
        tiny.spec.read_text().replace("detection: {}", "detection: {}\n  region_recognition: {}")
    )
    shard([tiny.convert(task=task)[0] for task in ("detection", "region_recognition")], tmp_path / "two")
    return tmp_path / "two"


@pytest.mark.parametrize("numbers", [(0, 2), (1, 3)], ids=["boxes alone", "masks"])
def test_boxes_are_learnt_in_half_precision(
    numbers: tuple[int, ...],
    tmp_path: Path,
    make_run: MakeRun,
    make_reader: MakeReader,
    make_sample: Callable[..., Any],
) -> None:
    samples = [make_sample(number, "detection") for number in numbers]

    train(make_run(steps=1, precision="bf16"), tmp_path, reader=make_reader(samples=samples))

    (line,) = lines(tmp_path)
    assert line["updated"] and (line["terms"]["detection/mask"] > 0) == (numbers == (1, 3))


def test_a_mixture_that_changes_on_the_way_goes_on_and_is_replayed(
    two_tasks: Path, tmp_path: Path, make_run: MakeRun
) -> None:
    adapt = Adapt(function=f"{__name__}:losses_as_weights", every=2, delay=2)
    config = make_run(
        shards=str(two_tasks),
        steps=9,
        mixture={"policy": "uniform"},
        adapt=adapt,
        prefetch=2,
        checkpoint_every=5,
    )

    whole = train(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "killed", progress=killer(8))
    train(msgspec.structs.replace(config, num_workers=2), tmp_path / "killed")
    replayed = msgspec.structs.replace(config, adapt=Adapt(replay=str(tmp_path / "whole" / MIXTURE)))
    train(replayed, tmp_path / "replayed")

    decided = lines(tmp_path / "whole", MIXTURE)
    assert whole.step == 9
    assert [(line["step"], line["start"]) for line in decided] == [(2, 4), (4, 6), (6, 8), (8, 10)]
    assert {*decided[0]["weights"]} == {"detection", "region_recognition"}
    for run in ("killed", "replayed"):
        assert exact(tmp_path / run) == exact(tmp_path / "whole")
        assert (tmp_path / run / MIXTURE).read_bytes() == (tmp_path / "whole" / MIXTURE).read_bytes()
        index = Index(two_tasks)
        held = account(index, run_plan(index, tmp_path / run), tmp_path / run)
        assert (held.steps, held.differences) == (9, ())
        assert sum(row.samples for row in held.rows) == 18
    # The losses did change what was served.
    train(msgspec.structs.replace(config, adapt=None), tmp_path / "steady")
    families = [[line["family"] for line in lines(tmp_path / run)] for run in ("whole", "steady")]
    assert families[0][:4] == families[1][:4] and families[0] != families[1]


def test_a_step_of_parts_trains_every_family_and_serves_its_plan(
    two_tasks: Path, tmp_path: Path, make_run: MakeRun
) -> None:
    mixture = {"policy": "uniform", "mode": "accumulate", "loss_weights": {"detection": 0.25}}

    train(make_run(shards=str(two_tasks), steps=3, mixture=mixture), tmp_path / "run")

    index = Index(two_tasks)
    held = account(index, run_plan(index, tmp_path / "run"), tmp_path / "run")
    assert (held.differences, [row.samples for row in held.rows]) == ((), [3, 3])
    assert {line["family"] for line in lines(tmp_path / "run")} == {"detection+text"}
    assert all(set(line["tasks"]) == {"detection", "region_recognition"} for line in lines(tmp_path / "run"))


def test_a_changed_index_is_told_source_by_source(
    two_tasks: Path, tiny: Any, tmp_path: Path, make_run: MakeRun
) -> None:
    from dataengine.shard import shard

    config = make_run(shards=str(two_tasks), steps=1, mixture={"policy": "uniform"})
    train(config, tmp_path / "run")
    tiny.repeat(7)
    shard([tiny.convert(task="detection")[0]], tmp_path / "other")

    told = r"\(tiny/detection/train had 6 samples and has 7, tiny/region_recognition/train is gone\), expected the same"
    with pytest.raises(ModelError, match=told):
        train(msgspec.structs.replace(config, shards=str(tmp_path / "other")), tmp_path / "run")


def test_samples_without_a_mixture_cannot_be_adapted(
    tmp_path: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    adapt = Adapt(function=f"{__name__}:losses_as_weights")

    with pytest.raises(ModelError, match="adapt: the samples have no mixture, expected shards"):
        train(make_run(adapt=adapt), tmp_path, reader=make_reader())


def test_a_run_and_its_measures_are_the_same_from_a_url(
    tiny_shards: Path, tmp_path: Path, make_run: MakeRun
) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(tiny_shards), "/set", recursive=True)
    cache = StoreSettings(cache_dir=str(tmp_path / "cache"), cache_bytes=10**7)
    found = []
    for name, shards in (("local", str(tiny_shards)), ("remote", "memory://set"), ("cached", "memory://set")):
        config = make_run(
            shards=shards,
            store=cache if name == "cached" else StoreSettings(),
            steps=2,
            mixture={"policy": "proportional"},
            num_workers=2,
        )
        train(config, tmp_path / name)
        measures = evaluate_run(tmp_path / name, locate(shards), tmp_path / name, max_new_tokens=16)
        found.append(([line["loss"] for line in lines(tmp_path / name)], measures))
    memory.rm("/set", recursive=True)

    assert found[0] == found[1] == found[2]
    told: list[Any] = [lines(tmp_path / name)[-1].get("store") for name in ("local", "remote", "cached")]
    assert told[0] is None
    # Index and shards.json are two requests each: how much, and what.
    assert (told[1]["requests"], told[1]["fetched"], told[1]["troubles"]) == (8, 0, {})
    assert told[2]["fetched"] == len(list((tmp_path / "cache").glob("*.tar"))) > 0


def test_a_gpu_that_is_not_there_is_one_line(
    tmp_path: Path, make_run: MakeRun, make_reader: MakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that the test says the same on a machine that has one.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(
        ModelError, match="device: 'cuda:0' cannot be used, no GPU was found; take 'cpu' or 'auto'"
    ):
        train(make_run(device="cuda:0"), tmp_path, reader=make_reader())


def test_a_device_that_is_unknown_is_one_line(
    tmp_path: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    with pytest.raises(ModelError, match="device: 'gpu' is unknown, expected 'cpu', 'cuda' or 'auto'"):
        train(make_run(device="gpu"), tmp_path, reader=make_reader())


@pytest.mark.parametrize(("threads", "workers", "expected"), [(0, 1, 2), (0, 5, 1), (2, 1, 2), (4, 1, 4)])
def test_computing_leaves_cores_to_the_data_threads(
    threads: int,
    workers: int,
    expected: int,
    tmp_path: Path,
    make_run: MakeRun,
    make_reader: MakeReader,
) -> None:
    used: list[int] = []
    config = make_run(steps=1, threads=threads, num_workers=workers)
    before = torch.get_num_threads()

    torch.set_num_threads(3)
    try:
        train(
            config, tmp_path, reader=make_reader(), progress=lambda *_: used.append(torch.get_num_threads())
        )
        after = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)

    assert used == [expected]
    assert after == 3
