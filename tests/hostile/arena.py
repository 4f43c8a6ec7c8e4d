"""Where attacks are tried: a process that watches what a reader, an audit, a conversion and a report do meanwhile.

Python's own audit events tell of each file that is opened, and of programs, connections and pickled names; the kernel
tells of each touch of the folder outside, whoever it is. Address space is limited, peak memory is read from the kernel,
and an alarm ends what takes too long.
"""

from __future__ import annotations

import ctypes
import os
import random
import resource
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from PIL import Image

from dataengine.annotation import Annotation, Rejected
from dataengine.audit.report import write
from dataengine.audit.run import audit
from dataengine.convert import convert
from dataengine.errors import DataEngineError
from tests.converters.seeds import Seed, made
from tests.converters.test_fuzz import Hanging, at_most, read_all, recognised, resolved, tasks_of
from tests.hostile.attacks import ATTACKS, PICTURES, SCRIPT, SECRET, Attack, Target, h5py

# Of address space, which holds the libraries as well; a case may take so much memory more than before it.
ADDRESS_SPACE = 8 << 30
SPARE_BYTES = 400 << 20
LIMIT_S = 20.0
PROJECT = Path(__file__).parents[2]
# What may be read from anywhere: the project and Python with its libraries, the kernel's view of this process.
READABLE = tuple(
    os.path.realpath(path) + os.sep
    for path in (PROJECT, sys.prefix, sys.base_prefix, "/proc/self", "/usr/share", "/usr/lib", "/etc")
)
_RUNS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "os.fork",
    "os.startfile",
    "pty.spawn",
)
_CALLS = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "urllib.Request",
    "pickle.find_class",
)
_CHANGES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_IN_OPEN, _IN_ACCESS, _IN_MODIFY, _IN_CREATE, _IN_DELETE = 0x20, 0x1, 0x2, 0x100, 0x200


class Outcome(NamedTuple):
    """What one attack came to: `wrong` is all that must not be, `ended` how the first step that refused did.

    `read` and `told` are the records that were read and those that were rejected, None where the whole was refused.
    """

    attack: str
    file: str
    wrong: tuple[str, ...]
    ended: str
    read: int | None
    told: int
    most_bytes: int

    def vanished(self, clean: int) -> str:
        """Say that there are fewer records than there were, and nobody told why; "" where that is not so.

        Where none is left a conversion fails: a table may have lost its rows, and only its heading is there.
        """
        if self.told or not self.read or self.read >= clean:
            return ""
        return f"{clean - self.read} of {clean} records vanished"


