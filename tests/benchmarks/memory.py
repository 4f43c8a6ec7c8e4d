"""Peak memory of a conversion, in a process of its own and its workers: what a file costs beyond an empty one."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

POLL_S = 0.02
COLUMNS = ("id", "image", "caption")
WORDS = "of a cat and a dog that play in the sun"

SPEC = """\
id: bench_{kind}
title: bench
license: {{annotations: CC0-1.0, images: CC0-1.0}}
status: layout
source:
  format: records
  table: {{path: table.{kind}, kind: {kind}}}
  key: '{{id}}'
  fields: {{images: '{{image}}', captions: caption}}
  splits: {{train: {{use: train}}}}
tasks: {{caption: {{}}}}
"""


def table(folder: Path, kind: str, rows: int) -> Path:
    """Write a table of captions, one picture and the spec that reads it; return the spec's path."""
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(folder / "a.jpg")
    data = [(f"id{i}", "a.jpg", f"picture number {i} {WORDS} {WORDS[::-1]}") for i in range(rows)]
    path = folder / f"table.{kind}"
    match kind:
        case "jsonl":
            path.write_text("".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in data))
        case "csv":
            with path.open("w", newline="") as file:
                csv.writer(file).writerows([COLUMNS, *data])
        case "parquet":
            pq.write_table(pa.table(dict(zip(COLUMNS, zip(*data, strict=True), strict=True))), path)
    spec = folder / f"bench_{kind}.yaml"
    spec.write_text(SPEC.format(kind=kind))
    return spec


def converted(spec: Path, root: Path, out: Path, workers: int) -> tuple[int, int]:
    """Convert by the command line; return the peaks in bytes of the main process and of its largest other one."""
    command = [
        sys.executable,
        "-m",
        "dataengine",
        "convert",
        str(spec),
        "--root",
        str(root),
        "--out",
        str(out),
    ]
    process = subprocess.Popen([*command, "--workers", str(workers)], stdout=subprocess.DEVNULL)
    peaks: dict[int, int] = {}
    while process.poll() is None:
        peaks.update({one: peak for one in _family(process.pid) if (peak := _peak(one))})
        time.sleep(POLL_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    main = peaks.pop(process.pid)
    return main, max(peaks.values(), default=0)


def _family(number: int) -> Iterator[int]:
    """Yield a process and those below it, as Linux lists them."""
    yield number
    for listed in Path(f"/proc/{number}/task").glob("*/children"):
        try:
            children = listed.read_text().split()
        except OSError:  # it ended meanwhile
            continue
        for child in children:
            yield from _family(int(child))


def _peak(number: int) -> int:
    """Return the peak of a process's resident memory in bytes, 0 where it has ended."""
    try:
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def available() -> bool:
    """Say whether this system tells what a process takes."""
    return os.path.exists("/proc/self/status")  # noqa: PTH110
