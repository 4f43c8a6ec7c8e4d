"""The stream as a PyTorch dataset: workers, threads and ranks change neither a sample nor its place."""

from __future__ import annotations

import io
import json
import pickle
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import xxhash
from PIL import Image
from torch.utils.data import DataLoader

from dataengine.errors import BudgetBroken, PlanError, Quarantine, Skip
from dataengine.index import Place
from dataengine.mix import Plan
from dataengine.pool import Pool
from dataengine.render import RenderOptions
from dataengine.sample import Sample
from dataengine.shares import Recipe
from dataengine.stream import Stream
from trainer.dataset import Decoded, Squash, Step, StreamDataset, StreamLoader, merge_state_dicts

# More workers than cores are slow; they must be right all the same.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

BATCH = 6
RECIPE = Recipe(seed=3, global_batch=BATCH, policy="proportional")
Told = list[tuple[int, int, int, list[str]]]


def told(steps: Iterator[Step]) -> Told:
    """Return what steps hold: number, positions, and a digest of each sample with its pixels."""
    found = []
    for step in steps:
        digests = [f"{one.sample.id} {digest(one)}" for one in step.data]
        found.append((step.step, step.start, step.stop, digests))
    return found


def digest(one: Decoded) -> str:
    return xxhash.xxh3_64_hexdigest(b"".join(picture.tobytes() for picture in one.pictures))


def draw(sample: Sample, pictures: list[bytes], rng: random.Random) -> tuple[str, float]:
    """A transform of a user: chance belongs to the position."""
    return sample.id, rng.random()


def picky(sample: Sample, pictures: list[bytes], rng: random.Random) -> str:
    """A transform that declines one sample for good, and any sample now and then."""
    if sample.id == "tiny/train/2#detection":
        raise Quarantine("text.odd", "two is odd")
    if rng.random() < 0.3:
        raise Skip("chance.low", "drawn")
    return sample.id


@pytest.fixture
def make(tiny_shards: Path) -> Callable[..., StreamDataset]:
    """Return a function that makes a dataset of four steps."""

    def dataset(**options: Any) -> StreamDataset:
        return StreamDataset(tiny_shards, RECIPE, **{"last_step": 4, **options})

    return dataset


Make = Callable[..., StreamDataset]


@pytest.fixture
def straight(make: Make) -> Told:
    """What one rank reads alone, without workers or threads."""
    return told(iter(make()))


def test_the_dataset_is_the_plan(tiny_shards: Path, straight: Told) -> None:
    stream = Stream(tiny_shards, RECIPE)

    assert [(step, start, stop) for step, start, stop, _ in straight] == [
        (step, step * BATCH, (step + 1) * BATCH) for step in range(4)
    ]
    assert [one.split()[0] for *_, ones in straight for one in ones] == [
        stream.entry(t)["id"] for t in range(4 * BATCH)
    ]


@pytest.mark.parametrize(
    ("num_workers", "prefetch", "threads", "ahead"),
    [(0, 2, 1, 0), (0, 2, 3, 4), (1, 1, 0, 2), (2, 3, 0, 2), (3, 1, 2, 1)],
)
def test_workers_and_threads_change_nothing(
    make: Make, straight: Told, num_workers: int, prefetch: int, threads: int, ahead: int
) -> None:
    dataset = make(threads=threads, ahead=ahead)

    loader = StreamLoader(dataset, num_workers=num_workers, prefetch_factor=prefetch)

    assert told(iter(loader)) == straight


@pytest.mark.slow
def test_spawned_workers_read_the_same(make: Make, straight: Told) -> None:
    dataset = make(threads=1)
    dataset.stream().read(0)  # what the parent holds open must not travel

    loader = StreamLoader(dataset, num_workers=2, multiprocessing_context="spawn")

    assert told(iter(loader)) == straight


def test_a_lock_that_another_thread_held_at_the_fork_stops_no_worker(make: Make, straight: Told) -> None:
    dataset = make()
    stream = dataset.stream()
    assert isinstance(stream.pool, Pool)

    with stream._lock, stream.pool._lock:
        steps = iter(DataLoader(dataset, batch_size=None, num_workers=1, timeout=20))
        first = told(islice(steps, 1))

    assert first == straight[:1]


