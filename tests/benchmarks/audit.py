"""What an audit costs, in time and in memory.

`python tests/benchmarks/audit.py speed`: all rules on annotations against plain jsonschema on the same records, each an
annotation of one picture: about seven objects with outlines of 25 points, or boxes alone; a caption, questions and
answers, or a conversation, of plain English; and those of one real COCO-style file where `--file` names one. What
counts is the ratio of process times per record, repeats in turns; the page's statistics are gathered, too. Without a
file the ratios are kept, and that of a mix, MIX of each kind: all times of one way divided by all of the other.

`... memory`: the peak of resident memory of `dataengine audit` over records that nobody has converted (a Parquet file,
of which rows are held a few at a time; lines of JSON, of which the reader holds one at a time and a digest of each
key), over the manifest that they are converted to, and over its shards, for each number of records in `--records`. Ten
records in succession show one picture; one in a hundred has a box outside of it.
"""

# mypy: disable-error-code="import-not-found, no-any-return, unused-ignore"
from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import page
import pyarrow as pa
import pyarrow.parquet as pq
import results
import simplejpeg

from dataengine.annotation import Annotation, Caption, Dialog, Image, Instance, Origin, Question, Turn
from dataengine.audit.foreign import foreign_source
from dataengine.audit.state import Audit
from dataengine.files import Root
from dataengine.modules import load_reader

RECORDS, FEW_RECORDS, OBJECTS, POINTS, REPEATS = 2000, 60, 7, 25, 5
# Of ten records of a mix, as large collections for detection, description and dialogue are put together.
MIX = {"outlines": 2, "boxes": 2, "captions": 1, "questions": 2, "conversations": 3}

WORDS = [
    "a",
    "the",
    "two",
    "some",
    "red",
    "blue",
    "small",
    "large",
    "old",
    "young",
    "man",
    "woman",
    "dog",
    "cat",
    "horse",
    "car",
    "bus",
    "train",
    "street",
    "table",
    "window",
    "tree",
    "sky",
    "near",
    "under",
    "behind",
    "beside",
    "with",
    "and",
    "of",
    "on",
    "in",
    "stands",
    "sits",
    "walks",
    "holds",
    "looks",
    "rides",
    "waits",
    "wears",
    "bright",
    "dark",
    "wooden",
    "empty",
    "crowded",
    "quiet",
    "left",
    "right",
    "other",
    "white",
    "black",
    "green",
    "yellow",
    "people",
    "children",
    "player",
    "kitchen",
    "field",
    "beach",
    "river",
]
KINDS = ("parquet", "records", "manifest", "shards")
PER_PICTURE, WIDTH, HEIGHT = 10, 32, 24
FIELDS = (
    '{"images": {"path": "{image}", "width": "width", "height": "height"}, "captions": "caption",'
    ' "instances": {"each": "objects", "category": "it.name", "box": {"from": "it.bbox", "format": "xywh"}}}'
)
SOURCE = {"table": '{"path": "records.jsonl", "kind": "jsonl"}', "key": "{id}", "fields": FIELDS}
PARQUET_SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("caption", pa.string()),
        ("objects", pa.list_(pa.struct([("bbox", pa.list_(pa.float64())), ("category", pa.string())]))),
    ]
)
SPEC = f"""\
id: bench_audit
title: bench
license: {{annotations: CC0-1.0, images: CC0-1.0}}
status: layout
source:
  format: records
  table: {SOURCE["table"]}
  key: "{SOURCE["key"]}"
  fields: {FIELDS}
  labels: [{", ".join(f"class {number}" for number in range(80))}]
  splits: {{train: {{use: train}}}}
labels: source
tasks: {{detection: {{}}}}
"""


def record(number: int, rng: random.Random, outlined: bool) -> Annotation:
    """Return an annotation of seven objects whose boxes are those of their outlines."""
    instances = []
    for place in range(OBJECTS):
        x, y, r = rng.uniform(80, 560), rng.uniform(80, 400), rng.uniform(10, 50)
        angles = sorted(rng.uniform(0, 2 * math.pi) for _ in range(POINTS))
        far = [(angle, r * rng.uniform(0.6, 1.4)) for angle in angles]
        outline = tuple(round(v, 2) for a, d in far for v in (x + d * math.cos(a), y + d * math.sin(a)))
        xs, ys = outline[0::2], outline[1::2]
        instances.append(
            Instance(
                id=str(OBJECTS * number + place),
                category=f"class {rng.randint(1, 80)}",
                box=(min(xs), min(ys), max(xs), max(ys)),
                polygons=(outline,) if outlined else (),
            )
        )
    image = Image(path=f"images/{number:06d}.jpg", width=640, height=480, license="CC-BY-4.0")
    origin = Origin(file="instances.json", record=f"images[{number}]")
    return Annotation(key=str(number), images=(image,), origin=origin, instances=tuple(instances))


def sentence(rng: random.Random, words: int) -> str:
    """Return a sentence of plain English words."""
    said = " ".join(rng.choice(WORDS) for _ in range(words))
    return f"{said[0].upper()}{said[1:]}{rng.choice(('.', '.', ', or so.', '!'))}"


