"""A thousand sources cost no more open files and threads than ten, and memory stays where it is."""

from __future__ import annotations

import resource
import shutil
import threading
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from dataengine.index import INDEX, SHARDS, load_set
from dataengine.pool import MAX_OPEN_FILES
from dataengine.shares import Recipe
from dataengine.state import Hole
from dataengine.stream import Stream

NUM_SOURCES = 1000

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="open files and memory are counted in /proc"
)


@pytest.fixture(scope="module")
def shards(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand sources of two samples, a tar each: one real tar again and again, with an index of them all."""
    folder = tmp_path_factory.mktemp("many")
    made = load_set(tiny_shards)
    file = made.shards[0]
    table = pq.read_table(tiny_shards / INDEX)
    first = [row for row in table.to_pylist() if f"{row['shard']}.tar" == file.name]
    (source,) = (one for one in made.sources if one.name == first[0]["source"])
    sources, files, rows = [], [], []
    for number in range(NUM_SOURCES):
        name, shard = f"many{number:04d}/detection/train", f"many-{number:04d}"
        shutil.copy(tiny_shards / file.name, folder / f"{shard}.tar")
        sources.append(msgspec.structs.replace(source, name=name, samples=len(first)))
        files.append(msgspec.structs.replace(file, name=f"{shard}.tar"))
        rows += [{**row, "source": name, "shard": shard} for row in first]
    pq.write_table(type(table).from_pylist(rows, table.schema), folder / INDEX)
    many = msgspec.structs.replace(made, sources=tuple(sources), shards=tuple(files))
    (folder / SHARDS).write_bytes(msgspec.json.encode(many))
    return folder


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_thousand_sources_need_few_open_files_no_thread_and_no_more_memory(shards: Path) -> None:
    before, threads = descriptors(), threading.active_count()
    stream = Stream(shards, Recipe(seed=1, global_batch=50, policy="uniform"))

    touched, most, held = set[str](), 0, list[int]()
    for position in range(4 * NUM_SOURCES):
        served = stream.serve(position)
        assert not isinstance(served, Hole)
        if position % 10 == 0:
            touched.add(stream.entry(position)["shard"])
            most = max(most, descriptors() - before)
        if position % NUM_SOURCES == NUM_SOURCES - 1:
            held.append(resident_bytes())

    assert len(touched) > 300
    # One more is the listing of the descriptors itself.
    assert most <= MAX_OPEN_FILES + 2
    assert threading.active_count() == threads
    # The first thousand positions have opened all there is to open.
    assert held[-1] - held[0] < 8 << 20
    stream.close()
    assert descriptors() <= before + 1


def test_a_state_holds_one_mark_a_source_and_nothing_of_their_samples(
    shards: Path, tiny_shards: Path
) -> None:
    recipe = Recipe(seed=1, global_batch=50, policy="uniform")

    many, few = (
        len(msgspec.json.encode(Stream(folder, recipe).state(10**9))) for folder in (shards, tiny_shards)
    )

    assert few < 400 and many - few < 120 * NUM_SOURCES


def test_more_sources_than_descriptors_are_served(shards: Path) -> None:
    """A process that may open few files reads from all sources all the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    stream = Stream(shards, Recipe(seed=1, global_batch=50, policy="uniform"))
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + MAX_OPEN_FILES + 8, hard))
    try:
        names = {stream.read(position)[0].id for position in range(NUM_SOURCES)}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        stream.close()
    assert len(names) == 2
