from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.demo.prepare import prepare
from dataengine.errors import ShardError
from dataengine.index import Index, load_set
from dataengine.members import read_tars, tars_in
from dataengine.peers import croissant, energon
from dataengine.peers.beside import write_beside
from dataengine.restore import index
from dataengine.shard import append, shard
from dataengine.stream import Stream, recipe
from dataengine.verify import verify

if TYPE_CHECKING:
    from tests.conftest import Tiny


@pytest.fixture
def made(tiny: Tiny, tmp_path: Path) -> Path:
    """Shards of both splits, two samples each."""
    tiny.convert("train")
    tiny.convert("val")
    shard([tiny.out], tmp_path / "s", samples_per_shard=2)
    return tmp_path / "s"


def _told(folder: Path) -> pa.Table:
    """Return the index without what no tar tells."""
    return pq.read_table(folder / "index.parquet").drop_columns(["unsure"])


def _json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_bytes())
    return value


def test_a_lost_index_comes_back(made: Path) -> None:
    before = _told(made)
    (made / "index.parquet").unlink()

    done = index(made)

    assert _told(made).equals(before)
    assert set(pq.read_table(made / "index.parquet").column("unsure").to_pylist()) == {None}
    assert done.set == load_set(made)
    assert [line.partition(" (")[0] for line in done.unknown] == ["classes that a sample leaves open"]
    assert (done.tars, done.samples, done.faults, done.members) == (5, 9, (), None)


def _sorted(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


@pytest.mark.parametrize("layout", ["by_task", "mixed"])
def test_without_shards_json_all_that_the_tars_tell_comes_back(
    tiny: Tiny, tmp_path: Path, layout: Any
) -> None:
    tiny.convert("train")
    tiny.convert("val")
    held = shard([tiny.out], tmp_path / "s", layout=layout, samples_per_shard=4)
    before = _told(tmp_path / "s")
    (tmp_path / "s/index.parquet").unlink()
    (tmp_path / "s/shards.json").unlink()

    done = index(tmp_path / "s", workers=2)

    assert done.set is not None
    assert _told(tmp_path / "s").equals(before)
    assert [(f.name, f.samples, f.bytes, f.digest) for f in done.set.shards] == [
        (f.name, f.samples, f.bytes, f.digest) for f in held.shards
    ]
    for source, wanted in zip(done.set.sources, held.sources, strict=True):
        for field in (
            "name",
            "dataset",
            "task",
            "split",
            "use",
            "family",
            "samples",
            "text_length",
            "spec_hash",
        ):
            assert getattr(source, field) == getattr(wanted, field)
    assert (done.set.layout, done.set.samples_per_shard, done.set.schema_hash) == (
        layout,
        4,
        held.schema_hash,
    )
    assert any("use is guessed from the split's name" in line for line in done.set.unknown)
    assert load_set(tmp_path / "s") == done.set
    assert verify(tmp_path / "s") == []
    assert Stream(tmp_path / "s", recipe(seed=0, global_batch=2)).read(0)


def test_a_shipped_spec_is_known_by_its_digest(tmp_path: Path) -> None:
    prepare(tmp_path / "data")
    (spec,) = Catalog().find("demo_people/keypoints")
    convert(spec, "train", tmp_path / "data", tmp_path / "m")
    held = shard([tmp_path / "m"], tmp_path / "s")
    (tmp_path / "s/shards.json").unlink()

    done = index(tmp_path / "s").set

    assert done is not None
    assert _sorted(done.specs) == _sorted(held.specs)
    assert (done.sources[0].use, done.sources[0].family) == ("train", "pose")
    assert (
        done.unknown[-1]
        == "labels of demo_people/keypoints/train: the spec names no label space, its source may state one"
    )


def test_a_damaged_sample_is_in_no_row_and_accounted_for(made: Path) -> None:
    row = Index(made).row(3)
    path = made / f"{row['shard']}.tar"
    data = bytearray(path.read_bytes())
    data[row["image_offsets"][0] + 9] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        ShardError, match=r"differs from shards.json; run 'dataengine shard' again, or remove"
    ):
        index(made)
    (made / "shards.json").unlink()

    done = index(made)

    assert done.set is not None
    assert [(one.id, one.reason) for one in done.set.dropped] == [(row["id"], "shard.damaged")]
    assert len(Index(made)) == 8
    assert done.faults == (
        f"{made}: {row['id']}: {row['shard']}: offset {min(row['json_offset'], row['image_offsets'][0]) - 512}:"
        f" picture images/004.png is damaged",
    )


def test_tars_of_others_get_a_table_beside_the_set(made: Path) -> None:
    (made / "sub").mkdir()
    theirs = made / "tiny-detection-val-000001.tar"
    (made / "sub/theirs.tar").write_bytes(theirs.read_bytes())
    (made / "index.parquet").unlink()

    done = index(made)

    assert done.set is not None
    assert len(done.set.shards) == 5
    assert done.members == made / "members.parquet"
    assert done.faults == (
        f"{made}: key 'tiny-detection-val-000001-000000' is in sub/theirs.tar and in {theirs.name}",
    )


