"""How fast the trainer is on a device, packed, in micro-batches, and against the same model fed by a plain DataLoader.

    python tests/benchmarks/gpu.py --minutes 3 --out results.json          # where there is a GPU
    python tests/benchmarks/gpu.py --size tiny --steps 4 --device cpu      # that it works; the numbers mean nothing

First `small` is trained on scenes for some minutes; then each size is measured on the same steps in the same call.
Rates are those of `metrics.jsonl`, over the steps after the first third: tokens and pictures a second, operations a
second as a share of the device's peak, waiting for data as a share of the time, and the most memory that was in use.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import msgspec
import torch
from torch.utils.data import DataLoader, Dataset

from dataengine.catalog import Catalog, shipped_specs
from dataengine.convert import convert
from dataengine.shard import shard
from dataengine.state import Hole
from dataengine.store import locate
from trainer.batch import Batch
from trainer.collate import collate
from trainer.config import (
    MicroBatches,
    Packing,
    TrainConfig,
    encode_settings,
    learning_rates,
    model_config,
    recipe_of,
)
from trainer.data import PartData, ShardReader, StepData, open_shards
from trainer.distributed import Ranks, find_device
from trainer.encode import Encoded, encode_files
from trainer.flops import Flops, peak_flops
from trainer.log import METRICS, merged, metrics, report
from trainer.model.visionllm import VisionLLM
from trainer.settings import EncodeSettings
from trainer.tokenizer import bank_texts, train_tokenizer
from trainer.train import train
from trainer.update import update

COLUMNS = (
    "tokens_per_s",
    "images_per_s",
    "samples_per_s",
    "mfu",
    "tflops",
    "stall_share",
    "padding",
    "memory_bytes",
)


class Positions(Dataset):  # type: ignore[type-arg]
    """What many write: a sample by its position, encoded by whichever worker is asked."""

    def __init__(self, reader: ShardReader, tokenizer: Any, settings: EncodeSettings) -> None:
        self.reader, self.tokenizer, self.settings = reader, tokenizer, settings

    def __getitem__(self, position: int) -> Encoded | None:
        found = self.reader.read(position)
        if isinstance(found, Hole):
            return None
        return encode_files(*found, self.tokenizer, self.settings, None)


def make_shards(folder: Path, scenes: int) -> Path:
    """Convert and shard scenes: pictures of known truth, with text, boxes and masks."""
    text = (shipped_specs() / "datasets" / "scenes.yaml").read_text()
    (folder / "specs" / "datasets").mkdir(parents=True)
    (folder / "specs" / "datasets" / "scenes.yaml").write_text(text.replace(" 2000", f" {scenes}"))
    for spec in Catalog(folder / "specs").find("scenes"):
        for split in (name for name in spec.splits if name.startswith("train")):
            convert(spec, split, folder / "source", folder / "manifests")
    shard([folder / "manifests"], folder / "shards")
    return folder / "shards"


def configuration(shards: Path, size: str, options: argparse.Namespace, **changes: Any) -> TrainConfig:
    """Return a run of one size on scenes, in bfloat16 where that is worth it."""
    device = find_device(options.device, None)
    return TrainConfig(
        shards=str(shards),
        model=size,
        steps=options.steps,
        global_batch=options.batch,
        mixture={"policy": "sqrt"},
        precision="bf16" if device.type == "cuda" else "fp32",
        device=options.device,
        num_workers=options.workers,
        tensorboard=False,
        checkpoint_every=10**9,
        peak_tflops=options.peak_tflops,
        **changes,
    )


def tidy() -> None:
    """Give back what the measurement before had, whose modules refer to each other."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def lines_of(config: TrainConfig, out: Path) -> list[dict[str, Any]]:
    """Train, and return the lines that were logged. No checkpoint is kept: one of `base` has 80 GB."""
    with patch("trainer.train._save", lambda run: run.out_dir):
        train(config, out)
    return [json.loads(line) for line in (out / METRICS).read_text().splitlines()]


def plain_lines(config: TrainConfig, _: Path) -> list[dict[str, Any]]:
    """Do the same steps with a plain DataLoader: worker processes, one padded batch a step."""
    device = find_device(config.device, None)
    tokenizer = train_tokenizer(bank_texts())
    model = VisionLLM(model_config(config, tokenizer.get_vocab())).to(device).train()
    model.train_only(set(learning_rates(config, model.parts())))
    flops, peak = Flops(model), peak_flops(device, config.precision, config.peak_tflops)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    reader = open_shards(locate(config.shards), recipe_of(config))
    settings = encode_settings(config, model.config)
    loader = DataLoader(
        Positions(reader, tokenizer, settings),
        batch_size=config.global_batch,
        sampler=range(config.steps * config.global_batch),
        num_workers=config.num_workers,
        collate_fn=lambda found: collate([one for one in found if one is not None], tokenizer.pad_token_id),
        prefetch_factor=config.prefetch if config.num_workers else None,
    )
    found = []
    batches = iter(loader)
    for step in range(config.steps):
        started = time.perf_counter()
        batch: Batch = next(batches)
        waited = time.perf_counter() - started
        data = StepData(
            step=step,
            start=step * config.global_batch,
            stop=(step + 1) * config.global_batch,
            parts=(PartData(batches=(batch,)),),
            holes=(),
            shortened={},
            wait_s=waited,
        )
        computed, norm = update(config, model, optimizer, data.parts, step, Ranks(device=device))
        told = merged([report(data, computed, flops, device)])
        found.append(metrics(told, norm, 1e-4, time.perf_counter() - started, config, peak))
    return found


