"""The harness of the benchmarks runs; what it measures is asserted nowhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PACKING = Path(__file__).parent / "benchmarks" / "contestants" / "packing.py"


def test_a_contestant_tells_what_it_did_as_a_line_of_json() -> None:
    arguments = {"buffer": 64, "limit": 4096, "images": 18, "count": 100}
    command = [sys.executable, str(PACKING), "best_fit", json.dumps(arguments)]

    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    found = json.loads(output.splitlines()[-1])
    assert found["count"] == 100
    assert 0.5 < found["fill"] <= 1
    assert {"seconds", "cpu_s", "peak_mb", "versions", "bytes"} <= found.keys()
