"""One file from one address: resumed where it stopped, tried again where the way was bad, checked before it counts.

What has come lies in `<name>.part`; beside it, `<name>.part.from` says what it is the beginning of: the validator
that the server gave (ETag or Last-Modified, RFC 9110 section 8.8) and the whole size. A part is continued by a range
request with `If-Range` (RFC 9110 sections 13.1.5 and 14), so a file that changed in between is sent whole. Of a
server that gives no validator, a part is continued only where the spec states a checksum, which then has the last
word.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urljoin, urlsplit

import msgspec

from dataengine import __version__
from dataengine.errors import SourceError
from dataengine.files import make_folder, unwritable, write_atomic
from dataengine.remote import RemoteFile, is_address

if TYPE_CHECKING:
    from requests import Response, Session

USER_AGENT = f"dataengine/{__version__} (fetch; a person asked for this file)"
PIECE_BYTES = 64 * 2**10
# Seconds until a connection stands, and until the next bytes come.
TIMEOUT_S = (15.0, 60.0)
RETRIES = 6  # in a row, without a byte of progress
FIRST_WAIT_S = 1.0
MOST_WAIT_S = 60.0
MOST_REDIRECTS = 10
LATER = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_RANGE = re.compile(r"bytes (?:(?P<first>\d+)-\d+|\*)/(?P<size>\d+|\*)")
_PAGES = (".html", ".htm", ".xhtml")

# Told how many bytes are there, and of how many where that is known.
Progress = Callable[[int, int | None], None]
Wait = Callable[[float], None]


class Got(msgspec.Struct, frozen=True, kw_only=True):
    """A file that has come whole."""

    size_bytes: int
    sha256: str
    md5: str


class Again(Exception):
    """The way was bad, not the file: to be tried again, after so many seconds at least."""

    def __init__(self, says: str, after_s: float = 0.0) -> None:
        super().__init__(says)
        self.after_s = after_s


class _Begun(msgspec.Struct, frozen=True, kw_only=True):
    """What a part is the beginning of."""

    url: str
    etag: str = ""
    modified: str = ""
    size_bytes: int | None = None

    @property
    def validator(self) -> str:
        """What a range request may rest on: a strong ETag, else the date; a weak ETag promises no equal bytes."""
        if self.etag:
            return "" if self.etag.startswith("W/") else self.etag
        return self.modified


class _Part:
    """The beginning of a file on disk, and what is known of the whole."""

    def __init__(self, target: Path, url: str) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self._state = target.with_name(f"{target.name}.part.from")
        self.begun = self._read(url)
        if self.begun is None:
            self.discard()

    def _read(self, url: str) -> _Begun | None:
        try:
            found = msgspec.json.decode(self._state.read_bytes(), type=_Begun)
        except (OSError, msgspec.MsgspecError):
            return None  # without it nobody knows what the part belongs to
        return found if found.url == url else None

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def begin(self, begun: _Begun) -> None:
        """Start anew: what was there belongs to another file."""
        self.discard()
        write_atomic(self._state, msgspec.json.encode(begun))
        self.begun = begun

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)
        self.begun = None

    def become(self, target: Path) -> None:
        """Give the file its name, now that it is whole."""
        self.path.replace(target)
        self._state.unlink(missing_ok=True)


def session() -> Session:
    """Return what holds connections; it says honestly who asks, and wants bytes as they lie on the server."""
    import requests

    made = requests.Session()
    made.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
    return made


def download(remote: RemoteFile, target: Path, connection: Session, progress: Progress, wait: Wait) -> Got:
    """Bring a file to `target`, which is there whole and checked afterwards, or not at all.

    Raises SourceError where it cannot be had: what it is then is kept as `<name>.part` to be continued, or as
    `<name>.bad` where it came whole and is not what the spec says. `wait` is given the seconds before another try.
    """
    make_folder(target.parent)
    try:
        part = _Part(target, remote.url)
        resumed = part.size > 0
        _receive_all(remote, part, connection, progress, wait)
        try:
            got = check(remote, part.path, progress)
        except SourceError:
            if not resumed:
                raise
            # The beginning may have been another file's: the whole of one answer has the last word.
            part.discard()
            _receive_all(remote, part, connection, progress, wait)
            got = check(remote, part.path, progress)
        part.become(target)
    except SourceError as error:
        if part.path.is_file() and isinstance(error, Mismatch):
            bad = target.with_name(f"{target.name}.bad")
            part.become(bad)
            raise SourceError(
                f"{error}; kept as {bad.name}, run again to fetch it anew or mend the spec"
            ) from error
        raise
    except OSError as error:
        raise unwritable(target, error) from error
    return got


class Mismatch(SourceError):
    """A file is whole and is not what the spec says."""


def check(remote: RemoteFile, path: Path, progress: Progress) -> Got:
    """Return size and digests of a file as it lies on disk. Raises Mismatch where the spec states others."""
    size = path.stat().st_size
    if remote.size_bytes is not None and size != remote.size_bytes:
        raise Mismatch(f"{remote.target}: {size} bytes, the spec states {remote.size_bytes}")
    got = digest(path, progress)
    if remote.sha256 is not None and got.sha256 != remote.sha256:
        raise Mismatch(f"{remote.target}: sha256 is {got.sha256}, the spec states {remote.sha256}")
    if remote.md5 is not None and got.md5 != remote.md5:
        raise Mismatch(f"{remote.target}: md5 is {got.md5}, the spec states {remote.md5}")
    return got


def digest(path: Path, progress: Progress) -> Got:
    """Return size and digests of a file, read in pieces."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    size, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            sha256.update(piece)
            md5.update(piece)
            done += len(piece)
            progress(done, size)
    return Got(size_bytes=done, sha256=sha256.hexdigest(), md5=md5.hexdigest())


