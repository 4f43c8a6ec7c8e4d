"""From source files to manifests, and specs: contests inside one process, repeats interleaved.

Peers that cannot share our environment answer from a process of their own, started before the clock.
"""

# mypy: disable-error-code="import-not-found, no-any-return, unused-ignore"
from __future__ import annotations

import atexit
import contextlib
import gc
import io
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import memory  # type: ignore[import-not-found]  # beside this script
import numpy as np
import results
import yaml
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from converters.formats import coco_instances
from dataengine.annotation import Annotation
from dataengine.catalog import Catalog
from dataengine.check import check_all
from dataengine.clean import clean
from dataengine.convert import convert
from dataengine.files import Root

REPEATS = 5
FEW_REPEATS = {"coco to manifests": 3}
Contest = dict[str, Callable[[], int]]


def coco_file(path: Path, num_images: int, objects_an_image: int) -> None:
    """Write a COCO instances file of polygons with 25 points, and a crowd as run-length code in every 20th image."""
    rng = random.Random(0)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for i in range(num_images):
        images.append({"id": i, "file_name": f"{i:06d}.jpg", "width": 640, "height": 480})
        for j in range(objects_an_image):
            x, y, r = rng.uniform(60, 580), rng.uniform(60, 420), rng.uniform(10, 50)
            angles = sorted(rng.uniform(0, 6.28) for _ in range(25))
            polygon = [round(v, 2) for a in angles for v in (x + r * np.cos(a), y + r * np.sin(a))]
            crowd = j == 0 and i % 20 == 0
            half = 640 * 480 // 2
            annotations.append({
                "id": len(annotations) + 1, "image_id": i, "category_id": rng.randint(1, 80),
                "bbox": [x - r, y - r, 2 * r, 2 * r], "area": 3 * r * r, "iscrowd": int(crowd),
                "segmentation": {"size": [480, 640], "counts": [half, 640 * 480 - half]} if crowd else [polygon],
            })  # fmt: skip
    categories = [{"id": i, "name": f"class{i}"} for i in range(1, 81)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def open_coco(path: Path) -> COCO:
    """Return pycocotools' index of a file, without what it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(path)


def bench_coco(folder: Path) -> Contest:
    """COCO file to typed objects with boxes and outlines: our reader; pycocotools' index and a loop over records."""
    coco_file(folder / "instances.json", 20_000, 5)
    source = coco_instances.Source(annotations="instances.json")

    def ours() -> int:
        return sum(len(getattr(item, "instances", ())) for item in coco_instances.read(source, Root(folder)))

    def pycocotools() -> int:
        coco = open_coco(folder / "instances.json")
        count = 0
        for image_id in coco.getImgIds():
            for item in coco.loadAnns(coco.getAnnIds(imgIds=image_id)):
                x, y, width, height = item["bbox"]
                assert x < x + width
                assert y < y + height
                count += 1
        return count

    return {"dataengine": ours, "pycocotools": pycocotools}


def bench_coco_masks(folder: Path) -> Contest:
    """COCO file to run-length codes of masks: our reader and check; pycocotools' index and annToRLE."""
    coco_file(folder / "instances.json", 4000, 5)
    source = coco_instances.Source(annotations="instances.json")

    def ours() -> int:
        count = 0
        for item in coco_instances.read(source, Root(folder)):
            if isinstance(item, Annotation):
                made = clean(item, [(640, 480)]).annotation.instances
                count += sum(one.mask is not None for one in made)
        return count

    def pycocotools() -> int:
        coco = open_coco(folder / "instances.json")
        count = 0
        for image_id in coco.getImgIds():
            for item in coco.loadAnns(coco.getAnnIds(imgIds=image_id)):
                assert coco_mask.area(coco.annToRLE(item)) >= 0
                count += 1
        return count

    return {"dataengine": ours, "pycocotools": pycocotools}


COCO_SPEC = """\
id: bench_coco
title: bench
license: {annotations: CC0-1.0, images: CC0-1.0}
status: layout
source:
  format: coco_instances
  images: images
  splits: {train: {annotations: annotations/instances_train.json, use: train}}
labels: source
tasks: {instance_segmentation: {}}
"""


def bench_manifests(folder: Path) -> Contest:
    """COCO file and pictures to a finished manifest with every check: with two workers, and in one process.

    Datumaro's import ends at objects in memory and opens no picture; its export writes them out again.
    """
    coco_root(folder / "root", 20_000)
    (folder / "bench_coco.yaml").write_text(COCO_SPEC)
    spec = Catalog().find(str(folder / "bench_coco.yaml"))[0]

    def ours(workers: int) -> int:
        shutil.rmtree(folder / "manifests", ignore_errors=True)
        return convert(spec, "train", folder / "root", folder / "manifests", workers=workers).samples

    contest: Contest = {"dataengine": lambda: ours(2), "dataengine, one process": lambda: ours(1)}
    datumaro = other_environment("datumaro")
    if datumaro is not None:
        ask = serve([str(datumaro), "-c", DATUMARO, str(folder / "root"), str(folder / "datumaro")])
        contest |= {"Datumaro, import": lambda: ask("import"), "Datumaro, and export": lambda: ask("export")}
    return contest


def coco_root(root: Path, num_images: int) -> None:
    """Write a COCO file and its pictures where Datumaro looks for them; all pictures have the same bytes."""
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    coco_file(root / "annotations" / "instances_train.json", num_images, 5)
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((640, 480)).save(root / "images" / "000000.jpg", quality=60)
    data = (root / "images" / "000000.jpg").read_bytes()
    for i in range(1, num_images):
        (root / "images" / f"{i:06d}.jpg").write_bytes(data)


DATUMARO = """
import shutil, sys
import datumaro
for line in sys.stdin:
    dataset = datumaro.Dataset.import_from(sys.argv[1], "coco_instances")
    count = sum(1 for item in dataset if item.annotations)
    if line.strip() == "export":
        shutil.rmtree(sys.argv[2], ignore_errors=True)
        dataset.export(sys.argv[2], "datumaro", save_media=False)
    print(count, flush=True)
"""


def other_environment(package: str) -> Path | None:
    """Return the Python of an environment with a package that ours must not depend on, made once; None without it."""
    folder = Path(tempfile.gettempdir()) / f"dataengine_bench_{package}"
    python = folder / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
        if subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False).returncode:
            subprocess.run([python, "-m", "pip", "install", "-q", package], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{package}: skipped, it cannot be installed: {error}")
        return None
    return python


def serve(command: list[str]) -> Callable[[str], int]:
    """Start a process and return a function that sends it a line and waits for the number that it answers."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.kill)

    def ask(line: str) -> int:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    return ask


def bench_specs(folder: Path) -> Contest:
    """All specs loaded and checked; PyYAML, with and without libyaml, that parses the same files alone."""
    del folder
    count, mistakes = check_all(Catalog())
    assert not mistakes
    files = [path for directory in Catalog().directories for path in sorted(directory.glob("*/*.yaml"))]
    assert len(files) == count

    def parse(loader: type) -> int:
        return len([yaml.load(path.read_text(), Loader=loader) for path in files])

    return {
        "dataengine": lambda: check_all(Catalog())[0],
        "PyYAML alone": lambda: parse(yaml.SafeLoader),
        "libyaml alone": lambda: parse(yaml.CSafeLoader),
    }


BENCHMARKS: dict[str, Callable[[Path], Contest]] = {
    "coco to annotations": bench_coco,
    "coco to masks": bench_coco_masks,
    "coco to manifests": bench_manifests,
    "specs": bench_specs,
}


def measure_memory(folder: Path) -> dict[str, float]:
    """Return peaks of memory as ratios: tables of ten times the rows, and a COCO file by its own size."""
    found: dict[str, float] = {}
    for kind in ("jsonl", "csv", "parquet"):
        peaks = []
        for rows in (10_000, 100_000):
            root = folder / f"{kind}{rows}"
            peaks.append(memory.converted(memory.table(root, kind, rows), root, root / "out", workers=2))
        found[f"{kind}, 10 times the rows, main process"] = peaks[1][0] / peaks[0][0]
        found[f"{kind}, 10 times the rows, largest worker"] = peaks[1][1] / peaks[0][1]
    empty = memory.converted(
        memory.table(folder / "empty", "jsonl", 1), folder / "empty", folder / "empty" / "out", workers=1
    )
    for title, points in (("outlines", 25), ("boxes alone", 0)):
        root = folder / f"coco{points}"
        coco_root(root, 20_000)
        file = root / "annotations" / "instances_train.json"
        if not points:
            document = json.loads(file.read_bytes())
            for one in document["annotations"]:
                del one["segmentation"]
            document["annotations"] *= 4  # so that the file is large beside the program itself
            file.write_text(json.dumps(document))
        spec = folder / "bench_coco.yaml"
        spec.write_text(COCO_SPEC.replace("instance_segmentation", "detection"))
        peak = memory.converted(spec, root, root / "out", workers=1)
        found[f"coco, {title}: beyond an empty table, by the size of the file"] = (
            peak[0] - empty[0]
        ) / file.stat().st_size
    return found


def measure(held: results.Contest, contest: Contest, repeats: int) -> None:
    """Run contestants in turns after one warm-up."""
    for run in contest.values():
        run()
    for _ in range(repeats):
        for name, run in contest.items():
            if name in held.failed:
                continue
            gc.collect()
            started = time.perf_counter()
            count = run()
            held.add(name, {"count": count, "seconds": time.perf_counter() - started})


def run(title: str, missing: bool = False) -> None:
    """Run one of these benchmarks, or `memory`, and keep its results; with `missing`, unless this revision has them."""
    repeats = FEW_REPEATS.get(title, REPEATS)
    if missing and any(
        name == title and line["revision"] == results.revision() and line.get("repeats", repeats) >= repeats
        for (name, _), line in results.newest().items()
    ):
        print(f"{title}: is there")
        return
    with tempfile.TemporaryDirectory() as folder:
        if title == "memory":
            for name, ratio in measure_memory(Path(folder)).items():
                results.put({"benchmark": title, "contestant": name, "ratio": ratio})
            return
        measure(results.Contest(title, {}), BENCHMARKS[title](Path(folder)), repeats)