def captioned(number: int, rng: random.Random) -> Annotation:
    """Return an annotation of five captions, as COCO has them."""
    captions = tuple(Caption(id=f"{number}.{place}", text=sentence(rng, 10)) for place in range(5))
    return msgspec.structs.replace(_pictured(number), captions=captions)


def asked(number: int, rng: random.Random) -> Annotation:
    """Return an annotation of three questions, each with its answer."""
    questions = tuple(
        Question(id=f"{number}.{place}", text=f"{sentence(rng, 7)[:-1]}?", answers=(rng.choice(WORDS),))
        for place in range(3)
    )
    return msgspec.structs.replace(_pictured(number), questions=questions)


def talked(number: int, rng: random.Random) -> Annotation:
    """Return an annotation of a conversation of three questions and long answers, as LLaVA has them."""
    turns = [Turn("user", f"<image>\n{sentence(rng, 9)}")]
    for _ in range(3):
        turns += [
            Turn("assistant", " ".join(sentence(rng, 14) for _ in range(4))),
            Turn("user", sentence(rng, 9)),
        ]
    return msgspec.structs.replace(
        _pictured(number), dialogs=(Dialog(id=str(number), turns=tuple(turns[:-1])),)
    )


def _pictured(number: int) -> Annotation:
    image = Image(path=f"images/{number:06d}.jpg", width=640, height=480, license="CC-BY-4.0")
    origin = Origin(file="texts.json", record=f"[{number}]")
    return Annotation(key=str(number), images=(image,), origin=origin)


def read(file: Path, format_name: str, options: dict[str, str]) -> list[Annotation]:
    """Return the annotations of a file that nobody has converted."""
    reader = load_reader(format_name, "--format")
    source = foreign_source(reader, format_name, file, file.parent, options)
    return [one for one in reader.read(source, Root(file.parent)) if isinstance(one, Annotation)]


def ours(records: list[Annotation]) -> int:
    """Run all rules on annotations; return the number of findings."""
    state = Audit("benchmark")
    for item in records:
        sizes = [(one.width, one.height) if one.width and one.height else None for one in item.images]
        state.annotation(item, sizes)
    state.whole()
    assert state.described.counts
    return len(state.findings)


def plain(values: list[Any]) -> int:
    """Validate each record against the schema of an annotation; return how many are refused."""
    validator = jsonschema.Draft202012Validator(msgspec.json.schema(Annotation))
    return sum(not validator.is_valid(value) for value in values)


def taken(run: Callable[[], int], count: int) -> float:
    """Return the process time of a run in microseconds a record."""
    began = time.process_time()
    run()
    return (time.process_time() - began) / count * 1e6


def compare(title: str, records: list[Annotation]) -> list[tuple[float, float]]:
    """Print both times, their ratio, and what the rules found; return the times of each repeat."""
    values = msgspec.json.decode(msgspec.json.encode(records[:FEW_RECORDS]))
    pairs = [
        (taken(lambda: ours(records), len(records)), taken(lambda: plain(values), len(values)))
        for _ in range(REPEATS)
    ]
    own, other = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(
        f"{title}: {len(records)} records, rules {own:.1f} us a record, jsonschema {other:.1f} us,"
        f" ratio {other / own:.1f}; {ours(records)} findings",
        flush=True,
    )
    return pairs


def keep(title: str, pairs: list[tuple[float, float]]) -> None:
    """Keep how many times as long jsonschema took."""
    own, other = (statistics.median(times) for times in zip(*pairs, strict=True))
    each = [b / a / (other / own) for a, b in pairs]
    results.put(
        {
            "benchmark": results.AUDIT,
            "contestant": title,
            "repeats": len(pairs),
            "versions": {"jsonschema": version("jsonschema")},
            "ratio": other / own,
            "spread": [min(each), max(each)],
        }
    )


