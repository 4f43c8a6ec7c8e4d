"""Damage to shards is found, named by file and offset, and costs the samples that it hit: no other one, no run."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from dataengine import tar
from dataengine.errors import DataEngineError, ShardError
from dataengine.restore import index
from dataengine.sample import Sample
from dataengine.shard import shard
from dataengine.shares import Recipe
from dataengine.state import Hole
from dataengine.stream import Stream
from dataengine.verify import rebuild, verify

if TYPE_CHECKING:
    from tests.conftest import Tiny

EPOCH = 9
RECIPE = Recipe(seed=3, global_batch=3, policy="proportional")


@dataclass
class Shards:
    """A copy of a shard set, and the rows of the two samples in one of its tars."""

    folder: Path
    first: dict[str, Any]
    second: dict[str, Any]

    @property
    def path(self) -> Path:
        return self.folder / f"{self.first['shard']}.tar"

    def change(self, offset: int, data: bytes) -> None:
        """Write bytes into the tar."""
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def flip(self, offset: int) -> None:
        """Turn one bit of the tar over."""
        byte = self.path.read_bytes()[offset]
        self.change(offset, bytes([byte ^ 4]))


@pytest.fixture
def shards(tiny_shards: Path, tmp_path: Path) -> Shards:
    folder = Path(shutil.copytree(tiny_shards, tmp_path / "s"))
    stream = Stream(folder, RECIPE)
    rows = [stream.index.row(number) for number in stream.index.rows_by_source["tiny/detection/train"]]
    first, second = (row for row in rows if row["shard"] == rows[2]["shard"])
    return Shards(folder, first, second)


Case = tuple[list[tuple[str, str, int]], list[str]]


def flipped_picture(shards: Shards) -> Case:
    offset = shards.second["image_offsets"][0]
    shards.flip(offset + 40)
    return [(shards.second["id"], "shard.damaged", offset)], [f"offset {offset}: picture"]


def flipped_json(shards: Shards) -> Case:
    offset = shards.first["json_offset"]
    shards.flip(offset + 40)
    return [(shards.first["id"], "shard.damaged", offset)], [f"offset {offset}: JSON"]


def flipped_header(shards: Shards) -> Case:
    """The index leads past headers: the sample is served as it was, and only tar readers would fail."""
    offset = shards.second["json_offset"] - tar.BLOCK
    shards.flip(offset + 3)
    return [], [f"offset {offset}: header"]


def flipped_padding(shards: Shards) -> Case:
    offset = shards.first["json_offset"] + shards.first["json_size"]
    shards.flip(offset)
    return [], [f"offset {offset}: padding behind {shards.first['key']}.json"]


def cut(shards: Shards) -> Case:
    """The tar ends in the second sample's last member; the first sample is whole."""
    last = max(shards.second["json_offset"], *shards.second["image_offsets"])
    with shards.path.open("r+b") as file:
        file.truncate(last + 5)
    return [(shards.second["id"], "shard.unreadable", last)], [f"has {last + 5} bytes, expected"]


def swapped(shards: Shards) -> Case:
    """The members of the two samples' pictures change places, headers and all."""
    data = shards.path.read_bytes()
    spans = []
    for row in (shards.first, shards.second):
        start, size = row["image_offsets"][0], row["image_sizes"][0]
        spans.append((start - tar.BLOCK, start + size + len(tar.padding(size))))
    (a, b), (c, d) = sorted(spans)
    shards.path.write_bytes(data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:])
    hit = []
    for row in (shards.first, shards.second):
        # What lies between two members of different sizes has moved, too.
        places = [row["json_offset"], *row["image_offsets"]]
        moved = [place for place in places if a <= place < d]
        hit.append((row["id"], "shard.damaged", moved[0]))
    return hit, [f"offset {offset}: " for _, _, offset in hit]


def doubled_key(shards: Shards) -> Case:
    """The second sample's JSON takes the first one's name, with a header that is right in itself."""
    offset = shards.second["json_offset"] - tar.BLOCK
    shards.change(offset, tar.header(f"{shards.first['key']}.json", shards.second["json_size"]))
    return [], [f"offset {offset}: header of {shards.second['key']}.json"]


def missing(shards: Shards) -> Case:
    shards.path.unlink()
    hit = [(row["id"], "shard.unreadable", row["json_offset"]) for row in (shards.first, shards.second)]
    return hit, ["missing; rebuild it"]


def rewritten(shards: Shards) -> Case:
    """Another tar under the same name, with as many bytes."""
    size = shards.path.stat().st_size
    other = next(path for path in sorted(shards.folder.glob("*.tar")) if path != shards.path)
    shards.path.write_bytes(other.read_bytes()[:size].ljust(size, b"\0"))
    hit = [(row["id"], "shard.damaged", row["json_offset"]) for row in (shards.first, shards.second)]
    return hit, [f"offset {offset}: JSON" for _, _, offset in hit]


def moved_index(shards: Shards) -> Case:
    """An index of as many samples, made for another tar of that name: both samples lie elsewhere."""
    path = shards.folder / "index.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        if row["shard"] == shards.first["shard"]:
            row["json_offset"] += tar.BLOCK
    table = pq.read_table(path)
    pq.write_table(type(table).from_pylist(rows, table.schema), path)
    hit = [
        (row["id"], "shard.damaged", row["json_offset"] + tar.BLOCK) for row in (shards.first, shards.second)
    ]
    return hit, [
        f"index.parquet: 2 of 2 samples of {shards.path.name} lie elsewhere, {shards.first['id']} the first"
    ]


