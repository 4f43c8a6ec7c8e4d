"""Work as Ray tasks, one an item, on this machine or a cluster. The only module of the engine that imports Ray."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import logging
import os
import pickle
import re
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dataengine.errors import DataEngineError, UsageError
from dataengine.files import make_folder, write_atomic
from dataengine.runners.tasks import Job, Lost, in_order

T = TypeVar("T")
R = TypeVar("R")
# What tasks import. A cluster gets it from here.
PACKAGES = ("dataengine", "converters")
# Pillow draws marks: another version draws other bytes.
DISTRIBUTIONS = ("pillow",)
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray prints what befalls its workers to stdout, amid our results. What counts of it we say ourselves.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
}
# So often a silent cluster is asked whether it still stands.
BEAT_S = 2.0
# A head that does not answer for so long is gone. After 60 s, Ray itself would end the whole process.
HEAD_GONE_S = 30.0
# Cancelled tasks have so long to remove what they were writing.
GRACE_S = 5.0


class Terms(NamedTuple):
    """What every task must find where it runs, as plain values, and the function, pickled."""

    versions: tuple[tuple[str, str], ...]
    paths: tuple[str, ...]
    function: bytes


def run(
    job: Job[T, R],
    *,
    workers: int,
    address: str | None = None,
    folder: Path | None = None,
    needs: Iterable[Path] = (),
    modules: Iterable[str] = (),
) -> Iterator[R]:
    """Yield results in order. A task whose worker or node dies is run again.

    Connects to `address` where one is given, and sends this project's code and `modules` there; else uses the Ray that
    this process already runs, or starts a local one of `workers` CPUs and stops it at the end. Raises DataEngineError
    where a worker has other code, or does not see `folder` or a path of `needs`.
    """
    if address is not None:
        _check(address)
    packages = tuple(dict.fromkeys([*PACKAGES, *(name.partition(".")[0] for name in modules)]))
    with ExitStack() as stack:
        ray = stack.enter_context(connected(address, workers, packages))
        paths = [path.absolute() for path in needs]
        if folder is not None:
            paths.append(stack.enter_context(_token(folder.absolute())))
        terms = Terms(versions(packages), tuple(map(str, paths)), pickle.dumps(job.function))
        yield from in_order(job, _Tasks(ray, terms, workers))


def _check(address: str) -> None:
    """Raise UsageError or DataEngineError where no cluster can be: Ray itself would look for one for minutes."""
    if address == "auto":
        return
    if not re.fullmatch(r"[^/]+:\d+", address):
        raise UsageError(f"{address}: is no address of a Ray cluster, expected HOST:PORT or auto")
    if not _answers(address):
        raise DataEngineError(
            f"{address}: no Ray cluster answers there; 'ray start --head' prints its address"
        )


@contextmanager
def connected(address: str | None, workers: int, packages: Collection[str]) -> Iterator[Any]:
    """Give Ray, connected: to `address` with the code of `packages`, or started here. It is left as it was found."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.ERROR)
    import ray

    if ray.is_initialized():
        if address is not None and address != ray.get_runtime_context().gcs_address:
            raise UsageError(f"{address}: this process uses another Ray already; leave out the address")
        yield ray
        return
    options: dict[str, Any] = {"address": "local", "num_cpus": max(workers, 1)}
    if address is not None:
        sent = {"py_modules": [str(_place(name)) for name in packages], "excludes": ["__pycache__"]}
        options = {"address": address, "runtime_env": sent}
    with _own_signals():
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **options)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            where = (
                f"{address}: no Ray cluster can be used there" if address else "Ray cannot be started here"
            )
            raise DataEngineError(f"{where}: {_first_sentence(error)}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what SIGTERM does here: Ray puts a handler of its own in its place."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _token(folder: Path) -> Iterator[Path]:
    """Give a file in a folder, under a name that nobody has asked for before: who sees it shares the folder with us."""
    path = make_folder(folder) / f".seen-{secrets.token_hex(8)}"
    write_atomic(path, b"")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


class _Tasks:
    """Ray tasks, as many at a time as there are workers."""

    def __init__(self, ray: Any, terms: Terms, workers: int) -> None:
        self.room = max(workers, 1)
        self._ray = ray
        self._terms = ray.put(tuple(terms))
        # Tasks are run again by us: Ray would not tell how often.
        self._task = ray.remote(max_retries=0, num_cpus=1)(_task())
        self._head = ray.get_runtime_context().gcs_address
        self._heard = time.monotonic()

    def start(self, item: Any) -> Any:
        return self._task.remote(self._terms, pickle.dumps(item))

    def wait(self, handles: Collection[Any]) -> Collection[Any]:
        ended, _ = self._ray.wait(list(handles), num_returns=1, timeout=BEAT_S)
        if ended:
            ended, _ = self._ray.wait(list(handles), num_returns=len(handles), timeout=0)
        if ended or _answers(self._head):
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > HEAD_GONE_S:
            raise self._gone()
        return list(ended)

    def result(self, handle: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(handle)
        except errors.RayTaskError as error:
            if isinstance(error.cause, DataEngineError):
                raise error.cause from error
            if isinstance(error.cause, ImportError):
                raise DataEngineError(
                    f"a Ray worker cannot import what a task needs: {error.cause}; "
                    "install the same packages on every node"
                ) from error
            raise
        except (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.ObjectLostError,
            errors.OutOfMemoryError,
        ) as error:
            raise Lost(_first_sentence(error)) from error
        except errors.RayError as error:
            if not _answers(self._head):
                raise self._gone() from error
            raise DataEngineError(
                f"Ray cannot run a task: {_first_sentence(error)}; run the same command again to resume"
            ) from error

    def _gone(self) -> DataEngineError:
        return DataEngineError(
            f"{self._head}: the head of the Ray cluster is gone; start it, then run the same command again to resume"
        )

    def stop(self, handles: Collection[Any]) -> None:
        if not handles or not _answers(self._head):
            return
        with suppress(self._ray.exceptions.RayError):
            for handle in handles:
                self._ray.cancel(handle, force=False)
            self._ray.wait(list(handles), num_returns=len(handles), timeout=GRACE_S)


def _task() -> Callable[[tuple[Any, ...], bytes], Any]:
    # Ray sends a function inside a function as it is. One by its name would fail where the code is missing, and say
    # neither what nor where.
    def dataengine_task(terms: tuple[Any, ...], item: bytes) -> Any:
        from dataengine.runners import ray as here

        return here.do(here.Terms(*terms), item)

    return dataengine_task


def do(terms: Terms, item: bytes) -> Any:
    """Do a task where it was sent. Raises DataEngineError where its terms are not met."""
    _meet(terms.versions, terms.paths)
    return pickle.loads(terms.function)(pickle.loads(item))


@cache  # what fails is not remembered
def _meet(expected: tuple[tuple[str, str], ...], paths: tuple[str, ...]) -> None:
    host = socket.gethostname()
    names = [name for name, _ in expected if name not in DISTRIBUTIONS]
    for (name, theirs), (_, ours) in zip(expected, versions(names), strict=True):
        if theirs != ours:
            raise DataEngineError(
                f"Ray worker on {host}: has {name} {ours}, expected {theirs}; install the same on every node"
            )
    for path in paths:
        if not Path(path).exists():
            raise DataEngineError(
                f"Ray worker on {host}: does not see {path}; "
                "sources, manifests and output must lie on storage that all nodes share, at the same path"
            )


def versions(packages: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return the digest of each package's source, and the versions of what else decides bytes."""
    digests = tuple((name, _digest(_place(name))) for name in packages)
    return digests + tuple((name, importlib.metadata.version(name)) for name in DISTRIBUTIONS)


def _place(package: str) -> Path:
    """Return the folder of a package, or the file of a module."""
    module = importlib.import_module(package)
    return Path(module.__path__[0] if hasattr(module, "__path__") else str(module.__file__))


def _digest(place: Path) -> str:
    """Return a digest of the source below a folder, or of a file."""
    digest = hashlib.sha256()
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        data = path.read_bytes()
        digest.update(f"{path.relative_to(place.parent)} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()[:16]


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=BEAT_S):
            return True
    except OSError:
        return False


def _first_sentence(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].partition(". ")[0].rstrip(".") if lines else type(error).__name__
