"""Training by Ray Train: it starts the processes, on one machine or many, and starts them anew when one is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch

from dataengine.errors import DataEngineError
from dataengine.runners.ray import connected
from trainer.config import TrainConfig, make_config
from trainer.train import Result, train

PACKAGES = ("dataengine", "converters", "trainer", "task_specs")


def train_on_ray(
    config: TrainConfig, out_dir: Path, *, workers: int, address: str | None = None, max_failures: int = 3
) -> Result:
    """Train in `workers` processes, one a GPU where this machine has any, and return how it ended.

    Connects to the Ray cluster at `address`, or starts Ray on this machine. `out_dir` and shards must be seen by all
    nodes. Processes that are lost are started again up to `max_failures` times, and go on from the newest checkpoint.
    Raises DataEngineError where training fails.
    """
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
                name="ray",
                storage_path=str(out_dir.absolute()),
                failure_config=FailureConfig(max_failures=max_failures),
            ),
        )
        try:
            told = trainer.fit().metrics
        except Exception as error:
            # Ray Train has an error for each place; what our own code raised stands in its text.
            raise DataEngineError(f"{out_dir}: training on Ray failed: {_last_line(error)}") from error
    return msgspec.convert(told, Result, dec_hook=lambda kind, value: kind(value))


def _train(given: dict[str, Any]) -> None:
    """Train in one of the processes, and report how it ended."""
    from ray import train as ray_train

    result = train(make_config(given["config"]), Path(given["out_dir"]))
    ray_train.report(msgspec.to_builtins(result, enc_hook=str))


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
