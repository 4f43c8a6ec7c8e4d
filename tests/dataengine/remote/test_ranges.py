from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec  # type: ignore[import-untyped]
import pytest

from dataengine.cli import main
from dataengine.errors import Damage, StoreError
from dataengine.index import Index
from dataengine.ranges import Ranges
from dataengine.shares import Recipe
from dataengine.state import Hole
from dataengine.store import StoreSettings, Url, locate
from dataengine.stream import Stream

if TYPE_CHECKING:
    from tests.dataengine.remote.conftest import Bucket

RECIPE = Recipe(seed=3, global_batch=6, policy="proportional")
POSITIONS = range(18)


def _served(stream: Stream) -> list[Any]:
    return [stream.read(t) for t in POSITIONS]


def test_a_url_serves_the_samples_of_the_folder_in_the_same_order(tiny_shards: Path, memory: Url) -> None:
    local, remote = Stream(tiny_shards, RECIPE), Stream(memory, RECIPE)

    assert remote.plan.digest == local.plan.digest
    assert [remote.entry(t) for t in POSITIONS] == [local.entry(t) for t in POSITIONS]
    assert _served(remote) == _served(local)


def test_a_sample_is_one_request(tiny_shards: Path, bucket: Bucket) -> None:
    url = bucket.put_folder(tiny_shards, "set")
    local, remote = Stream(tiny_shards, RECIPE), Stream(url, RECIPE)
    bucket.asked.clear()

    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(remote.read, range(9))) == [local.read(t) for t in range(9)]

    assert len(bucket.asked) == 9
    for t in range(9):
        place = local.index.place(local.row(t))
        first = min(offset for offset, _ in place.spans)
        last = max(offset + size for offset, size in place.spans) - 1
        assert f"bytes={first}-{last}" in bucket.ranges(f"set/{place.file}")


def test_neighbours_come_with_a_sample_where_that_is_asked_for(tiny_shards: Path, bucket: Bucket) -> None:
    url = bucket.put_folder(tiny_shards, "set")
    stream = Stream(url, RECIPE, store=StoreSettings(read_ahead_bytes=1 << 20))
    bucket.asked.clear()

    for number in range(len(stream.index)):
        stream.read_row(number)

    shards = len(stream.index.set.shards)
    assert len(bucket.asked) == shards < len(stream.index)


def test_reading_ahead_takes_whole_samples_that_fit(tiny_shards: Path, memory: Url) -> None:
    index = Index(memory, StoreSettings(read_ahead_bytes=1))
    name = index.set.shards[0].name
    starts, ends = index.extents(name)
    assert len(starts) == 2
    whole = (tiny_shards / name).read_bytes()

    for ahead, requests in ((int(ends[1] - starts[0]) - 1, 2), (int(ends[1] - starts[0]), 1)):
        pool = Index(memory, StoreSettings(read_ahead_bytes=ahead)).open()
        assert isinstance(pool, Ranges)
        before = pool.store.stats.requests
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            assert pool.read(name, start, end - start) == whole[start:end]
        assert pool.store.stats.requests - before == requests


def test_what_lies_in_no_sample_is_read_as_well(tiny_shards: Path, memory: Url) -> None:
    index = Index(memory)
    name = index.set.shards[0].name
    whole = (tiny_shards / name).read_bytes()

    assert index.open().read(name, 0, len(whole)) == whole
    assert index.open().read(name, len(whole) - 1024, 1024) == whole[-1024:]


def test_wrong_bytes_are_damage_that_names_the_url(tiny_shards: Path, memory: Url) -> None:
    stream = Stream(memory, RECIPE)
    name, offset = stream.entry(0)["shard"], stream.entry(0)["offset"]
    data = bytearray((tiny_shards / name).read_bytes())
    data[offset + 20] ^= 1
    fsspec.filesystem("memory").pipe_file(f"/set/{name}", bytes(data))

    with pytest.raises(Damage) as caught:
        stream.read(0)

    assert str(caught.value) == (
        f"memory://set/{name}: offset {offset}: bytes of {stream.entry(0)['id']} differ from their digest;"
        f" upload {name} again"
    )


