"""webdataset: its own reader and writer over the tars that our writer made."""

# mypy: ignore-errors
# What it imports is in an environment of its own, or beside it.
from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import meter
import webdataset as wds
from content import digest
from torch.utils.data import DataLoader


def raw(tars: list[str], workers: int = 0, shuffle: int = 0, passes: int = 1) -> dict[str, Any]:
    """Read every sample once a pass, bytes alone."""

    def start() -> Iterator[tuple[int, int]]:
        dataset = wds.WebDataset(tars, shardshuffle=False)
        if shuffle:
            dataset = dataset.shuffle(shuffle)
        if workers:
            dataset = dataset.batched(32, collation_fn=list)
            for batch in DataLoader(dataset, batch_size=None, num_workers=workers):
                yield len(batch), sum(len(sample["jpg"]) for sample in batch)
            return
        for sample in dataset:
            yield 1, len(sample.get("jpg", b""))

    return meter.consume(start, passes=passes)


def mixed(tars: dict[str, str], shares: dict[str, float], most: int, shuffle: int = 0) -> dict[str, Any]:
    """Read `most` samples of a weighted mixture."""
    names = sorted(shares)
    served: list[int] = []
    total = sum(shares.values())

    def start() -> Iterator[tuple[int, int]]:
        parts = [wds.WebDataset([tars[name]], shardshuffle=False).repeat() for name in names]
        if shuffle:
            parts = [part.shuffle(shuffle) for part in parts]
        for sample in wds.RandomMix(parts, [shares[name] for name in names]):
            served.append(names.index(sample["__key__"].rsplit("-", 2)[0]))
            yield 1, len(sample["jpg"])

    found = meter.consume(start, most=most)
    return found | {"prefix_error": meter.prefix_error(served, [shares[name] / total for name in names])}


def corruption(tars: list[str], go_on: bool) -> dict[str, Any]:
    """Read everything, stopping at an error or going on after a warning."""
    delivered: dict[str, str] = {}
    errors: list[str] = []

    def warn(error: Exception) -> bool:
        errors.append(repr(error))
        return True

    handler = warn if go_on else wds.reraise_exception
    try:
        for sample in wds.WebDataset(tars, shardshuffle=False, handler=handler):
            data = sample.get("jpg")
            key = sample["__key__"]
            key = key if key not in delivered else f"{key} again"
            delivered[key] = digest(data, sample.get("json"))
    except Exception as error:
        errors.append(repr(error))
    return {"count": len(delivered), "delivered": delivered, "errors": errors, "findings": []}


def write(pictures: list[str], texts: str, out: str, samples_per_shard: int) -> dict[str, Any]:
    """Write the same pictures and JSON as tars, with its ShardWriter."""
    shutil.rmtree(out, ignore_errors=True)
    Path(out).mkdir(parents=True)
    lines = Path(texts).read_bytes().splitlines()

    def run() -> dict[str, Any]:
        size = 0
        with wds.ShardWriter(f"{out}/%06d.tar", maxcount=samples_per_shard, verbose=0) as writer:
            for number, text in enumerate(lines):
                data = Path(pictures[number % len(pictures)]).read_bytes()
                writer.write({"__key__": f"{number:08d}", "jpg": data, "json": text})
                size += len(data)
        return {"count": len(lines), "bytes": size}

    return meter.timed(run)


def decode(tars: list[str], side: int, most: int) -> dict[str, Any]:
    """Decode by its default path, `decode("pil")`, and resize by Pillow: what its examples show."""
    import numpy as np
    from PIL import Image

    def start() -> Iterator[tuple[int, int]]:
        for sample in wds.WebDataset(tars, shardshuffle=False).decode("pil").repeat():
            scaled = sample["jpg"].resize((side, side), Image.Resampling.BICUBIC)
            yield 1, np.asarray(scaled).nbytes

    return meter.consume(start, most=most)


def tarfile_walk(tars: list[str]) -> dict[str, Any]:
    """Return the number of members, headers read one by one by tarfile: how wds2idx falls back."""
    import tarfile

    def run() -> dict[str, Any]:
        count = 0
        lines = io.StringIO()
        for path in tars:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    lines.write(f"{member.offset_data} {member.size} {member.name}\n")
                    count += 1
        return {"count": count}

    return meter.timed(run)


TASKS = {
    "raw": raw, "mixed": mixed, "corruption": corruption, "write": write, "decode": decode,
    "tarfile_walk": tarfile_walk,
}  # fmt: skip

if __name__ == "__main__":
    meter.main(TASKS, "webdataset", "torch")
