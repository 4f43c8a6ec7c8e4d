from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.errors import PlanError, ShardError
from dataengine.mix import plan
from dataengine.sample import Sample
from dataengine.shard import shard
from dataengine.shares import Change, Recipe
from dataengine.state import Hole, State
from dataengine.stream import Stream, recipe, sources

if TYPE_CHECKING:
    from tests.conftest import Tiny


@pytest.fixture
def shards(tiny_shards: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(tiny_shards, tmp_path / "s"))


def _stream(shards: Path, **fields: Any) -> Stream:
    return Stream(shards, Recipe(**{"seed": 3, "global_batch": 6, "policy": "proportional", **fields}))


@settings(deadline=None, max_examples=40)
@given(start=st.integers(0, 60), count=st.integers(0, 40), world=st.integers(1, 6))
def test_all_ranks_together_give_each_position_once(
    tiny_shards: Path, start: int, count: int, world: int
) -> None:
    stream = _stream(tiny_shards)

    served = [list(stream.positions(start, start + count, rank=r, world=world)) for r in range(world)]

    assert sorted(t for ranked in served for t in ranked) == list(range(start, start + count))
    assert all(ranked == sorted(ranked) for ranked in served)


def test_an_epoch_serves_every_sample_of_its_use_once(shards: Path) -> None:
    stream = _stream(shards)

    ids = [stream.read(t)[0].id for t in range(9)]

    assert sorted(ids) == sorted([f"tiny/train/{n}#detection" for n in range(1, 7)]
                                 + [f"tiny/other/{n}#detection" for n in range(7, 10)])  # fmt: skip


def test_the_stream_is_the_plan(shards: Path) -> None:
    stream = _stream(shards)
    made = plan(sources(stream.index), stream.plan.recipe)

    for t in range(50):
        draw = made[t]
        name = made.sources[draw.source].name
        row = int(stream.index.rows_by_source[name][draw.index])
        assert (stream.row(t), stream.epoch(t)) == (row, draw.epoch)
        assert stream.entry(t) == {
            "t": t,
            "id": stream.index.row(row)["id"],
            "task": "detection",
            "dataset": "tiny",
            "shard": f"{stream.index.row(row)['shard']}.tar",
            "offset": stream.index.row(row)["json_offset"],
        }
        assert (shards / stream.entry(t)["shard"]).is_file()


def test_a_sample_is_read_with_the_bytes_of_its_picture(tiny_shards: Path) -> None:
    stream = _stream(tiny_shards)
    root = tiny_shards.parent / "source"

    sample, (picture,) = stream.read(4)

    assert sample.id == stream.entry(4)["id"]
    assert picture == (root / sample.images[0].path).read_bytes()


@pytest.mark.parametrize("part", ["json", "picture"])
def test_a_flipped_byte_is_never_served(shards: Path, part: str) -> None:
    stream = _stream(shards)
    row = stream.index.row(stream.row(0))
    offset = row["json_offset"] if part == "json" else row["image_offsets"][0]
    path = shards / f"{row['shard']}.tar"
    data = bytearray(path.read_bytes())
    data[offset + 20] ^= 1
    path.write_bytes(bytes(data))

    with pytest.raises(ShardError) as caught:
        stream.read(0)

    assert str(caught.value).startswith(
        f"{path}: offset {offset}: bytes of {row['id']} differ from their digest;"
    )


def test_what_was_bad_for_a_moment_is_read_again_and_served(tiny_shards: Path) -> None:
    whole, stream = _stream(tiny_shards), _stream(tiny_shards)
    real = stream.pool.read_pieces
    turns = iter(range(9))

    def flickers(name: str, spans: list[tuple[int, int]]) -> list[bytes]:
        match next(turns) % 3:
            case 0:
                raise ShardError(f"{name}: Input/output error")
            case bad:
                pieces = real(name, spans)
                pieces[bad - 1] = pieces[bad - 1][:-1]
                return pieces

    stream.pool.read_pieces = flickers  # type: ignore[method-assign, assignment]

    assert [stream.serve(t) for t in range(9)] == [whole.serve(t) for t in range(9)]
    assert next(turns, None) is None


@pytest.mark.parametrize("part", ["json", "picture"])
def test_a_sample_is_described_without_its_pictures_whatever_became_of_them(shards: Path, part: str) -> None:
    whole = _stream(shards)
    intact: list[Sample | Hole] = [whole.read(position)[0] for position in range(9)]
    row = whole.index.row(whole.row(4))
    path = shards / f"{row['shard']}.tar"
    data = bytearray(path.read_bytes())
    data[(row["json_offset"] if part == "json" else row["image_offsets"][0]) + 20] ^= 1
    path.write_bytes(bytes(data))
    stream = _stream(shards)
    served = stream.serve(4)

    described = [stream.describe(position) for position in range(9)]

    assert isinstance(served, Hole)
    assert described == (intact if part == "picture" else [*intact[:4], served, *intact[5:]])


def test_a_cut_or_missing_tar_says_how_to_rebuild_it(shards: Path) -> None:
    stream = _stream(shards)
    path = shards / stream.entry(0)["shard"]
    os.truncate(path, 600)

    with pytest.raises(ShardError, match=r"has 600 bytes, expected at least \d+; rebuild it with"):
        stream.read(0)
    stream.close()
    path.unlink()
    with pytest.raises(ShardError, match="No such file or directory; rebuild it with"):
        stream.read(0)


