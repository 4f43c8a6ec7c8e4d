"""Our side of the comparison: what a trainer calls, and what the command line calls."""

# mypy: ignore-errors
# What it imports is in an environment of its own, or beside it.
from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import meter

from dataengine.shard import shard
from dataengine.state import State
from dataengine.stream import Stream, recipe
from dataengine.verify import verify

BATCH = 32


def opened(shards: str, *, policy: str = "proportional", weights: dict[str, float] | None = None) -> Stream:
    """Return the stream of a shard set."""
    fields: dict[str, Any] = {"seed": 1, "global_batch": BATCH, "policy": policy}
    if weights is not None:
        fields |= {"policy": "explicit", "weights": weights}
    return Stream(Path(shards), recipe(**fields))


def sizes(stream: Stream, positions: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield (1, bytes of pictures) of each position; a sample without pictures counts none."""
    for position in positions:
        yield 1, sum(map(len, stream.read(position)[1]))


def raw(shards: str, workers: int = 0, threads: int = 0, passes: int = 1) -> dict[str, Any]:
    """Read every sample once a pass, in the order of training, digests checked."""

    def alone() -> Iterator[tuple[int, int]]:
        stream = opened(shards)
        return sizes(stream, range(len(stream.index)))

    def threaded() -> Iterator[tuple[int, int]]:
        stream = opened(shards)
        with ThreadPoolExecutor(threads) as pool:
            blocks = (range(n, min(n + BATCH, len(stream.index))) for n in range(0, len(stream.index), BATCH))
            for block in pool.map(lambda block: list(sizes(stream, block)), blocks):
                yield from block

    def processes() -> Iterator[tuple[int, int]]:
        class Batches(torch.utils.data.IterableDataset):  # type: ignore[misc, type-arg]
            def __iter__(self) -> Iterator[list[bytes]]:
                stream, info = opened(shards), torch.utils.data.get_worker_info()
                for step in range(info.id, -(-len(stream.index) // BATCH), info.num_workers):
                    here = range(step * BATCH, min((step + 1) * BATCH, len(stream.index)))
                    yield [stream.read(position)[1][0] for position in here]

        for batch in torch.utils.data.DataLoader(Batches(), batch_size=None, num_workers=workers):
            yield len(batch), sum(map(len, batch))

    if workers:
        import torch.utils.data
    return meter.consume(processes if workers else threaded if threads else alone, passes=passes)


def mixed(shards: str, shares: dict[str, float], most: int) -> dict[str, Any]:
    """Read `most` samples of a weighted mixture; the error is the worst of any prefix."""
    names = sorted(shares)
    served: list[int] = []
    total = sum(shares.values())

    def start() -> Iterator[tuple[int, int]]:
        stream = opened(shards, weights=shares)
        number = {source.name: names.index(source.name) for source in stream.plan.sources}
        for position in range(most):
            sample, pictures = stream.read(position)
            served.append(number[f"{sample.dataset}/{sample.task}/{sample.split}"])
            yield 1, sum(map(len, pictures))

    found = meter.consume(start, most=most)
    return found | {"prefix_error": meter.prefix_error(served, [shares[name] / total for name in names])}


def windowed(shards: str, window: int) -> dict[str, Any]:
    """Read every row, in the order of the files (window 1) or shuffled inside windows of so many."""
    import random

    def start() -> Iterator[tuple[int, int]]:
        stream = opened(shards)
        rows = list(range(len(stream.index)))
        if window > 1:
            rng = random.Random(0)
            for first in range(0, len(rows), window):
                part = rows[first : first + window]
                rng.shuffle(part)
                rows[first : first + window] = part
        for row in rows:
            yield 1, sum(map(len, stream.read_row(row)[1]))

    return meter.consume(start)


def ids(stream: Stream, positions: Iterable[int]) -> list[str]:
    """Return the ids at some positions."""
    return [stream.entry(position)["id"] for position in positions]


def resume(shards: str, at: float, before: int, after: int) -> dict[str, Any]:
    """Stop at a fraction of an epoch with `before` workers, go on with `after`; the state travels as JSON.

    Workers take whole batches in turn, so what was served is a prefix, whoever read it.
    """
    import msgspec

    stream = opened(shards)
    count = len(stream.index)
    stop = int(count * at) // BATCH * BATCH

    def share(stream: Stream, start: int, end: int, workers: int) -> list[str]:
        read = []
        for worker in range(workers):
            for first in range(start + worker * BATCH, end, workers * BATCH):
                read += [stream.read(t)[0].id for t in range(first, min(first + BATCH, end))]
        return read

    served = share(stream, 0, stop, before)
    state = msgspec.json.encode(stream.state(stop))
    stream.close()
    began = time.perf_counter()
    stream = opened(shards)
    loaded = msgspec.json.decode(state, type=State)
    stream.check(loaded)
    for position in range(loaded.position, min(loaded.position + BATCH, count)):
        stream.read(position)
    first_s = time.perf_counter() - began
    served += share(stream, loaded.position, count, after)
    return {
        "count": len(served),
        "missing": count - len(set(served)),
        "twice": len(served) - len(set(served)),
        "state_bytes": len(state),
        "first_s": first_s,
    }


def far(shards: str, position: int) -> dict[str, Any]:
    """Start at a position far out."""
    began = time.perf_counter()
    stream = opened(shards)
    opened_s = time.perf_counter() - began
    for t in range(position, position + BATCH):
        stream.read(t)
    return {
        "count": BATCH,
        "first_s": time.perf_counter() - began,
        "batch_s": time.perf_counter() - began - opened_s,
    }


def crash(shards: str, folder: str, steps: int, pause_s: float) -> dict[str, Any]:
    """Serve batches until a kill: every step appends its ids, then renames a new state into place."""
    import msgspec

    stream = opened(shards)
    place, log = Path(folder) / "state.json", Path(folder) / "served.jsonl"
    position = 0
    if place.exists():
        state = msgspec.json.decode(place.read_bytes(), type=State)
        stream.check(state)
        position = state.position
    while position < steps * BATCH:
        batch = [stream.read(t)[0].id for t in range(position, position + BATCH)]
        with log.open("a") as file:
            file.write(json.dumps([position // BATCH, batch]) + "\n")
        position += BATCH
        place.with_suffix(".new").write_bytes(msgspec.json.encode(stream.state(position)))
        place.with_suffix(".new").replace(place)
        time.sleep(pause_s)
    return {"count": steps}


def expected(shards: str, steps: int) -> dict[str, Any]:
    """Return the ids of each step of a run that nothing stops."""
    stream = opened(shards)
    return {"count": steps, "steps": [ids(stream, range(s * BATCH, (s + 1) * BATCH)) for s in range(steps)]}


def corruption(shards: str, tars: list[str]) -> dict[str, Any]:
    """Read everything; what is damaged must be named with file and offset."""
    delivered, errors = {}, []
    try:
        stream = opened(shards)
        for row in range(len(stream.index)):
            try:
                _, pictures = stream.read_row(row)
                delivered[stream.index.row(row)["key"]] = _digest(pictures[0])
            except Exception as error:
                errors.append(str(error))
        findings = verify(Path(shards))
    except Exception as error:
        findings = [str(error)]
    return {"count": len(delivered), "delivered": delivered, "errors": errors, "findings": findings}


def _digest(data: bytes) -> str:
    import hashlib

    return hashlib.blake2b(data, digest_size=8).hexdigest()


def write(manifests: str, out: str, workers: int, samples_per_shard: int) -> dict[str, Any]:
    """Write shards with index and digests."""
    shutil.rmtree(out, ignore_errors=True)

    def run() -> dict[str, Any]:
        written = shard([Path(manifests)], Path(out), samples_per_shard=samples_per_shard, workers=workers)
        size = sum(file.bytes for file in written.shards)
        return {"count": sum(file.samples for file in written.shards), "bytes": size,
                "digests": [file.digest for file in written.shards]}  # fmt: skip

    found = meter.timed(run)
    # Workers are children of a server of processes, whose CPU time nobody tells us.
    return found if workers == 1 else found | {"cpu_s": None}


def index(tars: list[str], out: str, members: int) -> dict[str, Any]:
    """Index tars that others wrote, in a folder of links to them; `members` is how many there are."""
    try:
        from dataengine import restore
    except ImportError:
        return {"absent": "this revision has no index of foreign tars"}
    shutil.rmtree(out, ignore_errors=True)
    Path(out).mkdir(parents=True)
    for path in tars:
        os.link(path, Path(out) / Path(path).name)
    return meter.timed(lambda: {"count": members if restore.index(Path(out)).tars == len(tars) else 0})


TASKS = {
    "raw": raw, "mixed": mixed, "windowed": windowed, "resume": resume, "far": far, "crash": crash,
    "expected": expected, "corruption": corruption, "write": write, "index": index,
}  # fmt: skip

if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    meter.main(TASKS, "numpy", "pyarrow", "msgspec")
