"""Plain work to hold writers and indexers to: copying the same bytes, and tar's own listing."""

# mypy: ignore-errors
# What it imports is in an environment of its own, or beside it.
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import meter


def copy(pictures: list[str], texts: str, out: str, samples_per_shard: int) -> dict[str, Any]:
    """Read every picture and text and write them one after the other into files of a shard's size, synced."""
    shutil.rmtree(out, ignore_errors=True)
    Path(out).mkdir(parents=True)
    lines = Path(texts).read_bytes().splitlines()

    def run() -> dict[str, Any]:
        size = 0
        for first in range(0, len(lines), samples_per_shard):
            with (Path(out) / f"{first:08d}").open("wb") as file:
                for number in range(first, min(first + samples_per_shard, len(lines))):
                    data = Path(pictures[number % len(pictures)]).read_bytes()
                    file.write(data)
                    file.write(lines[number])
                    size += len(data)
                file.flush()
                os.fsync(file.fileno())
        return {"count": len(lines), "bytes": size}

    return meter.timed(run)


def tar_list(tars: list[str]) -> dict[str, Any]:
    """Let tar list the members with their blocks and read its lines."""

    def run() -> dict[str, Any]:
        count = 0
        for path in tars:
            listing = subprocess.run(
                ["tar", "tvR", "-f", path], check=True, capture_output=True, text=True
            ).stdout
            for line in listing.splitlines():
                block, _, rest = line.partition(": ")
                count += int(block.removeprefix("block ")) >= 0 and "Block of NULs" not in rest
        return {"count": count}

    return meter.timed(run)


TASKS = {"copy": copy, "tar_list": tar_list}

if __name__ == "__main__":
    meter.main(TASKS)