def _receive_all(
    remote: RemoteFile, part: _Part, connection: Session, progress: Progress, wait: Wait
) -> None:
    """Ask until all of a file has come."""
    failures = 0
    while True:
        before = part.size
        try:
            _receive(remote, part, connection, progress)
            return
        except Again as error:
            failures = 1 if part.size > before else failures + 1
            pause(failures, error, remote.url, wait)


def pause(failures: int, error: Again, place: str, wait: Wait) -> None:
    """Wait before another try, longer each time; raises SourceError where there were enough of them."""
    if failures > RETRIES:
        raise SourceError(
            f"{place}: {error}, {failures} times in a row; run again later to resume"
        ) from error
    wait(max(min(FIRST_WAIT_S * 2 ** (failures - 1), MOST_WAIT_S), min(error.after_s, 5 * MOST_WAIT_S)))


def _receive(remote: RemoteFile, part: _Part, connection: Session, progress: Progress) -> None:
    """Append what one answer gives. Raises Again where it ends too early, SourceError where there is none to be had."""
    begun, start = part.begun, part.size
    if begun and begun.size_bytes is not None and start == begun.size_bytes > 0:
        return  # stopped after the last byte and before the check
    asked: dict[str, str] = {}
    if begun and start and (begun.validator or remote.sha256 or remote.md5):
        asked["Range"] = f"bytes={start}-"
        if begun.validator:
            asked["If-Range"] = begun.validator
    with _answer(connection, remote.url, asked) as answer:
        if answer.status_code == 416 and start and _size_in(answer) == start:
            return
        if answer.status_code == 206 and asked and begun:
            _check_continues(answer, begun, start, part)
        elif answer.status_code == 200:
            _begin(answer, remote, part)
        elif answer.status_code in (206, 416):
            part.discard()
            raise Again(f"answers {answer.status_code} to what it was not asked")
        else:
            raise _refusal(answer, remote.url)
        _append(answer, part, progress)


