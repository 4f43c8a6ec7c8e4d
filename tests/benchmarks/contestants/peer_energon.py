"""Megatron-Energon: its metadata beside the same tars, decoding turned off (it is on by default)."""

# mypy: ignore-errors
# What it imports is in an environment of its own, or beside it.
from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import meter
from content import digest
from megatron.energon import (
    CrudeSample,
    DefaultTaskEncoder,
    WorkerConfig,
    get_loader,
    get_savable_loader,
    get_train_dataset,
)
from megatron.energon.task_encoder import Cooker
from megatron.energon.task_encoder.base import stateless

BATCH = 32
PREPARE = ("--non-interactive", "--no-progress", "--split-ratio", "1,0,0", "--sample-type", "CrudeWebdataset")


@stateless
def as_it_is(sample: CrudeSample) -> CrudeSample:
    """Return the sample untouched."""
    return sample


class Bytes(DefaultTaskEncoder):  # type: ignore[misc, type-arg]
    """No decoding; a batch is a list."""

    decoder = None
    cookers = (Cooker(as_it_is),)

    def batch(self, samples: list[Any]) -> list[Any]:
        """Return the samples as they are."""
        return samples


def convert(tars: list[str], out: str) -> dict[str, Any]:
    """Link the tars into a folder and prepare it."""
    shutil.rmtree(out, ignore_errors=True)
    Path(out).mkdir(parents=True)
    for path in tars:
        os.link(path, Path(out) / Path(path).name)
    program = Path(sys.executable).with_name("energon")
    command = [str(program), "prepare", out, *PREPARE, "--num-workers", "2"]

    def run() -> dict[str, Any]:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return {"count": len(tars)}

    return meter.timed(run)


def convert_many(tars: list[str], out: str) -> dict[str, Any]:
    """Prepare each tar in a folder of its own, all from this process: importing it takes longer than the work."""
    from megatron.energon.tools.prepare import command

    for path in tars:
        folder = Path(out) / Path(path).stem
        folder.mkdir(parents=True)
        os.link(path, folder / Path(path).name)
        command.main([str(folder), *PREPARE, "--num-workers", "1"], standalone_mode=False)
    return {"count": len(tars)}


def prepare(tars: list[str], out: str, count: int) -> dict[str, Any]:
    """Prepare a folder of tars with so many members."""
    return convert(tars, out) | {"count": count}


def dataset(
    path: str, workers: int, batch: int | None, shuffle: int | None = None, repeat: bool = False
) -> Any:
    """Return the dataset of a prepared folder or of a metadataset file."""
    return get_train_dataset(
        path, worker_config=WorkerConfig(rank=0, world_size=1, num_workers=workers), batch_size=batch,
        shuffle_buffer_size=shuffle, max_samples_per_sequence=100 if shuffle else None, task_encoder=Bytes(),
        repeat=repeat,
    )  # fmt: skip


def raw(folder: str, workers: int = 0, shuffle: int = 0, passes: int = 1) -> dict[str, Any]:
    """Read every sample once a pass."""

    def start() -> Iterator[tuple[int, int]]:
        batch = BATCH if workers else None
        for sample in get_loader(dataset(folder, workers, batch, shuffle or None)):
            if workers:
                yield len(sample), sum(len(one["jpg"]) for one in sample)
            else:
                yield 1, len(sample.get("jpg", b""))

    return meter.consume(start, passes=passes)


