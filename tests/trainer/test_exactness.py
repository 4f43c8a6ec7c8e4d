"""However often a job stops, and on whatever it goes on, it serves the plan: nothing missing, nothing twice.

Chains of links are drawn at random: each runs some steps on its own number of ranks, worker processes and threads, and
ends by itself or by SIGKILL. One sample is damaged and some are declined by chance, so that holes are on the way.
Another kind of chain makes the batches of training, packed or not, cut into micro-batches or not, on threads.
DATAENGINE_GRID=200 makes it 200 stops of the first kind and 100 of the second, instead of a few.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import xxhash

from dataengine.errors import Skip
from dataengine.sample import Sample
from dataengine.shard import shard
from dataengine.shares import Change, Recipe
from dataengine.state import Hole, union
from dataengine.stream import Stream
from tests.conftest import Tiny
from tests.trainer.conftest import toy_run
from trainer.config import MicroBatches, Packing, encode_settings, model_config
from trainer.data import StepData, batches, open_shards
from trainer.dataset import Step, StreamDataset, StreamLoader, decoded, load, merge_state_dicts
from trainer.tokenizer import train_tokenizer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # it forks beside threads
    pytest.mark.skipif(not hasattr(os, "fork"), reason="jobs are forked to be killed"),
]

STOPS = int(os.environ.get("DATAENGINE_GRID", "8"))
LINKS = 4  # stops of a chain
TASKS = ("detection", "counting")  # of two families
POLICIES: tuple[dict[str, Any], ...] = (
    {"policy": "proportional"},
    {"policy": "sqrt"},
    {"policy": "temperature", "temperature": 2.0},
    {"policy": "unimax"},
    {"policy": "cap", "cap_samples": 4},
    {"policy": "repeats", "weights": {"tiny/counting/train": 3.0}},
    {"policy": "explicit", "weights": {"detection": 5.0, "counting": 1.0}},
    {"policy": "token_weighted", "weights": {"detection": 1.0, "counting": 2.0}},
    {"policy": "hierarchical", "tasks": "uniform", "datasets": "sqrt"},
    {"policy": "uniform"},
)
MODES = ("mixed", "unmixed", "stratified", "accumulate")
TOKENIZER = train_tokenizer(["USER: How many cats, dogs are there? ASSISTANT: There are 2."], 400)
DAMAGED = "tiny/train/5#detection"


@dataclass(frozen=True)
class Point:
    """What a link runs on."""

    world: int
    workers: int
    threads: int
    ahead: int
    prefetch: int

    @staticmethod
    def draw(rng: random.Random, most_ranks: int) -> Point:
        return Point(
            world=rng.randint(1, most_ranks),
            workers=rng.choice((0, 0, 1, 2, 3, 4)),
            threads=rng.choice((0, 1, 3)),
            ahead=rng.randint(0, 3),
            prefetch=rng.randint(1, 3),
        )


def told(sample: Sample, pictures: list[bytes], rng: random.Random) -> str:
    """Return the sample's id with a digest of its pixels, text and chance; now and then it is declined."""
    shown = decoded(sample, pictures, rng)
    if rng.random() < 0.1:
        raise Skip("chance.low", "drawn")
    content = b"".join(picture.tobytes() for picture in shown.pictures)
    words = f"{sample.conversation} {rng.random()}".encode()
    return f"{sample.id} {xxhash.xxh3_128_hexdigest(content + words)}"


Line = tuple[int, list[str], list[tuple[int, str, str]]]


def line(parts: list[Step]) -> Line:
    """Return a step of all ranks: its number, what it serves in order, and its holes."""
    assert len({part.step for part in parts}) == 1
    served = [one for part in parts for one in part.data]
    holes = [(hole.position, hole.id, hole.reason) for part in parts for hole in part.holes]
    return parts[0].step, served, holes


def straight(shards: Path, recipe: Recipe) -> Iterator[Line]:
    """Yield the steps as the plan has them, position by position, without any dataset or loader."""
    stream = Stream(shards, recipe)
    for step in range(10**9):
        found = [
            load(stream, told, t) for t in range(step * recipe.global_batch, (step + 1) * recipe.global_batch)
        ]
        yield line([
            Step(
                step=step,
                start=0,
                stop=0,
                data=[one for one in found if isinstance(one, str)],
                holes=tuple(one for one in found if not isinstance(one, str)),
            )
        ])  # fmt: skip


