"""All rules on annotations against plain jsonschema on the same records: `python tests/benchmarks/audit.py`.

Records are pictures of about seven objects, with outlines of 25 points, with boxes alone, and with outlines of one
real COCO-style file where `--file` names one. What counts is the ratio of process times per record, repeats in turns.
"""

# mypy: disable-error-code="import-not-found, no-any-return, unused-ignore"
from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec

from converters.formats import coco_instances
from dataengine.annotation import Annotation, Image, Instance, Origin
from dataengine.audit.state import Audit
from dataengine.files import Root

RECORDS, FEW_RECORDS, OBJECTS, POINTS, REPEATS = 2000, 60, 7, 25, 5


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


def read(file: Path) -> list[Annotation]:
    """Return the annotations of a COCO-style file."""
    source = coco_instances.Source(annotations=file.name)
    return [one for one in coco_instances.read(source, Root(file.parent)) if isinstance(one, Annotation)]


def ours(records: list[Annotation]) -> int:
    """Run all rules on annotations; return the number of findings."""
    state = Audit("benchmark")
    for item in records:
        sizes = [(one.width, one.height) if one.width and one.height else None for one in item.images]
        state.annotation(item, sizes)
    state.whole()
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


def compare(title: str, records: list[Annotation]) -> None:
    """Print both times, their ratio, and what the rules found."""
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


def main() -> None:
    """Compare on records with outlines, with boxes alone, and on a file's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path)
    file = parser.parse_args().file
    for title, outlined in (("outlines", True), ("boxes", False)):
        rng = random.Random(0)
        compare(title, [record(number, rng, outlined) for number in range(RECORDS)])
    if file is not None:
        records = read(file)
        compare(file.name, records)
        boxes = [
            msgspec.structs.replace(
                one, instances=tuple(msgspec.structs.replace(item, polygons=()) for item in one.instances)
            )
            for one in records
        ]
        compare(f"{file.name}, boxes alone", boxes)


if __name__ == "__main__":
    main()
