from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec  # type: ignore[import-untyped]
import pytest
import xxhash

from dataengine import store as stores
from dataengine.audit.run import audit
from dataengine.cache import Cache, Whole
from dataengine.errors import DataEngineError, ShardError, StoreError, UsageError
from dataengine.shares import Recipe
from dataengine.store import Store, StoreSettings, Url
from dataengine.stream import Stream
from tests.dataengine.remote.conftest import LIMIT_S, Asked

if TYPE_CHECKING:
    from tests.dataengine.conftest import Web
    from tests.dataengine.remote.conftest import Bucket

RECIPE = Recipe(seed=3, global_batch=6, policy="proportional")
SIZE = 5000
NAMES = [f"{number}.tar" for number in range(6)]
DATA = {name: random.Random(name).randbytes(SIZE) for name in NAMES}


def _whole(name: str, data: bytes) -> Whole:
    return Whole(name, len(data), xxhash.xxh3_128_hexdigest(data))


def _at_once(seconds: float) -> None:
    """Wait for nothing."""


def _cache(url: Url, folder: Path, most_bytes: int = 10 * SIZE, **settings: Any) -> Cache:
    store = Store(url, StoreSettings(**settings), wait=_at_once)
    return Cache(store, [_whole(name, data) for name, data in DATA.items()], folder, most_bytes)


def _path(folder: Path, name: str, kind: str = "tar") -> Path:
    return folder / f"{xxhash.xxh3_128_hexdigest(DATA[name])}.{kind}"


def _kept(folder: Path) -> set[str]:
    """Return the names of what a folder holds, the lock aside."""
    return {path.name for path in folder.iterdir() if path.name != ".lock"}


@pytest.fixture
def source(tmp_path: Path) -> Url:
    """Six objects in a store that every process of this machine can open."""
    (tmp_path / "source").mkdir()
    for name, data in DATA.items():
        (tmp_path / "source" / name).write_bytes(data)
    return Url(f"file://{tmp_path}/source")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_cache_serves_what_the_folder_does_and_fetches_a_shard_once(
    tiny_shards: Path, memory: Url, folder: Path
) -> None:
    settings = StoreSettings(cache_dir=str(folder), cache_bytes=10**7)
    local, remote = Stream(tiny_shards, RECIPE), Stream(memory, RECIPE, store=settings)

    assert [remote.read(t) for t in range(18)] == [local.read(t) for t in range(18)]

    assert remote.index.store is not None
    used = {remote.entry(t)["shard"] for t in range(18)}
    stats = remote.index.store.stats
    assert (stats.fetched, stats.evicted, stats.hits) == (len(used), 0, 36 - len(used))
    assert {path.read_bytes() for path in folder.glob("*.tar")} == {
        (tiny_shards / name).read_bytes() for name in used
    }
    again = Stream(memory, RECIPE, store=settings)
    assert [again.read(t) for t in range(18)] == [local.read(t) for t in range(18)]
    assert again.index.store is not None
    assert (again.index.store.stats.fetched, again.index.store.stats.hits) == (0, 36)


def test_the_longest_unused_shard_goes_first(source: Url, folder: Path) -> None:
    cache = _cache(source, folder, 3 * SIZE)
    for name in NAMES[:3]:
        cache.read(name, 0, 10)
    for age, name in enumerate([NAMES[1], NAMES[0], NAMES[2]]):  # the second was used last
        os.utime(_path(folder, name), (time.time() - 100 * age - 50,) * 2)
    cache.read(NAMES[2], 0, 10)  # and now the third

    cache.read(NAMES[3], 0, 10)

    assert _kept(folder) == {_path(folder, name).name for name in (NAMES[1], NAMES[2], NAMES[3])}
    assert cache.store.stats.evicted == 1


