"""Where shards lie when that is no folder: objects below a URL, read by ranges, asked for again where the way was bad.

fsspec is the door to every kind of store, and is imported only when a URL is opened. How a store is reached (endpoint,
credentials) is the provider's matter: its environment variables and files, and those of fsspec. What a provider would
try again by itself is turned off where that is possible, so that tries are counted and limited in one place.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from dataengine.download import LATER, Again, Wait, after, said
from dataengine.errors import DataEngineError, ShardError, StoreError

T = TypeVar("T")

FIRST_WAIT_S, MOST_WAIT_S = 0.25, 20.0
PIECE_BYTES = 16 * 2**20  # what one request asks for where a whole object is read
CONNECTIONS = 64  # at a time; a thread of a reader that waits for one would count it as a slow answer
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# The extra of ours that brings what a kind of store needs; other kinds are named by fsspec.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "http", "https": "http"}
# Errors of connections, by the names that the providers' libraries give them: importing all to ask would take long.
_BROKEN = frozenset(
    {
        "HTTPClientError",  # botocore: every error of a connection
        "IncompleteReadError",
        "ResponseParserError",
        "ClientConnectionError",  # aiohttp
        "ClientPayloadError",
        "TransportError",  # httpx
        "ProtocolError",  # urllib3
        "IncompleteRead",  # http.client
        "ConnectionError",
        "Timeout",  # requests
    }
)
_REFUSED_TLS = frozenset({"SSLError", "SSLCertVerificationError", "ClientSSLError"})
_NO_LOGIN = frozenset({"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"})


class Url(msgspec.Struct, frozen=True):
    """A folder or an object in a store. As text it shows neither a login nor a query, which may hold a signature."""

    address: str

    def __truediv__(self, name: str) -> Url:
        parts = urlsplit(self.address)
        return Url(urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}")))

    def __fspath__(self) -> str:
        raise StoreError(f"{self}: is no folder of this machine; copy the shards into one first")

    def __str__(self) -> str:
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def scheme(self) -> str:
        return urlsplit(self.address).scheme


def locate(text: str | Path | Url) -> Path | Url:
    """Return the folder or the URL that a text names. Raises StoreError for a chain of URLs, which is not read."""
    if isinstance(text, Path | Url):
        return text
    if "://" not in text:
        return Path(text)
    if not _URL.match(text):
        raise StoreError(
            f"{text}: expected a folder or one URL such as s3://bucket/prefix; see docs/remote.md"
        )
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    return Url(text)


class StoreSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """How shards at a URL are read; nothing of it matters to a local folder.

    With `cache_dir`, whole shards are kept there, never more than `cache_bytes` of them; without, each sample is one
    range request, or several neighbours are, up to `read_ahead_bytes`. One request is given `timeout_s` seconds; what
    fails on the way is asked for again up to `retries` times, within `patience_s` seconds in all.
    """

    cache_dir: str | None = None
    cache_bytes: Annotated[int, msgspec.Meta(ge=1)] | None = None
    read_ahead_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    retries: Annotated[int, msgspec.Meta(ge=0)] = 8
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    patience_s: Annotated[float, msgspec.Meta(gt=0)] = 300.0

    def __post_init__(self) -> None:
        if (self.cache_dir is None) != (self.cache_bytes is None):
            raise ValueError(
                "cache_dir and cache_bytes belong together, expected a folder and how many bytes it may hold"
            )
        if self.cache_dir and self.read_ahead_bytes:
            raise ValueError("read_ahead_bytes: a cache of whole shards has no use for it; remove it")


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What reading from a store has cost this process so far.

    `troubles` counts what went wrong on the way, by kind; each was asked for again but for the last of a read that
    failed. `hits`, `fetched` and `evicted` are shards of the cache: a set that is fetched again and again is larger
    than its cache.
    """

    requests: int
    retries: int
    bytes: int
    wait_s: float
    troubles: dict[str, int]
    hits: int
    fetched: int
    evicted: int


class PerProcess(Generic[T]):
    """What a forked process must not take over from its parent (locks, connections): made anew on first use there."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        # A parent's stays referenced in its child: closing it there could close it for the parent too.
        self._made: dict[int, T] = {}

    def get(self) -> T:
        here = os.getpid()
        found = self._made.get(here)
        return self._made.setdefault(here, self._make()) if found is None else found


class _Counts:
    """Counters that threads share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.numbers = Counter[str]()
        self.troubles = Counter[str]()
        self.wait_s = 0.0


class _Trouble(Again):
    """The way was bad; `kind` is what it is counted as."""

    def __init__(self, kind: str, says: str, after_s: float = 0.0) -> None:
        super().__init__(says, after_s)
        self.kind = kind


