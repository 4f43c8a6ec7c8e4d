"""MosaicML's streaming (MDS shards): its own writer, then its dataset in one process."""

# mypy: ignore-errors
# What it imports is in an environment of its own, or beside it.
from __future__ import annotations

import importlib.machinery
import json
import shutil
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import meter


def without_torchvision() -> None:
    """Let the package be imported: it names torchvision for datasets of pictures that nothing here uses."""
    for name in (
        "torchvision",
        "torchvision.datasets",
        "torchvision.transforms",
        "torchvision.transforms.functional",
    ):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
    sys.modules["torchvision.datasets"].VisionDataset = object  # type: ignore[attr-defined]
    sys.modules["torchvision.datasets"].CIFAR10 = object  # type: ignore[attr-defined]
    sys.modules["torchvision.transforms.functional"].to_tensor = None  # type: ignore[attr-defined]


without_torchvision()

from streaming import MDSWriter, Stream, StreamingDataLoader, StreamingDataset  # noqa: E402
from streaming.base.util import clean_stale_shared_memory  # noqa: E402
from tars import members  # noqa: E402

BATCH = 32


def write_samples(samples: Iterable[tuple[str, dict[str, bytes]]], out: str) -> dict[str, Any]:
    """Write samples as MDS."""
    shutil.rmtree(out, ignore_errors=True)

    def run() -> dict[str, Any]:
        count = size = 0
        columns = {"key": "str", "jpg": "bytes", "json": "bytes"}
        with MDSWriter(out=out, columns=columns, hashes=["xxh3_128"]) as writer:
            for key, sample in samples:
                writer.write({"key": key, "jpg": sample.get("jpg", b""), "json": sample["json"]})
                count += 1
                size += len(sample.get("jpg", b""))
        return {"count": count, "bytes": size}

    return meter.timed(run)


def convert(tars: list[str], out: str) -> dict[str, Any]:
    """Convert the samples of tars."""
    return write_samples(members(tars), out)


def convert_many(tars: list[str], out: str) -> dict[str, Any]:
    """Convert each tar into a folder of its own."""
    return {"count": sum(convert([path], str(Path(out) / Path(path).stem))["count"] for path in tars)}


def write(pictures: list[str], texts: str, out: str) -> dict[str, Any]:
    """Write the same pictures and JSON as MDS."""
    lines = Path(texts).read_bytes().splitlines()

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for number, text in enumerate(lines):
            data = Path(pictures[number % len(pictures)]).read_bytes()
            yield f"{number:08d}", {"jpg": data, "json": text}

    return write_samples(samples(), out)


def opened(folder: str, shuffle: bool = False) -> StreamingDataset:
    """Return the dataset of a folder."""
    clean_stale_shared_memory()
    return StreamingDataset(
        local=folder, batch_size=BATCH, shuffle=shuffle, shuffle_seed=1, num_canonical_nodes=1
    )


def raw(folder: str, shuffle: bool = False, passes: int = 1) -> dict[str, Any]:
    """Read every sample once a pass; the dataset is opened once, as its shared memory asks."""
    dataset = opened(folder, shuffle)

    def start() -> Iterator[tuple[int, int]]:
        for sample in dataset:
            yield 1, len(sample["jpg"])

    return meter.consume(start, passes=passes)


def mixed(folders: dict[str, str], shares: dict[str, float], most: int) -> dict[str, Any]:
    """Read `most` samples of a mixture with its proportions."""
    names = sorted(shares)
    served: list[int] = []
    total = sum(shares.values())

    def start() -> Iterator[tuple[int, int]]:
        clean_stale_shared_memory()
        streams = [Stream(local=folders[name], proportion=shares[name] / total) for name in names]
        dataset = StreamingDataset(
            streams=streams, batch_size=BATCH, shuffle=True, num_canonical_nodes=1, epoch_size=most
        )
        for sample in dataset:
            served.append(names.index(sample["key"].rsplit("-", 2)[0]))
            yield 1, len(sample["jpg"])

    found = meter.consume(start, most=most)
    return found | {"prefix_error": meter.prefix_error(served, [shares[name] / total for name in names])}


def loader(folder: str, workers: int) -> StreamingDataLoader:
    """Return the loader that keeps a state."""
    return StreamingDataLoader(opened(folder, True), batch_size=BATCH, num_workers=workers, drop_last=False)


def resume(folder: str, at: float, before: int, after: int) -> dict[str, Any]:
    """Stop at a fraction of an epoch and go on."""
    import time

    first = loader(folder, before)
    count = len(first.dataset)
    served: list[str] = []
    for batch in first:
        served += batch["key"]
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
        served += batch["key"]
    return {"count": len(served), "missing": count - len(set(served)), "twice": len(served) - len(set(served)),
            "state_bytes": len(state), "first_s": first_s}  # fmt: skip


def crash(folder: str, log_folder: str, steps: int, pause_s: float) -> dict[str, Any]:
    """Serve batches until a kill, a state after each."""
    import time

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
            file.write(json.dumps([step, list(batch["key"])]) + "\n")
        step += 1
        place.with_suffix(".new").write_text(json.dumps({"step": step, "state": here.state_dict()}))
        place.with_suffix(".new").replace(place)
        time.sleep(pause_s)
    return {"count": step}


def expected(folder: str, steps: int) -> dict[str, Any]:
    """Return the keys of each step of a run that nothing stops."""
    found = []
    for batch in loader(folder, 0):
        found.append(list(batch["key"]))
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
    meter.main(TASKS, "mosaicml-streaming", "torch", "numpy")
