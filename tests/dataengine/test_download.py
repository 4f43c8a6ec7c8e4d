from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dataengine import download as downloads
from dataengine.download import Got, download, redirected, session
from dataengine.errors import SourceError
from dataengine.remote import RemoteFile

if TYPE_CHECKING:
    from tests.dataengine.conftest import Web

DATA = random.Random(5).randbytes(400_000)
OTHER = random.Random(6).randbytes(400_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


class Run:
    """Downloads below a folder, with what was waited for and shown."""

    def __init__(self, folder: Path) -> None:
        self.target = folder / "deep" / "a.bin"
        self.waits: list[float] = []
        self.shown: list[tuple[int, int | None]] = []

    def __call__(self, url: str, **facts: Any) -> Got:
        remote = RemoteFile(url=url, path="deep/a.bin", **facts)
        with session() as connection:
            return download(
                remote,
                self.target,
                connection,
                lambda done, total: self.shown.append((done, total)),
                self.waits.append,
            )

    def names(self) -> list[str]:
        return sorted(path.name for path in self.target.parent.iterdir())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_file_comes_whole_and_leaves_nothing_beside_it(web: Web, run: Run) -> None:
    got = run(web.put("/a", DATA), size_bytes=len(DATA), sha256=SHA256, md5=hashlib.md5(DATA).hexdigest())

    assert run.target.read_bytes() == DATA
    assert got == Got(size_bytes=len(DATA), sha256=SHA256, md5=hashlib.md5(DATA).hexdigest())
    assert run.names() == ["a.bin"]
    assert (len(DATA), len(DATA)) in run.shown
    assert run.waits == []


def test_the_server_is_told_who_asks(web: Web, run: Run) -> None:
    run(web.put("/a", DATA))

    ((_, _, headers),) = web.asked
    assert headers["user-agent"].startswith("dataengine/")
    assert headers["accept-encoding"] == "identity"


def test_a_cut_connection_goes_on_where_it_broke(web: Web, run: Run) -> None:
    run(web.put("/a", DATA, web.trick(cut=150_000), web.trick(cut=100_000)), sha256=SHA256)

    first, second, third = web.ranges("/a")
    assert run.target.read_bytes() == DATA
    assert first is None
    # What was still in a buffer when the connection broke may come again.
    assert 50_000 < int(str(second).removeprefix("bytes=")[:-1]) <= 150_000
    assert int(str(third).removeprefix("bytes=")[:-1]) > int(str(second).removeprefix("bytes=")[:-1])
    assert run.waits == [1.0, 1.0]


def test_a_stopped_run_is_continued_by_the_next(web: Web, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "RETRIES", 0)
    url = web.put("/a", DATA, web.trick(cut=150_000))
    with pytest.raises(SourceError, match="run again later to resume"):
        run(url)
    assert run.names() == ["a.bin.part", "a.bin.part.from"]

    run(url)

    assert run.target.read_bytes() == DATA
    assert run.names() == ["a.bin"]
    assert str(web.ranges("/a")[1]).startswith("bytes=")


@pytest.mark.parametrize("whole", [True, False], ids=["range ignored", "if-range heeded"])
def test_a_file_that_changed_between_tries_comes_whole(web: Web, run: Run, whole: bool) -> None:
    url = web.put("/a", DATA, web.trick(cut=150_000, body=OTHER), web.trick(whole=whole))

    run(url)

    assert run.target.read_bytes() == DATA
    assert len(web.asked) == 2


def test_a_weak_tag_promises_no_equal_bytes(web: Web, run: Run) -> None:
    weak = {"ETag": 'W/"1"'}

    run(web.put("/a", DATA, web.trick(cut=150_000, headers=weak), web.trick(headers=weak)))

    assert web.ranges("/a") == [None, None]
    assert run.target.read_bytes() == DATA


def test_a_part_of_another_address_is_not_continued(
    web: Web, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "RETRIES", 0)
    with pytest.raises(SourceError):
        run(web.put("/a", OTHER, web.trick(cut=150_000)))

    run(web.put("/b", DATA))

    assert web.ranges("/b") == [None]
    assert run.target.read_bytes() == DATA


def test_an_answer_without_a_size_that_ends_too_early_is_seen(web: Web, run: Run) -> None:
    url = web.put("/a", DATA, web.trick(cut=150_000, endless=True))

    run(url, size_bytes=len(DATA))

    assert web.ranges("/a") == [None, "bytes=150000-"]
    assert run.target.read_bytes() == DATA


def test_a_server_that_heeds_range_and_not_if_range_does_not_join_two_files(web: Web, run: Run) -> None:
    url = web.put(
        "/a", DATA, web.trick(cut=150_000, body=OTHER), web.trick(blind=True, headers={"Last-Modified": "x"})
    )

    run(url)

    assert run.target.read_bytes() == DATA
    assert web.ranges("/a")[2] is None


def test_without_a_validator_a_part_is_continued_only_against_a_checksum(web: Web, run: Run) -> None:
    run(web.put("/a", DATA, web.trick(cut=150_000, plain=True), web.trick(plain=True)))
    assert web.ranges("/a") == [None, None]

    run.target.unlink()
    run(web.put("/b", DATA, web.trick(cut=150_000, plain=True), web.trick(plain=True)), sha256=SHA256)
    assert str(web.ranges("/b")[1]).startswith("bytes=")
    assert run.target.read_bytes() == DATA


def test_a_part_joined_wrongly_is_fetched_anew(web: Web, run: Run) -> None:
    url = web.put("/a", DATA, web.trick(cut=150_000, plain=True, body=OTHER), web.trick(plain=True))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SourceError):
        patch.setattr(downloads, "RETRIES", 0)
        run(url, sha256=SHA256)

    run(url, sha256=SHA256)

    assert run.target.read_bytes() == DATA
    assert web.ranges("/a")[2] is None


