"""Hugging Face datasets, streaming the same tars, and torchdata's nodes over them."""

# mypy: ignore-errors
# What it imports is in an environment of its own, or beside it.
from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import meter
from content import digest
from datasets import Features, IterableDataset, Value, interleave_datasets, load_dataset

BATCH = 32
FEATURES = Features({"jpg": Value("binary"), "json": Value("binary"), "__key__": Value("string")})


def opened(tars: list[str]) -> IterableDataset:
    """Return tars as a stream of bytes: without features of our own it decodes pictures."""
    dataset = load_dataset("webdataset", data_files={"train": tars}, split="train", streaming=True)
    return dataset.decode(False)


def picture(sample: dict[str, Any]) -> bytes:
    """Return the bytes of a sample's picture, empty where there is none."""
    image = sample.get("jpg")
    return image["bytes"] if isinstance(image, dict) else (image or b"")


def raw(tars: list[str], shuffle: int = 0, passes: int = 1) -> dict[str, Any]:
    """Read every sample once a pass."""

    def start() -> Iterator[tuple[int, int]]:
        dataset = opened(tars)
        for sample in dataset.shuffle(seed=1, buffer_size=shuffle) if shuffle else dataset:
            yield 1, len(picture(sample))

    return meter.consume(start, passes=passes)


def mixed(tars: dict[str, str], shares: dict[str, float], most: int) -> dict[str, Any]:
    """Read `most` samples of a weighted mixture."""
    names = sorted(shares)
    served: list[int] = []
    total = sum(shares.values())

    def start() -> Iterator[tuple[int, int]]:
        parts = [opened([tars[name]]).repeat(None) for name in names]
        mixture = interleave_datasets(parts, probabilities=[shares[name] / total for name in names], seed=1)
        for sample in mixture:
            served.append(names.index(sample["__key__"].rsplit("-", 2)[0]))
            yield 1, len(picture(sample))

    found = meter.consume(start, most=most)
    return found | {"prefix_error": meter.prefix_error(served, [shares[name] / total for name in names])}


def mixed_nodes(tars: dict[str, str], shares: dict[str, float], most: int) -> dict[str, Any]:
    """Read `most` samples with torchdata's weighted sampler over one stream a source."""
    from torchdata.nodes import IterableWrapper, MultiNodeWeightedSampler

    names = sorted(shares)
    served: list[int] = []
    total = sum(shares.values())

    def start() -> Iterator[tuple[int, int]]:
        nodes = {name: IterableWrapper(opened([tars[name]]).repeat(None)) for name in names}
        for sample in MultiNodeWeightedSampler(nodes, {name: shares[name] for name in names}):
            served.append(names.index(sample["__key__"].rsplit("-", 2)[0]))
            yield 1, len(picture(sample))

    found = meter.consume(start, most=most)
    return found | {"prefix_error": meter.prefix_error(served, [shares[name] / total for name in names])}


def shuffled(tars: list[str]) -> IterableDataset:
    """Return the stream as one trains from it."""
    return opened(tars).shuffle(seed=1, buffer_size=200).batch(BATCH)


def resume(tars: list[str], at: float, count: int) -> dict[str, Any]:
    """Stop at a fraction of an epoch and go on."""
    first = shuffled(tars)
    served: list[str] = []
    for batch in first:
        served += batch["__key__"]
        if len(served) >= int(count * at):
            break
    state = json.dumps(first.state_dict()).encode()
    began = time.perf_counter()
    second = shuffled(tars)
    second.load_state_dict(json.loads(state))
    first_s = 0.0
    for batch in second:
        first_s = first_s or time.perf_counter() - began
        served += batch["__key__"]
    return {"count": len(served), "missing": count - len(set(served)), "twice": len(served) - len(set(served)),
            "state_bytes": len(state), "first_s": first_s}  # fmt: skip


def resume_workers(tars: list[str], at: float, before: int, after: int, count: int) -> dict[str, Any]:
    """Stop and go on with torchdata's loader, which keeps the state of workers."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    def loader(workers: int) -> Any:
        return StatefulDataLoader(opened(tars), batch_size=BATCH, num_workers=workers, collate_fn=keys)

    first = loader(before)
    served: list[str] = []
    for batch in first:
        served += batch
        if len(served) >= int(count * at):
            break
    state = first.state_dict()
    size = len(json.dumps(state, default=str).encode())
    began = time.perf_counter()
    second = loader(after)
    second.load_state_dict(state)
    first_s = 0.0
    for batch in second:
        first_s = first_s or time.perf_counter() - began
        served += batch
    return {"count": len(served), "missing": count - len(set(served)), "twice": len(served) - len(set(served)),
            "state_bytes": size, "first_s": first_s}  # fmt: skip


def keys(samples: list[dict[str, Any]]) -> list[str]:
    """Return the keys of samples."""
    return [sample["__key__"] for sample in samples]


def crash(tars: list[str], log_folder: str, steps: int, pause_s: float) -> dict[str, Any]:
    """Serve batches until a kill, a state after each."""
    place, log = Path(log_folder) / "state.json", Path(log_folder) / "served.jsonl"
    here = shuffled(tars)
    step = 0
    if place.exists():
        saved = json.loads(place.read_text())
        step = saved["step"]
        here.load_state_dict(saved["state"])
    for batch in here:
        if step >= steps:
            break
        with log.open("a") as file:
            file.write(json.dumps([step, list(batch["__key__"])]) + "\n")
        step += 1
        place.with_suffix(".new").write_text(json.dumps({"step": step, "state": here.state_dict()}))
        place.with_suffix(".new").replace(place)
        time.sleep(pause_s)
    return {"count": step}


def expected(tars: list[str], steps: int) -> dict[str, Any]:
    """Return the keys of each step of a run that nothing stops."""
    found = []
    for batch in shuffled(tars):
        found.append(list(batch["__key__"]))
        if len(found) == steps:
            break
    return {"count": steps, "steps": found}


def corruption(tars: list[str]) -> dict[str, Any]:
    """Read everything."""
    delivered: dict[str, str] = {}
    errors: list[str] = []
    try:
        for sample in opened(tars):
            data = picture(sample)
            key = sample["__key__"]
            key = key if key not in delivered else f"{key} again"
            delivered[key] = digest(data, sample.get("json"))
    except Exception as error:
        errors.append(repr(error))
    return {"count": len(delivered), "delivered": delivered, "errors": errors, "findings": []}


TASKS = {
    "raw": raw, "mixed": mixed, "mixed_nodes": mixed_nodes, "resume": resume, "resume_workers": resume_workers,
    "crash": crash, "expected": expected, "corruption": corruption,
}  # fmt: skip

if __name__ == "__main__":
    meter.main(TASKS, "datasets", "torchdata", "torch")
