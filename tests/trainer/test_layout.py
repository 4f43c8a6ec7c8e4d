"""A step is the same samples, loss and gradient however it is laid out, and the same batches whoever makes them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dataengine import images
from dataengine.mix import StepPart
from dataengine.sample import measure_of
from dataengine.shares import Recipe
from dataengine.state import Hole
from trainer import losses
from trainer.batch import Batch, counts
from trainer.config import MicroBatches, Packing, TrainConfig, encode_settings, make_config, model_config
from trainer.data import ShardReader, StepData, batches, open_shards
from trainer.encode import encode, measure
from trainer.model.visionllm import VisionLLM
from trainer.samples import read_samples
from trainer.tokenizer import bank_texts, train_tokenizer
from trainer.update import update

STEPS, BATCH = 6, 8
PACK = {"packing": Packing(max_tokens=1200, max_tiles=20)}
CUT = {"micro_batches": MicroBatches(max_rows=2, multiple_of=2)}
EACH = {"micro_batches": MicroBatches(max_rows=1)}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(bank_texts())


@pytest.fixture(scope="module")
def run_config(scene_shards: Path) -> TrainConfig:
    """A run on every task of scenes, whose gradients are not clipped and whose detection loss draws no noise."""
    detection = {"denoising": 0}
    return make_config(
        {
            "shards": str(scene_shards),
            "steps": STEPS,
            "global_batch": BATCH,
            "seed": 1,
            "model": {"preset": "tiny", "detection": detection},
            "flip_ratio": 0.5,
            "grad_clip": 1e9,
        }
    )


@pytest.fixture(scope="module")
def model(run_config: TrainConfig, tokenizer: Any) -> VisionLLM:
    found = VisionLLM(model_config(run_config, tokenizer.get_vocab()))
    found.train()
    return found


@pytest.fixture(scope="module")
def reader(run_config: TrainConfig) -> ShardReader:
    recipe = Recipe(seed=1, global_batch=BATCH, policy="uniform", mode="unmixed")
    return open_shards(Path(run_config.shards), recipe)


@pytest.fixture(scope="module")
def read(
    run_config: TrainConfig, model: VisionLLM, tokenizer: Any, reader: ShardReader
) -> Callable[..., list[StepData]]:
    """Return a function that reads steps of scenes."""

    def steps(
        first: int = 0, last: int = STEPS, from_reader: Any = None, max_length: int = 2048, **changes: Any
    ) -> list[StepData]:
        settings = replace(encode_settings(run_config, model.config), max_length=max_length)
        options = {"seed": 1, "global_batch": BATCH, "first_step": first, "last_step": last, **changes}
        return list(batches(from_reader or reader, tokenizer, settings, **options))

    return steps


def equal(one: Any, other: Any) -> bool:
    """Return whether two batches hold the same bits."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if is_dataclass(one):
        return all(equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def numbered(steps: Iterable[StepData]) -> list[list[Batch]]:
    """Return the batches of each step that count, in order of their numbers."""
    return [sorted(step.batches, key=lambda batch: batch.number) for step in steps]


def gradient(config: TrainConfig, model: VisionLLM, data: StepData) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the loss of a step, and its gradient by parameter; the weights stay."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    computed, norm = update(config, model, optimizer, data.parts, data.step)
    assert math.isfinite(norm)
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return sum(found.weight * float(found.output.loss) for found in computed), grads


def test_what_is_said_of_a_sample_without_its_pictures_is_what_encoding_makes(
    scene_shards: Path, run_config: TrainConfig, model: VisionLLM, tokenizer: Any
) -> None:
    settings = replace(encode_settings(run_config, model.config), decoder_short=(96, 128), max_length=900)
    settings = replace(settings, tile_side=56)  # so that pictures have several tiles
    tasks = set()
    for number, (sample, pictures) in enumerate(read_samples(scene_shards, use="train")):
        pixels = [images.show(data, measure_of(sample, place)) for place, data in enumerate(pictures)]
        found = measure(sample, tokenizer, settings, random.Random(number))

        encoded = encode(sample, pixels, tokenizer, settings, random.Random(number))

        assert (found.num_tokens, found.num_tiles) == (len(encoded.input_ids_L), len(encoded.tiles_T3SS))
        assert len(found.sample.regions) == len(encoded.regions_RSS)
        size = None if encoded.image_3HW is None else encoded.image_3HW.shape[:0:-1]
        assert found.decoder_size == size
        assert (found.family, found.shortened) == (encoded.family, encoded.shortened)
        tasks.add(sample.task)
    assert len(tasks) == 14


@pytest.mark.parametrize("layout", [PACK, CUT, EACH, {**PACK, **CUT}], ids=["pack", "cut", "each", "both"])
def test_loss_and_gradient_of_a_text_step_are_those_of_one_padded_batch(
    layout: dict[str, Any], read: Any, run_config: TrainConfig, model: VisionLLM
) -> None:
    compared = 0
    for whole, laid_out in zip(read(last=4), read(last=4, **layout), strict=True):
        if whole.batches[0].family != "text":
            continue
        compared += 1
        assert sorted(laid_out.sample_ids) == sorted(whole.sample_ids)

        loss, grads = gradient(run_config, model, whole)
        laid_out_loss, laid_out_grads = gradient(run_config, model, laid_out)

        assert laid_out_loss == pytest.approx(loss, rel=1e-5)
        assert grads.keys() == laid_out_grads.keys()
        for name in grads:
            torch.testing.assert_close(laid_out_grads[name], grads[name], rtol=1e-3, atol=2e-5, msg=name)
    assert compared >= 2


def test_micro_batches_of_a_decoder_add_up_to_one_batch(
    read: Any, run_config: TrainConfig, model: VisionLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Points of masks are drawn; here every mask has the same ones. (All scenes have one size: none is padded.)
    def same_points(shape: tuple[int, ...], generator: Any, like: torch.Tensor) -> torch.Tensor:
        return torch.linspace(0, 1, shape[1] * 2).view(1, -1, 2).repeat(shape[0], 1, 1)

    monkeypatch.setattr(losses, "_uniform", same_points)
    compared = 0
    for whole, laid_out in zip(read(last=4), read(last=4, **CUT), strict=True):
        if whole.batches[0].family != "detection":
            continue
        compared += 1
        assert len(laid_out.batches) == 4

        loss, grads = gradient(run_config, model, whole)
        laid_out_loss, laid_out_grads = gradient(run_config, model, laid_out)

        assert laid_out_loss == pytest.approx(loss, rel=1e-5)
        for name in grads:
            scale = float(grads[name].abs().max())
            torch.testing.assert_close(
                laid_out_grads[name], grads[name], rtol=1e-3, atol=1e-4 * scale + 1e-6, msg=name
            )
    assert compared


def test_one_micro_batch_is_what_an_uncut_step_is(
    read: Any, run_config: TrainConfig, model: VisionLLM
) -> None:
    for whole, laid_out in zip(read(last=3), read(last=3, micro_batches=MicroBatches()), strict=True):
        loss, grads = gradient(run_config, model, whole)
        laid_out_loss, laid_out_grads = gradient(run_config, model, laid_out)

        assert laid_out_loss == loss
        assert all(torch.equal(laid_out_grads[name], grads[name]) for name in grads)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("layout", [PACK, {**PACK, **CUT}], ids=["pack", "both"])
def test_batches_are_the_same_whatever_ranks_and_threads(
    layout: dict[str, Any], world: int, read: Any
) -> None:
    whole = read(last=3, **layout)

    ranks = [
        read(last=3, rank=rank, world=world, num_workers=(0, 1, 4)[rank % 3], prefetch=1 + rank, **layout)
        for rank in range(world)
    ]

    for step, expected in enumerate(numbered(whole)):
        parts = [ranked[step] for ranked in ranks]
        found = sorted((batch for part in parts for batch in part.batches), key=lambda batch: batch.number)
        assert equal(tuple(found), tuple(expected))
        assert len({len(part.parts[0].batches) for part in parts}) == 1  # all compute as often
        assert {(part.start, part.stop) for part in parts} == {(step * BATCH, (step + 1) * BATCH)}


@pytest.mark.parametrize("layout", [PACK, CUT], ids=["pack", "cut"])
def test_a_step_needs_nothing_of_those_before_it(layout: dict[str, Any], read: Any) -> None:
    whole = numbered(read(**layout))

    late = numbered(read(first=3, num_workers=3, prefetch=2, **layout))

    assert all(equal(tuple(a), tuple(b)) for a, b in zip(whole[3:], late, strict=True))


@pytest.mark.parametrize("world", [2, 3])
def test_the_mean_gradient_of_the_ranks_is_that_of_one(
    world: int,
    read: Any,
    run_config: TrainConfig,
    model: VisionLLM,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (whole,) = read(first=1, last=2, **PACK, **CUT)
    ranks = [read(first=1, last=2, rank=rank, world=world, **PACK, **CUT)[0] for rank in range(world)]
    total_5 = torch.stack([counts(batch) for batch in whole.batches]).sum(0)

    loss, grads = gradient(run_config, model, whole)
    monkeypatch.setattr("trainer.update.mean_count", lambda count: total_5 / world)  # what ranks agree on
    found = [gradient(run_config, model, ranked) for ranked in ranks]

    assert sum(ranked.parts[0].num_idle for ranked in ranks) == (world == 3)
    assert sum(loss for loss, _ in found) / world == pytest.approx(loss, rel=1e-5)
    for name in grads:
        # Without a region of its own, a rank has no gradient for what only regions use.
        mean = torch.stack([ranked.get(name, torch.zeros_like(grads[name])) for _, ranked in found]).mean(0)
        torch.testing.assert_close(mean, grads[name], rtol=1e-3, atol=2e-5, msg=name)


def test_parts_of_a_step_add_up_by_their_weights(
    read: Any, run_config: TrainConfig, model: VisionLLM
) -> None:
    alone = read(last=2)
    assert alone[0].batches[0].family != alone[1].batches[0].family

    def parts(step: int) -> list[StepPart]:
        middle, end = BATCH, 2 * BATCH
        return [
            StepPart(family="", start=0, stop=middle, weight=1.0),
            StepPart(family="", start=middle, stop=end, weight=0.25),
        ]

    (together,) = read(last=1, parts=parts)

    (first, first_grads), (second, second_grads) = (gradient(run_config, model, step) for step in alone)
    loss, grads = gradient(run_config, model, replace(together, step=0))
    assert together.sample_ids == alone[0].sample_ids + alone[1].sample_ids
    # The noise of a part is its own; a text step has none but that of regions.
    assert loss == pytest.approx(first + 0.25 * second, rel=1e-4)
    for name in ("language.model.model.norm.weight", "vision.projector.0.weight"):
        expected = first_grads[name] + 0.25 * second_grads[name]
        torch.testing.assert_close(grads[name], expected, rtol=2e-2, atol=1e-3)


class Broken:
    """Scenes of which some positions have pictures that cannot be decoded."""

    def __init__(self, reader: ShardReader, positions: set[int]) -> None:
        self.reader, self.positions = reader, positions
        self.digest, self.describe = reader.digest, reader.describe

    def hole(self, position: int, reason: str, detail: str, *, lasts: bool) -> Hole:
        return self.reader.hole(position, reason, detail, lasts=False)  # other tests read on

    def read(self, position: int) -> Any:
        sample, pictures = self.reader.stream.read(position)
        return sample, [b"no picture"] * len(pictures) if position in self.positions else pictures


@pytest.mark.parametrize("world", [1, 3])
def test_what_is_wrong_with_pictures_moves_no_other_sample_and_is_told_once(
    world: int, read: Any, reader: ShardReader
) -> None:
    (whole,) = read(first=1, last=2, **PACK, **CUT)
    bad = {BATCH + 1, BATCH + 4}
    names = {reader.stream.read(position)[0].id for position in bad}

    ranks = [
        read(first=1, last=2, rank=rank, world=world, from_reader=Broken(reader, bad), **PACK, **CUT)[0]
        for rank in range(world)
    ]

    told = [hole.position for ranked in ranks for hole in ranked.holes]
    assert sorted(told) == sorted(bad)
    kept = {batch.number: batch.sample_ids for ranked in ranks for batch in ranked.batches}
    for batch in whole.batches:
        expected = tuple(name for name in batch.sample_ids if name not in names)
        assert kept.get(batch.number, ()) == expected
    assert len({len(ranked.parts[0].batches) for ranked in ranks}) == 1


def test_what_another_step_found_out_about_a_picture_changes_no_layout(
    run_config: TrainConfig, read: Any
) -> None:
    recipe = Recipe(seed=1, global_batch=BATCH, policy="uniform", mode="unmixed")
    (whole,) = read(first=1, last=2, **PACK, **CUT)
    for position in range(BATCH, 2 * BATCH):
        knowing = open_shards(Path(run_config.shards), recipe)
        bad = knowing.hole(position, "image.corrupt", "found before", lasts=True).id

        (step,) = read(first=1, last=2, from_reader=knowing, **PACK, **CUT)

        found = {batch.number: batch.sample_ids for batch in step.batches}
        for batch in whole.batches:
            assert found.get(batch.number, ()) == tuple(name for name in batch.sample_ids if name != bad)


def test_a_rank_that_loses_a_whole_micro_batch_computes_as_often_as_the_others(
    read: Any, reader: ShardReader
) -> None:
    (whole,) = read(first=1, last=2, **EACH)
    names = list(whole.sample_ids)
    lost = next(name for name in names if names.count(name) == 1)
    position = next(t for t in range(BATCH, 2 * BATCH) if reader.stream.read(t)[0].id == lost)

    ranks = [
        read(first=1, last=2, rank=rank, world=2, from_reader=Broken(reader, {position}), **EACH)[0]
        for rank in range(2)
    ]

    assert [len(ranked.parts[0].batches) for ranked in ranks] == [4, 4]
    assert sum(ranked.parts[0].num_idle for ranked in ranks) == 1
    assert sorted(name for ranked in ranks for name in ranked.sample_ids) == sorted(
        name for name in names if name != lost
    )


def test_a_sample_that_fits_no_sequence_is_left_out_and_told_once(
    read: Any,
) -> None:
    ranks = [
        read(first=1, last=2, rank=rank, world=2, packing=Packing(max_tiles=0), max_length=60)[0]
        for rank in range(2)
    ]

    reasons = [reason for ranked in ranks for _, reason in ranked.skipped]
    served = [name for ranked in ranks for name in ranked.sample_ids]
    assert set(reasons) <= {"text.too_long", "image.too_many_tiles"} and reasons
    assert len(reasons) + len(served) == BATCH