class Store:
    """The objects below a URL. Any thread may read, and so may a forked process or one that it was pickled to."""

    def __init__(
        self,
        url: Url,
        settings: StoreSettings | None = None,
        *,
        wait: Wait = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self.settings = settings or StoreSettings()
        self._wait, self._clock = wait, clock
        self._opened = PerProcess(lambda: _open(url))
        self._counts = PerProcess(_Counts)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Store, wait=self._wait, clock=self._clock), (self.url, self.settings)

    def read(self, name: str, start: int, stop: int) -> bytes:
        """Return bytes [start, stop) of an object, which it must have.

        Raises ShardError where the object is missing or too short, StoreError where nobody can know; both name URL and
        offset.
        """
        data = self._piece(name, start, stop)
        if len(data) > stop - start:
            raise StoreError(
                f"{self.url / name}: offset {start}: the server gives {len(data)} bytes where {stop - start} were"
                " asked for: it takes no notice of ranges; set cache_dir and cache_bytes to read whole shards"
            )
        return data

    def read_whole(self, name: str) -> bytes:
        """Return all bytes of an object. Raises ShardError or StoreError, as `read` does."""
        size = self.size(name)
        if size is None:
            return self._ask(name, 0, partial(self._get, name, None, None))
        return b"".join(self.pieces(name, size))

    def size(self, name: str) -> int | None:
        """Return how many bytes an object has, None where the store does not say. Raises as `read` does."""
        return self._ask(name, 0, partial(self._size, name))

    def pieces(self, name: str, size: int) -> Iterator[bytes]:
        """Yield the bytes of an object that has `size` of them, piece by piece. Raises as `read` does."""
        done = 0
        while done < size:
            data = self._piece(name, done, min(done + PIECE_BYTES, size))
            if done + len(data) > size or (done and len(data) > PIECE_BYTES):
                raise ShardError(
                    f"{self.url / name}: offset {done}: the server gives more than the {size} bytes that it should;"
                    " the object is not the one that was written, upload it again"
                )
            yield data
            done += len(data)

    def count(self, name: str, number: int = 1) -> None:
        """Add to one of the counters that `stats` shows."""
        counts = self._counts.get()
        with counts.lock:
            counts.numbers[name] += number

    @property
    def stats(self) -> Stats:
        """Return what this process has asked for so far."""
        counts = self._counts.get()
        with counts.lock:
            names = ("requests", "retries", "bytes", "hits", "fetched", "evicted")
            return Stats(
                wait_s=counts.wait_s,
                troubles=dict(counts.troubles),
                **{name: counts.numbers[name] for name in names},
            )

    def _piece(self, name: str, start: int, stop: int) -> bytes:
        """Return bytes [start, stop), or more where the server gives more: the whole, where it knows no ranges."""

        def get() -> bytes:
            data = self._get(name, start, stop)
            if len(data) < stop - start:
                # Where the object itself is too short, no further try can help.
                size = self._size(name)
                if size is not None and size < stop:
                    raise _too_short(self.url / name, start, f"has {size} bytes, expected at least {stop}")
                raise _Trouble("short", f"the answer ended after {len(data)} of {stop - start} bytes")
            return data

        return self._ask(name, start, get)

    def _ask(self, name: str, offset: int, ask: Callable[[], T]) -> T:
        """Ask, and again where the way was bad. Raises as `read` does where that is no use, or was tried enough."""
        begun = self._clock()
        for tries in range(1, self.settings.retries + 2):
            try:
                return ask()
            # Each provider has errors of its own; those that are none of the way or of the store go on as they are.
            except Exception as error:
                verdict = _judge(error, self.url / name, offset, self.settings.timeout_s)
                if not isinstance(verdict, _Trouble):
                    if verdict is error:
                        raise
                    raise verdict from error
            passed = self._clock() - begun
            pause = _pause(tries, verdict.after_s, f"{name}:{offset}:{tries}")
            last = tries > self.settings.retries or passed + pause > self.settings.patience_s
            self.note(verdict.kind, 0.0 if last else pause)
            if last:
                break
            self._wait(pause)
        raise StoreError(
            f"{self.url / name}: offset {offset}: {verdict}, {tries} times in {passed:.0f} s;"
            " run again later, or raise retries and patience_s of the store"
        ) from verdict

    def note(self, kind: str, pause: float = 0.0) -> None:
        """Count a trouble; with a pause, what follows it is another try."""
        counts = self._counts.get()
        with counts.lock:
            counts.troubles[kind] += 1
            counts.wait_s += pause
            counts.numbers["retries"] += pause > 0

    def _get(self, name: str, start: int | None, stop: int | None) -> bytes:
        data = self._call("cat_file", name, start=start, end=stop)
        self.count("bytes", len(data))
        return bytes(data)

    def _size(self, name: str) -> int | None:
        size = self._call("info", name).get("size")
        return None if size is None else int(size)

    def _call(self, method: str, name: str, **arguments: Any) -> Any:
        """Call a method of the file system, with a limit on its time where it has a loop to run on."""
        system = self._opened.get()
        self.count("requests")
        path = system._strip_protocol((self.url / name).address)
        if getattr(system, "async_impl", False):
            from fsspec.asyn import sync  # type: ignore[import-untyped]

            call, limit = getattr(system, f"_{method}"), self.settings.timeout_s
            return sync(system.loop, call, path, timeout=limit, **arguments)
        if method == "cat_file" and self.url.scheme == "hf":
            arguments["cache_type"] = "none"  # it would read five megabytes ahead
        return getattr(system, method)(path, **arguments)


