"""Work in this process (one worker) or in a pool of processes."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from dataengine.errors import DataEngineError

T = TypeVar("T")
R = TypeVar("R")
IN_FLIGHT = 3


def run(function: Callable[[T], R], items: Iterable[T], *, workers: int) -> Iterator[R]:
    """Yield results in order. Raises DataEngineError where a worker process was killed."""
    if workers <= 1:
        yield from map(function, items)
        return
    # A forked child would inherit threads and locks of the parent; a fresh one does not.
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= IN_FLIGHT * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise DataEngineError(
                "a worker process died (killed, or out of memory); run the same command again to resume"
            ) from error
        finally:
            for future in waiting:
                future.cancel()
