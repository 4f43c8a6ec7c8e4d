"""The server answers nobody but its own page, gives no file that is not a sample's picture, and always says why."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pyarrow.parquet as pq
import pytest
from PIL import Image

from dataengine import manifest as manifests
from dataengine import selection
from dataengine.errors import DataEngineError
from dataengine.explore.server import MAX_BODY_BYTES, Server
from dataengine.explore.session import Session
from dataengine.index import load_set
from dataengine.selection import MARKED, Choice
from dataengine.shard import shard
from tests.conftest import Tiny
from tests.dataengine.explore.making import made, write

SECRET = b"root:x:0:0"
Open = Callable[..., Session]
Serve = Callable[[Session], Server]


class Client:
    """Asks one server; a path begins below the secret."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.base = urlsplit(server.address).path
        self.own = {"Host": f"127.0.0.1:{server.server_port}"}

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        base: str | None = None,
        **headers: str,
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=20)
        given = {**self.own, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, f"{self.base if base is None else base}{path}", body, given)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    def json(self, path: str, **query: Any) -> Any:
        """Return what a question is answered."""
        status, _, data = self.ask(f"{path}?{urlencode(query, doseq=True)}")
        assert status == 200, data
        return json.loads(data)

    def mark(self, id_: str, mark: Any, was: Any = None, **headers: str) -> tuple[int, Any]:
        """Mark a sample."""
        body = json.dumps({"id": id_, "mark": mark, "was": was}).encode()
        status, _, data = self.ask(
            "api/mark", "POST", body, **{"Content_Type": "application/json", **headers}
        )
        return status, json.loads(data)


@pytest.fixture
def client(tiny: Tiny, open_session: Open, serve: Serve) -> Client:
    """A server for six samples with pictures."""
    tiny.convert()
    (tiny.root.parent / "passwd").write_bytes(SECRET)
    return Client(serve(open_session(tiny.out)))


def test_only_the_secret_opens_the_door(client: Client) -> None:
    assert client.ask("")[0] == 200
    for base in ("/", "/wrong/", f"{client.base[:-2]}/", "//", client.base.upper(), client.base[:-1]):
        for path in ("", "api/about", "page.js", "api/page", "api/picture?row=0"):
            status, _, data = client.ask(path, base=base)
            assert status == 404 and b"no such page" in data, (base, path)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:80", "", "127.0.0.1", "127.0.0.1:1", "localhost", "[::1]:{port}",
        "127.0.0.1.nip.io:{port}",
    ],
)  # fmt: skip
def test_a_name_that_was_made_to_point_here_is_refused(client: Client, host: str) -> None:
    status, _, data = client.ask("api/about", Host=host.format(port=client.server.server_port))
    assert status == 403 and b"samples" not in data


def test_other_pages_are_refused_whatever_they_know(client: Client) -> None:
    name = client.json("api/page")["cards"][0]["id"]
    own = f"http://127.0.0.1:{client.server.server_port}"
    for origin in (
        "http://evil.example",
        "null",
        "http://127.0.0.1:1",
        f"https://127.0.0.1:{client.server.server_port}",
    ):
        assert client.ask("api/about", Origin=origin)[0] == 403
        assert client.mark(name, {"keep": False}, Origin=origin)[0] == 403
    assert client.json("api/about")["marks"] == {}
    assert client.mark(name, {"keep": False}, Origin=own)[0] == 200


def test_nothing_lets_another_page_read_or_frame_an_answer(client: Client) -> None:
    for path in ("", "page.js", "api/about", "api/picture?row=0&side=320", "nowhere"):
        headers = client.ask(path)[1]
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';") and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert not [name for name in headers if name.lower().startswith("access-control")]


def test_it_listens_on_this_machine_alone(client: Client) -> None:
    assert client.server.server_address[0] == "127.0.0.1"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", client.server.server_port), timeout=2)


TRAVERSALS = [
    "../passwd", "..%2fpasswd", "%2e%2e/passwd", "....//passwd", "/etc/passwd", "//etc/passwd", "api/../../passwd",
    "page.html", "../page.html", "web/page.js", "images/001.jpg", "api/picture/../../passwd", "..\\passwd",
    "page.js%00",
    "api/picture?row=0&path=/etc/passwd", "api/picture?row=0&number=../passwd", "api/record?row=0&file=/etc/passwd",
    "api/picture?row=/etc/passwd", "api/picture?row=-1", "api/picture?row=0&number=9", "api/picture?row=0&side=99999",
    "api/picture", "api/picture?row=99999999999", "api/sample?row=1e3", "api/sample?id=nobody", "api/page?how=like",
    "api/page?mark=all", "api/page?seed=x", "api/page?start=-4", f"api/page?text={'x' * 501}", "api/mark",
]  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_path_becomes_a_file_and_no_question_a_crash(client: Client, path: str) -> None:
    status, headers, data = client.ask(path)
    assert SECRET not in data and b"root:" not in data
    if status == 200:  # what is not known of a question is not looked at
        assert "picture?row=0&path" in path or "record?row=0" in path
    else:
        assert status in (400, 404, 422) and json.loads(data)["error"]
        assert headers["Content-Type"].startswith("application/json")


