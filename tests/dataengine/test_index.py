from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataengine.errors import ShardError
from dataengine.index import INDEX_SCHEMA, Index, in_arrow
from dataengine.shard import shard

if TYPE_CHECKING:
    from tests.conftest import Tiny


@pytest.fixture
def shards(tiny: Tiny, tmp_path: Path) -> Path:
    tiny.convert("train")
    tiny.convert("val")
    shard([tiny.out], tmp_path / "s", layout="mixed", samples_per_shard=4)
    return tmp_path / "s"


def test_rows_by_source_are_all_rows_once_and_ascending(shards: Path) -> None:
    index = Index(shards)

    rows = index.rows_by_source

    assert sorted(rows) == ["tiny/detection/train", "tiny/detection/val"]
    assert sorted(number for numbers in rows.values() for number in numbers.tolist()) == list(range(9))
    for name, numbers in rows.items():
        assert numbers.tolist() == sorted(numbers.tolist())
        assert {index.row(number)["source"] for number in numbers.tolist()} == {name}


def test_every_sample_is_found_by_its_id(shards: Path) -> None:
    index = Index(shards)

    ids = index.table.column("id").to_pylist()

    assert [index.find(one) for one in ids] == list(range(len(ids)))


def test_an_unknown_id_says_how_to_list_ids(shards: Path) -> None:
    with pytest.raises(
        ShardError, match=r"no sample 'x'; 'dataengine stream .* --count 5 --json' lists some"
    ):
        Index(shards).find("x")


def test_an_index_with_other_rows_than_its_set_is_stale(shards: Path) -> None:
    table = pq.read_table(shards / "index.parquet")
    pq.write_table(table.slice(0, 5), shards / "index.parquet")

    with pytest.raises(ShardError, match=r"has 5 samples, shards\.json 9; the index is stale"):
        Index(shards)


def test_an_index_with_other_columns_is_refused(shards: Path) -> None:
    pq.write_table(pa.table({"id": ["a"]}), shards / "index.parquet")

    with pytest.raises(ShardError, match="columns are not those of version 1"):
        Index(shards)


@pytest.mark.parametrize("content", [None, b"", b"PAR1 not parquet PAR1"])
def test_an_index_that_cannot_be_read_is_one_line(shards: Path, content: bytes | None) -> None:
    (shards / "index.parquet").unlink()
    if content is not None:
        (shards / "index.parquet").write_bytes(content)

    with pytest.raises(ShardError, match=r"index\.parquet: (cannot be read|no such file)") as caught:
        Index(shards)

    assert "\n" not in str(caught.value)


def test_places_are_those_of_the_columns(shards: Path) -> None:
    index = Index(shards)

    for number, row in enumerate(index.table.to_pylist()):
        place = index.place(number)
        assert place.file == f"{row['shard']}.tar"
        assert place.spans == [
            (row["json_offset"], row["json_size"]),
            *zip(row["image_offsets"], row["image_sizes"], strict=True),
        ]
        assert place.digest == row["digest"]


def test_a_digest_that_is_none_is_one_line(shards: Path) -> None:
    table = pq.read_table(shards / "index.parquet")
    rows = table.to_pylist()
    rows[1]["digest"] = "0" * 31
    pq.write_table(pa.Table.from_pylist(rows, table.schema), shards / "index.parquet")
    index = Index(shards)

    with pytest.raises(
        ShardError, match=r"index\.parquet: has digests that are none, .* run 'dataengine shard' again"
    ) as caught:
        index.place(0)

    assert "\n" not in str(caught.value)


def test_shards_json_with_a_strange_key_is_refused(shards: Path) -> None:
    text = (shards / "shards.json").read_text()
    (shards / "shards.json").write_text(text.replace('"layout"', '"lay_out"'))

    with pytest.raises(ShardError, match=r"shards\.json: not a shard set: .*lay_out"):
        Index(shards)


def test_the_columns_on_disk_are_the_published_ones(shards: Path) -> None:
    assert pq.read_schema(shards / "index.parquet").names == INDEX_SCHEMA.names


def test_what_arrow_reads_from_memory_is_its_own() -> None:
    data = bytes(range(256)) * 40
    held_before = sys.getrefcount(data)

    buffer = in_arrow(data)

    assert buffer.to_pybytes() == data
    assert sys.getrefcount(data) == held_before
