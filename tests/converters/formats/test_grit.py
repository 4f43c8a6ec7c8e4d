from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from converters.formats.grit import Source, read
from dataengine import manifest
from dataengine.annotation import Annotation, Rejected
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.files import Root
from dataengine.records.tables import Table

CAPTION = "a dog in a field of flowers"
ROW: dict[str, Any] = {
    "key": "000000007",
    "status": "success",
    "caption": CAPTION,
    "noun_chunks": [
        [0.0, 5.0, 0.25, 0.5, 0.5, 1.0, 0.9],
        [9.0, 16.0, 0.0, 0.25, 1.0, 1.0, 0.7],
        [0.0, 5.0, 0.75, 0.5, 1.0, 1.0, 0.8],
    ],
    "ref_exps": [[0.0, 27.0, 0.25, 0.5, 0.5, 1.0, 0.9], [9.0, 16.0, 0.0, 0.25, 1.0, 1.0, 0.7]],
}
SOURCE = Source(
    table=Table(path="*.parquet", kind="parquet"), images="{$stem}/{key}.jpg", where="status == 'success'"
)


def _write(folder: Path, *rows: dict[str, Any]) -> Root:
    (folder / "00003").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "00003.parquet")
    for row in rows:
        Image.new("RGB", (40, 20)).save(folder / "00003" / f"{row['key']}.jpg")
    return Root(folder)


def test_chunks_have_places_and_expressions_none(tmp_path: Path) -> None:
    (found,) = read(SOURCE, _write(tmp_path, ROW))

    assert isinstance(found, Annotation)
    assert (found.key, found.images[0].path, found.captions[0].text) == (
        "000000007", "00003/000000007.jpg", CAPTION,
    )  # fmt: skip
    boxes = [item.box for item in found.instances]
    assert [
        (item.id, item.text, item.spans, [boxes[index] for index in item.instances])
        for item in found.expressions
    ] == [
        ("0.0", "a dog", ((0, 5),), [(10, 10, 20, 20), (30, 10, 40, 20)]),
        ("0.1", "a field", ((9, 16),), [(0, 5, 40, 20)]),
        ("0.2", CAPTION, (), [(10, 10, 20, 20)]),
    ]


def test_a_chunk_that_overlaps_one_before_it_has_no_place(tmp_path: Path) -> None:
    row = {**ROW, "noun_chunks": [[0, 5, 0, 0, 1, 1, 1.0], [2, 7, 0, 0, 1, 1, 1.0], [6, 8, 0, 0, 1, 1, 1.0]]}

    (found,) = read(SOURCE, _write(tmp_path, row))

    assert isinstance(found, Annotation)
    assert [item.spans for item in found.expressions[:3]] == [((0, 5),), (), ()]


def test_boxes_below_a_score_are_left_out(tmp_path: Path) -> None:
    source = Source(table=SOURCE.table, images=SOURCE.images, min_score=0.85)

    (found,) = read(source, _write(tmp_path, ROW))

    assert isinstance(found, Annotation)
    assert [(item.text, len(item.instances)) for item in found.expressions] == [("a dog", 1), (CAPTION, 1)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "failed_to_download"}, "where.filtered"),
        ({"caption": " "}, "text.empty"),
        ({"caption": None}, "schema"),
        ({"noun_chunks": [[0, 5, 0, 0, 1, 1]]}, "schema"),
        ({"noun_chunks": [[0, 28, 0, 0, 1, 1, 1.0]]}, "span.invalid"),
        ({"ref_exps": [[5, 5, 0, 0, 1, 1, 1.0]]}, "span.invalid"),
        ({"ref_exps": [[0.5, 5, 0, 0, 1, 1, 1.0]]}, "span.invalid"),
        ({"noun_chunks": [], "ref_exps": None}, "box.missing"),
    ],
)
def test_a_defective_row_costs_no_other(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    bad, good = read(SOURCE, _write(tmp_path, {**ROW, **change}, {**ROW, "key": "8"}))

    assert isinstance(bad, Rejected)
    assert (bad.reason, bad.origin.record) == (reason, "row 0")
    assert isinstance(good, Annotation)


def test_a_key_stands_once(tmp_path: Path) -> None:
    _, bad = read(SOURCE, _write(tmp_path, ROW, ROW))

    assert isinstance(bad, Rejected)
    assert bad.reason == "id.duplicate"


def test_the_spec_speaks_of_the_chunks_where_they_stand(tmp_path: Path) -> None:
    root = _write(tmp_path / "root", ROW)
    spec = next(spec for spec in Catalog().find("grit_kosmos2") if spec.task.id == "grounded_caption")

    convert(spec, "train", root.directory, tmp_path / "out")

    (sample,) = manifest.read_samples(tmp_path / "out/grit_kosmos2/grounded_caption/train")
    assert sample.conversation[1].text == "A dog[DET] in a field[DET] of flowers."
    assert [route.name for route in sample.routes] == ["a dog", "a field"]