def test_a_manifest_cannot_name_a_picture_outside_its_root(
    tmp_path: Path, open_session: Open, serve: Serve
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "passwd").write_bytes(SECRET)
    Image.new("RGB", (8, 8)).save(tmp_path / "out.png")
    (root / "link.png").symlink_to(tmp_path / "out.png")
    (root / "fifo.png").mkdir()
    names = ["../out.png", str(tmp_path / "out.png"), "link.png", "gone.png", "fifo.png", "a\0b.png"]
    write(tmp_path / "m", [made(i, path=name) for i, name in enumerate(names)], root=str(root))
    client = Client(serve(open_session(tmp_path / "m")))

    answers = [client.ask(f"api/picture?row={row}") for row in range(len(names))]

    assert [status for status, _, _ in answers] == [422] * 6
    says = [json.loads(data)["error"] for _, _, data in answers]
    assert all("path.outside" in one for one in says[:3])
    assert "gone.png" in says[3] and "path.invalid" in says[5]


def test_pictures_are_made_for_the_screen_and_in_parts(client: Client) -> None:
    status, headers, data = client.ask("api/picture?row=0&number=0&side=320")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    with Image.open(BytesIO(data)) as picture:
        assert picture.size == (32, 24)

    part = client.ask("api/picture?row=0&number=0&side=320", Range="bytes=2-9")
    assert (part[0], part[2]) == (206, data[2:10])
    assert part[1]["Content-Range"] == f"bytes 2-9/{len(data)}"
    assert client.ask("api/picture?row=0&number=0&side=320", Range="bytes=-4")[2] == data[-4:]
    for wrong in (f"bytes={len(data)}-", "bytes=-0", "bytes=99999999-100000000"):
        status, headers, _ = client.ask("api/picture?row=0&number=0&side=320", Range=wrong)
        assert (status, headers["Content-Range"]) == (416, f"bytes */{len(data)}"), wrong
    for odd in ("bytes=5-2", "lines=1-2", "bytes=0-1,4-5", "bytes=-"):
        assert client.ask("api/picture?row=0&number=0&side=320", Range=odd)[::2] == (200, data)


def test_head_tells_what_get_would_send(client: Client) -> None:
    for path in ("", "page.css", "api/about", "api/picture?row=0", "nowhere"):
        get, head = client.ask(path), client.ask(path, "HEAD")
        assert head[0] == get[0] and head[2] == b""
        assert head[1]["Content-Length"] == str(len(get[2]))


def test_other_methods_are_refused_with_words(client: Client) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        status, headers, data = client.ask("api/about", method)
        assert status == 501 and json.loads(data)["error"]
        assert not [name for name in headers if name.lower().startswith("access-control")]


def test_a_mark_needs_the_secret_a_json_body_and_a_sample(client: Client, tmp_path: Path) -> None:
    name = client.json("api/page")["cards"][2]["id"]
    body = json.dumps({"id": name, "mark": {"keep": False}, "was": None}).encode()
    json_type: Any = {"Content_Type": "application/json"}

    def post(path: str = "api/mark", body: bytes = body, **headers: str) -> int:
        return client.ask(path, "POST", body, **headers)[0]

    assert client.ask("api/mark", "POST", body, base="/wrong/", **json_type)[0] == 404
    assert client.ask("api/mark", "POST", body, base="/", **json_type)[0] == 404
    assert post(Content_Type="text/plain") == 415
    assert post(Content_Type="application/x-www-form-urlencoded") == 415
    assert post("api/about", **json_type) == 404
    assert post(body=b"{", **json_type) == 400
    assert post(body=b"[]", **json_type) == 400
    assert post(body=b'{"id": "x", "mark": {"keep": "yes"}, "was": null}', **json_type) == 400
    assert post(body=b"x" * (MAX_BODY_BYTES + 1), **json_type) == 413
    assert client.mark("nobody", {"keep": False})[0] == 422
    assert not (tmp_path / "selection.parquet").exists()

    assert post(**json_type) == 200

    assert selection.read(tmp_path / "selection.parquet") == [Choice(id=name, keep=False, reason=MARKED)]