def test_what_is_not_of_the_cache_stays(source: Url, folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.tar").write_bytes(b"mine")
    cache = _cache(source, folder, SIZE)

    for name in NAMES:
        assert cache.read(name, 100, 200) == DATA[name][100:300]

    assert (folder / "notes.tar").read_bytes() == b"mine"
    assert len(_kept(folder)) == 2


def test_a_cache_that_cannot_hold_one_shard_is_refused(source: Url, folder: Path) -> None:
    with pytest.raises(
        StoreError, match=rf"cache_bytes is {SIZE - 1}, and 0\.tar alone has {SIZE}; raise it"
    ):
        _cache(source, folder, SIZE - 1)


def _read_much(out: Any, cache: Cache, seed: int) -> None:
    def read(turn: int) -> bool:
        name = random.Random(f"{seed}:{turn}").choice(NAMES)
        return cache.read(name, turn, 500) == DATA[name][turn : turn + 500]

    with ThreadPoolExecutor(3) as executor:
        right = all(executor.map(read, range(60)))
    out.send((right, cache.store.stats.fetched, cache.store.stats.evicted))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_processes_and_threads_together_never_hold_more_than_they_may(
    source: Url, folder: Path, method: str
) -> None:
    most = 2 * SIZE + SIZE // 2
    cache = _cache(source, folder, most)
    cache.read(NAMES[0], 0, 1)
    largest, deadline = 0, time.monotonic() + LIMIT_S

    asked = [Asked.of(method, _read_much, cache, seed) for seed in range(2)]
    while any(one.process.is_alive() for one in asked) and time.monotonic() < deadline:
        largest = max(largest, _held_bytes(folder, cache))
    found = [one.answer() for one in asked]

    assert all(right for right, _, _ in found)
    assert SIZE < largest <= most
    assert sum(evicted for _, _, evicted in found) >= 4  # six shards through two places
    assert all(name.endswith(".tar") for name in _kept(folder))


def _held_bytes(folder: Path, cache: Cache) -> int:
    """Return the bytes that a folder holds at one moment, by those who might change it kept out."""
    with cache._alone():
        return sum(path.stat().st_size for path in folder.iterdir())


def test_what_several_want_at_once_is_fetched_once(bucket: Bucket, folder: Path) -> None:
    bucket.put("set/0.tar", DATA["0.tar"])
    bucket.fail("set/0.tar", bucket.trick(delay_s=0.3))
    caches = [_cache(bucket.url("set"), folder) for _ in range(3)]

    with ThreadPoolExecutor(6) as executor:
        found = list(executor.map(lambda n: caches[n % 3].read("0.tar", n, 100), range(6)))

    assert found == [DATA["0.tar"][n : n + 100] for n in range(6)]
    assert len(bucket.ranges("set/0.tar")) == 1
    assert sum(cache.store.stats.fetched for cache in caches) == 1


def test_a_broken_connection_costs_a_piece_and_not_the_shard(
    bucket: Bucket, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PIECE_BYTES", 2000)
    bucket.put("set/0.tar", DATA["0.tar"])
    bucket.fail(
        "set/0.tar", bucket.trick(), bucket.trick(reset=500), bucket.trick(status=503), bucket.trick()
    )
    cache = _cache(bucket.url("set"), folder)

    assert cache.read("0.tar", 0, SIZE) == DATA["0.tar"]

    pieces = ["bytes=0-1999", *["bytes=2000-3999"] * 3, "bytes=4000-4999"]
    assert bucket.ranges("set/0.tar") == pieces
    assert cache.store.stats.troubles == {"connection": 1, "status 503": 1}


def _replace(source: Url, name: str, data: bytes) -> None:
    Path(source.address.removeprefix("file://"), name).write_bytes(data)


@pytest.mark.parametrize("data", [DATA["1.tar"], DATA["0.tar"][:-1] + b"x", DATA["0.tar"] + b"more"])
def test_a_wrong_object_is_fetched_twice_and_then_named(source: Url, folder: Path, data: bytes) -> None:
    _replace(source, "0.tar", data)
    cache = _cache(source, folder)
    right = data.startswith(DATA["0.tar"])  # what lies behind its end is not asked for

    if right:
        assert cache.read("0.tar", 0, 10) == data[:10]
        return
    for _ in range(2):
        with pytest.raises(ShardError) as caught:
            cache.read("0.tar", 0, 10)

    digests = [xxhash.xxh3_128_hexdigest(one) for one in (data, DATA["0.tar"])]
    assert str(caught.value) == (
        f"{source}/0.tar: digest is {digests[0]}, 2 times, and {digests[1]} in shards.json;"
        " it is not the shard that was written, upload it again"
    )
    assert _kept(folder) == set()
    assert (cache.store.stats.requests, cache.store.stats.troubles) == (2, {"digest": 2})


def test_a_wrong_answer_is_made_good_by_the_next(bucket: Bucket, folder: Path, source: Url) -> None:
    bucket.put("set/0.tar", DATA["0.tar"])
    cache = _cache(bucket.url("set"), folder)
    pieces = iter([[DATA["1.tar"]], [DATA["0.tar"]]])
    cache.store.pieces = lambda name, size: iter(next(pieces))  # type: ignore[method-assign]

    assert cache.read("0.tar", 0, SIZE) == DATA["0.tar"]
    assert cache.store.stats.troubles == {"digest": 1}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda source: _replace(source, "0.tar", DATA["0.tar"][:4000]),
            "has 4000 bytes, expected at least 5000",
        ),
        (lambda source: Path(source.address[7:], "0.tar").unlink(), "no such object; mend the address"),
    ],
)
def test_a_cut_or_missing_object_leaves_nothing(
    source: Url, folder: Path, change: Callable[[Url], None], says: str
) -> None:
    change(source)
    cache = _cache(source, folder)

    with pytest.raises(ShardError, match=says):
        cache.read("0.tar", 0, 10)

    assert _kept(folder) == set()
    assert cache.read("1.tar", 0, 10) == DATA["1.tar"][:10]


