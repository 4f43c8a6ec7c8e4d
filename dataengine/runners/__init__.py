"""Where work runs: in this process, in local processes, or on Ray. All give the same results in the same order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

from dataengine.errors import UsageError
from dataengine.runners.tasks import Job

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
    folder: Path | None = None,
    needs: Iterable[Path] = (),
    modules: Iterable[str] = (),
    name: Callable[[T], str] = str,
    size: Callable[[R], int] = lambda result: 1,
    progress: Callable[[int, str], None] = lambda count, text: None,
) -> Iterator[R]:
    """Yield function(item) for each item, in the order of the items; at most a few items a worker are in flight.

    The function and its items must pickle, and results that wait for their turn are held: they must be small. A task
    whose process or machine dies is run again, up to three times. `progress` is told `size` of each result as it comes,
    in any order, and how many tasks were run again; `name` is what an error calls an item.

    A Ray cluster, by its address, needs to know more: that every worker sees `folder`, where the tasks write, and the
    paths in `needs`, and which packages the function imports besides those of this project (`modules`).

    An exception in a worker is raised here, at its item's turn. Raises UsageError, and DataEngineError for a task whose
    process dies every time, a worker that cannot do the work, or a cluster that is gone.
    """
    job = Job(function=function, items=items, name=name, size=size, progress=progress)
    if runner == "ray":
        from dataengine.runners import ray as on_ray

        return on_ray.run(job, workers=workers, address=address, folder=folder, needs=needs, modules=modules)
    if address is not None:
        raise UsageError(f"--address {address} is a Ray cluster's; add --runner ray")
    from dataengine.runners import local

    return local.run(job, workers=workers)