def test_a_dataset_is_small_to_pickle(make: Make) -> None:
    dataset = make()
    dataset.stream().read(0)

    assert len(pickle.dumps(dataset)) < 2000


@pytest.mark.parametrize("world", [2, 3, 6])
def test_ranks_take_equal_steps_and_together_give_the_plan(make: Make, straight: Told, world: int) -> None:
    ranks = [told(iter(make(rank=rank, world=world))) for rank in range(world)]

    assert {len(steps) for steps in ranks} == {4}
    for step, parts in zip(straight, zip(*ranks, strict=True), strict=True):
        assert [one for *_, ones in parts for one in ones] == step[3]


def test_the_state_counts_what_was_handed_out_not_what_was_read(make: Make) -> None:
    loader = StreamLoader(make(last_step=None), num_workers=2, prefetch_factor=4)

    steps = iter(loader)
    positions = [(next(steps).step, loader.state().position)[1] for _ in range(3)]

    assert positions == [BATCH, 2 * BATCH, 3 * BATCH]


def test_iterating_again_goes_on(make: Make, straight: Told) -> None:
    loader = StreamLoader(make(), num_workers=1)

    first = told(islice(loader, 1))

    assert first + told(iter(loader)) == straight


def test_a_state_goes_on_with_other_ranks_and_workers(make: Make, straight: Told) -> None:
    before = StreamLoader(make(), num_workers=2)
    served = told(islice(before, 2))
    state = msgspec.json.decode(msgspec.json.encode(before.state_dict()))

    after = []
    for rank in range(3):
        loader = StreamLoader(make(rank=rank, world=3, threads=rank), num_workers=rank % 2)
        loader.load_state_dict(state)
        after.append(told(iter(loader)))

    assert served == straight[:2]
    assert [[one for *_, ones in parts for one in ones] for parts in zip(*after, strict=True)] == [
        step[3] for step in straight[2:]
    ]


def test_chance_belongs_to_the_position(make: Make) -> None:
    alone = [step.data for step in make(transform=draw)]

    late = StreamLoader(make(transform=draw, threads=2), num_workers=1)
    late.load_state_dict({**late.state_dict(), "position": 2 * BATCH})

    assert [step.data for step in late] == alone[2:]
    assert len({number for data in alone for _, number in data}) == 4 * BATCH


@pytest.mark.parametrize("num_workers", [0, 1])
def test_reading_draws_nothing_from_the_generator_that_training_draws_from(
    make: Make, num_workers: int
) -> None:
    before = torch.get_rng_state()

    list(StreamLoader(make(transform=draw), num_workers=num_workers))

    assert torch.equal(torch.get_rng_state(), before)


def test_holes_keep_their_place_and_are_told_with_their_reason(make: Make, tiny_shards: Path) -> None:
    stream = Stream(tiny_shards, RECIPE)
    loader = StreamLoader(make(transform=picky), max_bad_ratio=0.01)

    steps = list(loader)

    for step in steps:
        holes = {hole.position: hole for hole in step.holes}
        served = [t for t in range(step.start, step.stop) if t not in holes]
        assert step.data == [stream.entry(t)["id"] for t in served]
        assert {hole.id for hole in step.holes} == {stream.entry(t)["id"] for t in holes}
        assert all((hole.file, hole.offset) == (stream.entry(t)["shard"], stream.entry(t)["offset"])
                   for t, hole in holes.items())  # fmt: skip
    assert {hole.reason for step in steps for hole in step.holes} == {"text.odd", "chance.low"}
    # What is declined for good is remembered; what was declined by chance is asked again.
    (kept,) = loader.state().holes
    assert (kept.id, kept.reason, kept.lasts) == ("tiny/train/2#detection", "text.odd", True)


