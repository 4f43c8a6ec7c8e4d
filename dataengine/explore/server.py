"""The page's server: on this machine alone, for whoever has its address, which holds a secret.

Another page in the same browser can send requests here, but does not know the secret, and may not read answers. A name
that is made to point here (DNS rebinding) is refused by the Host header. No path that is asked for becomes a file.
"""

from __future__ import annotations

import hmac
import re
import secrets
import sys
import threading
import traceback
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import msgspec

from dataengine.errors import DataEngineError
from dataengine.explore import view
from dataengine.explore.marked import Conflict, Mark
from dataengine.explore.search import MOST_TEXT, Filter
from dataengine.explore.session import Ask, Marked, Session

HOST = "127.0.0.1"
MAX_BODY_BYTES = 64 * 1024
STOP_S = 5.0  # for answers that are being made when the server ends
IDLE_S = 60  # after which a connection that asks nothing is closed
JSON = "application/json; charset=utf-8"
PAGE = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "draw.js": ("draw.js", "text/javascript; charset=utf-8"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # The address holds the secret.
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_LISTS = frozenset({"task", "dataset", "split", "rule", "license", "label"})
# Names come in their order: the most frequent first.
encode = msgspec.json.Encoder().encode


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a page wants to be marked: `was` is the mark that it shows now."""

    id: str
    mark: Mark | None
    was: Mark | None


class Refused(Exception):
    """A request that is not answered: the status, and why."""

    def __init__(self, status: HTTPStatus, says: str, **headers: str) -> None:
        super().__init__(says)
        self.status = status
        self.says = says
        self.headers = headers


class Server(ThreadingHTTPServer):
    """Answers for one session; `address` is where the page is."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, session: Session, port: int) -> None:
        self.session = session
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            raise DataEngineError(
                f"port {port}: {error.strerror}; give another --port, or none for a free one"
            ) from error
        self.at_work = 0
        self.rested = threading.Condition()
        self.hosts = frozenset({f"{HOST}:{self.server_port}", f"localhost:{self.server_port}"})

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def server_close(self) -> None:
        """Close, after the answers that are being made: Arrow aborts a process that ends while a thread is in it."""
        super().server_close()
        with self.rested:
            self.rested.wait_for(lambda: not self.at_work, STOP_S)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what failed, unless a browser only went away."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            traceback.print_exc()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "dataengine"
    sys_version = ""
    timeout = IDLE_S
    server: Server
    _GET: ClassVar[dict[str, str]] = {
        "api/about": "_about",
        "api/page": "_page",
        "api/sample": "_sample",
        "api/record": "_record",
        "api/picture": "_picture",
    }

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are no news."""

    def do_GET(self) -> None:
        self._answer(self._get)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, method: Any) -> None:
        with self.server.rested:
            self.server.at_work += 1
        try:
            self._answer_by(method)
        finally:
            with self.server.rested:
                self.server.at_work -= 1
                self.server.rested.notify_all()

    def _answer_by(self, method: Any) -> None:
        try:
            data, kind, age = method(self._path())
            self._send(HTTPStatus.OK, data, kind, age)
        except Refused as refused:
            self._say(refused.status, refused.says, refused.headers)
        except Conflict as conflict:
            self._send(HTTPStatus.CONFLICT, encode({"error": str(conflict), "mark": conflict.mark}), JSON)
        except DataEngineError as error:
            self._say(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except ConnectionError:
            raise
        except Exception as error:
            # A defect of ours: the page says so, and the terminal where.
            traceback.print_exc()
            self._say(
                HTTPStatus.INTERNAL_SERVER_ERROR, f"a defect of dataengine: {type(error).__name__}: {error}"
            )

    def _path(self) -> str:
        """Return what is asked for below the secret. Raises Refused for whoever does not come from our page."""
        if self.headers.get("Host") not in self.server.hosts:
            self._over()
            raise Refused(HTTPStatus.FORBIDDEN, "this server answers to its own address alone")
        origin = self.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://") not in self.server.hosts:
            self._over()
            raise Refused(HTTPStatus.FORBIDDEN, "requests of other pages are refused")
        token, slash, path = urlsplit(self.path).path.removeprefix("/").partition("/")
        if not slash or not hmac.compare_digest(token.encode(), self.server.token.encode()):
            self._over()
            raise Refused(
                HTTPStatus.NOT_FOUND,
                "no such page; take the address that 'dataengine explore' printed this time",
            )
        return path

    def _over(self) -> None:
        """Close the connection after the answer: a body that came with the request is not read."""
        self.close_connection = True

    def _get(self, path: str) -> tuple[bytes, str, int]:
        if path in PAGE:
            name, kind = PAGE[path]
            return asset(name), kind, 0
        if path not in self._GET:
            raise Refused(HTTPStatus.NOT_FOUND, f"no such page: {path[:200]!r}")
        asked: dict[str, Any] = {}
        for name, value in parse_qsl(urlsplit(self.path).query, keep_blank_values=True, max_num_fields=500):
            asked[name] = [*asked.get(name, []), value] if name in _LISTS else value
        if self._GET[path] == "_picture":
            data, kind = self._picture(asked)
            return data, kind, 600
        found = getattr(self, self._GET[path])(asked)
        return encode(found), JSON, 0

    def _about(self, asked: dict[str, Any]) -> Any:
        return self.server.session.about()

    def _page(self, asked: dict[str, Any]) -> Any:
        return self.server.session.page(_ask(asked), _number(asked, "start", 0), _number(asked, "size", 24))

    def _sample(self, asked: dict[str, Any]) -> Any:
        session = self.server.session
        row = session.row_of(asked["id"]) if "id" in asked else _number(asked, "row")
        return session.sample(_ask(asked), row)

    def _record(self, asked: dict[str, Any]) -> Any:
        return self.server.session.record(_number(asked, "row"))

    def _picture(self, asked: dict[str, Any]) -> tuple[bytes, str]:
        side = _number(asked, "side", view.SIDES[0])
        if side not in view.SIDES:
            raise Refused(HTTPStatus.BAD_REQUEST, f"side is {side}, expected one of {view.SIDES}")
        return self.server.session.picture(_number(asked, "row"), _number(asked, "number", 0), side)

    def _post(self, path: str) -> tuple[bytes, str, int]:
        if path != "api/mark":
            self._over()
            raise Refused(HTTPStatus.NOT_FOUND, f"nothing is changed at {path[:200]!r}")
        # A page of somebody else cannot send this kind without asking us first, and we never agree.
        if self.headers.get_content_type() != "application/json":
            self._over()
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,9}", length):
            self._over()
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length")
        if int(length) > MAX_BODY_BYTES:
            self._over()
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{length} bytes, expected at most {MAX_BODY_BYTES}"
            )
        data = self.rfile.read(int(length))
        try:
            request = msgspec.json.decode(data, type=Request)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"not a mark: {error}") from error
        self.server.session.put(request.id, request.mark, request.was)
        return encode({"mark": request.mark}), JSON, 0

    def _say(self, status: int, says: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, encode({"error": says}), JSON, headers=headers)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Say in our own way what http.server refuses: it would make a page of it."""
        self._over()
        self._say(code, message or HTTPStatus(code).phrase)

    def _send(
        self, status: int, data: bytes, kind: str, age: int = 0, headers: dict[str, str] | None = None
    ) -> None:
        total = len(data)
        more = dict(headers or {})
        if status == HTTPStatus.OK and (asked := self.headers.get("Range")):
            part = _part(asked, total)
            if part is None:
                status, data, kind = (
                    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, encode({"error": f"there are {total} bytes"}), JSON,
                )  # fmt: skip
                more["Content-Range"] = f"bytes */{total}"
            elif part != (0, total) or asked.strip() == "bytes=0-":
                status, data = HTTPStatus.PARTIAL_CONTENT, data[part[0] : part[1]]
                more["Content-Range"] = f"bytes {part[0]}-{part[1] - 1}/{total}"
        self.send_response(status)
        shown = {
            **_HEADERS,
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "Accept-Ranges": "bytes",
            "Cache-Control": f"private, max-age={age}" if age else "no-store",
            **more,
        }
        for name, value in shown.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _part(asked: str, total: int) -> tuple[int, int] | None:
    """Return which bytes a Range header wants (RFC 9110, 14.2): all where it is none that we know; None: none there."""
    match = _RANGE.fullmatch(asked.strip())
    if match is None or match[0] == "bytes=-":
        return (0, total)
    first, last = match.groups()
    if not first:
        return (max(total - int(last), 0), total) if int(last) and total else None
    stop = min(int(last) + 1, total) if last else total
    if last and int(last) < int(first):
        return (0, total)
    return (int(first), stop) if int(first) < total else None


def _number(asked: dict[str, Any], name: str, default: int | None = None) -> int:
    value = asked.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or not re.fullmatch(r"\d{1,15}", value, re.ASCII):
        raise Refused(HTTPStatus.BAD_REQUEST, f"{name} is {value!r}, expected a number")
    return int(value)


def _ask(asked: dict[str, Any]) -> Ask:
    """Return what a query string asks for. Raises Refused."""
    wanted = {name: asked[name] for name in Filter.__struct_fields__ if name in asked}
    if len(wanted.get("text", "")) > MOST_TEXT:
        raise Refused(HTTPStatus.BAD_REQUEST, f"the text is longer than {MOST_TEXT} characters")
    wanted["unreadable"] = wanted.get("unreadable") == "1"
    for name in _LISTS & {*wanted}:
        wanted[name] = sorted({*wanted[name]})  # one search, however it is written
    try:
        return Ask(
            filter=msgspec.convert(wanted, Filter),
            mark=msgspec.convert(asked.get("mark", ""), type=Marked),
            seed=_number(asked, "seed") if "seed" in asked else None,
        )
    except msgspec.ValidationError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"not a filter: {error}") from error


@cache
def asset(name: str) -> bytes:
    """Return a file of the page."""
    return files("dataengine.explore").joinpath("web", name).read_bytes()
