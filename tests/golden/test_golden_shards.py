"""A refactor proves that it changed nothing: the demo's shards keep their digests, bit for bit.

Run as a script to pin them anew, and say SHARD BYTES in the commit's message.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.demo.prepare import prepare
from dataengine.shard import shard

PINNED = Path(__file__).with_name("shards.json")
# Their pictures are packaged bytes; those of the other demo sets are encoded here, and depend on the Pillow build.
DATASETS = (
    "demo_animals", "demo_captions", "demo_choices", "demo_coco", "demo_llava", "demo_people", "demo_prompts",
    "demo_refcoco", "demo_voc",
)  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of each shard of the demo's photographs."""
    prepare(folder / "data")
    for dataset in DATASETS:
        for spec in Catalog().find(dataset):
            convert(spec, "train", folder / "data", folder / "manifests", seed=1)
    made = shard([folder / "manifests"], folder / "shards", samples_per_shard=40)
    return {file.name: file.digest for file in made.shards}


def test_the_demos_shards_keep_their_bytes(tmp_path: Path) -> None:
    pinned = json.loads(PINNED.read_text())

    found = digests(tmp_path)

    changed = sorted(name for name in pinned.keys() | found.keys() if pinned.get(name) != found.get(name))
    assert not changed, f"{changed}: if this is meant, run 'python {Path(__file__).name}' and say SHARD BYTES"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        PINNED.write_text(json.dumps(digests(Path(scratch)), indent=1, sort_keys=True) + "\n")
    sys.stdout.write(f"wrote {PINNED.name}\n")
