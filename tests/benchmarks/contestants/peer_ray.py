"""Ray Data's reader of tars, with two CPUs."""

# mypy: ignore-errors
# What it imports is in an environment of its own, or beside it.
from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import meter
import ray


def raw(tars: list[str], passes: int = 1) -> dict[str, Any]:
    """Read every sample once a pass."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def start() -> Iterator[tuple[int, int]]:
        for sample in ray.data.read_webdataset(tars, decoder=None).iter_rows():
            yield 1, len(sample.get("jpg") or b"")

    found = meter.consume(start, passes=passes)
    ray.shutdown()
    return found


def write(tars: list[str], out: str) -> dict[str, Any]:
    """Write the samples again with its writer of tars."""
    shutil.rmtree(out, ignore_errors=True)
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def run() -> dict[str, Any]:
        data = ray.data.read_webdataset(tars, decoder=None).materialize()
        data.write_webdataset(out, encoder=None)
        return {"count": data.count(), "bytes": 0}

    found = meter.timed(run)
    ray.shutdown()
    return found


TASKS = {"raw": raw, "write": write}

if __name__ == "__main__":
    os.environ["RAY_TRAIN_V2_ENABLED"] = "0"
    meter.main(TASKS, "ray", "pyarrow")
