"""What tests share: a small dataset written to disk, real samples where the machine has them, one local Ray."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from PIL import Image, ImageDraw

from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.ledger import Ledger
from dataengine.shard import shard

# A busy machine fails no test of properties.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

SPEC = """\
id: tiny
title: Tiny pictures for tests
license: {annotations: CC0-1.0, images: CC-BY-4.0}
source:
  format: coco_instances
  images: images
  splits:
    train: {annotations: train.json, use: train}
    val: {annotations: val.json, use: eval}
tasks:
  detection: {}
status: layout
"""
COLORS = {"cat": (200, 40, 40), "dog": (40, 160, 60), "bird": (50, 60, 210)}
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 7, "name": "bird"}]
_SAMPLES = "DATAENGINE_SAMPLES"
_NO_BROWSER = "no Chromium here"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first: several processes are done soonest if none starts a long file last."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@dataclass(frozen=True)
class Tiny:
    """A COCO-style dataset in `root` (6 pictures to train, 3 to evaluate), its `spec`, and `out` for manifests."""

    root: Path
    spec: Path
    out: Path

    def document(self, split: str = "train") -> dict[str, Any]:
        """Return the annotation file of a split."""
        content: dict[str, Any] = json.loads((self.root / f"{split}.json").read_text())
        return content

    def write(self, document: dict[str, Any], split: str = "train") -> None:
        """Replace the annotation file of a split."""
        (self.root / f"{split}.json").write_text(json.dumps(document))

    def convert(self, split: str = "train", task: str = "detection", **options: Any) -> tuple[Path, Ledger]:
        """Convert one split and return the folder of its manifest and its account."""
        (spec,) = (one for one in Catalog().find(str(self.spec)) if one.task.id == task)
        options = {"out": self.out, **options}
        ledger = convert(spec, split, self.root, **options)
        return options["out"] / "tiny" / task / split, ledger

    def repeat(self, count: int) -> None:
        """Make the training split `count` image records, with two objects each, that share the six pictures."""
        first = self.document()
        images: list[dict[str, Any]] = []
        objects: list[dict[str, Any]] = []
        for number in range(count):
            image = first["images"][number % 6]
            images.append({**image, "id": number})
            for one in first["annotations"]:
                if one["image_id"] == image["id"]:
                    objects.append({**one, "id": len(objects), "image_id": number})
        self.write({**first, "images": images, "annotations": objects})


def make_tiny(folder: Path) -> Tiny:
    """Write the tiny dataset and its spec into a folder."""
    root = folder / "source"
    (root / "images").mkdir(parents=True)
    number = 0
    for split, count in (("train", 6), ("val", 3)):
        images: list[dict[str, Any]] = []
        objects: list[dict[str, Any]] = []
        for _ in range(count):
            number += 1
            name = f"{number:03d}.{'jpg' if number % 2 else 'png'}"
            picture = Image.new("RGB", (32, 24), (number * 20, 120, 120))
            pen = ImageDraw.Draw(picture)
            for category, (x, y) in ((CATEGORIES[number % 3], (2, 3)), (CATEGORIES[1], (16, 12))):
                width, height = 8 + number % 4, 6
                pen.rectangle([x, y, x + width - 1, y + height - 1], fill=COLORS[str(category["name"])])
                objects.append(
                    {
                        "id": 100 + len(objects),
                        "image_id": number,
                        "category_id": category["id"],
                        "bbox": [x, y, width, height],
                        "area": width * height,
                        "iscrowd": 0,
                    }
                )
            picture.save(root / "images" / name, quality=95)
            images.append({"id": number, "file_name": name, "width": 32, "height": 24})
        document = {"images": images, "annotations": objects, "categories": CATEGORIES}
        (root / f"{split}.json").write_text(json.dumps(document))
    spec = folder / "specs" / "tiny.yaml"
    spec.parent.mkdir()
    spec.write_text(SPEC)
    return Tiny(root=root, spec=spec, out=folder / "manifests")


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    """A fresh dataset: pictures of 32 x 24 pixels, JPEG and PNG in turn, with two filled boxes in each."""
    return make_tiny(tmp_path)


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards to be read only: splits train (6 samples) and other (3) to train on, val (3) to evaluate, two a tar."""
    folder = tmp_path_factory.mktemp("shards")
    made = make_tiny(folder)
    more = "    other: {annotations: val.json, use: train}\n"
    made.spec.write_text(made.spec.read_text().replace("tasks:", f"{more}tasks:"))
    for split in ("train", "val", "other"):
        made.convert(split)
    shard([made.out], folder / "s", samples_per_shard=2)
    return folder / "s"


@pytest.fixture(scope="session")
def two_task_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards to be read only: a task that needs a decoder, and one of regions that text answers, six samples each."""
    folder = tmp_path_factory.mktemp("two_tasks")
    made = make_tiny(folder)
    made.spec.write_text(
        made.spec.read_text().replace("detection: {}", "detection: {}\n  region_recognition: {}")
    )
    shard([made.convert(task=task)[0] for task in ("detection", "region_recognition")], folder / "s")
    return folder / "s"


@pytest.fixture
def samples_dir() -> Callable[[str], Path]:
    """Return a function that gives a folder of real samples, or skips the test with a plain reason."""

    def find(folder: str) -> Path:
        value = os.environ.get(_SAMPLES)
        if not value:
            pytest.skip(f"{_SAMPLES} is not set, so there is no real sample {folder!r} here")
        if not (Path(value) / folder).is_dir():
            pytest.skip(f"{_SAMPLES} has no folder {folder!r}")
        return Path(value) / folder

    return find


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One Ray of two CPUs on this machine, started once for all tests that need it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    import ray

    with warnings.catch_warnings():
        # What Ray warns about while it starts is not ours to mend.
        warnings.simplefilter("ignore")
        # "local", or it would join any cluster that runs on this machine.
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many real samples were not looked at: a run without them proves less."""
    reasons = [
        str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
        for report in terminalreporter.stats.get("skipped", [])
    ]
    lost = [reason for reason in reasons if _SAMPLES in reason]
    if lost:
        folders = {match[1] for reason in lost if (match := re.search(r"'([^']+)'", reason))}
        named = f" ({len(folders)} folders named)" if folders else ""
        terminalreporter.write_line(
            f"{len(lost)} tests with real samples were skipped{named}; see {_SAMPLES}"
        )
    unseen = [reason for reason in reasons if _NO_BROWSER in reason]
    if unseen:
        terminalreporter.write_line(
            f"{len(unseen)} tests of pages were skipped: {unseen[0].removeprefix('Skipped: ')}"
        )