FETCH = """
import sys
from pathlib import Path
from dataengine import store
from dataengine.cache import Cache, Whole
store.PIECE_BYTES = 2000
url, folder, name, size, digest, most = sys.argv[1:]
Cache(store.Store(store.Url(url)), [Whole(name, int(size), digest)], Path(folder), int(most)).read(name, 0, 10)
"""


@pytest.fixture
def killed(bucket: Bucket, folder: Path) -> Path:
    """The part that a process left which was killed with the first of three pieces written."""
    for name in NAMES[:2]:
        bucket.put(f"set/{name}", DATA[name])
    bucket.fail("set/0.tar", bucket.trick(), bucket.trick(delay_s=30))
    whole = _whole("0.tar", DATA["0.tar"])
    command = [FETCH, str(bucket.url("set")), str(folder), whole.name, str(SIZE), whole.digest, str(2 * SIZE)]
    with subprocess.Popen([sys.executable, "-c", *command]) as process:
        deadline = time.monotonic() + LIMIT_S
        while len(bucket.ranges("set/0.tar")) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    part = _path(folder, "0.tar", "part")
    assert part.read_bytes() == DATA["0.tar"][:2000] + bytes(SIZE - 2000)
    return part


def test_a_killed_process_leaves_a_part_that_never_counts(bucket: Bucket, folder: Path, killed: Path) -> None:
    cache = _cache(bucket.url("set"), folder)

    assert cache.read("0.tar", 0, SIZE) == DATA["0.tar"]

    assert _kept(folder) == {_path(folder, "0.tar").name}


def test_the_part_of_a_killed_process_makes_room(bucket: Bucket, folder: Path, killed: Path) -> None:
    cache = _cache(bucket.url("set"), folder, SIZE)

    assert cache.read("1.tar", 0, SIZE) == DATA["1.tar"]

    assert _kept(folder) == {_path(folder, "1.tar").name}


def test_who_waits_for_one_that_stands_still_is_told(source: Url, folder: Path) -> None:
    cache = _cache(source, folder, SIZE, patience_s=0.2)
    part = _path(folder, "0.tar", "part")
    with part.open("wb") as file:
        file.truncate(SIZE)
        fcntl.flock(file, fcntl.LOCK_EX)

        for name in NAMES[:2]:  # the shard itself, and room for another one
            with pytest.raises(
                StoreError, match=rf"waits for room for {SIZE} bytes of {name}, and nothing has"
            ):
                cache.read(name, 0, 10)
        assert part.stat().st_size == SIZE


