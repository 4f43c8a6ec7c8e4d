"""Documents of text and pictures: OBELICS' Parquet and MMC4's JSON Lines."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from converters.formats.interleaved import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, draw, write
from tests.conformance.making.tables import named

TEXTS = ("First a word.", "Then what stands below the picture.")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two documents, each with a picture between two texts."""
    file = named(source.annotations, "part1")
    if source.layout == "mmc4":
        document = {"text_list": list(TEXTS)}
        rows = [
            {**document, "image_info": [{"image_name": f"{one}.jpg", "matched_text_index": 1}]}
            for one in (1, 2)
        ]
        write(root / file, "".join(f"{json.dumps(row)}\n" for row in rows))
        shown = ["1.jpg", "2.jpg"]
    else:
        row = {"texts": [TEXTS[0], None, TEXTS[1]], "images": [None, "http://example.org/1.jpg", None]}
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([row, row]), root / file)
        stem = Path(file).name.partition(".")[0]
        shown = [f"{stem}_{number}/1.jpg" for number in range(2)]
    for name in shown:
        draw(root / source.images / name)
    return Made(2, frozenset({TEXTS[1]}))
