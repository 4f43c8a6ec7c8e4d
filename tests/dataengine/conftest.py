"""A web server on this machine that can fail in the ways that real ones do, and a hub of repositories on top of it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "c0ffee" + "0" * 34


@dataclass(frozen=True)
class Trick:
    """How the server treats one request: each is used once, in order."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None  # close the connection after so many bytes of the body
    hold: bool = False  # with `cut`: keep it open and silent until the test lets go
    whole: bool = False  # take no notice of Range
    blind: bool = False  # take no notice of If-Range
    plain: bool = False  # give neither ETag nor Last-Modified
    endless: bool = False  # state no length
    body: bytes | None = None  # other bytes than the file's


@dataclass
class Web:
    """What the server has, what it was asked, and how it is going to fail."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    tricks: dict[str, list[Trick]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)

    trick = Trick

    def put(self, path: str, data: bytes, *tricks: Trick) -> str:
        """Offer a file and return its address; requests for it meet the tricks first."""
        self.files[path] = data
        self.tricks[path] = list(tricks)
        return f"{self.address}{path}"

    def put_repo(self, repo: str, files: dict[str, bytes]) -> None:
        """Offer a dataset repository as the hub does: its commit, its tree, its files."""
        tree: list[dict[str, Any]] = []
        for name, data in files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            one: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": blob}
            if len(data) > 1000:
                digest = hashlib.sha256(data).hexdigest()
                one["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 130}
            tree.append(one)
            self.files[f"/datasets/{repo}/resolve/{COMMIT}/{name}"] = data
        info = {"id": repo, "sha": COMMIT, "private": False, "tags": [], "siblings": []}
        self.files[f"/api/datasets/{repo}/revision/main"] = json.dumps(info).encode()
        self.files[f"/api/datasets/{repo}/tree/{COMMIT}"] = json.dumps(tree).encode()

    def ranges(self, path: str) -> list[str | None]:
        """Return what pieces of a file were asked for, in order; None is the whole."""
        return [
            headers.get("range") for method, name, headers in self.asked if (method, name) == ("GET", path)
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = {name.lower(): value for name, value in self.headers.items()}
        self.web.asked.append((self.command, path, asked))
        waiting = self.web.tricks.get(path, []) if body else []
        trick = waiting.pop(0) if waiting else Trick()
        data = self.web.files.get(path)
        if data is None and not trick.status:
            trick = Trick(status=404)
        data = trick.body if trick.body is not None else data or b""
        if trick.status:
            self._send(trick.status, trick.headers, b"", None, trick)
            return
        tag = f'"{hashlib.sha256(data).hexdigest()}"' if "/resolve/" not in path else self._hub_tag(data)
        headers = {"ETag": tag, "Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}
        if trick.plain:
            headers = {}
        if "/resolve/" in path:
            headers["X-Repo-Commit"] = COMMIT
        headers |= trick.headers
        start = self._start(asked, tag, trick)
        if start is None or (start == 0 and asked["range"].endswith("-")):
            self._send(200, headers, data if body else b"", None if trick.endless else len(data), trick)
        elif start >= len(data):
            self._send(416, {"Content-Range": f"bytes */{len(data)}"}, b"", 0, trick)
        else:
            last = asked["range"].rpartition("-")[2]
            stop = min(int(last) + 1, len(data)) if last else len(data)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            self._send(206, headers, data[start:stop], stop - start, trick)

    @staticmethod
    def _hub_tag(data: bytes) -> str:
        digest = hashlib.sha256(data) if len(data) > 1000 else hashlib.sha1(b"blob %d\0" % len(data) + data)
        return f'"{digest.hexdigest()}"'

    @staticmethod
    def _start(asked: dict[str, str], tag: str, trick: Trick) -> int | None:
        if "range" not in asked or trick.whole:
            return None
        if not trick.blind and asked.get("if-range", tag) not in (tag, "Mon, 02 Nov 2026 10:00:00 GMT"):
            return None
        return int(asked["range"].removeprefix("bytes=").split("-")[0])

    def _send(
        self, status: int, headers: dict[str, str], data: bytes, length: int | None, trick: Trick
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None or not data:
            self.send_header("Content-Length", str(length or 0))
        if trick.cut is not None or length is None:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(data if trick.cut is None else data[: trick.cut])
        self.wfile.flush()
        if trick.hold:
            self.web.let_go.wait(20)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what some tests are about."""


@pytest.fixture
def web() -> Iterator[Web]:
    """A server on a free port of this machine, alone with the test."""
    found = Web()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"web": found}))
    found.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield found
    found.let_go.set()
    server.shutdown()
    server.server_close()
    thread.join(5)
