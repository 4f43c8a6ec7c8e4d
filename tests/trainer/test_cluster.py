"""Ray Train starts the processes that train."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dataengine.cli import group
from dataengine.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore")  # what Ray warns about while it starts is not ours to mend


@pytest.mark.slow
def test_processes_that_ray_starts_train_together(two_task_shards: Path, tmp_path: Path) -> None:
    command = ["train", str(two_task_shards), "--out", str(tmp_path / "run"), "--ray-workers", "2", "--json"]
    options = ["--steps", "1", "--global-batch", "2", "--device", "cpu"]

    result = CliRunner().invoke(group, [*command, *options], catch_exceptions=False)

    told = json.loads(result.stdout.splitlines()[-1])
    (line,) = [json.loads(one) for one in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert (told["step"], told["stopped"], Path(told["checkpoint"]).name) == (1, False, "step-00000001")
    assert (line["ranks"], len(line["ids"])) == (2, 2)
    files = (tmp_path / "run/checkpoints/step-00000001").glob("*.safetensors")
    assert {path.name[:11] for path in files} == {"shard-00001", "shard-00002"}


def test_an_address_needs_processes_to_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--address: names a Ray cluster, expected --ray-workers"):
        CliRunner().invoke(
            group, ["train", "s", "--out", str(tmp_path), "--address", "auto"], catch_exceptions=False
        )
