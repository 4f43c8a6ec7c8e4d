"""Work in this process (one worker) or in processes of this machine, each of which dies alone."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from types import FrameType
from typing import Any, TypeVar

from dataengine.errors import DataEngineError
from dataengine.runners.tasks import Job, Lost, in_order

T = TypeVar("T")
R = TypeVar("R")
# Tasks in flight for each worker, so that none idles while the caller is busy with a result.
IN_FLIGHT = 3
# A worker that is told to end has so long to remove what it was writing.
GRACE_S = 5.0


def run(job: Job[T, R], *, workers: int) -> Iterator[R]:
    """Yield results in order. A task whose process is killed runs again in a fresh one, and costs no other task."""
    return in_order(job, _Processes(job.function, workers)) if workers > 1 else _here(job)


def _here(job: Job[T, R]) -> Iterator[R]:
    for item in job.items:
        result = job.function(item)
        job.progress(job.size(result), "")
        yield result


class _Processes:
    """Worker processes, each with a thread that asks it.

    A pool of `concurrent.futures` ends all its processes when one is killed, and cannot tell which task killed it.
    """

    def __init__(self, function: Callable[[Any], Any], workers: int) -> None:
        self.room = IN_FLIGHT * workers
        self._function = function
        self._threads = ThreadPoolExecutor(workers)
        self._lock = threading.Lock()
        self._stopped = False
        self._workers: set[_Worker] = set()
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(None)  # a process is started when there is work for it

    def start(self, item: Any) -> Future[Any]:
        return self._threads.submit(self._ask, item)

    def wait(self, handles: Collection[Future[Any]]) -> Collection[Future[Any]]:
        return wait(handles, return_when=FIRST_COMPLETED).done

    def result(self, handle: Future[Any]) -> Any:
        return handle.result()

    def stop(self, handles: Collection[Future[Any]]) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._stopped = True
            workers = list(self._workers)
        for worker in workers:
            worker.process.terminate()
        deadline = time.monotonic() + GRACE_S
        for worker in workers:
            worker.end(deadline - time.monotonic())
        self._threads.shutdown()
        for worker in self._workers:
            worker.connection.close()  # only now does no thread wait for it

    def _ask(self, item: Any) -> Any:
        worker = self._idle.get()
        try:
            worker = worker or self._hire()
            return worker.ask(item)
        except Lost:
            if worker is not None:
                self._workers.discard(worker)
            worker = None
            raise
        finally:
            self._idle.put(worker)

    def _hire(self) -> _Worker:
        with self._lock:
            if self._stopped:
                raise Lost("not started")
            worker = _Worker(self._function)
            self._workers.add(worker)
            return worker


class _Worker:
    """A process that does one task after the other."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        # A forked child would inherit threads and locks of the parent; a fresh one does not.
        context = multiprocessing.get_context("forkserver")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        self.process.start()
        self._lock = threading.Lock()
        theirs.close()  # so that its end is the end of the pipe

    def ask(self, item: Any) -> Any:
        """Return what the worker makes of an item, or raise what it raises. Raises Lost where it dies over it."""
        try:
            self.connection.send(item)
            fine, value = self.connection.recv()
        except (EOFError, ConnectionError) as error:
            self.connection.close()
            raise Lost(self.end()) from error
        if fine:
            return value
        raise value

    def end(self, grace_s: float = GRACE_S) -> str:
        """End the process where it still lives after a while, and say how it ended."""
        with self._lock:  # a stop and the worker's own thread may come at the same time
            self.process.join(max(grace_s, 0))
            if self.process.is_alive():
                self.process.kill()
                self.process.join()
        code = self.process.exitcode or 0
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _serve(connection: Connection, function: Callable[[Any], Any]) -> None:
    """Answer items with (True, result) or (False, exception) until the parent hangs up."""
    # Ctrl-C reaches every process of a terminal, and what ends is the parent's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    while True:
        try:
            item = connection.recv()
        except (EOFError, ConnectionError):
            return
        answer: tuple[bool, Any]
        try:
            answer = (True, function(item))
        except Exception as error:
            if not isinstance(error, DataEngineError):
                error.add_note(traceback.format_exc())  # a bug's traceback does not travel with it
            answer = (False, error)
        try:
            data = ForkingPickler.dumps(answer)
        except Exception as error:
            data = ForkingPickler.dumps((False, TypeError(f"{type(answer[1]).__name__}: {error}")))
        try:
            connection.send_bytes(data)
        except ConnectionError:
            return  # the parent is gone


def _leave(number: int, frame: FrameType | None) -> None:
    """Unwind, so that files half written are removed."""
    sys.exit(128 + number)