def summary(lines: list[dict[str, Any]]) -> dict[str, float | None]:
    """Return the means over the steps after the first third, rates by the time that all of them took."""
    kept = lines[len(lines) // 3 :]
    seconds = sum(line["step_s"] for line in kept)
    found: dict[str, float | None] = {"step_s": seconds / len(kept)}
    for name in COLUMNS:
        values = [line[name] for line in kept]
        if None in values:
            found[name] = None
        elif name.endswith("_per_s") or name in ("mfu", "tflops", "stall_share"):
            found[name] = (
                sum(value * line["step_s"] for value, line in zip(values, kept, strict=True)) / seconds
            )
        else:
            found[name] = max(values) if name == "memory_bytes" else fmean(values)
    return found


def variants(shards: Path, size: str, options: argparse.Namespace) -> Iterator[tuple[str, TrainConfig, Any]]:
    """Yield what is measured of a size: a name, the run, and who does it."""
    rows = MicroBatches(max_rows=options.rows)
    yield "packed", configuration(shards, size, options, pack=Packing(), micro_batch=rows), lines_of
    yield "micro-batches", configuration(shards, size, options, micro_batch=rows), lines_of
    yield "padded", configuration(shards, size, options), lines_of
    yield "plain DataLoader", configuration(shards, size, options), plain_lines


def train_for(minutes: float, config: TrainConfig, out: Path) -> dict[str, Any]:
    """Train for some minutes, and return how the losses fell and how fast it was."""
    ending = threading.Timer(minutes * 60, os.kill, (os.getpid(), 15))  # as a scheduler would
    ending.start()
    try:
        lines = lines_of(msgspec.structs.replace(config, steps=10**6), out)
    finally:
        ending.cancel()
    losses = [line["loss"] for line in lines if line["loss"] is not None]
    tenth = max(len(losses) // 10, 1)
    return {
        "steps": len(lines),
        "first": fmean(losses[:tenth]),
        "last": fmean(losses[-tenth:]),
        **summary(lines),
    }


def print_row(name: str, found: dict[str, Any]) -> None:
    cells = [
        "-"
        if found[one] is None
        else f"{found[one] / 2**30:.2f}"
        if one == "memory_bytes"
        else f"{found[one]:.3g}"
        for one in COLUMNS
    ]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", action="append", help="tiny, small or base; may be given several times")
    parser.add_argument("--minutes", type=float, default=0.0, help="train the first size for so long before")
    parser.add_argument("--steps", type=int, default=30, help="steps of each measurement")
    parser.add_argument("--batch", type=int, default=32, help="samples a step")
    parser.add_argument("--rows", type=int, default=8, help="sequences of a micro-batch")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--peak-tflops", type=float)
    parser.add_argument("--shards", type=Path, help="measure on these instead of scenes")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gpu-"))
    results: dict[str, Any] = {"device": str(find_device(options.device, None)), "torch": torch.__version__}
    if torch.cuda.is_available():
        results["device"] = torch.cuda.get_device_name()

    def keep(name: str, found: Any) -> None:
        """Have each result on disk as soon as it is there: a later one may not fit the device."""
        results[name] = found
        if options.out:
            options.out.write_text(json.dumps(results, indent=1))

    try:
        shards = options.shards or make_shards(folder, options.scenes)
        sizes = options.size or ["small", "base"]
        if options.minutes:
            rows = {"pack": Packing(), "micro_batch": MicroBatches(max_rows=options.rows)}
            config = configuration(shards, sizes[0], options, **rows)
            keep("trained", train_for(options.minutes, config, folder / "trained"))
            print(f"trained {sizes[0]}: {json.dumps(results['trained'])}", flush=True)
        print(f"| {results['device']} | {' | '.join(COLUMNS).replace('memory_bytes', 'memory GiB')} |")
        print(f"| --- |{' --- |' * len(COLUMNS)}")
        for size in sizes:
            for name, config, do in variants(shards, size, options):
                tidy()
                try:
                    found = summary(do(config, folder / f"{size} {name}"))
                except torch.OutOfMemoryError as error:
                    keep(f"{size}, {name}", str(error))
                    print(f"| {size}, {name} | does not fit |{' |' * (len(COLUMNS) - 1)}", flush=True)
                    continue
                keep(f"{size}, {name}", found)
                print_row(f"{size}, {name}", found)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