def test_energon_finds_every_member_where_its_files_say(made: Path) -> None:
    lines = write_beside(made, ["energon"])

    names = sorted(path.name for path in made.glob("*.tar"))
    info = _json(made / ".nv-meta/.info.json")
    assert info["shard_counts"] == {file.name: file.samples for file in load_set(made).shards}
    assert lines == [f"wrote {made / '.nv-meta'}"]
    found = Index(made)
    with sqlite3.connect(f"file:{made / '.nv-meta/index.sqlite'}?mode=ro", uri=True) as base:
        rows = base.execute("SELECT * FROM samples ORDER BY tar_file_id, sample_index").fetchall()
        parts = base.execute("SELECT * FROM sample_parts").fetchall()
        indexes = {row[0] for row in base.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    base.close()
    assert {"idx_samples_by_tar_and_idx", "idx_sample_parts_seq", "idx_sample_parts_full"} <= indexes
    assert [row[1] for row in rows] == found.table.column("key").to_pylist()
    for tar_id, name in enumerate(info["shard_counts"]):
        bounds = np.fromfile(made / f"{name}.idx", "<u8").tolist()
        own = [row for row in rows if row[0] == tar_id]
        assert bounds[0] == 0
        assert bounds[-1] == (made / name).stat().st_size - 1024
        assert [(row[3], row[3] + row[4]) for row in own] == list(pairwise(bounds))
    for number, row in enumerate(rows):
        wanted = found.row(number)
        has = {part[2]: part[3:] for part in parts if part[:2] == (row[0], row[2])}
        assert has.pop("json") == (wanted["json_offset"], wanted["json_size"])
        assert list(has.values()) == [(wanted["image_offsets"][0], wanted["image_sizes"][0])]
    split = (made / ".nv-meta/split.yaml").read_text()
    assert split.index("train:") < split.index(names[0]) < split.index("val:") < split.index(names[-1])
    assert (made / ".nv-meta/dataset.yaml").read_text() == (
        "__module__: megatron.energon\n__class__: CrudeWebdataset\n"
    )


def test_the_same_tars_have_the_same_files_for_energon(made: Path) -> None:
    write_beside(made, ["energon"])
    first = {path.name: path.read_bytes() for path in (made / ".nv-meta").iterdir()}

    write_beside(made, ["energon"])

    assert {path.name: path.read_bytes() for path in (made / ".nv-meta").iterdir()} == first


def test_a_tar_of_both_uses_is_in_no_split_and_keys_must_be_single(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert("train")
    tiny.convert("val")
    shard([tiny.out], tmp_path / "s", layout="mixed")

    lines = write_beside(tmp_path / "s", ["energon"])

    assert lines[0].endswith(
        "mixed-000000.tar: holds samples to train on and to evaluate with; it is in no split of Energon"
    )
    (tmp_path / "s/b.tar").write_bytes((tmp_path / "s/mixed-000000.tar").read_bytes())
    contents = list(read_tars(tmp_path / "s", tars_in(tmp_path / "s")))
    with pytest.raises(
        ShardError, match=r"key .* is in b\.tar and in mixed-000000\.tar; Energon needs one sample"
    ):
        energon.dump(tmp_path / "s", contents, {})


def test_croissant_names_every_file_with_its_digest(made: Path) -> None:
    import hashlib

    path = croissant.dump(Index(made))

    document = _json(path)
    files = [one for one in document["distribution"] if one["@type"] == "cr:FileObject"]
    assert [one["name"] for one in files] == [
        "index.parquet", "shards.json", *[file.name for file in load_set(made).shards],
    ]  # fmt: skip
    for one in files:
        assert one["sha256"] == hashlib.sha256((made / one["name"]).read_bytes()).hexdigest()
    columns = [field["name"] for field in document["recordSet"][0]["field"]]
    assert columns == Index(made).table.column_names
    assert document["license"] == [
        "Tiny pictures for tests: annotations CC0-1.0",
        "Tiny pictures for tests: images CC-BY-4.0",
    ]
    held = {one["@id"] for one in document["distribution"]}
    for records in document["recordSet"]:
        for field in records["field"]:
            source = field["source"]
            assert next(iter(source.values()))["@id"] in held


@pytest.mark.slow
def test_the_command_indexes_and_describes(tiny: Tiny, made: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dataengine", "shard", str(made)]
    (made / "index.parquet").unlink()

    subprocess.run(
        [*command, "--index", "--for", "dali", "--for", "croissant"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    wrong = subprocess.run([*command, "--append"], check=False, capture_output=True, text=True, timeout=60)

    assert len(Index(made)) == 9
    assert len(list(made.glob("*.idx"))) == 5
    assert (made / "croissant.json").is_file()
    assert "shard needs the folders of manifests and --out" in wrong.stderr
    os.truncate(made / "tiny-detection-val-000001.tar", 1000)
    cut = subprocess.run([*command, "--index"], check=False, capture_output=True, text=True, timeout=60)
    assert cut.returncode == 2
    assert "differs from shards.json" in cut.stderr


def test_more_splits_come_to_a_restored_set(tiny: Tiny, tmp_path: Path) -> None:
    train, _ = tiny.convert("train")
    shard([train], tmp_path / "s", samples_per_shard=2)
    for name in ("index.parquet", "shards.json"):
        (tmp_path / "s" / name).unlink()
    index(tmp_path / "s")
    val, _ = tiny.convert("val")

    append([val], tmp_path / "s")

    assert len(Index(tmp_path / "s")) == 9
    assert verify(tmp_path / "s") == []
