"""Shards without what selections leave out: all is accounted for, and a change of mind costs what it changes alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataengine import selection
from dataengine.cli import main
from dataengine.errors import PlanError, ShardError
from dataengine.index import Index
from dataengine.layout import Layout
from dataengine.manifest import read_samples
from dataengine.selection import Choice
from dataengine.shard import append, shard
from dataengine.stream import Stream, recipe
from dataengine.verify import rebuild, verify

if TYPE_CHECKING:
    from tests.conftest import Tiny

TRAIN = [f"tiny/train/{number}#detection" for number in range(1, 7)]
VAL = [f"tiny/val/{number}#detection" for number in range(7, 10)]
EVERY = [*TRAIN, *VAL, *(f"tiny/other/{number}#detection" for number in range(7, 10))]


def _select(path: Path, names: Iterable[str], reason: str = "blurred") -> Path:
    selection.write([Choice(id=name, keep=False, reason=reason, note=f"why {name}") for name in names], path)
    return path


def _both(tiny: Tiny) -> list[str]:
    return [sample.id for split in ("train", "val") for sample in read_samples(tiny.convert(split)[0])]


def _ids(folder: Path) -> list[str]:
    return list(Index(folder).table.column("id").to_pylist())


def _tars(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}


def test_what_is_left_out_is_in_no_shard_and_in_the_account(tiny: Tiny, tmp_path: Path) -> None:
    _both(tiny)
    chosen = _select(tmp_path / "a.parquet", [TRAIN[3], VAL[0]])

    made = shard([tiny.out], tmp_path / "s", samples_per_shard=2, selections=[chosen])

    assert _ids(tmp_path / "s") == [name for name in TRAIN + VAL if name not in (TRAIN[3], VAL[0])]
    assert [(one.id, one.reason, one.detail) for one in made.dropped] == [
        (name, "selected.blurred", f"why {name}") for name in (TRAIN[3], VAL[0])
    ]
    for source in made.sources:
        dropped = [one for one in made.dropped if one.source == source.name]
        assert source.samples + len(dropped) == source.ledger.samples
    assert verify(tmp_path / "s") == []
    assert rebuild(tmp_path / "s") == []


@pytest.mark.parametrize("layout", ["by_task", "mixed"])
def test_a_shard_of_which_nothing_is_left_is_not_written(tiny: Tiny, tmp_path: Path, layout: Layout) -> None:
    _both(tiny)
    shard([tiny.out], tmp_path / "all", layout=layout, samples_per_shard=3)
    second = _ids(tmp_path / "all")[3:6]
    chosen = _select(tmp_path / "a.parquet", second)

    made = shard([tiny.out], tmp_path / "s", layout=layout, samples_per_shard=3, selections=[chosen])

    before, after = _tars(tmp_path / "all"), _tars(tmp_path / "s")
    assert len(after) == 2
    assert after.items() <= before.items()
    assert sorted(one.id for one in made.dropped) == sorted(second)
    assert rebuild(tmp_path / "s") == []
    assert rebuild(tmp_path / "s", only=list(after)[1]) == []


def test_another_selection_rewrites_what_changed_and_only_that(tiny: Tiny, tmp_path: Path) -> None:
    _both(tiny)
    first = _select(tmp_path / "a.parquet", [TRAIN[0]])
    second = _select(tmp_path / "b.parquet", [TRAIN[0], TRAIN[5]])
    shard([tiny.out], tmp_path / "s", samples_per_shard=2, selections=[first])
    before = _times(tmp_path / "s")

    shard([tiny.out], tmp_path / "s", samples_per_shard=2, selections=[second])
    after = _times(tmp_path / "s")
    shard([tiny.out], tmp_path / "s", samples_per_shard=2)

    assert {name for name in before if before[name] != after[name]} == {"tiny-detection-train-000002.tar"}
    shard([tiny.out], tmp_path / "plain", samples_per_shard=2)
    assert _tars(tmp_path / "s") == _tars(tmp_path / "plain")
    assert (tmp_path / "s/index.parquet").read_bytes() == (tmp_path / "plain/index.parquet").read_bytes()
    assert (tmp_path / "s/shards.json").read_bytes() == (tmp_path / "plain/shards.json").read_bytes()


def test_a_stream_does_not_go_on_in_shards_of_which_other_samples_are_left_out(
    tiny: Tiny, tmp_path: Path
) -> None:
    _both(tiny)
    made = recipe(seed=1, global_batch=2)
    for name, gone in (("a", TRAIN[:1]), ("same", TRAIN[:1]), ("other", TRAIN[1:2])):
        shard([tiny.out], tmp_path / name, selections=[_select(tmp_path / f"{name}.parquet", gone, name)])

    state = Stream(tmp_path / "a", made).state(4)

    Stream(tmp_path / "same", made).check(state)
    with pytest.raises(PlanError, match="tiny/detection/train"):
        Stream(tmp_path / "other", made).check(state)


def test_what_a_selection_names_is_not_read(tiny: Tiny, tmp_path: Path) -> None:
    _both(tiny)
    (tiny.root / "images/003.jpg").unlink()
    chosen = _select(tmp_path / "a.parquet", [TRAIN[2]])

    made = shard([tiny.out], tmp_path / "s", samples_per_shard=2, selections=[chosen])
    again = shard([tiny.out], tmp_path / "s", samples_per_shard=2)

    assert [one.reason for one in made.dropped] == ["selected.blurred"]
    assert [one.reason for one in again.dropped] == ["image.missing"]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gone=st.sets(st.sampled_from(EVERY), max_size=8),
    other=st.sets(st.sampled_from(EVERY), max_size=8),
    layout=st.sampled_from(["by_task", "mixed"]),
    size=st.integers(1, 4),
)
def test_shards_hold_all_minus_what_is_left_out_whatever_stood_before(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_shards: Path,
    gone: set[str],
    other: set[str],
    layout: Layout,
    size: int,
) -> None:
    tmp_path = tmp_path_factory.mktemp("property")
    one, two = _select(tmp_path / "one", gone), _select(tmp_path / "two", other, "leak")

    shard(
        [tiny_shards.parent / "manifests"],
        tmp_path / "s",
        layout=layout,
        samples_per_shard=size,
        selections=[two],
    )
    made = shard(
        [tiny_shards.parent / "manifests"],
        tmp_path / "s",
        layout=layout,
        samples_per_shard=size,
        selections=[one],
    )
    shard(
        [tiny_shards.parent / "manifests"],
        tmp_path / "t",
        layout=layout,
        samples_per_shard=size,
        selections=[one],
    )

    assert sorted(_ids(tmp_path / "s")) == sorted(set(EVERY) - gone)
    assert {one.id for one in made.dropped} == gone
    assert _tars(tmp_path / "s") == _tars(tmp_path / "t")
    assert (tmp_path / "s/shards.json").read_bytes() == (tmp_path / "t/shards.json").read_bytes()
    assert rebuild(tmp_path / "s") == []


def test_workers_change_no_byte(tiny: Tiny, tmp_path: Path) -> None:
    tiny.repeat(40)
    tiny.convert()
    chosen = _select(tmp_path / "a.parquet", [f"tiny/train/{number}#detection" for number in range(0, 40, 3)])

    for name, workers in (("a", 1), ("b", 2)):
        shard([tiny.out], tmp_path / name, samples_per_shard=7, selections=[chosen], workers=workers)

    for name in ("index.parquet", "shards.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert _tars(tmp_path / "a") == _tars(tmp_path / "b")


@pytest.mark.parametrize("layout", ["by_task", "mixed"])
def test_a_ray_cluster_changes_no_byte(tiny: Tiny, tmp_path: Path, layout: str, local_ray: None) -> None:
    """The first time, and after a change of mind, which writes what changed and nothing else."""
    tiny.repeat(40)
    tiny.convert()
    first = _select(tmp_path / "a.parquet", [f"tiny/train/{number}#detection" for number in range(0, 40, 3)])
    second = _select(tmp_path / "b.parquet", ["tiny/train/1#detection"])

    for chosen in ([first], [first, second]):
        for runner in ("local", "ray"):
            given = ["--layout", layout, "--samples-per-shard", "7", "--runner", runner, "--workers", "2"]
            given += [word for path in chosen for word in ("--selection", str(path))]
            with pytest.raises(SystemExit) as ended:
                main(["shard", str(tiny.out), "--out", str(tmp_path / runner), *given])
            assert ended.value.code == 0
        local, ray = tmp_path / "local", tmp_path / "ray"
        for name in ("index.parquet", "shards.json"):
            assert (ray / name).read_bytes() == (local / name).read_bytes()
        assert _tars(ray) == _tars(local)
        assert not {"tiny/train/0#detection", "tiny/train/39#detection"} & set(_ids(ray))
        assert ("tiny/train/1#detection" in _ids(ray)) == (chosen == [first])
        assert verify(ray) == []


def _without_places(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "shards.json").read_bytes())
    for source in document["sources"]:
        del source["manifest"]
    return document


@pytest.mark.parametrize(("first", "second"), [("train", "val"), ("val", "train")])
def test_an_appended_set_equals_that_of_one_call(tiny: Tiny, tmp_path: Path, first: str, second: str) -> None:
    old, new = (tiny.convert(split, out=tmp_path / split)[0] for split in (first, second))
    chosen = _select(tmp_path / "a.parquet", [TRAIN[1], VAL[2]])
    shard([old, new], tmp_path / "whole", samples_per_shard=2, selections=[chosen])
    shard([old], tmp_path / "s", samples_per_shard=2, selections=[chosen])

    append([new], tmp_path / "s", selections=[chosen])

    assert _without_places(tmp_path / "s") == _without_places(tmp_path / "whole")
    assert _tars(tmp_path / "s") == _tars(tmp_path / "whole")


def test_mixed_shards_are_added_behind_those_that_were_not_written(tiny: Tiny, tmp_path: Path) -> None:
    train, val = (tiny.convert(split, out=tmp_path / split)[0] for split in ("train", "val"))
    chosen = _select(tmp_path / "a.parquet", [*TRAIN[4:], VAL[0]])
    shard([train], tmp_path / "s", layout="mixed", samples_per_shard=2, selections=[chosen])

    done = append([val], tmp_path / "s", selections=[chosen])

    assert [file.name for file in done.set.shards] == [f"mixed-{n:06d}.tar" for n in (0, 1, 3, 4)]
    assert _ids(tmp_path / "s") == TRAIN[:4] + VAL[1:]
    for name in _tars(tmp_path / "s"):
        (tmp_path / "s" / name).unlink()
        assert rebuild(tmp_path / "s", only=name) == []
    assert verify(tmp_path / "s") == []


def test_a_split_that_is_replaced_has_the_account_of_the_new_call(tiny: Tiny, tmp_path: Path) -> None:
    train, val = tiny.convert("train")[0], tiny.convert("val")[0]
    shard([train, val], tmp_path / "s", samples_per_shard=2,
          selections=[_select(tmp_path / "a", [TRAIN[0], VAL[0]])])  # fmt: skip
    tiny.write({**tiny.document(), "images": tiny.document()["images"][:3]})
    other = tiny.convert("train", out=tmp_path / "c")[0]

    done = append([other], tmp_path / "s", replace=True, selections=[_select(tmp_path / "b", [TRAIN[1]])])

    assert [one.id for one in done.set.dropped] == [TRAIN[1], VAL[0]]


def test_adding_with_a_selection_of_what_stands_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    train, val = tiny.convert("train")[0], tiny.convert("val")[0]
    shard([train], tmp_path / "s", samples_per_shard=2)
    before = _times(tmp_path / "s")

    with pytest.raises(
        ShardError, match=f"holds 1 samples that the selections leave out, {TRAIN[2]} the first"
    ):
        append([val], tmp_path / "s", selections=[_select(tmp_path / "a", [TRAIN[2], VAL[0]])])

    assert _times(tmp_path / "s") == before


def test_a_note_that_begins_like_a_shard_ties_nothing_to_it(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    note = "tiny-detection-train-000000: holds its twin"
    selection.write([Choice(id=TRAIN[5], keep=False, reason="twin", note=note)], tmp_path / "a")

    made = shard([tiny.out], tmp_path / "s", samples_per_shard=2, selections=[tmp_path / "a"])
    before = _times(tmp_path / "s")
    again = shard([tiny.out], tmp_path / "s", samples_per_shard=2, selections=[tmp_path / "a"])

    assert [one.detail for one in made.dropped] == [note]
    assert again.dropped == made.dropped
    assert _times(tmp_path / "s") == before


def test_nothing_left_is_an_error(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert("val")

    with pytest.raises(ShardError, match=r"tiny/detection/val: the selections leave out all 3 samples"):
        shard([tiny.out], tmp_path / "s", selections=[_select(tmp_path / "a", VAL)])

    assert not (tmp_path / "s").exists()


def test_a_stopped_run_goes_on_with_the_selection(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _both(tiny)
    chosen = _select(tmp_path / "a", [TRAIN[1], VAL[0]])
    shard([tiny.out], tmp_path / "whole", samples_per_shard=2, selections=[chosen])
    made: list[str] = []

    def stop_after_two(count: int, text: str) -> None:
        made.append(text)
        if len(made) == 3:  # the first tells what stood already
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shard([tiny.out], tmp_path / "s", samples_per_shard=2, selections=[chosen], progress=stop_after_two)
    times = _times(tmp_path / "s")
    shard([tiny.out], tmp_path / "s", samples_per_shard=2, selections=[chosen])

    assert times
    assert times.items() <= _times(tmp_path / "s").items()
    assert _tars(tmp_path / "s") == _tars(tmp_path / "whole")
    assert (tmp_path / "s/shards.json").read_bytes() == (tmp_path / "whole/shards.json").read_bytes()


def test_ids_of_no_manifest_are_counted(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.convert("train")
    chosen = _select(tmp_path / "a", [TRAIN[1], "other/train/1#vqa", "tiny/train/99#detection"])

    with pytest.raises(SystemExit) as ended:
        main(["shard", str(tiny.out), "--out", str(tmp_path / "s"), "--selection", str(chosen)])

    said = capsys.readouterr()
    assert ended.value.code == 0
    assert "2 samples that the selections leave out are in none of the manifests" in said.err
    assert "left out 1: selected.blurred" in said.out
