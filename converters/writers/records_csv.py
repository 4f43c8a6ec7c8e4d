"""CSV: an annotation a row, with a spec by which the `records` reader reads it back.

A cell cannot hold a list, so each kind of fact is JSON in a column of its own: `images_json`, `captions_json`, …
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable
from pathlib import Path

import msgspec

from converters.record_rows import LISTS, Rows
from dataengine.annotation import Annotation, LabelSpace
from dataengine.files import atomic
from dataengine.modules import Written

FILE = "records.csv"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `records.csv`, row by row. Masks, keypoints, attributes and relations are left out."""
    rows = Rows(labels)
    with atomic(folder / FILE) as file:
        table = csv.writer(codecs.getwriter("utf-8")(file), lineterminator="\n")
        table.writerow(["key", *(f"{name}_json" for name in LISTS)])
        for item in annotations:
            row = rows.row(item)
            table.writerow([row["key"], *(msgspec.json.encode(row[name]).decode() for name in LISTS)])
    let = {name: {"from": f"{name}_json", "ops": ["parse_json"]} for name in LISTS}
    return rows.written({"path": FILE, "kind": "csv"}, let)
