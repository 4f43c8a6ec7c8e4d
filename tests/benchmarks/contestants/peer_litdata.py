"""litData: its own chunks, then its dataset and loader."""

# mypy: ignore-errors
# What it imports is in an environment of its own, or beside it.
from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import meter
from litdata import CombinedStreamingDataset, StreamingDataLoader, StreamingDataset
from litdata.streaming import Cache
from tars import members

BATCH = 32


def write_samples(samples: Iterable[tuple[str, dict[str, bytes]]], out: str) -> dict[str, Any]:
    """Write samples as chunks of 64 MB in this process, with the writer below `optimize`."""
    shutil.rmtree(out, ignore_errors=True)
    Path(out).mkdir(parents=True)

    def run() -> dict[str, Any]:
        count = size = 0
        cache = Cache(out, chunk_bytes="64MB")
        for number, (key, sample) in enumerate(samples):
            cache[number] = {"key": key, "jpg": sample.get("jpg", b""), "json": sample["json"]}
            count += 1
            size += len(sample.get("jpg", b""))
        cache.done()
        cache.merge()
        return {"count": count, "bytes": size}

    return meter.timed(run)


def convert(tars: list[str], out: str) -> dict[str, Any]:
    """Convert the samples of tars."""
    return write_samples(members(tars), out)


def convert_many(tars: list[str], out: str) -> dict[str, Any]:
    """Convert each tar into a folder of its own."""
    return {"count": sum(convert([path], str(Path(out) / Path(path).stem))["count"] for path in tars)}


def write(pictures: list[str], texts: str, out: str) -> dict[str, Any]:
    """Write the same pictures and JSON as chunks."""
    lines = Path(texts).read_bytes().splitlines()

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for number, text in enumerate(lines):
            data = Path(pictures[number % len(pictures)]).read_bytes()
            yield f"{number:08d}", {"jpg": data, "json": text}

    return write_samples(samples(), out)


def raw(folder: str, workers: int = 0, shuffle: bool = False, passes: int = 1) -> dict[str, Any]:
    """Read every sample once a pass."""
    dataset = StreamingDataset(folder, shuffle=shuffle, drop_last=False)

    def start() -> Iterator[tuple[int, int]]:
        if workers:
            loader = StreamingDataLoader(dataset, batch_size=BATCH, num_workers=workers, collate_fn=pictures)
            for batch in loader:
                yield len(batch), sum(map(len, batch))
            return
        for sample in dataset:
            yield 1, len(sample["jpg"])

    return meter.consume(start, passes=passes)


def mixed(folders: dict[str, str], shares: dict[str, float], most: int) -> dict[str, Any]:
    """Read `most` samples of a weighted mixture, epochs of short sources repeated by hand."""
    names = sorted(shares)
    served: list[int] = []
    total = sum(shares.values())

    def start() -> Iterator[tuple[int, int]]:
        parts = [StreamingDataset(folders[name], drop_last=False) for name in names]
        weights = [shares[name] / total for name in names]
        while len(served) < most:
            mixture = CombinedStreamingDataset(
                parts, weights=weights, iterate_over_all=False, seed=len(served)
            )
            for sample in mixture:
                served.append(names.index(sample["key"].rsplit("-", 2)[0]))
                yield 1, len(sample["jpg"])

    found = meter.consume(start, most=most)
    return found | {"prefix_error": meter.prefix_error(served, [shares[name] / total for name in names])}


def pictures(samples: list[dict[str, Any]]) -> list[bytes]:
    """Return the pictures of a batch; what it reads are views, which no process can send."""
    return [bytes(sample["jpg"]) for sample in samples]


def keys(samples: list[dict[str, Any]]) -> list[str]:
    """Return the keys of a batch."""
    return [sample["key"] for sample in samples]


def loader(folder: str, workers: int) -> StreamingDataLoader:
    """Return the loader that keeps a state."""
    dataset = StreamingDataset(folder, shuffle=True, drop_last=False, seed=1)
    return StreamingDataLoader(
        dataset, batch_size=BATCH, num_workers=workers, drop_last=False, collate_fn=keys
    )


def resume(folder: str, at: float, before: int, after: int) -> dict[str, Any]:
    """Stop at a fraction of an epoch and go on."""
    first = loader(folder, before)
    count = len(first.dataset)
    served: list[str] = []
    for batch in first:
        served += batch
        if len(served) >= int(count * at):
            break
    state = json.dumps(first.state_dict()).encode()
    del first
    began = time.perf_counter()
    second = loader(folder, after)
    second.load_state_dict(json.loads(state))
    first_s = 0.0
    for batch in second:
        first_s = first_s or time.perf_counter() - began
        served += batch
    return {"count": len(served), "missing": count - len(set(served)), "twice": len(served) - len(set(served)),
            "state_bytes": len(state), "first_s": first_s}  # fmt: skip


def crash(folder: str, log_folder: str, steps: int, pause_s: float) -> dict[str, Any]:
    """Serve batches until a kill, a state after each."""
    place, log = Path(log_folder) / "state.json", Path(log_folder) / "served.jsonl"
    here = loader(folder, 0)
    step = 0
    if place.exists():
        saved = json.loads(place.read_text())
        step = saved["step"]
        here.load_state_dict(saved["state"])
    for batch in here:
        if step >= steps:
            break
        with log.open("a") as file:
            file.write(json.dumps([step, batch]) + "\n")
        step += 1
        place.with_suffix(".new").write_text(json.dumps({"step": step, "state": here.state_dict()}))
        place.with_suffix(".new").replace(place)
        time.sleep(pause_s)
    return {"count": step}


def expected(folder: str, steps: int) -> dict[str, Any]:
    """Return the keys of each step of a run that nothing stops."""
    found = []
    for batch in loader(folder, 0):
        found.append(batch)
        if len(found) == steps:
            break
    return {"count": steps, "steps": found}


TASKS = {
    "convert": convert,
    "convert_many": convert_many,
    "write": write,
    "raw": raw,
    "mixed": mixed,
    "resume": resume,
    "crash": crash,
    "expected": expected,
}

if __name__ == "__main__":
    os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
    meter.main(TASKS, "litdata", "torch", "numpy")