def test_wrong_bytes_are_kept_aside_and_never_taken_for_good(web: Web, run: Run) -> None:
    url = web.put("/a", DATA, web.trick(body=OTHER))

    with pytest.raises(SourceError) as caught:
        run(url, sha256=SHA256)

    assert str(caught.value) == (
        f"deep/a.bin: sha256 is {hashlib.sha256(OTHER).hexdigest()}, the spec states {SHA256}; "
        "kept as a.bin.bad, run again to fetch it anew or mend the spec"
    )
    assert run.names() == ["a.bin.bad"]
    run(url, sha256=SHA256)
    assert run.target.read_bytes() == DATA


def test_md5_is_checked_too(web: Web, run: Run) -> None:
    with pytest.raises(SourceError, match=r"md5 is \w+, the spec states"):
        run(web.put("/a", DATA), md5=hashlib.md5(OTHER).hexdigest())


def test_a_size_that_is_not_the_specs_is_told_before_a_byte_comes(web: Web, run: Run) -> None:
    with pytest.raises(
        SourceError, match="the server has 400000 bytes, the spec states 7; the file has changed"
    ):
        run(web.put("/a", DATA), size_bytes=7)

    assert run.names() == []


def test_a_server_that_is_busy_is_asked_again_ever_later(web: Web, run: Run) -> None:
    busy = [
        web.trick(status=503),
        web.trick(status=500),
        web.trick(status=429, headers={"Retry-After": "9"}),
        web.trick(status=502),
    ]

    run(web.put("/a", DATA, *busy))

    assert run.target.read_bytes() == DATA
    assert run.waits == [1.0, 2.0, 9.0, 8.0]


def test_a_server_that_stays_busy_is_left_alone(web: Web, run: Run) -> None:
    with pytest.raises(SourceError, match="the server answers 503, 7 times in a row"):
        run(web.put("/a", DATA, *[web.trick(status=503)] * 20))

    assert run.waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]


