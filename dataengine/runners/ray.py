"""Work as Ray tasks, one an item, on this machine or a cluster. The only module that imports Ray."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from dataengine.errors import DataEngineError

T = TypeVar("T")
R = TypeVar("R")
IN_FLIGHT = 3
MAX_RETRIES = 3


def run(
    function: Callable[[T], R], items: Iterable[T], *, workers: int, address: str | None = None
) -> Iterator[R]:
    """Yield results in order. A task whose worker dies is tried again, up to three times.

    Connects to `address` where one is given; else uses the Ray that this process already runs, or starts a local one of
    `workers` CPUs and stops it at the end.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    started = not ray.is_initialized()
    if started:
        options: dict[str, Any] = {"address": address} if address else {"num_cpus": max(workers, 1)}
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **options)
    try:
        task: Any = ray.remote(max_retries=MAX_RETRIES, num_cpus=1)(_call)
        shared = ray.put(function)
        waiting: deque[Any] = deque()
        try:
            for item in items:
                waiting.append(task.remote(shared, item))
                if len(waiting) >= IN_FLIGHT * max(workers, 1):
                    yield _get(ray, waiting.popleft())
            while waiting:
                yield _get(ray, waiting.popleft())
        finally:
            for reference in waiting:
                ray.cancel(reference, force=False)
    finally:
        if started:
            ray.shutdown()


def _call(function: Callable[[T], R], item: T) -> R:
    return function(item)


def _get(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, DataEngineError):
            raise cause from error
        raise
    except ray.exceptions.RayError as error:
        raise DataEngineError(
            f"a Ray task was lost: {str(error).splitlines()[0]}; run the same command again to resume"
        ) from error
