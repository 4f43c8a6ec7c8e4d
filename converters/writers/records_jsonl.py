"""JSON Lines: an annotation a line, with a spec by which the `records` reader reads it back.

A line has `key` and a list for each kind of fact; boxes are xyxy pixels from 0, the second corner exclusive.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from converters.record_rows import Rows
from dataengine.annotation import Annotation, LabelSpace
from dataengine.files import atomic
from dataengine.modules import Written

FILE = "records.jsonl"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `records.jsonl`, line by line. Masks, keypoints, attributes and relations are left out."""
    rows = Rows(labels)
    with atomic(folder / FILE) as file:
        for item in annotations:
            file.write(msgspec.json.encode(rows.row(item)) + b"\n")
    return rows.written({"path": FILE, "kind": "jsonl"})