def test_a_remembered_hole_is_not_read_again_and_changes_no_step(make: Make) -> None:
    whole = [(step.data, step.holes) for step in make(transform=picky)]
    first = StreamLoader(make(transform=picky))
    list(islice(first, 2))
    dataset = make(transform=picky)
    reads = list[int]()
    real = dataset.stream()._read

    def counted(number: int, place: Place) -> Any:
        reads.append(number)
        return real(number, place)

    dataset.stream()._read = counted  # type: ignore[method-assign]
    second = StreamLoader(dataset)
    second.load_state_dict(first.state_dict())

    assert [(step.data, step.holes) for step in second] == whole[2:]
    bad = dataset.stream().index.find("tiny/train/2#detection")
    assert len(reads) > 0 and bad not in reads


def test_ranks_states_become_one_whatever_their_order(make: Make) -> None:
    loaders = [StreamLoader(make(transform=picky, rank=rank, world=2)) for rank in range(2)]
    for loader in loaders:
        list(islice(loader, 2))
    states = [loader.state_dict() for loader in loaders]

    merged = merge_state_dicts(states)

    assert merged == merge_state_dicts(states[::-1]) == merge_state_dicts([*states, states[0]])
    assert merged["position"] == 2 * BATCH and len(merged["holes"]) == 1


def test_states_of_different_moments_are_not_merged(make: Make) -> None:
    state = StreamLoader(make()).state_dict()

    with pytest.raises(PlanError, match="states: position is 0 on one rank and 6 on another"):
        merge_state_dicts([state, {**state, "position": 6}])


def test_a_budget_ends_the_run_and_names_the_first_cases(make: Make) -> None:
    loader = StreamLoader(make(transform=picky), max_bad_ratio=0.0)
    steps = list[Step]()

    with pytest.raises(
        BudgetBroken, match=r"1 bad samples \(text.odd 1\) in \d+ positions, .*train/2#detection at"
    ):
        steps.extend(loader)

    # The step that broke it was not handed out, but what broke it is known.
    assert loader.state().position == len(steps) * BATCH < 4 * BATCH
    assert [hole.id for hole in loader.state().holes] == ["tiny/train/2#detection"]


def refuse(sample: Sample, pictures: list[bytes], rng: random.Random) -> str:
    raise PlanError(f"{sample.id}: is wrong, expected right; mend it")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_of_ours_is_one_line_wherever_it_comes_from(make: Make, num_workers: int) -> None:
    with pytest.raises(PlanError) as caught:
        list(StreamLoader(make(transform=refuse), num_workers=num_workers))

    assert str(caught.value).endswith("#detection: is wrong, expected right; mend it")
    assert str(caught.value).startswith("tiny/") and "\n" not in str(caught.value)


@pytest.mark.parametrize("state", [{}, {"position": "x", "plan": ""}, {"position": 0, "plan": "", "more": 1}])
def test_a_state_that_is_none_is_refused(make: Make, state: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=r"state of a stream: .*expected what state_dict gave"):
        StreamLoader(make()).load_state_dict(state)


def test_a_state_of_another_plan_is_refused(make: Make, tiny_shards: Path) -> None:
    other = StreamLoader(StreamDataset(tiny_shards, msgspec.structs.replace(RECIPE, seed=4)))

    with pytest.raises(PlanError, match="the plan is not the one that was saved"):
        StreamLoader(make()).load_state_dict(other.state_dict())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, RenderOptions()),
        (RenderOptions(), None),
        (RenderOptions(), RenderOptions(first_pass="anew")),
    ],
)
def test_a_state_of_other_words_is_refused(
    make: Make, before: RenderOptions | None, after: RenderOptions | None
) -> None:
    state = StreamLoader(make(render=before)).state_dict()

    StreamLoader(make(render=before)).load_state_dict(state)
    with pytest.raises(PlanError, match=r"samples were worded by render .* expected the same words"):
        StreamLoader(make(render=after)).load_state_dict(state)
    StreamLoader(make(render=after)).load_state_dict({**state, "render": ""})


def test_a_state_brings_its_exclusions(make: Make) -> None:
    barred = {"tiny/detection/train": (1, 4)}
    loader = StreamLoader(make(exclusions=barred))
    list(islice(loader, 1))

    resumed = StreamLoader(make())
    resumed.load_state_dict(loader.state_dict())

    assert told(iter(resumed)) == told(iter(make(exclusions=barred)))[1:]