def test_a_server_that_falls_silent_is_asked_again(
    web: Web, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_S", (1.0, 0.2))

    run(web.put("/a", DATA, web.trick(cut=150_000, hold=True)))

    assert run.target.read_bytes() == DATA
    assert str(web.ranges("/a")[1]).startswith("bytes=")


def test_nobody_at_the_address_is_a_line(run: Run) -> None:
    with pytest.raises(SourceError, match="no answer") as caught:
        run("http://127.0.0.1:9/a")

    assert "\n" not in str(caught.value)
    assert "object at" not in str(caught.value)
    assert len(run.waits) == downloads.RETRIES


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (404, "not there any more"),
        (403, "asks for a login"),
        (401, "asks for a login"),
        (418, "expected 200"),
    ],
)
def test_a_refusal_is_not_asked_again(web: Web, run: Run, status: int, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        run(web.put("/a", DATA, web.trick(status=status)))

    assert run.waits == []


def test_a_page_in_place_of_a_file_is_seen(web: Web, run: Run) -> None:
    page = web.trick(body=b"<html>Please log in", headers={"Content-Type": "text/html; charset=utf-8"})

    with pytest.raises(SourceError, match="sends a web page instead of the file"):
        run(web.put("/a", DATA, page))

    assert run.names() == []


def test_a_coding_that_was_not_asked_for_is_refused(web: Web, run: Run) -> None:
    with pytest.raises(SourceError, match="sent as 'gzip' although"):
        run(web.put("/a", DATA, web.trick(headers={"Content-Encoding": "gzip"})))


def test_redirects_are_followed_on_the_web_alone(web: Web, run: Run, tmp_path: Path) -> None:
    web.put("/b", DATA)
    secret = tmp_path / "secret"
    secret.write_text("secret")

    run(web.put("/a", b"", web.trick(status=302, headers={"Location": "/b"})))
    assert run.target.read_bytes() == DATA

    run.target.unlink()
    for location in (secret.as_uri(), "ftp://example.org/a", "data:,a"):
        with pytest.raises(SourceError, match="redirects to"):
            run(web.put("/a", b"", web.trick(status=302, headers={"Location": location})))
    with pytest.raises(SourceError, match="redirected more than 10 times"):
        run(web.put("/a", b"", *[web.trick(status=302, headers={"Location": "/a"})] * 20))
    assert not run.target.exists()


def test_a_redirect_does_not_lead_from_a_safe_way_to_an_open_one() -> None:
    with pytest.raises(SourceError, match="is not encrypted"):
        redirected("https://example.org/a", "http://example.org/b")

    assert redirected("https://example.org/a/b", "../c?d=1") == "https://example.org/c?d=1"
    assert redirected("http://example.org/a", "https://example.org/b") == "https://example.org/b"


def test_a_file_of_unknown_size_comes_whole(web: Web, run: Run) -> None:
    run(web.put("/a", DATA, web.trick(endless=True)))

    assert run.target.read_bytes() == DATA
    assert run.shown[0] == (0, None)


def test_a_server_that_gives_too_much_is_stopped(web: Web, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "RETRIES", 0)

    with pytest.raises(SourceError, match="gives more than the 1000 bytes"):
        run(web.put("/a", DATA, web.trick(endless=True)), size_bytes=1000)

    assert run.names() == []


def test_a_part_that_came_whole_is_not_asked_for_again(web: Web, run: Run) -> None:
    url = web.put("/a", DATA)
    run.target.parent.mkdir()
    run.target.with_name("a.bin.part").write_bytes(DATA)
    run.target.with_name("a.bin.part.from").write_text(f'{{"url": "{url}", "size_bytes": {len(DATA)}}}')

    run(url)

    assert run.target.read_bytes() == DATA
    assert web.asked == []


def test_a_part_of_unknown_origin_is_not_continued(web: Web, run: Run) -> None:
    run.target.parent.mkdir()
    run.target.with_name("a.bin.part").write_bytes(OTHER[:1000])

    run(web.put("/a", DATA))

    assert run.target.read_bytes() == DATA
    assert web.ranges("/a") == [None]
    assert run.names() == ["a.bin"]


def test_a_full_disk_is_told_before_it_is_full(web: Web, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr("dataengine.download.shutil.disk_usage", lambda _: usage)

    with pytest.raises(SourceError, match="needs 400000 bytes, 1000 are free"):
        run(web.put("/a", DATA))
