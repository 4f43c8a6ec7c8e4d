"""Where work runs: in this process, in local processes, or on Ray. All give the same results in the same order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

T = TypeVar("T")
R = TypeVar("R")
RunnerName = Literal["local", "ray"]


def run(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    runner: RunnerName,
    workers: int,
    address: str | None = None,
) -> Iterator[R]:
    """Yield function(item) for each item, in the order of the items; at most a few items a worker are in flight.

    The function and its items must pickle. An exception in a worker is raised here, at its item's turn.
    """
    if runner == "ray":
        from dataengine.runners import ray as on_ray

        return on_ray.run(function, items, workers=workers, address=address)
    from dataengine.runners import local

    return local.run(function, items, workers=workers)
