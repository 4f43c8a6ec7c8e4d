"""Explore at scale: a split, or a set of shards, of N samples; how long opening and filters take, and the memory.

`python tests/benchmarks/explore.py FOLDER [N] [--shards]` makes the samples in FOLDER once. Times are wall seconds and
CPU seconds of the process; memory is what is resident and of no file, and the most that was resident (VmHWM).
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from dataengine import manifest as manifests
from dataengine.annotation import Turn
from dataengine.explore.search import Filter
from dataengine.explore.session import Ask, Session
from dataengine.ledger import Ledger
from dataengine.manifest import Manifest, sample_row
from dataengine.sample import (
    InstanceTargets,
    Route,
    Sample,
    SampleImage,
    SampleLicense,
    SampleOrigin,
    TargetInstance,
)
from dataengine.shard import shard

GROUP = 512  # rows of a row group, as `convert` writes them
LABELS = [f"class {number}" for number in range(80)]
LICENSES = ["CC-BY-4.0", "CC-BY-NC-4.0", "unspecified"]
WORDS = [
    f"{a}{b}{c}"
    for a in ("ka", "lo", "mi", "ter")
    for b in ("ra", "so", "ven", "du")
    for c in ("n", "st", "l", "ck")
]


def made(number: int, chance: random.Random, task: str) -> Sample:
    """Return a sample of ordinary size: a question, an answer of 30 words, up to seven objects."""
    labels = chance.sample(LABELS, 3)
    said = " ".join(chance.choices(WORDS, k=30))
    return Sample(
        id=f"big/train/{number}#{task}", task=task, dataset="big", split="train",
        images=(SampleImage(path=f"images/{number % 1000:04d}.png", width=640, height=480, format="png"),),
        conversation=(Turn("user", f"<image>\nFind {', '.join(labels)}."), Turn("assistant", f"{said} {number}")),
        targets=InstanceTargets(instances=tuple(
            TargetInstance(label=chance.choice(labels), box=(1.5, 2.5, 90.25, 99.0), area=8000.0, id=str(k))
            for k in range(chance.randrange(8))
        )),
        routes=tuple(Route(token="[DET]", kind="category", name=name) for name in labels),
        origin=SampleOrigin(
            dataset="big", file="all.json", record=f"images[{number}]", spec=f"big/{task}", spec_hash="0", reader="x 1"
        ),
        license=SampleLicense(annotations="CC0-1.0", images=chance.choice(LICENSES)),
    )  # fmt: skip


def make(folder: Path, count: int, task: str) -> None:
    """Write a converted split of so many samples."""
    place = folder / "big" / task / "train"
    place.mkdir(parents=True)
    chance = random.Random(1)

    def rows() -> Iterator[manifests.SampleRow]:
        for number in range(count):
            yield sample_row(made(number, chance, task), None)

    with pq.ParquetWriter(place / manifests.SAMPLES, manifests.SAMPLE_SCHEMA, compression="zstd") as file:
        some = []
        for row in rows():
            some.append(row)
            if len(some) == GROUP:
                file.write_table(manifests.table(some, manifests.SAMPLE_SCHEMA))
                some = []
        file.write_table(manifests.table(some, manifests.SAMPLE_SCHEMA))
    pq.write_table(manifests.table([], manifests.QUARANTINE_SCHEMA), place / manifests.QUARANTINE)
    known = {
        "dataset": "big", "task": task, "split": "train", "use": "train", "family": "detection", "root": str(folder),
        "spec": {"dataset": {"tasks": {task: {}}}},
        "spec_hash": "0", "spec_path": "", "reader": "x 1", "seed": 0, "limit": None, "labels": None,
        "source_files": {}, "fingerprint": str(count),
    }  # fmt: skip
    manifests.dump(msgspec.convert(known, Manifest), place)
    ledger = Ledger(units=count, samples=count, skipped={}, quarantined={}, records=count, images=1000)
    (place / manifests.LEDGER).write_bytes(msgspec.json.encode(ledger))


def memory() -> str:
    """Return how much of this process is resident and not of files, and the most that was resident."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own, most = (int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "VmHWM"))
    return f"{own:.0f} MB own, at most {most:.0f} MB"


def told(what: str, before: tuple[float, float], more: str = "") -> None:
    """Print how long something took since then."""
    wall, cpu = time.perf_counter() - before[0], time.process_time() - before[1]
    print(f"{what:<44} {wall:7.2f} s, {cpu:7.2f} s CPU, {memory()} {more}", flush=True)


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def whole(session: Session, ask: Ask) -> int:
    """Return how many samples a filter finds once all were looked at."""
    while not (found := session.found(ask)).complete:
        pass
    return len(found.rows)


def measure(folder: Path, cache: Path) -> None:
    """Open samples and ask for them."""
    for again in ("first", "again"):
        at = now()
        session = Session([folder], cache, folder / "selection.parquet", None)
        told(f"open, {again}", at, f"{len(session.collection)} samples")
        at = now()
        session.page(Ask(filter=Filter()), len(session.collection) // 2, 24)
        told("page in the middle, unfiltered", at)
        at = now()
        while session.parts.rows < len(session.collection):
            session.parts.wait(len(session.parts.done), 60)
        told(f"search index, {again}", at)
        if again == "first":
            session.close()
    for name, wanted in {
        "label": Filter(label=("class 7",)),
        "license": Filter(license=("unspecified",)),
        "text, frequent": Filter(text="KARAN"),
        "text, one hit": Filter(text=f" {len(session.collection) // 3}"),
        "text, words": Filter(text="karan lovenst", how="words"),
        "label, license and text": Filter(label=("class 7",), license=("unspecified",), text="lovenst"),
    }.items():
        at = now()
        told(name, at, f"{whole(session, Ask(filter=wanted))} hits")
        at = now()
        whole(session, Ask(filter=wanted))
        told(f"{name}, once more", at)
    at = now()
    session.page(Ask(filter=Filter(), seed=5), 1000, 24)
    told("page by chance", at)
    session.close()


def main() -> None:
    folder, rest = Path(sys.argv[1]), [one for one in sys.argv[2:] if one != "--shards"]
    count = int(rest[0]) if rest else 1_000_000
    made_of = folder / f"manifests-{count}"
    if not made_of.exists():
        make(made_of, count, "detection")
    if "--shards" in sys.argv:
        from PIL import Image

        (made_of / "images").mkdir(exist_ok=True)
        for number in range(1000):
            Image.new("RGB", (640, 480), (number % 256, 90, 30)).resize((16, 12)).resize((640, 480)).save(
                made_of / "images" / f"{number:04d}.png"
            )
        shard([made_of], folder / f"shards-{count}", samples_per_shard=10_000)
        made_of = folder / f"shards-{count}"
    measure(made_of, folder / "cache")


if __name__ == "__main__":
    main()
