"""What every contestant measures of itself: a line of JSON with counts, seconds, memory, files and threads.

A contestant is `python NAME.py TASK '{"argument": ...}'`. Imports are done before the clock starts.
"""

# mypy: ignore-errors
# What it imports is in an environment of its own, or beside it.
from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def resident_bytes() -> int:
    """Return the resident memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def consume(
    start: Callable[[], Iterable[tuple[int, int]]], *, passes: int = 1, most: int | None = None
) -> dict[str, Any]:
    """Read what `start` yields, (samples, bytes) at a time, `passes` times.

    `first_s` is from before `start` is called to the first sample of the first pass. `seconds` and `cpu_s` are those
    from the first sample of each pass to its end; children count their CPU where they end.
    """
    memory = resident_bytes()
    count = payload = files = threads = 0
    first_s = seconds = cpu = 0.0
    for number in range(passes):
        began, cpu_began, served = time.perf_counter(), cpu_seconds(), 0
        for samples, size in start():
            if not served:
                now = time.perf_counter()
                first_s = first_s or now - began
                began, cpu_began = now, cpu_seconds()
            served += samples
            payload += size
            if number == 0 and served <= samples * 64:
                files, threads = max(files, _files()), max(threads, _threads())
            if most is not None and served >= most:
                break
        count += served
        seconds += time.perf_counter() - began
        cpu += cpu_seconds() - cpu_began
    return {
        "count": count, "bytes": payload, "seconds": seconds, "cpu_s": cpu, "first_s": first_s,
        "files": max(files, _files()), "threads": max(threads, _threads()),
        "memory_mb": (resident_bytes() - memory) / 2**20,
    }  # fmt: skip


def timed(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `run` found (`count` among it) with the seconds that it took."""
    began, cpu_began = time.perf_counter(), cpu_seconds()
    found = run()
    return found | {"seconds": time.perf_counter() - began, "cpu_s": cpu_seconds() - cpu_began}


def _files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def prefix_error(served: list[int], shares: list[float]) -> float:
    """Return the greatest |count of a source - share x position| over all positions and sources."""
    counts = [0.0] * len(shares)
    worst = 0.0
    for position, source in enumerate(served, 1):
        counts[source] += 1
        if position % 8 == 0:
            worst = max(
                worst, max(abs(n - share * position) for n, share in zip(counts, shares, strict=True))
            )
    return worst


def main(tasks: dict[str, Callable[..., dict[str, Any]]], *packages: str) -> None:
    """Run the task that the command line names and print what it found."""
    found = tasks[sys.argv[1]](**json.loads(sys.argv[2]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    largest_child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    found |= {
        "peak_mb": (peak + largest_child) / 1024,
        "versions": {name: metadata.version(name) for name in packages},
    }
    sys.stdout.flush()
    os.write(1, b"\n" + json.dumps(found).encode() + b"\n")
    os._exit(0)  # some peers wait for threads of theirs for ever
