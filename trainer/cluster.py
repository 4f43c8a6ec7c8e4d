"""Training by Ray Train: it starts the processes, on one machine or many, and starts them anew when one is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch

from dataengine.errors import DataEngineError
from dataengine.files import make_folder, write_atomic
from dataengine.runners.ray import connected
from trainer.config import TrainConfig, make_config
from trainer.train import Result, train

# Below a run's folder: what Ray keeps of it, and how it ended.
FOLDER, RESULT = "ray", "result.json"
PACKAGES = ("dataengine", "converters", "trainer", "task_specs")


def train_on_ray(
    config: TrainConfig, out_dir: Path, *, workers: int, address: str | None = None, max_failures: int = 3
) -> Result:
    """Train in `workers` processes, one a GPU where this machine has any, and return how it ended.

    Connects to the Ray cluster at `address`, or starts Ray on this machine. `out_dir` and shards must be seen by all
    nodes. Processes that are lost are started again up to `max_failures` times, and go on from the newest checkpoint.
    Raises DataEngineError where training fails.
    """
    make_folder(out_dir / FOLDER)
    with connected(address, workers, PACKAGES):
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        gpu = torch.cuda.is_available()
        trainer = TorchTrainer(
            _train,
            train_loop_config={"config": msgspec.to_builtins(config), "out_dir": str(out_dir.absolute())},
            torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo"),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu),
            run_config=RunConfig(
                name=FOLDER,
                storage_path=str(out_dir.absolute()),
                failure_config=FailureConfig(max_failures=max_failures),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            # Ray Train has an error for each place; what our own code raised stands in its text.
            raise DataEngineError(f"{out_dir}: training on Ray failed: {_last_line(error)}") from error
    told = msgspec.json.decode((out_dir / FOLDER / RESULT).read_bytes())
    return Result(**{**told, "checkpoint": Path(told["checkpoint"]), "nonfinite": tuple(told["nonfinite"])})


def _train(given: dict[str, Any]) -> None:
    """Train in one of the processes. One of them writes how it ended: not every Ray hands over what is returned."""
    out_dir = Path(given["out_dir"])
    result = train(make_config(given["config"]), out_dir)
    if result.rank == 0:
        write_atomic(out_dir / FOLDER / RESULT, msgspec.json.encode(result, enc_hook=str))


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