class Watch:
    """Keeps what happens while it is armed that must not."""

    def __init__(self) -> None:
        self.inside: tuple[str, ...] = ()
        self.seen: list[str] = []
        self.armed = False
        sys.addaudithook(self._event)

    def _event(self, event: str, given: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event in _RUNS or event in _CALLS:
            self.seen.append(f"{event} {given!r:.200}")
        elif event == "open" and isinstance(given[0], str | bytes):
            path = f"{self._real(given[0])}{os.sep}"
            writes = bool((given[2] or 0) & _WRITES)
            if not path.startswith(self.inside + (("/dev/null/",) if writes else READABLE)):
                self.seen.append(f"opened {path} to {'write' if writes else 'read'}")
        elif event in _CHANGES and isinstance(given[0], str | bytes):
            # Relative to a folder that is open.
            folder = given[-1] if event in ("os.remove", "os.mkdir", "os.rmdir", "os.rename") else -1
            place = f"/proc/self/fd/{folder}/" if folder != -1 else ""
            path = f"{self._real(f'{place}{os.fsdecode(given[0])}')}{os.sep}"
            if not path.startswith(self.inside):
                self.seen.append(f"{event} {path}")

    def _real(self, path: str | bytes) -> str:
        self.armed = False
        try:
            return os.path.realpath(os.fsdecode(path))
        except (OSError, ValueError):
            return os.fsdecode(path)
        finally:
            self.armed = True

    @contextmanager
    def on(self, *inside: Path) -> Iterator[None]:
        """Watch a block that may touch some folders, and no others."""
        self.inside = tuple(f"{os.path.realpath(path)}{os.sep}" for path in inside)
        self.armed = True
        try:
            yield
        finally:
            self.armed = False


class Canaries:
    """A folder outside with files that nobody may touch; the kernel notes who does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "secret.txt").write_text(f"{SECRET}\n" * 20)
        Image.new("RGB", (64, 48), (9, 200, 40)).save(folder / "secret.png")
        with h5py.File(folder / "secret.h5", "w") as file:
            file["x"] = np.full((2, 48, 64, 3), 7, np.uint8)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watch = self._libc.inotify_init1(os.O_NONBLOCK)

    def guard(self) -> None:
        """Begin to note, in the folder and in those below it."""
        mask = _IN_OPEN | _IN_ACCESS | _IN_MODIFY | _IN_CREATE | _IN_DELETE
        for folder in (
            self.folder,
            *[path for path in self.folder.rglob("*") if path.is_dir() and not path.is_symlink()],
        ):
            self._libc.inotify_add_watch(self._watch, os.fsencode(folder), mask)
        self.touched()

    def touched(self) -> list[str]:
        """Return what was touched since it was asked last."""
        found = []
        try:
            data = os.read(self._watch, 1 << 16)
        except BlockingIOError:
            return []
        while data:
            _, mask, _, size = struct.unpack("iIII", data[:16])
            name = os.fsdecode(data[16 : 16 + size].rstrip(b"\0"))
            # Who follows a link to a folder may look whether a file is there; names alone are no secret.
            if name and not mask & 0x40000000:
                found.append(f"outside/{name}: touched ({mask & 0xFFFF:#x})")
            data = data[16 + size :]
        return found

    def close(self) -> None:
        """Stop."""
        os.close(self._watch)


_watch: Watch | None = None


def watch() -> Watch:
    """Return the watch of this process, with its limit on address space."""
    global _watch
    if _watch is None:
        sys.dont_write_bytecode = True
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        _watch = Watch()
    return _watch


def _peak(reset: bool = False) -> int:
    """Return the most memory that this process had at once since the last reset, in bytes."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) << 10


def attack_format(name: str, numbers: dict[str, tuple[int, ...]]) -> list[Outcome]:
    """Try attacks on the files of one format, each (by its name) with some numbers, and return what came of it."""
    with tempfile.TemporaryDirectory(prefix="hostile") as scratch:
        folder = Path(scratch).resolve()
        (folder / "made").mkdir()
        seeds = made(name, folder / "made", 3)
        seed = seeds[0]
        task = tasks_of(seed)[0]
        clean = sum(isinstance(one, Annotation) for one in read_all(seed, seed.folder))
        watch()
        found = list[Outcome]()
        for one in ATTACKS:
            for number in numbers.get(one.name, ()):
                place = folder / f"case{len(found)}"
                outcome = _attempt(seed, task, one, number, place)
                shutil.rmtree(place, ignore_errors=True)
                if outcome is not None:
                    vanished = filter(None, [outcome.vanished(clean) if not one.renames else ""])
                    found.append(outcome._replace(wrong=(*outcome.wrong, *vanished)))
        return found


def _attempt(seed: Seed, task: str, one: Attack, number: int, place: Path) -> Outcome | None:
    chance = random.Random(f"{seed.format}/{one.name}/{number}")
    root, out = place / "root", place / "out"
    place.mkdir()
    # An audit of many findings puts them into temporary files, which may lie here and nowhere else.
    temporary = place / "temporary"
    temporary.mkdir()
    tempfile.tempdir = str(temporary)
    shutil.copytree(seed.folder, root, symlinks=True)
    canaries = Canaries(place / "outside")
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]
    told = [path for path in files if path.suffix.lower() not in PICTURES]
    target = Target(
        root, chance.choice(told if told and chance.random() < 0.75 else files), canaries.folder, chance
    )
    file = target.file.relative_to(root).as_posix()
    try:
        if not one.make(target):
            return None
        sizes = sum(
            path.stat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink()
        )
        canaries.guard()
        before = _peak(reset=True)
        run = Run(seed, root, out, place)
        with watch().on(root, out, temporary):
            run.all(task)
        most = _peak() - before
        wrong = [*run.wrong, *watch().seen, *canaries.touched()]
        watch().seen.clear()
        # A document of JSON or XML is held whole; of tables a line is.
        if most > SPARE_BYTES + 2 * sizes:
            wrong.append(f"took {most >> 20} MiB for files of {sizes >> 20} MiB")
        if (canaries.folder / "flag").exists():
            wrong.append("code ran: the flag is there")
        if any(SECRET.encode() in path.read_bytes() for path in out.rglob("*") if path.is_file()):
            wrong.append("what lies outside was written into a report or a manifest")
        return Outcome(one.name, file, tuple(wrong), run.ended, run.read, run.told, most)
    finally:
        tempfile.tempdir = None
        canaries.close()


class Run:
    """One way through everything that reads a source's files."""

    def __init__(self, seed: Seed, root: Path, out: Path, place: Path) -> None:
        self.seed, self.root, self.out, self.place = seed, root, out, place
        self.wrong: list[str] = []
        self.ended = ""
        self.read: int | None = None
        self.told = 0

    def all(self, task: str) -> None:
        """Recognise, read, audit with a report, and convert; errors of ours are an end as good as any."""
        self._step("recognise", lambda: recognised(self.seed, self.root))
        self._step("read", self._read)
        self._step("audit", self._audit)
        self._step(
            "convert",
            lambda: convert(resolved(self.seed, task), "train", self.root, self.out / "m", allow_empty=True),
        )

    def _step(self, name: str, do: Callable[[], object]) -> None:
        try:
            with at_most(LIMIT_S):
                do()
        except DataEngineError as error:
            self.ended = self.ended or f"{name}: {error}"
            self._line(name, str(error))
        except (Exception, Hanging) as error:
            self.wrong.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")

    def _line(self, what: str, text: str) -> None:
        """An error or a finding is one line that a terminal shows, which names a place and tells no secret."""
        if "\n" in text or "\x1b" in text or len(text) > 2000:
            self.wrong.append(f"{what}: not one line: {text[:200]!r}")
        if SECRET in text:
            self.wrong.append(f"{what}: tells what lies outside: {text[:200]!r}")

    def _read(self) -> None:
        found = read_all(self.seed, self.root)
        rejected = [one for one in found if isinstance(one, Rejected)]
        self.read, self.told = len(found) - len(rejected), len(rejected)
        for one in rejected:
            self._line("rejected", one.detail)

    def _audit(self) -> None:
        stated = msgspec.to_builtins(self.seed.source)
        options = {key: _option(value) for key, value in stated.items() if value is not None}
        report = audit([self.root], format_name=self.seed.format, root=self.root, options=options)
        for one in report.findings:
            self._line("finding", f"{one.rule}: {one.detail}")
            if not (one.key or one.image or one.record or one.place == "subject"):
                self.wrong.append(f"a finding without a place: {one}")
        write(report, self.out / "report")
        page = (self.out / "report" / "index.html").read_text(encoding="utf-8", errors="surrogateescape")
        if SCRIPT in page or "onerror=alert(1)>" in page:
            self.wrong.append("markup stands in the page as it came")


def _option(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