def test_pictures_squashed_to_squares_are_what_pillow_makes_of_them(make: Make, tiny_shards: Path) -> None:
    stream = Stream(tiny_shards, RECIPE)

    steps = list(make(transform=Squash(16), threads=2))

    for t, (sample, squares) in enumerate(one for step in steps for one in step.data):
        stored, (data,) = stream.read(t)
        whole = Image.open(io.BytesIO(data)).convert("RGB")
        pillow = np.asarray(whole.resize((16, 16), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        assert sample == stored
        assert (squares.dtype, squares.shape) == (torch.uint8, (1, 3, 16, 16))
        assert np.abs(squares[0].numpy().astype(int) - pillow).max() <= 1


def test_a_sample_without_pictures_squashes_to_none(tiny_shards: Path) -> None:
    sample, _ = Stream(tiny_shards, RECIPE).read(0)

    assert Squash(16)(sample, [], random.Random(0))[1].shape == (0, 3, 16, 16)


def test_the_documented_loop_stops_and_goes_on(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "streaming.md").read_text()
    code = (
        text.split("```python\n")[1].split("```")[0].replace("if step.step == 3:", "if step.step % 4 == 3:")
    )
    monkeypatch.chdir(tmp_path)
    Path("shards").symlink_to(tiny_shards)

    positions = []
    for _ in range(2):
        exec(code, {})
        positions.append(json.loads(Path("state.json").read_text())["position"])

    assert positions == [32, 64]


def test_collate_is_called_in_the_worker_and_never_with_nothing(make: Make) -> None:
    def bare(sample: Sample, pictures: list[bytes], rng: random.Random) -> str:
        if sample.id.startswith("tiny/other"):
            raise Skip("split.other")
        return sample.id

    datasets = [make(transform=bare, collate=tuple, rank=rank, world=BATCH) for rank in range(BATCH)]
    steps = [step for dataset in datasets for step in dataset]

    assert {type(step.data) for step in steps} == {tuple, type(None)}
    assert all((step.data is None) == bool(step.holes) for step in steps)


def test_starting_far_out_costs_a_block_or_two(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make(last_step=None)
    stream = dataset.stream()
    blocks = list[int]()
    real = stream._drawn

    def counted(plan: Plan, block: int) -> Any:
        blocks.append(block)
        return real(plan, block)

    monkeypatch.setattr(stream, "_drawn", counted)
    loader = StreamLoader(dataset)
    loader.load_state_dict({**loader.state_dict(), "position": 10**9 // BATCH * BATCH})

    step = next(iter(loader))

    assert step.start == 10**9 // BATCH * BATCH and len(step.data) == BATCH
    # Six positions may lie on both sides of a border.
    assert 1 <= len(blocks) <= 2


def said(sample: Sample, pictures: list[bytes], rng: random.Random) -> tuple[str, str]:
    return sample.id, sample.conversation[0].text


def test_words_anew_are_the_same_in_any_number_of_workers(make: Make) -> None:
    stored, anew = (make(transform=said, render=one) for one in (None, RenderOptions()))
    several = StreamLoader(make(transform=said, render=RenderOptions()), num_workers=2)

    straight = [step.data for step in anew]

    assert [step.data for step in several] == straight
    # Nine samples: the second step begins with the last three of the first pass.
    before = [step.data for step in stored]
    assert straight[0] == before[0] and straight[1][:3] == before[1][:3]
    later = [one for step in straight[2:] for one in step]
    assert all(a != b for a, b in zip(later, [one for step in before[2:] for one in step], strict=True))


def test_a_loader_is_a_dataset_with_a_state_in_the_process_that_trains_alone(make: Make) -> None:
    inner = StreamLoader(make())
    outer = iter(DataLoader(inner, batch_size=None))
    first = [next(outer), next(outer)]

    resumed = StreamLoader(make())
    resumed.load_state_dict(inner.state_dict())

    rest = [step.start for step in resumed]
    assert [step.start for step in first] + rest == [step.start for step in StreamLoader(make())]
    with pytest.raises(PlanError, match="iterated in a worker of a DataLoader"):
        next(iter(DataLoader(StreamLoader(make()), batch_size=None, num_workers=1)))
