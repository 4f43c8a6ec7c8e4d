"""Side-by-side speed: `make bench`. Interleaved repeats, medians and spread as ratios; results are only appended.

Times depend on the machine; ratios of one run less so. Nothing here is asserted: a benchmark is not a test.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from converters.formats import coco_instances
from dataengine.annotation import Annotation
from dataengine.catalog import Catalog
from dataengine.clean import clean
from dataengine.convert import convert
from dataengine.files import Root
from dataengine.shard import shard
from dataengine.stream import Stream, recipe

HERE = Path(__file__).parent
RESULTS, TABLE = HERE / "results.jsonl", HERE.parents[1] / "docs" / "benchmarks.md"
REPEATS = 5
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
    coco_file(folder / "instances.json", 4000, 5)
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


def bench_stream(folder: Path) -> Contest:
    """Samples from shards, bytes alone: in plan order with digests checked, in file order by webdataset."""
    root = folder / "root"
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = []
    for i in range(400):
        names.append(f"images/{i:05d}.jpg")
        noise = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((640, 480)).save(root / names[-1], quality=80)
    lines = [{"image": name, "caption": f"picture number {i}"} for i, name in enumerate(names * 5)]
    (root / "captions.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    (folder / "bench_captions.yaml").write_text(
        "id: bench_captions\ntitle: bench\nlicense: {annotations: CC0-1.0, images: CC0-1.0}\nstatus: layout\n"
        "source:\n  format: records\n  table: {path: captions.jsonl, kind: jsonl}\n  key: '{caption}'\n"
        "  fields: {images: '{image}', captions: caption}\n  splits: {train: {use: train}}\ntasks: {caption: {}}\n"
    )
    spec = Catalog().find(str(folder / "bench_captions.yaml"))[0]
    convert(spec, "train", root, folder / "manifests")
    shard([folder / "manifests"], folder / "shards", samples_per_shard=500)
    stream = Stream(folder / "shards", recipe(seed=1, global_batch=8, policy="proportional"))
    urls = [str(path) for path in sorted((folder / "shards").glob("*.tar"))]
    count = len(lines)

    def ours() -> int:
        return sum(len(stream.read(t)[1]) for t in range(count))

    def theirs() -> int:
        return sum(1 for _ in webdataset.WebDataset(urls, shardshuffle=False))

    return {"dataengine": ours, "webdataset": theirs}


BENCHMARKS: dict[str, Callable[[Path], Contest]] = {
    "coco to annotations": bench_coco,
    "coco to masks": bench_coco_masks,
    "stream bytes": bench_stream,
}


def measure(contest: Contest) -> dict[str, list[float]]:
    """Return the seconds of each contestant, repeats interleaved after one warm-up; all must count the same."""
    counts = {name: run() for name, run in contest.items()}
    if len(set(counts.values())) != 1:
        raise SystemExit(f"contestants disagree on the work: {counts}")
    seconds: dict[str, list[float]] = {name: [] for name in contest}
    for _ in range(REPEATS):
        for name, run in contest.items():
            gc.collect()
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def main() -> None:
    """Run the benchmarks named on the command line (all by default), append results and rewrite the table."""
    revision = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    for title in sys.argv[1:] or list(BENCHMARKS):
        with tempfile.TemporaryDirectory() as folder:
            seconds = measure(BENCHMARKS[title](Path(folder)))
        ours = statistics.median(seconds["dataengine"])
        for name, values in seconds.items():
            line = {
                "benchmark": title,
                "contestant": name,
                "ratio": statistics.median(values) / ours,
                "spread": [min(values) / statistics.median(values), max(values) / statistics.median(values)],
                "repeats": REPEATS,
                "revision": revision.stdout.strip(),
                "python": platform.python_version(),
                "machine": platform.machine(),
                "when": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            with RESULTS.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{title:>22}  {name:<12} {line['ratio']:.2f} times our time, spread {line['spread']}")
    write_table()


def write_table() -> None:
    """Write docs/benchmarks.md from the newest result of each contestant."""
    newest: dict[tuple[str, str], dict[str, object]] = {}
    for text in RESULTS.read_text().splitlines():
        line = json.loads(text)
        newest[line["benchmark"], line["contestant"]] = line
    rows = [
        f"| {b} | {c} | {line['ratio']:.2f} | {line['spread'][0]:.2f} to {line['spread'][1]:.2f} | {line['revision']} |"  # type: ignore[index]
        for (b, c), line in newest.items()
    ]
    TABLE.write_text(
        "# Benchmarks\n\nMade by `make bench`: interleaved repeats in one process, medians.\n"
        "A ratio of 2 means twice our time; the spread is the fastest and slowest repeat relative to the median.\n\n"
        "| benchmark | contestant | time relative to ours | spread | revision |\n| --- | --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n"
    )


if __name__ == "__main__":
    main()
