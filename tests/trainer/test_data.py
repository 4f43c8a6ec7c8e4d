"""Batches are a function of plan, seed and step, whoever reads them and however many threads there are."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dataengine import stream
from dataengine.errors import ShardError
from dataengine.mix import StepPart
from dataengine.render import RenderOptions
from dataengine.sample import Sample
from dataengine.shares import Recipe
from tests.trainer.conftest import ToyReader, toy_run, toy_sample
from trainer.config import MicroBatches, Packing, encode_settings, model_config
from trainer.data import StepData, batches, open_shards
from trainer.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer(
    ["USER: Find all red, green, blue. ASSISTANT: Here: Which colours are here?"], 400
)
MakeReader = Callable[..., Any]


VQA = [toy_sample(number, "vqa") for number in range(15)]


def steps_of(reader: Any, first: int = 0, last: int = 4, batch: int = 2, **changes: Any) -> list[StepData]:
    """Return steps of a stream as a short run of the tiny model reads them."""
    config = toy_run()
    encoding = encode_settings(config, model_config(config, TOKENIZER.get_vocab()))
    options = {"seed": 3, "global_batch": batch, "first_step": first, "last_step": last, **changes}
    return list(batches(reader, TOKENIZER, encoding, **options))


@pytest.fixture
def read() -> Callable[..., list[StepData]]:
    """Return a function that reads steps of a toy stream."""
    return steps_of


def same(a: StepData, b: StepData) -> bool:
    (one,), (other,) = a.batches, b.batches
    pairs = [
        (getattr(one, name), getattr(other, name))
        for name in ("input_ids_BL", "labels_BL", "tiles_T3SS", "images_B3HW", "pixel_mask_BHW", "groups_G2")
    ]
    tensors = all((a is None and b is None) or torch.equal(a, b) for a, b in pairs)
    boxes = all(torch.equal(a.boxes_n4, b.boxes_n4) for a, b in zip(one.targets, other.targets, strict=True))
    return tensors and boxes and one.sample_ids == other.sample_ids


@pytest.mark.parametrize(("num_workers", "prefetch"), [(1, 1), (3, 2), (4, 8)])
def test_threads_change_no_batch_and_no_order(
    read: Any, make_reader: MakeReader, num_workers: int, prefetch: int
) -> None:
    alone = read(make_reader())

    threaded = read(make_reader(), num_workers=num_workers, prefetch=prefetch)

    assert [step.step for step in threaded] == [0, 1, 2, 3]
    assert all(same(a, b) for a, b in zip(alone, threaded, strict=True))


def test_starting_late_gives_the_same_steps(read: Any, make_reader: MakeReader) -> None:
    whole = read(make_reader())

    late = read(make_reader(), first=2)

    assert all(same(a, b) for a, b in zip(whole[2:], late, strict=True))


def test_augmentation_follows_the_seed(read: Any, make_reader: MakeReader) -> None:
    one, other = read(make_reader(), last=2), read(make_reader(), last=2, seed=4)

    assert not all(same(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_each_step_without_overlap(read: Any, make_reader: MakeReader, world: int) -> None:
    whole = read(make_reader(global_batch=4), batch=4, last=3)

    ranks = [
        read(make_reader(global_batch=4), batch=4, last=3, rank=rank, world=world) for rank in range(world)
    ]

    for step, parts in zip(whole, zip(*ranks, strict=True), strict=True):
        assert [id for part in parts for id in part.sample_ids] == list(step.sample_ids)
        assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    world=st.integers(1, 6),
    broken=st.sets(st.integers(0, 14)),
    packing=st.sampled_from([None, Packing(max_tokens=512)]),
    micro_batches=st.sampled_from([None, MicroBatches(max_rows=1), MicroBatches(max_rows=2)]),
)
@example(sizes=[1, 5], world=6, broken=set(), packing=None, micro_batches=None)
@example(sizes=[2, 4], world=3, broken={2}, packing=None, micro_batches=None)
@example(sizes=[4, 1], world=2, broken={0, 1}, packing=Packing(), micro_batches=MicroBatches(max_rows=1))
@example(sizes=[3], world=2, broken={0, 1, 2}, packing=None, micro_batches=None)
@settings(max_examples=20, deadline=None)
def test_every_rank_computes_as_often_however_few_samples_a_part_has(
    sizes: list[int], world: int, broken: set[int], packing: Any, micro_batches: Any
) -> None:
    stops = list(itertools.accumulate(sizes))
    batch = stops[-1]
    assume(world <= batch)
    parts = [
        StepPart(family="text", start=stop - size, stop=stop, weight=1.0)
        for stop, size in zip(stops, sizes, strict=True)
    ]
    reader = ToyReader(samples=VQA, broken=frozenset(broken))
    ranks = [
        steps_of(
            reader,
            last=1,
            batch=batch,
            rank=rank,
            world=world,
            parts=lambda step: parts,
            packing=packing,
            micro_batches=micro_batches,
        )[0]
        for rank in range(world)
    ]

    for part, whole in zip(zip(*[rank.parts for rank in ranks], strict=True), parts, strict=True):
        (times,) = {len(one.batches) for one in part}
        assert (times > 0) == bool(set(range(whole.start, whole.stop)) - broken)
    ids = sorted(id for rank in ranks for id in rank.sample_ids)
    assert ids == sorted(VQA[position][0].id for position in range(batch) if position not in broken)
    assert sorted(hole.position for rank in ranks for hole in rank.holes) == sorted(
        broken & set(range(batch))
    )


def test_bad_samples_are_listed_with_their_reason(read: Any, make_reader: MakeReader) -> None:
    steps = read(make_reader(broken=frozenset({1, 2, 3})), last=2, num_workers=2)

    assert steps[0].skipped == (("toy/train/1#detection", "image.corrupt"),)
    assert steps[0].sample_ids == ("toy/train/0#detection",)
    assert not steps[1].batches and len(steps[1].skipped) == 2


def _words(steps: list[StepData]) -> list[list[int]]:
    return [batch.input_ids_BL.tolist() for step in steps for batch in step.batches]


def test_words_anew_come_in_the_same_order_on_any_number_of_threads_and_after_any_start(
    read: Any, tiny_shards: Path
) -> None:
    recipe = stream.recipe(seed=3, global_batch=3, mode="unmixed", policy="proportional")
    stored = read(open_shards(tiny_shards, recipe), last=9, batch=3)
    reader = open_shards(tiny_shards, recipe, RenderOptions())

    anew = read(reader, last=9, batch=3)
    in_threads = read(reader, last=9, batch=3, num_workers=3)
    late = read(open_shards(tiny_shards, recipe, RenderOptions()), first=5, last=9, batch=3)

    ids = [[step.sample_ids for step in steps] for steps in (stored, anew)]
    assert ids[0] == ids[1] and len(ids[0]) == 9
    # Nine samples, three a step: the first pass ends with the third step.
    assert _words(anew)[:3] == _words(stored)[:3]
    assert all(a != b for a, b in zip(_words(anew)[3:], _words(stored)[3:], strict=True))
    assert all(same(a, b) for a, b in zip(anew, in_threads, strict=True))
    assert all(same(a, b) for a, b in zip(anew[5:], late, strict=True))


def test_damaged_shards_cost_their_samples_and_no_other(read: Any, tiny_shards: Path, tmp_path: Path) -> None:
    recipe = Recipe(seed=3, global_batch=3, policy="proportional", mode="unmixed")
    whole = read(open_shards(tiny_shards, recipe), batch=3, last=3)
    folder = Path(shutil.copytree(tiny_shards, tmp_path / "s"))
    (folder / "tiny-detection-train-000001.tar").unlink()

    steps = read(open_shards(folder, recipe), batch=3, last=3, num_workers=2)

    holes = [hole for step in steps for hole in step.holes]
    assert sorted((hole.id, hole.reason) for hole in holes) == [
        ("tiny/train/3#detection", "shard.unreadable"),
        ("tiny/train/4#detection", "shard.unreadable"),
    ]
    for step, intact in zip(steps, whole, strict=True):
        lost = {hole.id for hole in step.holes}
        assert [i for i in intact.sample_ids if i not in lost] == list(step.sample_ids)


def test_shards_that_cannot_be_opened_end_the_run(read: Any) -> None:
    class Damaged:
        digest = "toy"

        def read(self, position: int) -> tuple[Sample, list[bytes]]:
            raise ShardError("a.tar: offset 0: bytes differ")

    with pytest.raises(ShardError, match="bytes differ"):
        read(Damaged(), num_workers=2)


def test_reading_ahead_is_bounded(make_run: Any, make_reader: MakeReader) -> None:
    reader, config = make_reader(), make_run()
    settings = encode_settings(config, model_config(config, TOKENIZER.get_vocab()))
    ahead = batches(
        reader,
        TOKENIZER,
        settings,
        seed=0,
        global_batch=2,
        first_step=0,
        last_step=100,
        num_workers=2,
        prefetch=3,
    )

    next(ahead)
    time.sleep(0.3)

    # The step that was handed out, and three that stand ready.
    assert max(reader.reads) <= 7
    ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("data")]
