"""A real S3 server on this machine, and a proxy before it that fails in the ways that networks do."""

from __future__ import annotations

import http.client
import importlib.util
import multiprocessing
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec  # type: ignore[import-untyped]
import pytest

from dataengine.store import Url

NEEDED = ("s3fs", "moto", "flask", "flask_cors")
SERVER = """
import logging
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
input()
"""
LIMIT_S = 60.0
LOGIN = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class Trick:
    """How the proxy treats one request for an object: each is used once, in order."""

    status: int = 0  # answer this instead of asking
    code: str = "InternalError"
    headers: dict[str, str] = field(default_factory=dict)
    reset: int | None = None  # reset the connection after so many bytes of the body
    short: int | None = None  # state and send only so many bytes of the body
    delay_s: float = 0.0  # wait before the answer, or until the test ends


@dataclass
class Bucket:
    """A bucket behind the proxy: what was asked of it, and how it is going to fail."""

    name: str
    port: int
    server: int
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)
    tricks: dict[str, list[Trick]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    let_go: threading.Event = field(default_factory=threading.Event)

    trick = Trick

    def url(self, prefix: str = "") -> Url:
        """Return the address of a folder in the bucket."""
        return Url(f"s3://{self.name}/{prefix}")

    def put(self, name: str, data: bytes) -> None:
        """Store an object, straight at the server."""
        self._ask("PUT", f"/{self.name}/{name}", data)

    def put_folder(self, folder: Path, prefix: str) -> Url:
        """Store the files of a folder and return their address."""
        for path in sorted(folder.iterdir()):
            if path.is_file():
                self.put(f"{prefix}/{path.name}", path.read_bytes())
        return self.url(prefix)

    def delete(self, name: str) -> None:
        """Delete an object."""
        self._ask("DELETE", f"/{self.name}/{name}", b"")

    def fail(self, name: str, *tricks: Trick) -> None:
        """Let the next requests for an object fail."""
        self.tricks[name] = list(tricks)

    def ranges(self, name: str) -> list[str | None]:
        """Return what pieces of an object were asked for, in order; None is the whole."""
        with self.lock:
            return [piece for method, path, piece in self.asked if (method, path) == ("GET", name)]

    def _ask(self, method: str, path: str, data: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server, timeout=20)
        connection.request(
            method, path, data, {"Authorization": "AWS4-HMAC-SHA256 Credential=test/x/us-east-1/s3/x"}
        )
        answer = connection.getresponse()
        assert answer.status < 300, answer.read()
        connection.close()


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._pass_on()

    def do_GET(self) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        bucket = self.bucket
        name = unquote(urlsplit(self.path).path).removeprefix(f"/{bucket.name}/")
        with bucket.lock:
            bucket.asked.append((self.command, name, self.headers.get("Range")))
            bucket.agents.append(self.headers.get("User-Agent", ""))
            waiting = bucket.tricks.get(name, []) if self.command == "GET" else []
            trick = waiting.pop(0) if waiting else Trick()
        if trick.delay_s:
            bucket.let_go.wait(trick.delay_s)
        if trick.status:
            body = f"<Error><Code>{trick.code}</Code><Message>{trick.code}</Message></Error>".encode()
            self._send(trick.status, {"Content-Type": "application/xml", **trick.headers}, body)
            return
        connection = http.client.HTTPConnection("127.0.0.1", bucket.server, timeout=20)
        connection.request(self.command, self.path, headers=dict(self.headers.items()))
        answer = connection.getresponse()
        data = answer.read()
        kept = ("content-type", "content-range", "etag", "last-modified", "accept-ranges")
        headers = {key: value for key, value in answer.headers.items() if key.lower() in kept}
        length = int(answer.headers.get("Content-Length") or len(data))
        connection.close()
        if trick.short is not None:
            data, length = data[: trick.short], trick.short
        self._send(answer.status, headers, data, length, trick.reset)

    def _send(
        self,
        status: int,
        headers: dict[str, str],
        data: bytes,
        length: int | None = None,
        reset: int | None = None,
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(data if reset is None else data[:reset])
        if reset is not None:
            self.wfile.flush()
            time.sleep(0.02)  # what was sent arrives, and then the reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is what these tests are about."""


@dataclass
class Asked:
    """A process that sends one answer."""

    process: Any
    end: Any

    @staticmethod
    def of(method: str, function: Callable[..., None], *arguments: Any) -> Asked:
        """Start a process that calls `function` with the end of a pipe to answer by, and the arguments."""
        context: Any = multiprocessing.get_context(method)
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=function, args=(there, *arguments), daemon=True)
        process.start()
        there.close()
        return Asked(process, here)

    def answer(self) -> Any:
        """Return what it sends; the test fails where it dies first, or says nothing in time."""
        if not self.end.poll(LIMIT_S):
            self.process.kill()
            pytest.fail(f"{self.process.name} said nothing within {LIMIT_S:.0f} s")
        try:
            found = self.end.recv()
        except EOFError:
            found = None
        self.process.join(LIMIT_S)
        assert self.process.exitcode == 0, (
            f"{self.process.name} ended with {self.process.exitcode}; see above"
        )
        return found


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """Return the port of an S3 server of its own process."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs a real S3 server on this machine: {', '.join(missing)} not installed")
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            told, _, _ = select.select([process.stdout], [], [], LIMIT_S)
            assert told, f"the S3 server did not start within {LIMIT_S:.0f} s"
            line = process.stdout.readline()
            assert line, f"the S3 server ended with exit code {process.wait(LIMIT_S)}; its output says why"
            yield int(line)
        finally:
            process.kill()


@pytest.fixture
def bucket(s3_port: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket of its own for each test, reached through the proxy by whoever asks for s3://."""
    found = Bucket(name=f"b{abs(hash(request.node.nodeid)):x}", port=0, server=s3_port)
    server = _Server(("127.0.0.1", 0), type("Proxy", (_Proxy,), {"bucket": found}))
    found.port = server.server_port
    found._ask("PUT", f"/{found.name}", b"")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    for name, value in {**LOGIN, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{found.port}"}.items():
        monkeypatch.setenv(name, value)
    yield found
    found.let_go.set()
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def memory(tiny_shards: Path) -> Iterator[Url]:
    """A set of shards in fsspec's own memory: a store without a server."""
    system = fsspec.filesystem("memory")
    for path in tiny_shards.iterdir():
        if path.is_file():
            system.pipe_file(f"/set/{path.name}", path.read_bytes())
    yield Url("memory://set")
    system.rm("/set", recursive=True)
