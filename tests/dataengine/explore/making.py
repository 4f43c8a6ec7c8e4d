"""Samples and findings of any content: what they say, name and show is the test's choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from dataengine import manifest as manifests
from dataengine.annotation import Turn
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


def made(
    number: int,
    text: str = "What is here?",
    labels: tuple[str, ...] = (),
    license_: str = "CC-BY-4.0",
    dataset: str = "d",
    task: str = "detection",
    split: str = "train",
    path: str = "",
) -> Sample:
    """Return a sample that says a text and has an object of each label."""
    return Sample(
        id=f"{dataset}/{split}/{number}#{task}",
        task=task,
        dataset=dataset,
        split=split,
        images=(SampleImage(path=path or f"{number}.png", width=32, height=24, format="png"),),
        conversation=(Turn("user", f"<image>\n{text}"), Turn("assistant", "Yes.")),
        targets=InstanceTargets(
            instances=tuple(TargetInstance(label=name, box=(1, 2, 9, 9), area=56) for name in labels)
        ),
        routes=tuple(Route(token="[DET]", kind="category", name=name) for name in labels),
        origin=SampleOrigin(
            dataset=dataset, file="all.json", record=f"images[{number}]", spec=f"{dataset}/{task}", spec_hash="0",
            reader="coco_instances 1",
        ),
        license=SampleLicense(annotations="CC0-1.0", images=license_),
    )  # fmt: skip


def write(folder: Path, samples: list[Sample], *, group: int = 4, root: str = "") -> Path:
    """Write samples of one split as a converted one, `group` rows a group; return its folder."""
    first = samples[0]
    place = folder / first.dataset / first.task / first.split
    place.mkdir(parents=True)
    rows = [sample_row(sample, None) for sample in samples]
    with pq.ParquetWriter(place / manifests.SAMPLES, manifests.SAMPLE_SCHEMA) as file:
        for start in range(0, len(rows), group):
            file.write_table(manifests.table(rows[start : start + group], manifests.SAMPLE_SCHEMA))
    known: dict[str, Any] = {
        "dataset": first.dataset, "task": first.task, "split": first.split, "use": "train", "family": "detection",
        "root": root, "spec": {}, "spec_hash": "0", "spec_path": "", "reader": "coco_instances 1", "seed": 0,
        "limit": None, "labels": None, "source_files": {}, "fingerprint": f"{first.dataset}{len(samples)}",
    }  # fmt: skip
    manifests.dump(msgspec.convert(known, Manifest), place)
    count = len(samples)
    ledger = Ledger(units=count, samples=count, skipped={}, quarantined={}, records=count, images=count)
    (place / manifests.LEDGER).write_bytes(msgspec.json.encode(ledger))
    return place


def report(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Write findings as an audit's report does; what a row leaves out is empty. Return the folder."""
    names = ("rule", "severity", "subject", "key", "file", "record", "detail", "image")
    schema = pa.schema([*((name, pa.string()) for name in names), ("box", pa.list_(pa.float64()))])
    folder.mkdir(parents=True, exist_ok=True)
    full = [{**dict.fromkeys(names, ""), "box": None, **row} for row in rows]
    pq.write_table(pa.Table.from_pylist(full, schema), folder / "issues.parquet")
    return folder
