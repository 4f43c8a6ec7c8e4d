from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dataengine.errors import DataEngineError, ShardError
from dataengine.files import alone
from dataengine.index import Index, load_set
from dataengine.restore import index
from dataengine.shard import append, shard
from dataengine.stream import Stream, recipe
from dataengine.verify import rebuild, verify

if TYPE_CHECKING:
    from tests.conftest import Tiny


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}


def _split(tiny: Tiny, split: str, out: Path, **options: Any) -> Path:
    return tiny.convert(split, out=out, **options)[0]


def _without_manifests(folder: Path) -> dict[str, Any]:
    """Return shards.json without the ways to the manifests, which differ with where those lie."""
    document: dict[str, Any] = json.loads((folder / "shards.json").read_bytes())
    for source in document["sources"]:
        del source["manifest"]
    return document


@pytest.mark.parametrize(("first", "second"), [("train", "val"), ("val", "train")])
def test_an_appended_set_equals_that_of_one_call(tiny: Tiny, tmp_path: Path, first: str, second: str) -> None:
    old = _split(tiny, first, tmp_path / "a")
    new = _split(tiny, second, tmp_path / "b")
    shard([old, new], tmp_path / "whole", samples_per_shard=2)
    shard([old], tmp_path / "s", samples_per_shard=2)
    times = _times(tmp_path / "s")
    shutil.rmtree(tmp_path / "a")

    done = append([new], tmp_path / "s")

    whole, made = _files(tmp_path / "whole"), _files(tmp_path / "s")
    assert done.added == (f"tiny/detection/{second}",)
    assert {**made, "shards.json": b""} == {**whole, "shards.json": b""}
    assert _without_manifests(tmp_path / "s") == _without_manifests(tmp_path / "whole")
    assert times.items() <= _times(tmp_path / "s").items()
    assert verify(tmp_path / "s") == []


def test_old_tars_are_not_read(tiny: Tiny, tmp_path: Path) -> None:
    shard([_split(tiny, "train", tmp_path / "a")], tmp_path / "s", samples_per_shard=2)
    for path in (tmp_path / "s").glob("*.tar"):
        path.unlink()

    append([_split(tiny, "val", tmp_path / "b")], tmp_path / "s")

    assert len(Index(tmp_path / "s")) == 9


def test_what_was_dropped_stays_accounted_for(tiny: Tiny, tmp_path: Path) -> None:
    train, val = _split(tiny, "train", tmp_path / "a"), _split(tiny, "val", tmp_path / "b")
    (tiny.root / "images/003.jpg").unlink()
    (tiny.root / "images/008.png").unlink()
    shard([val], tmp_path / "s", samples_per_shard=2)

    done = append([train], tmp_path / "s")
    whole = shard([train, val], tmp_path / "whole", samples_per_shard=2)

    assert done.set.dropped == whole.dropped
    assert [one.id for one in whole.dropped] == ["tiny/train/3#detection", "tiny/val/8#detection"]


def test_a_split_of_the_same_conversion_is_left_alone(tiny: Tiny, tmp_path: Path) -> None:
    train = _split(tiny, "train", tmp_path / "a")
    shard([train], tmp_path / "s", samples_per_shard=2)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s").iterdir()}
    said: list[str] = []

    done = append([train], tmp_path / "s", progress=lambda count, text: said.append(text))

    assert (done.added, done.unchanged) == ((), ("tiny/detection/train",))
    assert said == ["unchanged"]
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s").iterdir()} == before