def test_a_state_is_enough_to_go_on(shards: Path) -> None:
    stream = Stream(shards, recipe(seed=1, global_batch=4), exclusions={"tiny/detection/train": (2,)})
    whole = [stream.entry(t)["id"] for t in range(30)]

    state = msgspec.json.decode(msgspec.json.encode(stream.state(13)), type=State)
    resumed = Stream(shards, recipe(seed=1, global_batch=4), exclusions=state.exclusions)
    resumed.check(state)

    assert [resumed.entry(t)["id"] for t in range(state.position, 30)] == whole[13:]
    assert "tiny/train/3#detection" not in whole


@settings(deadline=None, max_examples=30)
@given(
    runs=st.lists(
        st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 25)), min_size=1, max_size=6
    ),
    mode=st.sampled_from(["mixed", "unmixed", "stratified"]),
)
def test_a_chain_of_stops_with_other_ranks_and_workers_loses_nothing_and_repeats_nothing(
    tiny_shards: Path, runs: list[tuple[int, int, int]], mode: str
) -> None:
    straight = _stream(tiny_shards, mode=mode)
    position, served = 0, list[tuple[int, str]]()

    for world, workers, length in runs:
        state = msgspec.json.decode(msgspec.json.encode(straight.state(position)), type=State)
        resumed = _stream(tiny_shards, mode=mode)
        resumed.check(state)
        position = state.position + length
        for rank in range(world):
            for worker in range(workers):
                who = {"rank": rank, "world": world, "worker": worker, "workers": workers}
                for _, positions in resumed.turns(state.position, position, **who):
                    served += [(t, resumed.entry(t)["id"]) for t in positions]

    assert sorted(served) == [(t, straight.entry(t)["id"]) for t in range(position)]


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"global_batch": 3}, {"policy": "sqrt"}, {"mode": "stratified"}]
)
def test_a_state_of_another_plan_is_refused(shards: Path, change: dict[str, Any]) -> None:
    state = _stream(shards).state(5)

    with pytest.raises(PlanError, match="the plan is not the one that was saved"):
        _stream(shards, **change).check(state)


def test_exclusions_are_part_of_the_plan(shards: Path) -> None:
    state = _stream(shards).state(5)
    other = Stream(shards, _stream(shards).plan.recipe, exclusions={"tiny/detection/other": (0,)})

    with pytest.raises(PlanError, match="the plan is not the one that was saved"):
        other.check(state)


def test_only_samples_of_the_asked_use_are_served(shards: Path) -> None:
    stream = Stream(shards, recipe(seed=0, global_batch=3), use="eval")

    assert {stream.entry(t)["id"].split("/")[1] for t in range(12)} == {"val"}


def test_a_set_without_samples_of_a_use_says_what_it_has(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert("val")
    shard([tiny.out], tmp_path / "s")

    with pytest.raises(PlanError, match="no samples with use 'train'; its sources are tiny/detection/val"):
        Stream(tmp_path / "s", recipe(seed=0, global_batch=3))


def test_too_many_ranks_are_refused(shards: Path) -> None:
    with pytest.raises(PlanError, match="7 ranks share a global batch of 6"):
        list(_stream(shards).positions(0, 6, rank=0, world=7))


@pytest.mark.parametrize("fields", [{"policy": "best"}, {"seed": "x"}, {"weigths": {}}])
def test_a_wrong_recipe_is_one_line(fields: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=r"mixture recipe: .*; see 'dataengine mix --help'"):
        recipe(**{"seed": 0, "global_batch": 1, **fields})


def test_a_state_of_other_sources_is_refused_by_name(tiny_shards: Path) -> None:
    stream = _stream(tiny_shards)
    saved = stream.state(6)
    train, other = sorted(saved.sources, key=lambda one: one.name, reverse=True)

    changed = msgspec.structs.replace(train, fingerprint="another")
    smaller = msgspec.structs.replace(other, num_samples=2)
    gone = msgspec.structs.replace(other, name="tiny/detection/old")

    stream.check(msgspec.json.decode(msgspec.json.encode(saved), type=State))
    for sources_then, told in (
        (
            (changed, other),
            r"\(tiny/detection/train was converted from other files or by another version, or other",
        ),
        ((train, smaller), r"\(tiny/detection/other had 2 samples and has 3\)"),
        ((train, gone), r"\(tiny/detection/old is gone, tiny/detection/other is new\)"),
    ):
        with pytest.raises(PlanError, match=told):
            stream.check(msgspec.structs.replace(saved, sources=sources_then))
    # States of earlier versions do not know their sources: there the plan's digest decides alone.
    stream.check(msgspec.structs.replace(saved, sources=()))
    with pytest.raises(PlanError, match="sources, recipe or exclusions changed"):
        stream.check(msgspec.structs.replace(saved, sources=(), plan="other"))


def test_another_plan_is_followed_from_where_it_differs(tiny_shards: Path) -> None:
    stream = _stream(tiny_shards, mode="mixed")
    before = [stream.row(t) for t in range(40)]

    changed = Change(
        step=5, policy="explicit", weights={"tiny/detection/train": 1, "tiny/detection/other": 0}
    )
    other = plan(sources(stream.index), msgspec.structs.replace(stream.plan.recipe, schedule=(changed,)))
    stream.follow(other)

    after = [stream.row(t) for t in range(40)]
    assert after[:30] == before[:30] and after[30:] != before[30:]
