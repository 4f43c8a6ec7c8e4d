"""What each process of a test of several does: the runs that it is told, one after the other.

`torchrun --nproc-per-node 2 tests/trainer/several.py FOLDER`. The same function does them in a process that is alone.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch

from dataengine.annotation import Turn
from dataengine.sample import Region, Route, Sample
from tests.trainer.conftest import HEIGHT, WIDTH, ToyReader, toy_run, toy_sample
from trainer import data
from trainer.config import TrainConfig
from trainer.train import Result, train

# A model that is tiny even beside the tiny one.
TINIER: dict[str, Any] = {
    "preset": "tiny",
    "detection": {"encoder_layers": 1, "decoder_layers": 2, "num_objects": 8, "denoising": 2},
}


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A run: changes of `toy_run`, whose `shards` may name a set of those there are; positions that are `broken`,
    whether samples are of all kinds (see `kinds`), the sample whose picture is `poison`, a position at which rank 1
    gets a SIGTERM, and one that nobody ever gets."""

    name: str
    changes: dict[str, Any]
    broken: tuple[int, ...] = ()
    kinds: bool = False
    poison: str | None = None
    terminated_at: int = -1
    stalled_at: int = -1


def kinds() -> list[tuple[Sample, list[bytes]]]:
    """Return samples that text answers, of which each needs other parts of the model: a region, no picture, a picture,
    queries."""
    made = []
    for number, kind in enumerate(("region", "words", "picture", "route") * 2):
        sample, pictures = toy_sample(number, "vqa")
        _, answer = sample.conversation
        if kind == "region":
            region = Region(kind="box", box=(4.0, 4.0, WIDTH - 4.0, HEIGHT - 4.0))
            asked = (Turn("user", "<image>\nWhat is <region>?"), answer)
            sample = msgspec.structs.replace(sample, conversation=asked, regions=(region,))
        elif kind == "words":
            asked = (Turn("user", "Which?"), answer)
            sample, pictures = msgspec.structs.replace(sample, conversation=asked, images=()), []
        elif kind == "route":
            asked = (Turn("user", "<image>\nFind red."), Turn("assistant", "red[DET]."))
            routes = (Route(token="[DET]", kind="category", name="red"),)
            sample = msgspec.structs.replace(sample, conversation=asked, routes=routes)
        made.append((sample, pictures))
    return made


@dataclass
class TroubledReader(ToyReader):
    """A toy during whose reading something befalls this process.

    It does so when a position is read for its step: before the first one, the run's tokenizer has heard all of them.
    """

    terminated_at: int = -1
    stalled_at: int = -1
    heard: set[int] = field(default_factory=set)

    def describe(self, position: int) -> Sample:
        if position in self.heard:
            if position == self.terminated_at and os.environ.get("RANK") == "1":
                os.kill(os.getpid(), signal.SIGTERM)
            if position == self.stalled_at:
                time.sleep(600)
        self.heard.add(position)
        return super().describe(position)


def run(job: Job, out: Path, shards: Path) -> Result:
    """Do one run, in as many processes as there are; `shards` is the folder of the sets that a run may name."""
    config = msgspec.convert(msgspec.to_builtins(toy_run()) | {"model": TINIER} | job.changes, TrainConfig)
    collate = vars(data)["collate"]
    reader: Any = TroubledReader(
        global_batch=config.global_batch,
        broken=frozenset(job.broken),
        samples=kinds() if job.kinds else (),
        terminated_at=job.terminated_at,
        stalled_at=job.stalled_at,
    )
    if config.shards != toy_run().shards:
        config, reader = msgspec.structs.replace(config, shards=str(shards / config.shards)), None

    def poisoned(samples: Any, *others: Any) -> Any:
        batch = collate(samples, *others)
        if job.poison in batch.sample_ids:
            batch.tiles_T3SS.fill_(float("nan"))
        return batch

    vars(data)["collate"] = poisoned
    try:
        return train(config, out, reader=reader)
    finally:
        vars(data)["collate"] = collate


if __name__ == "__main__":
    torch.set_num_threads(1)
    # Once for all runs: those of torchrun can only be joined once.
    torch.distributed.init_process_group("gloo")
    folder = Path(sys.argv[1])
    for job in msgspec.json.decode((folder / "jobs.json").read_bytes(), type=list[Job]):
        result = run(job, folder / job.name, folder / "shards")
        (folder / f"{job.name}.rank{result.rank}.json").write_bytes(
            msgspec.json.encode(msgspec.to_builtins(vars(result), enc_hook=str))
        )
    torch.distributed.destroy_process_group()