def test_a_lost_shard_leaves_holes_and_a_lost_network_none(tiny_shards: Path, bucket: Bucket) -> None:
    url = bucket.put_folder(tiny_shards, "set")
    stream = Stream(url, RECIPE, store=StoreSettings(retries=0))
    first, other = (f"set/{stream.entry(t)['shard']}" for t in (0, 1))
    assert first != other
    bucket.delete(first)
    bucket.fail(other, bucket.trick(status=500))

    hole = stream.serve(0)
    assert isinstance(hole, Hole)
    assert (hole.reason, hole.lasts) == ("shard.unreadable", True)
    with pytest.raises(StoreError, match="the server answers 500, 1 times"):
        stream.serve(1)
    assert not isinstance(stream.serve(1), Hole)


def test_a_folder_needs_nothing_of_fsspec(tiny_shards: Path) -> None:
    code = """
import sys
from pathlib import Path
from dataengine.shares import Recipe
from dataengine.stream import Stream
Stream(Path(sys.argv[1]), Recipe(seed=0, global_batch=1)).read(0)
print([name for name in sys.modules if name.split(".")[0] in ("fsspec", "aiohttp", "requests", "s3fs")])
"""
    found = subprocess.run(
        [sys.executable, "-c", code, str(tiny_shards)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert found.stdout.strip() == "[]"


def test_the_verbs_take_a_url(tiny_shards: Path, memory: Url, capsys: pytest.CaptureFixture[str]) -> None:
    some_id = Index(tiny_shards).row(2)["id"]

    def lines(verb: str, shards: object) -> list[str]:
        with pytest.raises(SystemExit) as stopped:
            main([verb, str(shards), *([some_id] if verb == "trace" else []), "--json"])
        assert stopped.value.code == 0
        return capsys.readouterr().out.splitlines()

    for verb in ("mix", "stream"):
        assert lines(verb, memory) == lines(verb, tiny_shards)
        assert all(json.loads(line) for line in lines(verb, memory))
    (there,), (here,) = (map(json.loads, lines("trace", place)) for place in (memory, tiny_shards))
    # Of shards at a URL nobody knows where their manifests are, which know where the source is.
    beside = {"source", "seed", "notes"}
    assert {name for name in here if there[name] != here[name]} == beside
    assert there["notes"] == ["the manifest of tiny/detection/other is not known here"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("shards/a", Path("shards/a")),
        ("/data/a", Path("/data/a")),
        ("file:///data/with%20blank", Path("/data/with blank")),
        ("s3://bucket/a", Url("s3://bucket/a")),
        ("https://host/a/?sig=x", Url("https://host/a/?sig=x")),
    ],
)
def test_a_text_names_a_folder_or_a_url(text: str, found: Path | Url) -> None:
    assert locate(text) == found


def test_a_url_shows_neither_login_nor_signature() -> None:
    url = Url("https://me:secret@host:8080/sets/a/?sig=secret") / "x.tar"

    assert url.address == "https://me:secret@host:8080/sets/a/x.tar?sig=secret"
    assert f"{url}" == "https://host:8080/sets/a/x.tar"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (
            "nothing://x/y",
            "Protocol not known: nothing; expected a folder, or a URL of a kind that fsspec knows",
        ),
        (
            "gs://x/y",
            "is not installed: Please install gcsfs to access Google Storage; run pip install 'dataengine[gcs]'",
        ),
    ],
)
def test_a_store_of_an_unknown_kind_is_one_line(url: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)

    with pytest.raises(StoreError) as caught:
        Index(Url(url))

    assert str(caught.value).startswith(url)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_chain_of_urls_is_refused() -> None:
    with pytest.raises(
        StoreError, match=r"simplecache::s3://b/x: expected a folder or one URL such as s3://"
    ):
        locate("simplecache::s3://b/x")
