"""Parquet: an annotation a row, its facts as typed columns, with a spec by which the `records` reader reads it back.

Each kind of fact is a list of structs: paths and sizes of pictures, boxes of four numbers (xyxy pixels from 0, the
second corner exclusive), captions, questions with their answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from converters.record_rows import Rows
from dataengine.annotation import Annotation, LabelSpace
from dataengine.files import atomic
from dataengine.modules import Written

FILE = "records.parquet"
GROUP_ROWS = 1024
_TEXTS = pa.list_(pa.string())
_FLAGS = {name: pa.bool_() for name in ("crowd", "ignore", "difficult")}
_PLACES = {"box": pa.list_(pa.float64()), "quad": pa.list_(pa.float64()), "image": pa.int32()}


def _list(**fields: pa.DataType) -> pa.DataType:
    return pa.list_(pa.struct([*fields.items()]))


SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "images": _list(
            path=pa.string(), width=pa.int32(), height=pa.int32(), role=pa.string(), license=pa.string()
        ),
        "instances": _list(id=pa.string(), category=pa.string(), text=pa.string(), **_PLACES, **_FLAGS),
        "captions": _list(text=pa.string(), lang=pa.string()),
        "expressions": _list(id=pa.string(), text=pa.string(), instances=_TEXTS),
        "questions": _list(
            id=pa.string(),
            text=pa.string(),
            answers=_TEXTS,
            choices=_TEXTS,
            answer_index=pa.int32(),
            rationale=pa.string(),
        ),
        "dialogs": _list(id=pa.string(), turns=_list(role=pa.string(), text=pa.string())),
        "edits": _list(id=pa.string(), instruction=pa.string(), before=pa.int32(), after=pa.int32()),
        "labels": _TEXTS,
        "negatives": _TEXTS,
    }
)


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `records.parquet`, 1024 rows at a time. Masks, keypoints, attributes and relations are left out."""
    rows = Rows(labels)
    with atomic(folder / FILE) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as table:
        made = (rows.row(item) for item in annotations)
        while group := [*islice(made, GROUP_ROWS)]:
            table.write_batch(pa.RecordBatch.from_pylist(group, schema=SCHEMA))
    return rows.written({"path": FILE, "kind": "parquet"})
