from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import fsspec  # type: ignore[import-untyped]
import pytest

from dataengine.errors import ShardError, StoreError
from dataengine.store import Store, StoreSettings, Url
from tests.dataengine.conftest import COMMIT
from tests.dataengine.remote.conftest import Asked, Trick

if TYPE_CHECKING:
    from tests.dataengine.conftest import Web
    from tests.dataengine.remote.conftest import Bucket

DATA = bytes(range(256)) * 40


class Waits(list[float]):
    """The seconds that a store would have waited, and a clock that only they move."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)

    def clock(self) -> float:
        return sum(self)


def store_of(bucket: Bucket, **settings: Any) -> tuple[Store, Waits]:
    bucket.put("set/a.tar", DATA)
    waits = Waits()
    return Store(bucket.url("set"), StoreSettings(**settings), wait=waits, clock=waits.clock), waits


def test_a_piece_is_one_range_request(bucket: Bucket) -> None:
    store, _ = store_of(bucket)

    assert store.read("a.tar", 100, 900) == DATA[100:900]
    assert store.read_whole("a.tar") == DATA
    assert bucket.ranges("set/a.tar") == ["bytes=100-899", "bytes=0-10239"]
    assert (store.stats.requests, store.stats.retries, store.stats.bytes) == (3, 0, 800 + 10240)


@pytest.mark.parametrize(
    ("trick", "kind"),
    [
        (Trick(status=500), "status 500"),
        (Trick(status=503, code="SlowDown"), "status 503"),
        (Trick(status=429, code="TooManyRequests"), "status 429"),
        (Trick(reset=300), "connection"),
        (Trick(reset=0), "connection"),
        (Trick(short=300), "short"),
    ],
)
def test_a_bad_way_is_tried_again(bucket: Bucket, trick: Trick, kind: str) -> None:
    store, waits = store_of(bucket)
    bucket.fail("set/a.tar", trick, trick)

    assert store.read("a.tar", 1000, 2000) == DATA[1000:2000]

    stats = store.stats
    assert bucket.ranges("set/a.tar") == ["bytes=1000-1999"] * 3
    assert (stats.retries, stats.troubles) == (2, {kind: 2})
    assert len(waits) == 2
    assert stats.wait_s == sum(waits) > 0


def test_a_slow_answer_is_not_waited_for(bucket: Bucket) -> None:
    store, waits = store_of(bucket, timeout_s=0.5)
    bucket.fail("set/a.tar", *[Trick(delay_s=60)] * 2)

    assert store.read("a.tar", 1000, 2000) == DATA[1000:2000]

    # On a busy machine more answers than those two may be late.
    late = store.stats.troubles["timeout"]
    assert store.stats.troubles == {"timeout": late}
    assert len(bucket.ranges("set/a.tar")) <= late + 1 == len(waits) + 1
    assert late >= 2


def test_answers_that_are_all_late_are_one_line(bucket: Bucket) -> None:
    store, _ = store_of(bucket, timeout_s=0.2, retries=1)
    bucket.fail("set/a.tar", *[Trick(delay_s=60)] * 2)

    with pytest.raises(
        StoreError, match=r"offset 5: no answer within 0\.2 s, 2 times in 0 s; run again later"
    ):
        store.read("a.tar", 5, 10)


def test_tries_are_counted_by_the_store_alone_and_end(bucket: Bucket) -> None:
    store, waits = store_of(bucket, retries=3)
    bucket.fail("set/a.tar", *[Trick(status=503, code="SlowDown")] * 50)

    with pytest.raises(StoreError) as caught:
        store.read("a.tar", 1000, 2000)

    assert str(caught.value) == (
        f"s3://{bucket.name}/set/a.tar: offset 1000: the server answers 503, 4 times in {sum(waits):.0f} s;"
        " run again later, or raise retries and patience_s of the store"
    )
    assert len(bucket.ranges("set/a.tar")) == 4
    assert (store.stats.retries, store.stats.troubles) == (3, {"status 503": 4})
    assert len(waits) == 3


def test_patience_ends_tries_before_their_number_does(bucket: Bucket) -> None:
    store, waits = store_of(bucket, retries=50, patience_s=3.0)
    bucket.fail("set/a.tar", *[Trick(status=500)] * 50)

    with pytest.raises(StoreError, match=rf"answers 500, {len(bucket.ranges('set/a.tar')) + 5} times in"):
        store.read("a.tar", 0, 10)

    assert 1 < sum(waits) <= 3


def test_a_server_that_says_when_is_not_asked_before(bucket: Bucket) -> None:
    store, waits = store_of(bucket)
    bucket.fail("set/a.tar", Trick(status=503, code="SlowDown", headers={"Retry-After": "7"}))

    store.read("a.tar", 0, 10)

    assert waits == [7.0]


def test_waits_grow_and_are_the_same_again_and_differ_by_what_is_read(bucket: Bucket) -> None:
    found = []
    for offset in (0, 0, 512):
        store, waits = store_of(bucket)
        bucket.fail("set/a.tar", *[Trick(status=500)] * 6)
        store.read("a.tar", offset, offset + 10)
        found.append(list(waits))

    assert found[0] == found[1] != found[2]
    assert all(0.125 * 2**n < wait <= 0.25 * 2**n for n, wait in enumerate(found[0]))


@pytest.mark.parametrize(
    ("trick", "says"),
    [
        (
            Trick(status=403, code="AccessDenied"),
            "reading it is not allowed (AccessDenied); log in as the store's",
        ),
        (Trick(status=404, code="NoSuchKey"), "no such object; mend the address, or upload the shards again"),
        (
            Trick(status=400, code="AuthorizationHeaderMalformed"),
            "the server answers 400: AuthorizationHeader",
        ),
    ],
)
def test_what_no_further_try_can_help_is_one_line_at_once(bucket: Bucket, trick: Trick, says: str) -> None:
    store, waits = store_of(bucket)
    bucket.fail("set/a.tar", trick)

    with pytest.raises(ShardError if trick.status == 404 else StoreError) as caught:
        store.read("a.tar", 512, 700)

    assert str(caught.value).startswith(f"s3://{bucket.name}/set/a.tar: offset 512: {says}")
    assert "\n" not in str(caught.value)
    assert waits == []


def test_a_missing_object_or_bucket_is_named(bucket: Bucket) -> None:
    for url in (bucket.url("set"), Url("s3://nobody-has-this/set")):
        with pytest.raises(ShardError, match=rf"^{url}/b\.tar: offset 0: no such object; mend the address"):
            Store(url).read("b.tar", 0, 10)


@pytest.mark.parametrize(
    ("start", "says"), [(10_000, "has 10240 bytes, expected at least 10300"), (10_240, "ends before that")]
)
def test_an_object_that_is_too_short_is_no_bad_way(bucket: Bucket, start: int, says: str) -> None:
    store, waits = store_of(bucket)

    with pytest.raises(ShardError) as caught:
        store.read("a.tar", start, 10_300)

    assert str(caught.value) == (
        f"s3://{bucket.name}/set/a.tar: offset {start}: the object {says}; it is not whole, upload it again"
    )
    assert waits == []


def test_a_server_that_nobody_answers_at_is_one_line(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    waits = Waits()

    with pytest.raises(StoreError, match=r"offset 0: the connection broke \(.*\), 3 times in") as caught:
        Store(bucket.url("set"), StoreSettings(retries=2), wait=waits).read("a.tar", 0, 10)

    assert "\n" not in str(caught.value)
    assert len(waits) == 2


def test_an_error_shows_no_login_that_the_provider_shows() -> None:
    pytest.importorskip("aiohttp", reason="needs aiohttp, which fsspec reads http:// with")
    url = Url("http://me:secret@127.0.0.1:9/set?signature=secret")

    with pytest.raises(
        StoreError, match=r"http://127.0.0.1:9/set/a.tar: .* the connection broke \("
    ) as caught:
        Store(url, StoreSettings(retries=0)).read_whole("a.tar")

    assert "secret" not in str(caught.value)
    assert "signature" not in str(caught.value)


def test_without_a_login_the_error_says_so(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    store, waits = store_of(bucket)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")

    with pytest.raises(
        StoreError, match=r"reading it is not allowed \(Unable to locate credentials\); log in"
    ):
        store.read("a.tar", 0, 10)

    assert waits == []


def test_many_threads_read_at_once(bucket: Bucket) -> None:
    store, _ = store_of(bucket)

    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(lambda start: store.read("a.tar", start, start + 500), range(0, 8000, 400)))

    assert found == [DATA[start : start + 500] for start in range(0, 8000, 400)]
    assert store.stats.requests == 20


def _read_elsewhere(out: Any, store: Store) -> None:
    out.send((store.read("a.tar", 300, 500), store.stats.requests))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_another_process_opens_the_store_anew(bucket: Bucket, method: str) -> None:
    store, _ = store_of(bucket)
    store.read("a.tar", 0, 100)

    found = Asked.of(method, _read_elsewhere, store).answer()

    assert found == (DATA[300:500], 1)
    assert store.read("a.tar", 0, 100) == DATA[:100]
    assert store.stats.requests == 2


def test_the_hub_is_read_by_ranges(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.put_repo("owner/name", {"set/a.tar": DATA})
    api = "/api/datasets/owner/name"
    web.files[api] = web.files[f"{api}/revision/main"]
    web.files[f"{api}/tree/main/set"] = web.files[f"{api}/tree/{COMMIT}"]
    web.files["/datasets/owner/name/resolve/main/set/a.tar"] = DATA
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": web.address, "token": False})

    store = Store(Url("hf://datasets/owner/name/set"))

    assert store.read("a.tar", 100, 900) == DATA[100:900]
    assert store.read("a.tar", 0, 100) == DATA[:100]
    assert store.read_whole("a.tar") == DATA
    (path,) = {name for method, name, _ in web.asked if method == "GET" and name.endswith("a.tar")}
    assert web.ranges(path) == ["bytes=100-899", "bytes=0-99", "bytes=0-10239"]


def test_a_web_server_is_read_by_ranges(web: Web) -> None:
    pytest.importorskip("aiohttp", reason="needs aiohttp, which fsspec reads http:// with")
    busy = web.trick(status=503, headers={"Retry-After": "3"})
    web.put("/set/a.tar", DATA, busy, web.trick(cut=100), web.trick())
    waits = Waits()

    store = Store(Url(f"{web.address}/set"), wait=waits, clock=waits.clock)

    assert store.read("a.tar", 100, 900) == DATA[100:900]
    assert web.ranges("/set/a.tar") == ["bytes=100-899"] * 3
    assert store.stats.troubles == {"status 503": 1, "connection": 1}
    assert waits[0] == 3.0


def test_a_user_may_say_how_a_provider_is_asked(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"config_kwargs": {"user_agent_extra": "mine/1"}}
    monkeypatch.setitem(fsspec.config.conf, "s3", given)
    store, _ = store_of(bucket, retries=1)
    bucket.fail("set/a.tar", *[Trick(status=500)] * 9)

    with pytest.raises(StoreError, match="the server answers 500, 2 times"):
        store.read("a.tar", 0, 10)

    assert len(bucket.ranges("set/a.tar")) == 2
    assert all("mine/1" in agent for agent in bucket.agents)
