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
from content import digest

from dataengine.errors import DataEngineError
from dataengine.shard import shard
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


def name_of(sample: Any, pictures: list[bytes], rng: Any) -> str:
    """Return a sample's id; its bytes were read and checked."""
    return sample.id


def loader(shards: str, workers: int) -> Any:
    """Return the loader that keeps a state, over one pass."""
    from trainer.dataset import StreamDataset, StreamLoader

    mixture = recipe(seed=1, global_batch=BATCH, policy="proportional")
    count = len(opened(shards).index)
    dataset = StreamDataset(Path(shards), mixture, last_step=count // BATCH, transform=name_of)
    return StreamLoader(dataset, num_workers=workers)


def resume(shards: str, at: float, before: int, after: int) -> dict[str, Any]:
    """Stop at a fraction of an epoch and go on."""
    import trainer.dataset  # noqa: F401  before the clock starts

    first = loader(shards, before)
    count = len(first.dataset.stream().index) // BATCH * BATCH
    served: list[str] = []
    for step in first:
        served += step.data
        if len(served) >= int(count * at):
            break
    state = json.dumps(first.state_dict()).encode()
    began = time.perf_counter()
    second = loader(shards, after)
    second.load_state_dict(json.loads(state))
    first_s = 0.0
    for step in second:
        first_s = first_s or time.perf_counter() - began
        served += step.data
    return {"count": len(served), "missing": count - len(set(served)), "twice": len(served) - len(set(served)),
            "state_bytes": len(state), "first_s": first_s}  # fmt: skip


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


def crash(shards: str, log_folder: str, steps: int, pause_s: float) -> dict[str, Any]:
    """Serve batches until a kill, a state after each."""
    place, log = Path(log_folder) / "state.json", Path(log_folder) / "served.jsonl"
    here = loader(shards, 0)
    if place.exists():
        here.load_state_dict(json.loads(place.read_text()))
    for step in here:
        if step.step >= steps:
            break
        with log.open("a") as file:
            file.write(json.dumps([step.step, step.data]) + "\n")
        place.with_suffix(".new").write_text(json.dumps(here.state_dict()))
        place.with_suffix(".new").replace(place)
        time.sleep(pause_s)
    return {"count": steps}


def expected(shards: str, steps: int) -> dict[str, Any]:
    """Return the ids of each step by the plan alone."""
    stream = opened(shards)
    found = [[stream.entry(t)["id"] for t in range(s * BATCH, (s + 1) * BATCH)] for s in range(steps)]
    return {"count": steps, "steps": found}


def corruption(shards: str, tars: list[str]) -> dict[str, Any]:
    """Read everything; what is damaged must be named with file and offset."""
    delivered, errors = {}, []
    try:
        stream = opened(shards)
        for row in range(len(stream.index)):
            try:
                _, pictures = stream.read_row(row)
                place = stream.index.place(row)
                text = stream.pool.read(place.file, *place.spans[0])
                delivered[stream.index.row(row)["key"]] = digest(pictures[0], text)
            except DataEngineError as error:
                errors.append(str(error))
        findings = verify(Path(shards))
    except DataEngineError as error:
        findings = [str(error)]
    return {"count": len(delivered), "delivered": delivered, "errors": errors, "findings": findings}


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