def test_a_split_of_another_conversion_is_refused_and_replaced_when_told(tiny: Tiny, tmp_path: Path) -> None:
    val = _split(tiny, "val", tmp_path / "b")
    shard([_split(tiny, "train", tmp_path / "a"), val], tmp_path / "s", samples_per_shard=2)
    before, times = _files(tmp_path / "s"), _times(tmp_path / "s")
    tiny.write({**tiny.document(), "images": tiny.document()["images"][:3]})
    other = _split(tiny, "train", tmp_path / "c")

    with pytest.raises(
        ShardError, match="holds tiny/detection/train from another conversion; pass --replace"
    ):
        append([other], tmp_path / "s")
    assert _files(tmp_path / "s") == before
    append([other], tmp_path / "s", replace=True)

    shard([other, val], tmp_path / "whole", samples_per_shard=2)
    whole, made = _files(tmp_path / "whole"), _files(tmp_path / "s")
    assert {**made, "shards.json": b""} == {**whole, "shards.json": b""}
    assert _without_manifests(tmp_path / "s") == _without_manifests(tmp_path / "whole")
    kept = {name for name in times if "-val-" in name}
    assert {name: times[name] for name in kept}.items() <= _times(tmp_path / "s").items()


def test_mixed_shards_follow_the_older_ones_and_are_rebuilt(tiny: Tiny, tmp_path: Path) -> None:
    more = "    other: {annotations: val.json, use: train}\n"
    tiny.spec.write_text(tiny.spec.read_text().replace("tasks:", f"{more}tasks:"))
    shard([_split(tiny, "train", tmp_path / "a")], tmp_path / "s", layout="mixed", samples_per_shard=4)
    before = _files(tmp_path / "s")

    append([_split(tiny, "val", tmp_path / "b")], tmp_path / "s")
    done = append([_split(tiny, "other", tmp_path / "c")], tmp_path / "s")

    made = _files(tmp_path / "s")
    tars = [name for name in made if name.endswith(".tar")]
    assert [file.name for file in done.set.shards] == tars == [f"mixed-00000{n}.tar" for n in range(4)]
    assert {name: made[name] for name in tars[:2]} == {name: before[name] for name in tars[:2]}
    assert {source.split: source.group for source in done.set.sources} == {"train": 0, "val": 1, "other": 2}
    assert verify(tmp_path / "s") == []
    for name in tars[1:]:
        (tmp_path / "s" / name).unlink()
    assert rebuild(tmp_path / "s", only="mixed-000003") == []
    assert rebuild(tmp_path / "s") == []
    assert _files(tmp_path / "s") == made


def test_a_mixed_set_cannot_give_up_one_split(tiny: Tiny, tmp_path: Path) -> None:
    shard([_split(tiny, "train", tmp_path / "a")], tmp_path / "s", layout="mixed")

    with pytest.raises(
        ShardError, match=r"is in the mixed shards from another conversion; run .* all manifests"
    ):
        append([_split(tiny, "train", tmp_path / "b", seed=3)], tmp_path / "s", replace=True)


def test_one_shard_is_rebuilt_without_the_manifests_of_the_others(tiny: Tiny, tmp_path: Path) -> None:
    shard([_split(tiny, "train", tmp_path / "a")], tmp_path / "s")
    append([_split(tiny, "val", tmp_path / "b")], tmp_path / "s")
    before = _files(tmp_path / "s")
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "s/tiny-detection-val-000000.tar").unlink()

    assert rebuild(tmp_path / "s", only="tiny-detection-val-000000") == []

    assert _files(tmp_path / "s") == before


def test_there_must_be_a_set_to_append_to(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no set to add to; run 'dataengine shard'"):
        append([_split(tiny, "val", tmp_path / "b")], tmp_path / "s")


def test_a_set_of_another_version_is_not_appended_to(tiny: Tiny, tmp_path: Path) -> None:
    shard([_split(tiny, "train", tmp_path / "a")], tmp_path / "s")
    path = tmp_path / "s/shards.json"
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps({**document, "schema_hash": "0" * 32}))

    with pytest.raises(
        ShardError, match=r"written by another version, .* run 'dataengine shard' without --append"
    ):
        append([_split(tiny, "val", tmp_path / "b")], tmp_path / "s")


def _append_command(manifests: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "dataengine", "shard", str(manifests), "--out", str(out), "--append", *more]