def _begin(answer: Response, remote: RemoteFile, part: _Part) -> None:
    """Look at the head of a whole file before a byte of it is written."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml") and not remote.target.lower().endswith(_PAGES):
        raise SourceError(
            f"{remote.url}: the server sends a web page instead of the file; it may ask for a form or a login there"
        )
    coding = answer.headers.get("Content-Encoding", "identity").lower()
    if coding not in ("identity", "") and not remote.target.lower().endswith((".gz", ".tgz")):
        raise SourceError(
            f"{remote.url}: sent as {coding!r} although it was asked for as it is; fetch it by hand"
        )
    size = _length(answer)
    if remote.size_bytes is not None and size is not None and size != remote.size_bytes:
        raise SourceError(
            f"{remote.url}: the server has {size} bytes, the spec states {remote.size_bytes}; "
            "the file has changed, mend the spec"
        )
    part.begin(
        _Begun(
            url=remote.url,
            etag=answer.headers.get("ETag", ""),
            modified=answer.headers.get("Last-Modified", ""),
            size_bytes=remote.size_bytes if size is None else size,
        )
    )
    free = shutil.disk_usage(part.path.parent).free
    if size is not None and size > free:
        raise SourceError(f"{part.path}: needs {size} bytes, {free} are free; make room and run again")


def _check_continues(answer: Response, begun: _Begun, start: int, part: _Part) -> None:
    """Raise Again where a piece is not the rest of what is there: not all servers heed If-Range."""
    match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    differs = any(
        old and new and old != new
        for old, new in (
            (begun.etag, answer.headers.get("ETag", "")),
            (begun.modified, answer.headers.get("Last-Modified", "")),
            (begun.size_bytes, _size_in(answer)),
        )
    )
    if differs or match is None or match["first"] != str(start):
        part.discard()
        raise Again("the file has changed since its beginning came")


def _append(answer: Response, part: _Part, progress: Progress) -> None:
    from urllib3.exceptions import HTTPError

    begun = part.begun
    expected = begun.size_bytes if begun else None
    done = part.size
    # Unbuffered: what has come stays, whatever ends this process.
    with part.path.open("ab", buffering=0) as file:
        progress(done, expected)
        try:
            for piece in answer.raw.stream(PIECE_BYTES, decode_content=False):
                _write(file, piece)
                done += len(piece)
                progress(done, expected)
                if expected is not None and done > expected:
                    break
        except (HTTPError, ConnectionError, TimeoutError) as error:
            raise Again(f"the connection broke ({said(error)})") from error
    if expected is not None and done < expected:
        raise Again(f"the answer ended after {done} of {expected} bytes")
    if expected is not None and done > expected:
        part.discard()
        raise Again(f"the answer gives more than the {expected} bytes that it should")


def _write(file: BinaryIO | Any, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]


@contextmanager
def _answer(connection: Session, url: str, asked: Mapping[str, str]) -> Iterator[Response]:
    """Ask an address, following redirects one by one. Raises Again for a bad way, SourceError for a wrong one."""
    import requests

    for _ in range(MOST_REDIRECTS + 1):
        try:
            answer = connection.get(
                url, headers=dict(asked), stream=True, allow_redirects=False, timeout=TIMEOUT_S
            )
        except requests.exceptions.SSLError as error:
            raise SourceError(f"{url}: the server's certificate is not accepted: {said(error)}") from error
        except (requests.ConnectionError, requests.Timeout) as error:
            raise Again(f"no answer ({said(error)})") from error
        except (requests.RequestException, ValueError) as error:
            raise SourceError(f"{url}: cannot be asked for: {said(error)}") from error
        if not answer.is_redirect:
            try:
                yield answer
            finally:
                answer.close()
            return
        answer.close()
        url = redirected(url, connection.get_redirect_target(answer) or "")
    raise SourceError(f"{url}: redirected more than {MOST_REDIRECTS} times")


def redirected(url: str, location: str) -> str:
    """Return where a redirect leads. Raises SourceError unless that is the web again, and as safe a way as before."""
    found = urljoin(url, location)
    if not is_address(found):
        raise SourceError(f"{url}: redirects to {found!r}, expected an address of http or https")
    if urlsplit(url).scheme == "https" and urlsplit(found).scheme == "http":
        raise SourceError(
            f"{url}: redirects to {found!r}, which is not encrypted; fetch it by hand if you trust it"
        )
    return found


def _refusal(answer: Response, url: str) -> Exception:
    """Return what an answer without the file means: Again where the server may change its mind."""
    code = answer.status_code
    if code in LATER:
        return Again(f"the server answers {code}", after(answer.headers))
    if code in (401, 403):
        return SourceError(
            f"{url}: the server answers {code}; it asks for a login, see the dataset's homepage"
        )
    if code in (404, 410):
        return SourceError(f"{url}: the server answers {code}; the file is not there any more, mend the spec")
    return SourceError(f"{url}: the server answers {code}, expected 200")


def after(headers: Mapping[str, str]) -> float:
    """Return the seconds that a Retry-After asks for (RFC 9110 section 10.2.3); 0 where it asks for none."""
    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
        now = parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (then - now).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def _length(answer: Response) -> int | None:
    value = answer.headers.get("Content-Length", "")
    return int(value) if value.isdigit() else None


def _size_in(answer: Response) -> int | None:
    match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return int(match["size"]) if match and match["size"] != "*" else None


def said(error: BaseException | str) -> str:
    """Return what an error says on one line, without the addresses of objects."""
    return re.sub(r"<[^>]*object at 0x[0-9a-f]+>:? ?", "", " ".join(str(error).split()))[:200]