def loaders(shards: Path, recipe: Recipe, point: Point, state: dict[str, Any] | None) -> list[StreamLoader]:
    """Return the loaders of all ranks, at a state."""
    made = []
    for rank in range(point.world):
        dataset = StreamDataset(
            shards,
            recipe,
            rank=rank,
            world=point.world,
            transform=told,
            threads=point.threads,
            ahead=point.ahead,
        )
        loader = StreamLoader(dataset, num_workers=point.workers, prefetch_factor=point.prefetch)
        if state is not None:
            loader.load_state_dict(state)
        made.append(loader)
    return made


def run(
    shards: Path, recipe: Recipe, point: Point, state: dict[str, Any] | None, steps: int
) -> tuple[list[Line], dict[str, Any]]:
    """Run some steps of every rank, one rank after the other, and return them with the ranks' one state."""
    ranks = loaders(shards, recipe, point, state)
    parts = [list(islice(loader, steps)) for loader in ranks]
    lines = [line(list(step)) for step in zip(*parts, strict=True)]
    return lines, merge_state_dicts([loader.state_dict() for loader in ranks])


def run_and_kill(
    folder: Path, shards: Path, recipe: Recipe, point: Point, state: dict[str, Any] | None, steps: int
) -> tuple[list[Line], dict[str, Any] | None]:
    """Run ranks side by side in a process of their own, which saves every second step, and kill it after `steps`.

    Return all lines that it wrote, those behind its last state included, and that state.
    """
    folder.mkdir()
    log, saved = folder / "log", folder / "state"
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        try:
            _write_for_ever(log, saved, loaders(shards, recipe, point, state))
        finally:
            os._exit(1)
    deadline = time.monotonic() + 120
    while (not log.exists() or log.read_bytes().count(b"\n") < steps) and time.monotonic() < deadline:
        assert os.waitpid(job, os.WNOHANG) == (0, 0), "the job ended by itself"
        time.sleep(0.002)
    os.killpg(job, signal.SIGKILL)
    os.waitpid(job, 0)
    # The last line may be half a line.
    lines = [json.loads(text) for text in log.read_text().split("\n")[:-1]]
    state = json.loads(saved.read_text()) if saved.exists() else state
    return [(step, served, [tuple(hole) for hole in holes]) for step, served, holes in lines], state


def _write_for_ever(log: Path, saved: Path, ranks: list[StreamLoader]) -> None:
    with log.open("w") as file:
        for number, parts in enumerate(zip(*ranks, strict=True)):
            file.write(json.dumps(line(list(parts))) + "\n")
            file.flush()
            if number % 2:
                temporary = saved.with_name("state.tmp")
                temporary.write_text(json.dumps(merge_state_dicts([loader.state_dict() for loader in ranks])))
                temporary.replace(saved)


@pytest.fixture
def shards(tiny: Tiny, tmp_path: Path) -> Path:
    """Shards of two tasks of two families, three splits each, with one damaged sample."""
    text = tiny.spec.read_text().replace("detection: {}", "detection: {}\n  counting: {}")
    tiny.spec.write_text(text.replace("tasks:", "    other: {annotations: val.json, use: train}\ntasks:"))
    for task in TASKS:
        for split in ("train", "val", "other"):
            tiny.convert(split, task)
    shard([tiny.out], tmp_path / "s", samples_per_shard=2)
    stream = Stream(tmp_path / "s", Recipe(seed=0, global_batch=1))
    row = stream.index.row(stream.index.find(DAMAGED))
    with (tmp_path / "s" / f"{row['shard']}.tar").open("r+b") as file:
        file.seek(row["image_offsets"][0] + 30)
        file.write(b"damage")
    return tmp_path / "s"


def drawn(rng: random.Random, number: int, modes: tuple[str, ...]) -> Recipe:
    """Return the recipe of a chain: modes in turn, policies by chance, in some chains another one on the way."""
    policy = rng.choice(POLICIES)
    later = (
        ()
        if rng.random() < 0.6
        else (Change(step=rng.randint(2, 6), over=rng.choice((0, 4)), policy="sqrt"),)
    )
    return Recipe(
        seed=number,
        global_batch=rng.randint(8, 13),
        mode=modes[number % len(modes)],  # type: ignore[arg-type]
        schedule=later,
        **policy,
    )


