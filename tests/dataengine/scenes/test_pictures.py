from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from dataengine.images import decode
from dataengine.scenes import write
from dataengine.scenes.drawing import draw
from dataengine.scenes.layout import compose
from dataengine.scenes.pictures import edit_of, picture_path


def files(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_a_picture_does_not_depend_on_how_many_are_made_or_in_which_order(tmp_path: Path) -> None:
    write(tmp_path / "whole", seed=4, count=9, side=96, max_objects=6, edits=True)

    for start, count in ((6, 3), (0, 2), (2, 4)):
        write(tmp_path / "parts", seed=4, start=start, count=count, side=96, max_objects=6, edits=True)

    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert len(files(tmp_path / "whole")) == 18


def test_only_missing_and_empty_pictures_are_written(tmp_path: Path) -> None:
    first = write(tmp_path, seed=4, count=5, side=96, max_objects=6)
    pictures = files(tmp_path)
    paths = sorted(tmp_path / name for name in pictures)
    paths[1].unlink()
    paths[3].write_bytes(b"")
    untouched = paths[0].stat().st_mtime_ns

    again = write(tmp_path, seed=4, count=5, side=96, max_objects=6)

    assert (first, again) == (5, 2)
    assert files(tmp_path) == pictures
    assert paths[0].stat().st_mtime_ns == untouched
    assert write(tmp_path, seed=4, count=5, side=96, max_objects=6) == 0


def test_the_file_holds_the_scene_of_its_number(tmp_path: Path) -> None:
    write(tmp_path, seed=4, start=1_000_017, count=1, side=100, max_objects=3, folder="a/b", edits=True)

    view = compose(4, 1_000_017, 100, 3)
    change = edit_of(view, 4, 1_000_017)
    assert change is not None
    plain = tmp_path / picture_path("a/b", 4, 1_000_017, 100, 3)
    edited = tmp_path / picture_path("a/b", 4, 1_000_017, 100, 3, edited=True)
    assert (decode(plain.read_bytes()) == draw(view)).all()
    assert (decode(edited.read_bytes()) == draw(change.view)).all()


def test_pictures_that_differ_have_paths_that_differ() -> None:
    paths = {
        picture_path("f", seed, index, side, most, edited=edited)
        for seed in (1, 11)
        for index in (0, 1, 1000)
        for side in (96, 128)
        for most in (2, 3)
        for edited in (False, True)
    }

    assert len(paths) == 2 * 3 * 2 * 2 * 2


@pytest.mark.slow
def test_several_processes_may_write_the_same_pictures(tmp_path: Path) -> None:
    keys = {"seed": 4, "count": 40, "side": 96, "max_objects": 6}
    write(tmp_path / "one", **keys)  # type: ignore[arg-type]
    spawn = multiprocessing.get_context("spawn")

    workers = [spawn.Process(target=write, args=(tmp_path / "many",), kwargs=keys) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert files(tmp_path / "many") == files(tmp_path / "one")
