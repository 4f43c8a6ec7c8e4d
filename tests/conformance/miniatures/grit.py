"""GRIT: a Parquet table as img2dataset leaves it, with noun chunks and referring expressions; one row that failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from converters.formats.grit import Source
from dataengine.records.paths import fill
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, draw
from tests.conformance.making.tables import named

CAPTION = "A dog runs after a ball on the lawn"


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two captions with their boxes, and a row whose picture did not come."""
    file = named(source.table.path, "00000")
    rows: list[dict[str, Any]] = []
    for number, status in enumerate(("success", "success", "failed_to_download")):
        row = {"key": f"{number:09d}", "status": status, "caption": CAPTION}
        chunks = [_chunk("A dog", 0), _chunk("a ball", 1)]
        rows.append({**row, "noun_chunks": chunks, "ref_exps": [_chunk(CAPTION, 0)]})
        draw(root / fill(source.images, {**row, "$stem": Path(file).stem}))
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), root / file)
    return Made(2, frozenset({CAPTION, "A dog", "a ball"}))


def _chunk(words: str, place: int) -> list[float]:
    start = CAPTION.index(words)
    x0, y0, x1, y1 = box_of(place)
    return [start, start + len(words), x0 / WIDTH, y0 / HEIGHT, x1 / WIDTH, y1 / HEIGHT, 0.9]