def test_who_waits_for_room_goes_on_when_there_is_some(source: Url, folder: Path) -> None:
    cache = _cache(source, folder, SIZE)
    part = _path(folder, "0.tar", "part")
    with part.open("wb") as file:
        file.truncate(SIZE)
        fcntl.flock(file, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as executor:
            waiting = executor.submit(cache.read, "1.tar", 0, SIZE)
            time.sleep(0.05)
            assert not waiting.done()
            part.unlink()

            assert waiting.result(LIMIT_S) == DATA["1.tar"]


def test_a_copy_that_was_damaged_here_says_what_to_remove(
    tiny_shards: Path, memory: Url, folder: Path
) -> None:
    settings = StoreSettings(cache_dir=str(folder), cache_bytes=10**7)
    stream = Stream(memory, RECIPE, store=settings)
    stream.read(0)
    name, offset = stream.entry(0)["shard"], stream.entry(0)["offset"]
    (copy,) = folder.glob("*.tar")
    data = bytearray(copy.read_bytes())
    data[offset + 20] ^= 1
    copy.write_bytes(bytes(data))

    with pytest.raises(ShardError) as caught:
        stream.read(0)

    assert str(caught.value).endswith(
        f"differ from their digest; remove {copy} to fetch memory://set/{name} again"
    )
    copy.unlink()
    assert stream.read(0) == Stream(tiny_shards, RECIPE).read(0)


def test_a_folder_that_cannot_be_written_is_one_line(source: Url, folder: Path) -> None:
    cache = _cache(source, folder)
    (folder / ".lock").mkdir()

    with pytest.raises(
        DataEngineError, match=r"cache: cannot be written: Is a directory; free space or mend"
    ):
        cache.read("0.tar", 0, 10)


def test_a_server_without_ranges_is_read_by_whole_shards_alone(web: Web, folder: Path) -> None:
    pytest.importorskip("aiohttp", reason="needs aiohttp, which fsspec reads http:// with")
    whole = web.trick(whole=True)
    web.put("/set/0.tar", DATA["0.tar"], whole, whole)
    url = Url(f"{web.address}/set")

    with pytest.raises(
        StoreError, match="takes no notice of ranges; set cache_dir and cache_bytes to read whole"
    ):
        Store(url).read("0.tar", 100, 200)
    assert _cache(url, folder).read("0.tar", 100, 200) == DATA["0.tar"][100:300]


@pytest.mark.parametrize(
    "fields",
    [{"cache_dir": "x"}, {"cache_bytes": 5}, {"cache_dir": "x", "cache_bytes": 5, "read_ahead_bytes": 1}],
)
def test_settings_that_cannot_be_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"belong together|has no use for it"):
        StoreSettings(**fields)


def test_evicting_stops_at_what_is_being_read(source: Url, folder: Path) -> None:
    cache = _cache(source, folder, SIZE)
    cache.read("0.tar", 0, 10)
    descriptor = cache._open(cache.files["0.tar"])  # a read that has begun
    assert descriptor is not None
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(cache.read, "1.tar", 0, SIZE)
        time.sleep(0.1)
        kept = _kept(folder)
        os.close(descriptor)

        assert waiting.result(LIMIT_S) == DATA["1.tar"]
    assert _path(folder, "0.tar").name in kept
    assert _kept(folder) == {_path(folder, "1.tar").name}


def test_an_audit_of_a_url_is_that_of_the_folder_and_finds_damage(
    tiny_shards: Path, memory: Url, folder: Path
) -> None:
    settings = StoreSettings(cache_dir=str(folder), cache_bytes=10**7)
    local = audit([tiny_shards])

    remote = audit([memory], store=settings)

    assert remote.checked == local.checked
    assert [(one.rule, one.key, one.detail) for one in remote.findings] == [
        (one.rule, one.key, one.detail) for one in local.findings
    ]
    name = sorted(path.name for path in tiny_shards.glob("*.tar"))[0]
    shutil.rmtree(folder)
    fsspec.filesystem("memory").pipe_file(f"/set/{name}", b"x" + (tiny_shards / name).read_bytes()[1:])
    (damaged, *_) = [one for one in audit([memory], store=settings).findings if one.rule == "shard.damaged"]
    assert damaged.detail.startswith(f"memory://set/{name}: digest is ")
    with pytest.raises(UsageError, match="an audit reads whole shards; give --cache-dir and --cache-bytes"):
        audit([memory])