def serve(stream: Stream) -> list[tuple[Sample, list[bytes]] | Hole]:
    return [stream.serve(t) for t in range(2 * EPOCH)]


@pytest.mark.parametrize(
    "damage",
    [flipped_picture, flipped_json, flipped_header, flipped_padding, cut, swapped, doubled_key, missing,
     rewritten, moved_index],
)  # fmt: skip
def test_damage_costs_the_samples_that_it_hit_and_is_named(
    tiny_shards: Path, shards: Shards, damage: Callable[[Shards], Case]
) -> None:
    whole = serve(Stream(tiny_shards, RECIPE))
    hit, named = damage(shards)

    served = serve(Stream(shards.folder, RECIPE))

    holes = {t: one for t, one in enumerate(served) if isinstance(one, Hole)}
    assert [one for t, one in enumerate(served) if t not in holes] == [
        one for t, one in enumerate(whole) if t not in holes
    ]
    # Both passes have the hole, each at the position at which the plan has the sample.
    assert sorted((one.id, one.reason, one.offset) for one in holes.values()) == sorted(hit * 2)
    for t, one in holes.items():
        stood = whole[t]
        assert not isinstance(stood, Hole) and stood[0].id == one.id
        assert (one.position, one.file, one.lasts) == (t, shards.path.name, True)
        assert one.detail.startswith(str(shards.path))
    findings = verify(shards.folder)
    assert all(any(line in finding for finding in findings) for line in named), findings
    assert all(str(shards.folder) in finding for finding in findings)


def test_an_index_of_other_shards_is_refused_when_it_is_opened(shards: Shards) -> None:
    path = shards.folder / "index.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0] = {**rows[0], "source": rows[-1]["source"]}
    pq.write_table(type(table).from_pylist(rows, table.schema), path)

    with pytest.raises(
        ShardError, match=r"index\.parquet: has \d samples of tiny/detection/\w+, shards\.json"
    ):
        Stream(shards.folder, RECIPE)


def test_a_sample_of_another_version_is_named(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    import msgspec

    from dataengine import sample

    def refuse(data: bytes) -> Sample:
        raise msgspec.ValidationError("Object missing required field `mood`")

    monkeypatch.setattr(sample, "decode", refuse)

    found = Stream(shards.folder, RECIPE).serve(0)

    assert isinstance(found, Hole)
    assert (found.reason, found.offset > 0) == ("shard.schema", True)
    assert "not a sample of this version: Object missing required field `mood`" in found.detail


@pytest.mark.parametrize(
    ("code", "is_hole"), [(errno.EMFILE, False), (errno.ENOMEM, False), (errno.EIO, True)]
)
def test_what_the_process_lacks_is_no_damage(
    shards: Shards, monkeypatch: pytest.MonkeyPatch, code: int, is_hole: bool
) -> None:
    stream = Stream(shards.folder, RECIPE)

    def refuse(*_: Any) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)

    if is_hole:
        assert isinstance(stream.serve(0), Hole)
        return
    with pytest.raises(ShardError, match=os.strerror(code)):
        stream.serve(0)


def test_a_known_hole_is_not_read_again_and_gives_the_same(shards: Shards) -> None:
    flipped_json(shards)
    first = Stream(shards.folder, RECIPE)
    holes = [one for one in serve(first) if isinstance(one, Hole)]
    shards.flip(shards.first["json_offset"] + 40)  # mended

    knows = Stream(shards.folder, RECIPE)
    knows.remember(first.state(EPOCH, holes).holes)

    assert [one for one in serve(knows) if isinstance(one, Hole)] == holes
    assert not [one for one in serve(Stream(shards.folder, RECIPE)) if isinstance(one, Hole)]


def test_a_folder_in_the_place_of_a_tar_is_named_by_proof_and_by_the_way_back(
    tiny: Tiny, tmp_path: Path
) -> None:
    shard([tiny.convert()[0]], tmp_path / "s")
    (path,) = (tmp_path / "s").glob("*.tar")
    path.unlink()
    path.mkdir()

    assert [line.partition("; ")[0] for line in verify(tmp_path / "s")] == [
        f"{path}: is a folder, expected a tar"
    ]
    with pytest.raises(DataEngineError, match=f"{path}: cannot be written: "):
        rebuild(tmp_path / "s")


@pytest.mark.parametrize("spoil", ["missing", "garbage", "stale"])
def test_the_way_back_that_a_lost_index_names_works(tiny: Tiny, tmp_path: Path, spoil: str) -> None:
    out = tmp_path / "s"
    shard([tiny.convert()[0]], out)
    before = (out / "index.parquet").read_bytes()
    if spoil == "missing":
        (out / "index.parquet").unlink()
    elif spoil == "garbage":
        (out / "index.parquet").write_bytes(b"x")
    else:
        shard([tiny.convert("val")[0]], tmp_path / "other")
        shutil.copyfile(tmp_path / "other/index.parquet", out / "index.parquet")

    with pytest.raises(ShardError, match=f"without them 'dataengine shard {out} --index'"):
        verify(out)
    index(out)

    assert verify(out) == []
    assert len((out / "index.parquet").read_bytes()) <= len(before)