@pytest.mark.parametrize("number", range(-(-STOPS // LINKS)))
def test_a_chain_of_stops_serves_the_plan(shards: Path, tmp_path: Path, number: int) -> None:
    rng = random.Random(f"chain {number}")
    # In the suite's few chains, modes that are laid out in two ways come first.
    recipe = drawn(rng, number, MODES[::-1])
    done: list[Line] = []
    state: dict[str, Any] | None = None

    for link in range(LINKS):
        steps = rng.randint(1, 5)
        if rng.random() < 0.25:
            point = Point.draw(rng, most_ranks=2)
            point = replace(point, workers=min(point.workers, 2))
            lines, state = run_and_kill(tmp_path / f"{link}", shards, recipe, point, state, steps)
        else:
            lines, state = run(shards, recipe, Point.draw(rng, most_ranks=8), state, steps)
        # What was served behind the last state was lost with the job: it is served again, the same.
        position = 0 if state is None else state["position"]
        plan = list(islice(straight(shards, recipe), (lines[-1][0] if lines else 0) + 1))
        assert lines == plan[len(done) :][: len(lines)]
        done = plan[: position // recipe.global_batch]

    last, _ = run(shards, recipe, Point(1, 0, 0, 0, 1), state, 2)
    assert done + last == list(islice(straight(shards, recipe), len(done) + 2))
    served = sum(len(ones) + len(holes) for _, ones, holes in done + last)
    assert served == (len(done) + 2) * recipe.global_batch


def train_ranks(
    shards: Path, recipe: Recipe, point: Point, holes: tuple[Hole, ...], first: int, steps: int, **cut: Any
) -> list[list[StepData]]:
    """Return what every rank computes in some steps, each with a reader of its own that knows the holes."""
    config = toy_run()
    found = []
    for rank in range(point.world):
        reader = open_shards(shards, recipe)
        reader.remember(holes)
        made = batches(
            reader,
            TOKENIZER,
            encode_settings(config, model_config(config, TOKENIZER.get_vocab())),
            seed=recipe.seed,
            global_batch=recipe.global_batch,
            first_step=first,
            last_step=10**9,
            rank=rank,
            world=point.world,
            parts=reader.parts,
            num_workers=point.workers,
            prefetch=point.prefetch,
            **cut,
        )
        # What it has read ahead is lost with it.
        found.append(list(islice(made, steps)))
        made.close()
    return [list(parts) for parts in zip(*found, strict=True)]


def told_of(ranks: list[StepData]) -> tuple[list[str], list[tuple[int, str, str]], int]:
    """Return what a step of all ranks learns from, sorted, its holes, and how many tokens it has."""
    ids = sorted(one for rank in ranks for one in rank.sample_ids)
    holes = sorted((hole.position, hole.id, hole.reason) for rank in ranks for hole in rank.holes)
    tokens = sum(int(batch.attention_mask_BL.sum()) for rank in ranks for batch in rank.batches)
    return ids, holes, tokens


@pytest.mark.parametrize("number", range(-(-STOPS // (2 * LINKS))))
def test_a_chain_of_training_serves_the_plan_packed_or_not(shards: Path, number: int) -> None:
    rng = random.Random(f"training {number}")
    recipe = drawn(rng, number, ("accumulate", "unmixed"))
    stream = Stream(shards, recipe)
    first, holes = 0, tuple[Hole, ...]()

    for _ in range(LINKS):
        steps, point = rng.randint(1, 5), Point.draw(rng, most_ranks=8)
        cut: dict[str, Any] = {
            "packing": rng.choice((None, Packing(max_tokens=512))),
            "micro_batches": rng.choice((None, MicroBatches(max_rows=rng.randint(1, 4)))),
        }
        found = train_ranks(shards, recipe, point, holes, first, steps, **cut)
        whole = train_ranks(shards, recipe, Point(1, 0, 0, 0, 1), (), first, steps)

        for step, ranks in enumerate(found, first):
            entries = [
                stream.entry(t) for t in range(step * recipe.global_batch, (step + 1) * recipe.global_batch)
            ]
            ids, gaps, tokens = told_of(ranks)
            assert ids == sorted(one["id"] for one in entries if one["id"] != DAMAGED)
            assert gaps == [(one["t"], DAMAGED, "shard.damaged") for one in entries if one["id"] == DAMAGED]
            assert tokens == told_of(whole[step - first])[2]
            for parts in zip(*[rank.parts for rank in ranks], strict=True):
                assert len({len(part.batches) for part in parts}) == 1
        first += steps
        holes = union([*holes, *(hole for ranks in found for rank in ranks for hole in rank.holes)])
