from __future__ import annotations

import operator
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import xxhash

from dataengine.errors import SourceError
from dataengine.files import digest_file
from dataengine.runners import run

# The work is done by functions of installed modules: a fresh process cannot import a test.
WAYS = [("local", 1), ("local", 2), ("ray", 2)]


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-{way[1]}")
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    runner, workers = request.param
    if runner == "ray":
        request.getfixturevalue("local_ray")
    return {"runner": runner, "workers": workers}


def test_results_come_in_the_order_of_the_items(way: dict[str, Any], tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(12)]
    for path in paths:
        path.write_bytes(path.name.encode())
    with paths[0].open("ab") as file:
        file.truncate(150 * 2**20)  # the first one takes longer than all the others
    slow = xxhash.xxh3_128_hexdigest(paths[0].read_bytes())

    found = list(run(digest_file, paths, **way))

    assert found == [slow, *(xxhash.xxh3_128_hexdigest(path.name.encode()) for path in paths[1:])]


def test_nothing_to_do_gives_nothing(way: dict[str, Any]) -> None:
    assert list(run(abs, [], **way)) == []


def test_an_error_of_ours_is_raised_at_its_items_turn_with_its_type_and_text(
    way: dict[str, Any], tmp_path: Path
) -> None:
    for number in (0, 1, 2, 4):
        (tmp_path / str(number)).touch()

    results = run(digest_file, [tmp_path / str(number) for number in range(5)], **way)
    before = [next(results) for _ in range(3)]

    assert len(set(before)) == 1
    with pytest.raises(SourceError, match=r"/3: cannot be read: No such file or directory$"):
        next(results)


def test_a_bug_keeps_its_type(way: dict[str, Any]) -> None:
    with pytest.raises(ZeroDivisionError):
        list(run(partial(operator.truediv, 1), [1, 0], **way))


def test_few_items_are_taken_ahead(way: dict[str, Any]) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield -number

    results = run(abs, items(), **way)
    first = [next(results), next(results)]
    results.close()  # type: ignore[attr-defined]

    assert first == [0, 1]
    assert taken <= 2 + 3 * way["workers"] + 256