def mixed(folders: dict[str, str], shares: dict[str, float], most: int, out: str) -> dict[str, Any]:
    """Read `most` samples of a weighted blend."""
    names = sorted(shares)
    served: list[int] = []
    total = sum(shares.values())
    lines = ["__module__: megatron.energon", "__class__: MetadatasetV2", "splits:", "  train:", "    blend:"]
    for name in names:
        lines += [f"    - weight: {shares[name]}", f"      path: {folders[name]}"]
    Path(out).write_text("\n".join(lines) + "\n")
    state = b""

    def start() -> Iterator[tuple[int, int]]:
        nonlocal state
        loader = get_savable_loader(dataset(out, 0, None, repeat=True))
        for sample in loader:
            served.append(names.index(sample["__key__"].rpartition("/")[2].rsplit("-", 2)[0]))
            if len(served) == most:
                state = pickle.dumps(loader.save_state_rank())
            yield 1, len(sample["jpg"])

    found = meter.consume(start, most=most)
    return found | {"prefix_error": meter.prefix_error(served, [shares[name] / total for name in names]),
                    "state_bytes": len(state)}  # fmt: skip


def keys(batch: list[Any]) -> list[str]:
    """Return the keys of a batch."""
    return [sample["__key__"] for sample in batch]


def savable(folder: str, workers: int) -> Any:
    """Return the loader that keeps a state; its training data never end."""
    made = dataset(folder, workers, BATCH, 100, repeat=True)
    return get_savable_loader(made, checkpoint_every_sec=60)


def resume(folder: str, at: float, before: int, after: int, count: int) -> dict[str, Any]:
    """Stop at a fraction of an epoch and go on; held to what a run that nothing stops serves."""
    whole: list[str] = []
    for batch in savable(folder, before):
        whole += keys(batch)
        if len(whole) >= count:
            break
    first = savable(folder, before)
    served: list[str] = []
    for batch in first:
        served += keys(batch)
        if len(served) >= int(count * at):
            break
    state = pickle.dumps(first.save_state_rank())
    began = time.perf_counter()
    second = savable(folder, after)
    second.restore_state_rank(pickle.loads(state))
    first_s = 0.0
    for batch in second:
        first_s = first_s or time.perf_counter() - began
        if len(served) >= count:
            break
        served += keys(batch)
    wanted, got = Counter(whole), Counter(served)
    return {"count": len(served), "missing": (wanted - got).total(), "twice": (got - wanted).total(),
            "state_bytes": len(state), "first_s": first_s}  # fmt: skip


def crash(folder: str, log_folder: str, steps: int, pause_s: float) -> dict[str, Any]:
    """Serve batches until a kill, a state after each."""
    place, log = Path(log_folder) / "state.pickle", Path(log_folder) / "served.jsonl"
    here = savable(folder, 0)
    step = 0
    if place.exists():
        step, state = pickle.loads(place.read_bytes())
        here.restore_state_rank(state)
    for batch in here:
        if step >= steps:
            break
        with log.open("a") as file:
            file.write(json.dumps([step, keys(batch)]) + "\n")
        step += 1
        place.with_suffix(".new").write_bytes(pickle.dumps((step, here.save_state_rank())))
        place.with_suffix(".new").replace(place)
        time.sleep(pause_s)
    return {"count": step}


def expected(folder: str, steps: int) -> dict[str, Any]:
    """Return the keys of each step of a run that nothing stops."""
    found = []
    for batch in savable(folder, 0):
        found.append(keys(batch))
        if len(found) == steps:
            break
    return {"count": steps, "steps": found}


def corruption(tars: list[str], out: str) -> dict[str, Any]:
    """Prepare damaged tars and read everything."""
    delivered: dict[str, str] = {}
    errors: list[str] = []
    try:
        convert(tars, out)
        for sample in get_loader(dataset(out, 0, None)):
            data = sample.get("jpg")
            key = sample["__key__"].rpartition("/")[2]
            key = key if key not in delivered else f"{key} again"
            delivered[key] = digest(data, sample.get("json"))
    except Exception as error:
        errors.append(repr(error))
    return {"count": len(delivered), "delivered": delivered, "errors": errors, "findings": []}


TASKS = {
    "convert": convert, "convert_many": convert_many, "prepare": prepare, "raw": raw, "mixed": mixed, "resume": resume,
    "crash": crash, "expected": expected, "corruption": corruption,
}  # fmt: skip

if __name__ == "__main__":
    meter.main(TASKS, "megatron-energon", "torch", "webdataset")