def test_a_body_without_its_length_is_refused_and_never_taken_for_a_request(client: Client) -> None:
    with socket.create_connection(("127.0.0.1", client.server.server_port), timeout=20) as one:
        one.sendall(
            f"POST {client.base}api/mark HTTP/1.1\r\nHost: {client.own['Host']}\r\nContent-Type: application/json\r\n"
            f"Transfer-Encoding: chunked\r\n\r\nGET {client.base}api/about HTTP/1.1\r\nHost: {client.own['Host']}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        data = b""
        while piece := one.recv(4096):
            data += piece
    assert data.startswith(b"HTTP/1.1 411 ") and data.count(b"HTTP/1.1") == 1


def test_a_second_tab_learns_that_a_sample_is_marked(client: Client) -> None:
    name = client.json("api/page")["cards"][0]["id"]
    assert client.mark(name, {"keep": False, "note": "blurred"})[0] == 200

    status, found = client.mark(name, {"keep": True})

    assert status == 409 and found["mark"] == {"keep": False, "note": "blurred"}
    assert client.json("api/page")["cards"][0]["mark"] == found["mark"]
    assert client.mark(name, None, found["mark"])[0] == 200
    assert client.json("api/about")["marks"] == {}


def test_filters_stand_in_the_question(client: Client) -> None:
    while not (found := client.json("api/page", label=["cat", "bird"], text="pick OR all"))["complete"]:
        pass
    assert found["total"] == 0
    while not (found := client.json("api/page", label=["cat", "bird"]))["complete"]:
        pass
    labels = [
        {one["label"] for one in client.json("api/sample", id=card["id"])["sample"]["targets"]["instances"]}
        for card in found["cards"]
    ]
    assert found["total"] == len(labels) == 4
    assert all(some & {"cat", "bird"} for some in labels)


def test_a_sample_shows_its_source(client: Client, tiny: Tiny) -> None:
    shown = client.json("api/sample", row=1)
    found = client.json("api/record", row=1)

    assert json.loads(found["raw"]) == tiny.document()["images"][1]
    path, start, stop = re.fullmatch(r"\$\.(images\[1\]), bytes (\d+) to (\d+)", found["place"]).groups()  # type: ignore[union-attr]
    file = tiny.root / shown["sample"]["origin"]["file"]
    assert path and json.loads(file.read_bytes()[int(start) : int(stop)]) == tiny.document()["images"][1]
    assert [part.startswith("$.annotations[") for part in found["parts"]] == [True, True]
    read = json.loads(found["read"])
    assert read["key"] == "2" and len(read["instances"]) == 2
    assert shown["where"]["root"] == str(tiny.root)
    tiny.write({**tiny.document(), "images": tiny.document()["images"][:1]})
    assert "'images[1]' is not found" in client.json("api/record", row=1)["notes"][0]


def test_damage_in_shards_is_told_and_costs_no_other_sample(
    tiny: Tiny, tmp_path: Path, open_session: Open, serve: Serve
) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "s", samples_per_shard=3)
    table = pq.read_table(tmp_path / "s" / "index.parquet").to_pylist()
    tar = tmp_path / "s" / f"{table[0]['shard']}.tar"
    data = bytearray(tar.read_bytes())
    data[table[0]["json_offset"]] ^= 0xFF
    data[table[1]["image_offsets"][0] + 40] ^= 0xFF
    tar.write_bytes(data)
    (tmp_path / "s" / load_set(tmp_path / "s").shards[1].name).unlink()
    client = Client(serve(open_session(tmp_path / "s")))

    cards = client.json("api/page")["cards"]

    assert [bool(card.get("problem")) for card in cards] == [True, False, False, True, True, True]
    assert "is no sample" in client.json("api/sample", row=0)["problem"]
    status, _, says = client.ask("api/picture?row=1")
    assert status == 422 and b"is damaged" in says
    assert client.ask("api/picture?row=2")[0] == 200
    assert client.ask("api/picture?row=3")[0] == 422
    assert client.ask("api/record?row=0")[0] == 422


def test_shards_and_the_manifests_that_they_are_made_of_show_once(
    tiny: Tiny, tmp_path: Path, open_session: Open
) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "manifests" / "shards", samples_per_shard=3)
    session = open_session(tmp_path)
    assert len(session.collection) == 6
    assert len(session.left_out) == 1 and "its samples are those in" in session.left_out[0]


def test_a_port_that_is_taken_is_one_line(tiny: Tiny, open_session: Open) -> None:
    tiny.convert()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            DataEngineError, match=f"port {port}: Address already in use; give another --port"
        ):
            Server(open_session(tiny.out), port)


def test_the_command_serves_until_it_is_told_to_stop(tiny: Tiny, tmp_path: Path) -> None:
    place, _ = tiny.convert()
    arguments = ["explore", str(tiny.out), "--cache", str(tmp_path / "cache")]
    running = subprocess.Popen(
        [sys.executable, "-m", "dataengine", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    try:
        assert running.stdout is not None
        line = running.stdout.readline()
        address = urlsplit(re.findall(r"http://\S+", line)[0])
        connection = http.client.HTTPConnection(address.netloc, timeout=20)
        connection.request("GET", f"{address.path}api/about")
        assert json.loads(connection.getresponse().read())["samples"] == 6
        # A connection that stays open does not keep it from ending.
        # Not SIGINT: where a shell started the tests in the background, they and what they start ignore it.
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=20)
        connection.close()
    finally:
        running.kill()
    assert running.returncode == 0
    assert "stopped; 0 marks" in said and "Traceback" not in said
    assert manifests.load(place).name == "tiny/detection/train"