def write_records(folder: Path, count: int) -> None:
    """Write `count` records as lines of JSON, the spec that reads them, and their pictures."""
    (folder / "pictures").mkdir(parents=True)
    (folder / "bench.yaml").write_text(SPEC)
    rng = random.Random(0)
    with (folder / "records.jsonl").open("w") as file:
        for number in range(count):
            if number % PER_PICTURE == 0:
                path = _write_picture(folder, number // PER_PICTURE)
            objects = [_object(rng, number % 100 == 7) for _ in range(3)]
            row = {
                "id": f"r{number}",
                "image": path,
                "width": WIDTH,
                "height": HEIGHT,
                "objects": objects,
                "caption": f"This is record {number}.",
            }
            file.write(json.dumps(row) + "\n")


def _write_parquet(folder: Path) -> None:
    """Write the records as a repository of Hugging Face's, which holds their pictures."""
    (folder / "parquet").mkdir()
    (folder / "parquet/README.md").write_text("---\ndataset_info: {splits: [{name: train}]}\n---\n")
    with (
        (folder / "records.jsonl").open("rb") as file,
        pq.ParquetWriter(folder / "parquet/train.parquet", PARQUET_SCHEMA) as table,
    ):
        while lines := list(islice(file, 1000)):
            rows = [_parquet_row(folder, msgspec.json.decode(line)) for line in lines]
            table.write_table(pa.Table.from_pylist(rows, PARQUET_SCHEMA))


def _parquet_row(folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "image": {"bytes": (folder / row["image"]).read_bytes(), "path": row["image"]},
        "caption": row["caption"],
        "objects": [{"bbox": one["bbox"], "category": one["name"]} for one in row["objects"]],
    }


def _write_picture(folder: Path, number: int) -> str:
    path = f"pictures/{number // 1000:04d}/{number:07d}.jpg"
    (folder / path).parent.mkdir(exist_ok=True)
    pixels = np.full((HEIGHT, WIDTH, 3), (number % 251, number // 251 % 251, number // 63001), np.uint8)
    pixels[number % HEIGHT, :] = 255 - pixels[0, 0]
    (folder / path).write_bytes(simplejpeg.encode_jpeg(pixels))
    return path


def _object(rng: random.Random, outside: bool) -> dict[str, Any]:
    x, y, w, h = rng.randrange(20), rng.randrange(10), rng.randrange(2, 10), rng.randrange(2, 10)
    return {"bbox": [x + 90 * outside, y, w, h], "name": f"class {rng.randrange(80)}"}


def peak(command: list[str], out: Path) -> tuple[int, float]:
    """Run a command; return the peak of its resident memory in bytes and its process time in seconds.

    An audit says by 1 or 3 that it has found something.
    """
    with out.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and not (process.returncode in (1, 3) and "audit" in command):
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return used.ru_maxrss * 1024, used.ru_utime + used.ru_stime


def prepared(kind: str, folder: Path) -> list[str]:
    """Return what to audit, made of the records of a folder where it is not there yet."""
    engine = [sys.executable, "-m", "dataengine"]
    if kind == "records":
        options = [f"{key}={value}" for key, value in SOURCE.items()]
        sources = [part for option in options for part in ("--source", option)]
        return [str(folder / "records.jsonl"), "--format", "records", *sources]
    if kind == "parquet":
        _write_parquet(folder)
        return [str(folder / "parquet")]
    manifest, shards = folder / "manifests", folder / "shards"
    if not manifest.exists():
        peak([*engine, "convert", str(folder / "bench.yaml"), "--root", str(folder), "--out", str(manifest)],
             Path(os.devnull))  # fmt: skip
    if kind == "shards" and not shards.exists():
        peak([*engine, "shard", str(manifest), "--out", str(shards)], Path(os.devnull))
    return [str(manifest if kind == "manifest" else shards)]


def memory(counts: list[int], kinds: list[str]) -> None:
    """Print the peaks for each kind and number of records, and by how much the last is above the first."""
    with tempfile.TemporaryDirectory(prefix="bench-audit-") as name:
        for count in counts:
            write_records(Path(name) / str(count), count)
        for kind in kinds:
            peaks = []
            for count in counts:
                folder = Path(name) / str(count)
                audit = [sys.executable, "-m", "dataengine", "audit", *prepared(kind, folder), "--json"]
                found, seconds = peak(audit, folder / "found.json")
                peaks.append(found)
                findings = sum(json.loads((folder / "found.json").read_bytes())["rules"].values())
                print(
                    f"{kind}: {count} records, peak {found / 2**20:.0f} MiB, {seconds:.1f} s of CPU,"
                    f" {seconds / count * 1e6:.0f} us a record, {findings} findings",
                    flush=True,
                )
            print(
                f"{kind}: {peaks[-1] / peaks[0]:.2f} times the memory for {counts[-1] / counts[0]:g} times the records"
            )


def main() -> None:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True, dest="verb")
    speed_verb = verbs.add_parser("speed")
    speed_verb.add_argument("--file", type=Path)
    speed_verb.add_argument("--format", default="coco_instances")
    speed_verb.add_argument("--source", action="append", default=[])
    memory_verb = verbs.add_parser("memory")
    memory_verb.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    memory_verb.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    given = parser.parse_args()
    if given.verb == "memory":
        memory(given.records, given.kinds)
    else:
        speed(given.file, given.format, given.source)


def speed(file: Path | None, format_name: str, options: list[str]) -> None:
    """Compare on records with outlines, with boxes alone, with texts, and on a file's."""
    if file is not None:
        found = read(file.resolve(), format_name, dict(option.split("=", 1) for option in options))
        compare(file.name, found)
        return
    makers: dict[str, Callable[[int, random.Random], Annotation]] = {
        "outlines": lambda number, rng: record(number, rng, True),
        "boxes": lambda number, rng: record(number, rng, False),
        "captions": captioned,
        "questions": asked,
        "conversations": talked,
    }
    mixed = [(0.0, 0.0)] * REPEATS
    for title, make in makers.items():
        rng = random.Random(0)
        pairs = compare(title, [make(number, rng) for number in range(RECORDS)])
        keep(title, pairs)
        mixed = [
            (a + MIX[title] * c, b + MIX[title] * d) for (a, b), (c, d) in zip(mixed, pairs, strict=True)
        ]
    keep("mix", mixed)
    page.write()


if __name__ == "__main__":
    main()