@pytest.mark.slow
def test_a_killed_append_leaves_the_old_set_whole_and_goes_on(tiny: Tiny, tmp_path: Path) -> None:
    val = _split(tiny, "val", tmp_path / "a")
    tiny.repeat(900)
    train = _split(tiny, "train", tmp_path / "b")
    for name in ("s", "whole"):
        shard([val], tmp_path / name, samples_per_shard=20)
    before = _files(tmp_path / "s")
    process = subprocess.Popen(
        _append_command(train, tmp_path / "s"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 30
    while not list((tmp_path / "s/.parts").glob("*.msgpack")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    done = _times(tmp_path / "s")
    assert 1 < len(done) < 46
    assert before.items() <= _files(tmp_path / "s").items()
    assert verify(tmp_path / "s") == []

    append([train], tmp_path / "s")
    append([train], tmp_path / "whole")

    assert _files(tmp_path / "s") == _files(tmp_path / "whole")
    parts = {name: time for name, time in done.items() if time}
    assert parts.items() <= _times(tmp_path / "s").items()


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("step", range(22))
def test_stopped_between_any_two_steps_the_set_is_whole_or_says_that_it_is_not(
    tiny: Tiny, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every change to a name in the folder counts as a step; the run is stopped before the one with that number."""
    val = _split(tiny, "val", tmp_path / "b")
    shard([_split(tiny, "train", tmp_path / "a"), val], tmp_path / "s", samples_per_shard=2)
    old = _files(tmp_path / "s")
    other = _split(tiny, "train", tmp_path / "c", seed=7, limit=5)
    shutil.copytree(tmp_path / "s", tmp_path / "whole")
    append([other], tmp_path / "whole", replace=True)
    wanted = _files(tmp_path / "whole")
    left = step

    def counted(function: Any) -> Any:
        def call(path: Path, *args: Any, **options: Any) -> Any:
            nonlocal left
            final = args[0] if args else path
            if tmp_path / "s" in path.parents and ".tmp" not in final.name:
                if left == 0:
                    raise _Killed
                left -= 1
            return function(path, *args, **options)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", counted(Path.unlink))
        patched.setattr(Path, "replace", counted(Path.replace))
        stopped = False
        try:
            append([other], tmp_path / "s", replace=True)
        except _Killed:
            stopped = True

    try:
        held = load_set(tmp_path / "s")
    except ShardError:
        assert stopped
    else:
        assert verify(tmp_path / "s") == []
        same = old if held.sources == load_set_of(old, tmp_path).sources else wanted
        assert same.items() <= _files(tmp_path / "s").items()
        assert Stream(tmp_path / "s", recipe(seed=0, global_batch=2)).read(0)
    append([other], tmp_path / "s", replace=True)
    assert _files(tmp_path / "s") == wanted
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == sorted(wanted)


def load_set_of(files: dict[str, bytes], tmp_path: Path) -> Any:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/shards.json").write_bytes(files["shards.json"])
    return load_set(tmp_path / "old")


def test_a_set_that_was_never_given_up_stays(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = _split(tiny, "train", tmp_path / "a")
    shard([train], tmp_path / "s", samples_per_shard=2)
    before = _files(tmp_path / "s")
    unlink = Path.unlink

    def stopped(path: Path, missing_ok: bool = False) -> None:
        if path == tmp_path / "s/shards.json":
            raise _Killed
        unlink(path, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", stopped)
        with pytest.raises(_Killed):
            append([_split(tiny, "val", tmp_path / "b")], tmp_path / "s")
    assert (tmp_path / "s/.parts/shards.json").is_file()

    append([train], tmp_path / "s")

    assert before.items() <= _files(tmp_path / "s").items()
    assert not (tmp_path / "s/.parts/shards.json").exists()


def test_what_a_run_by_another_plan_had_waiting_is_not_taken(tiny: Tiny, tmp_path: Path) -> None:
    train = _split(tiny, "train", tmp_path / "a")
    shard([train], tmp_path / "s", samples_per_shard=2)
    before = _files(tmp_path / "s")
    other = _split(tiny, "train", tmp_path / "b", seed=5)

    def kill(count: int, text: str) -> None:
        if count:
            raise _Killed

    with pytest.raises(_Killed):
        append([other], tmp_path / "s", replace=True, progress=kill)
    assert (tmp_path / "s/.parts/tiny-detection-train-000000.tar").is_file()
    assert before.items() <= _files(tmp_path / "s").items()

    shard([train], tmp_path / "s", samples_per_shard=2)

    assert _files(tmp_path / "s") == before
    assert not (tmp_path / "s/.parts").exists()


@pytest.mark.slow
def test_the_command_says_what_came_and_what_was_there(tiny: Tiny, tmp_path: Path) -> None:
    train, val = _split(tiny, "train", tmp_path / "a"), _split(tiny, "val", tmp_path / "b")
    shard([train], tmp_path / "s", samples_per_shard=2)
    command = [*_append_command(val, tmp_path / "s", "--json"), str(train)]

    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    wrong = subprocess.run(
        [*command, "--samples-per-shard", "3"], capture_output=True, text=True, check=False, timeout=60
    )

    said = json.loads(done.stdout)
    assert (said["added"], said["unchanged"]) == (["tiny/detection/val"], ["tiny/detection/train"])
    assert (said["samples"], said["shards"]) == (9, 5)
    assert "--samples-per-shard is the set's own: leave it out with --append" in wrong.stderr


def _refused(work: Callable[[], object]) -> str:
    with pytest.raises(DataEngineError) as refused:
        work()
    return str(refused.value)


def test_two_calls_do_not_write_into_one_folder(tiny: Tiny, tmp_path: Path) -> None:
    train, val = _split(tiny, "train", tmp_path / "a"), _split(tiny, "val", tmp_path / "b")
    shard([train], tmp_path / "s")
    before = _files(tmp_path / "s")
    calls: list[Callable[[], object]] = [
        lambda: shard([val], tmp_path / "s"),
        lambda: append([val], tmp_path / "s"),
        lambda: rebuild(tmp_path / "s"),
        lambda: index(tmp_path / "s"),
    ]

    with alone(tmp_path / "s"):
        said = [_refused(work) for work in calls]

    assert all(f"{tmp_path / 's'}: another process is writing here; wait for it" in line for line in said)
    assert _files(tmp_path / "s") == before
    append([val], tmp_path / "s")
    assert verify(tmp_path / "s") == []


def test_a_restored_set_does_not_claim_to_know_its_conversion(tiny: Tiny, tmp_path: Path) -> None:
    train = _split(tiny, "train", tmp_path / "a")
    shard([train], tmp_path / "s")
    before = _files(tmp_path / "s")
    for name in ("index.parquet", "shards.json"):
        (tmp_path / "s" / name).unlink()
    index(tmp_path / "s")

    assert "from a conversion that its tars do not name; pass --replace" in _refused(
        lambda: append([train], tmp_path / "s")
    )
    assert "the manifest of tiny/detection/train is not known, its index was restored" in _refused(
        lambda: rebuild(tmp_path / "s")
    )
    shard([train], tmp_path / "s")
    assert _files(tmp_path / "s") == before
    assert rebuild(tmp_path / "s") == []


def test_what_a_killed_rebuild_left_is_removed_by_the_next(tiny: Tiny, tmp_path: Path) -> None:
    shard([_split(tiny, "train", tmp_path / "a")], tmp_path / "s")
    before = sorted(path.name for path in (tmp_path / "s").iterdir())
    (tmp_path / "s/.rebuild-x").mkdir()
    (tmp_path / "s/.rebuild-x/tiny-detection-train-000000.tar").write_bytes(b"half")

    assert rebuild(tmp_path / "s") == []

    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == before