def _open(url: Url) -> Any:
    """Return fsspec's file system for a URL. Raises StoreError, with what to install."""
    import fsspec  # type: ignore[import-untyped]

    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if url.scheme in ("s3", "s3a"):
        given = fsspec.config.conf.get(url.scheme, {}).get("config_kwargs", {})
        options["config_kwargs"] = {
            "retries": {"mode": "standard", "total_max_attempts": 1},
            "max_pool_connections": CONNECTIONS,
            **given,
        }
    try:
        system, _ = fsspec.url_to_fs(url.address, **options)
    except ImportError as error:
        extra = _EXTRAS.get(url.scheme)
        way = f"; run pip install 'dataengine[{extra}]'" if extra else ""
        raise StoreError(f"{url}: needs a package that is not installed: {said(error)}{way}") from error
    except ValueError as error:
        raise StoreError(
            f"{url}: {said(error)}; expected a folder, or a URL of a kind that fsspec knows"
        ) from error
    if hasattr(system, "retries"):
        system.retries = 1
    return system


def _pause(tries: int, after_s: float, identity: str) -> float:
    """Return the seconds to wait after so many tries: doubled each time, less a share that differs by what is read."""
    longest = min(FIRST_WAIT_S * (1 << (tries - 1)), MOST_WAIT_S)
    return max(longest * (1 - random.Random(identity).random() / 2), min(after_s, 3 * MOST_WAIT_S))


def _judge(error: Exception, url: Url, offset: int, timeout_s: float) -> Exception:
    """Return what an error means: _Trouble to be tried again, an error of ours, or itself where it is one or a bug."""
    if isinstance(error, _Trouble | DataEngineError):
        return error
    names = {kind.__name__ for one in _chain(error) for kind in type(one).__mro__}
    if names & _REFUSED_TLS:
        return StoreError(f"{url}: the server's certificate is not accepted: {_says(error, url)}")
    if isinstance(error, TimeoutError):
        return _Trouble("timeout", f"no answer within {timeout_s:g} s")
    if names & _BROKEN:
        return _Trouble("connection", f"the connection broke ({_says(error, url)})")
    status, headers = _answer_in(error)
    if status in LATER:
        return _Trouble(f"status {status}", f"the server answers {status}", after(headers))
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return ShardError(
            f"{url}: offset {offset}: no such object; mend the address, or upload the shards again"
        )
    if isinstance(error, PermissionError) or status in (401, 403) or names & _NO_LOGIN:
        return StoreError(
            f"{url}: offset {offset}: reading it is not allowed ({_says(error, url)}); log in as the store's provider"
            " asks"
        )
    if status == 416:
        return _too_short(url, offset, "ends before that")
    if status is not None:
        return StoreError(f"{url}: offset {offset}: the server answers {status}: {_says(error, url)}")
    if isinstance(error, OSError) or type(error).__module__.startswith(("botocore.", "google.", "azure.")):
        return StoreError(f"{url}: offset {offset}: cannot be asked for: {_says(error, url)}")
    return error


def _too_short(url: Url, offset: int, says: str) -> ShardError:
    return ShardError(f"{url}: offset {offset}: the object {says}; it is not whole, upload it again")


def _says(error: Exception, url: Url) -> str:
    """Return what an error says on one line, without its number, and without the login and query of the URL; its kind
    where it says nothing."""
    text = said(getattr(error, "strerror", None) or error) or type(error).__name__
    parts = urlsplit(url.address)
    login, _, _ = parts.netloc.rpartition("@")
    for secret in (f"{login}@", f"?{parts.query}"):
        text = text.replace(secret, "") if len(secret) > 1 else text
    return text


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it was raised from."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__


def _answer_in(error: BaseException) -> tuple[int | None, Mapping[str, str]]:
    """Return status and headers of the server's answer that an error is about; None where there was no answer."""
    for one in _chain(error):
        answer = getattr(one, "response", None)
        if isinstance(answer, dict):  # botocore
            answer = answer.get("ResponseMetadata", {})
            status, headers = answer.get("HTTPStatusCode"), answer.get("HTTPHeaders", {})
        elif answer is not None:  # requests, httpx
            status, headers = getattr(answer, "status_code", None), getattr(answer, "headers", {})
        else:  # aiohttp; azure; gcsfs
            found = (str(getattr(one, name, "")) for name in ("status", "status_code", "code"))
            status = next((int(value) for value in found if value.isdigit()), None)
            headers = getattr(one, "headers", None) or {}
        if isinstance(status, int):
            return status, {str(name).title(): str(value) for name, value in headers.items()}
    return None, {}
