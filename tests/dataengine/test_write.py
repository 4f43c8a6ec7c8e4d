from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataengine import write
from dataengine.files import Root
from dataengine.manifest import SAMPLE_SCHEMA, read_samples
from dataengine.shard import shard

if TYPE_CHECKING:
    from tests.conftest import Tiny


def _tars(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


def _rewrite(directory: Path, change: Any) -> None:
    """Write the samples of a manifest anew, the JSON of each one changed."""
    table = pq.read_table(directory / "samples.parquet")
    column = pa.array([change(one) for one in table.column("sample").to_pylist()], pa.binary())
    table = table.set_column(SAMPLE_SCHEMA.get_field_index("sample"), "sample", column)
    pq.write_table(table, directory / "samples.parquet", compression="zstd")


def _spaced(sample: bytes) -> bytes:
    return msgspec.json.format(sample, indent=2)


def _without_ratings(sample: bytes) -> bytes:
    assert b',"ratings":{}' in sample
    return sample.replace(b',"ratings":{}', b"")


@pytest.mark.parametrize("change", [_spaced, _without_ratings])
def test_samples_as_another_version_wrote_them_give_the_same_bytes(
    tiny: Tiny, tmp_path: Path, change: Any
) -> None:
    directory, _ = tiny.convert()
    shard([tiny.out], tmp_path / "a")

    _rewrite(directory, change)
    shard([tiny.out], tmp_path / "b")

    assert _tars(tmp_path / "a") == _tars(tmp_path / "b")


def test_words_that_look_like_the_pictures_of_a_sample_stay(tiny: Tiny, tmp_path: Path) -> None:
    tiny.spec.write_text(tiny.spec.read_text().replace("CC0-1.0", '\'"x","images":[{"digest":null}]\''))
    document = tiny.document()
    document["categories"][0]["name"] = 'a,"images":[{"path":"b"}]'
    tiny.write(document)
    directory, _ = tiny.convert()

    shard([tiny.out], tmp_path / "s")

    from dataengine.stream import Stream, recipe

    stream = Stream(tmp_path / "s", recipe(seed=0, global_batch=1))
    for number, wanted in enumerate(read_samples(directory)):
        found, _ = stream.read_row(number)
        images = tuple(msgspec.structs.replace(image, digest=None) for image in found.images)
        assert all(image.digest for image in found.images)
        assert msgspec.structs.replace(found, images=images) == wanted


def test_a_picture_that_samples_share_is_read_once(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = tiny.document()
    document["images"] = [{**document["images"][0], "id": number} for number in range(1, 7)]
    tiny.write(document)
    tiny.convert()
    read: list[str] = []

    def counted(root: Root, name: str) -> bytes:
        read.append(name)
        return root.inside(name).read_bytes()

    monkeypatch.setattr(write, "_read", counted)

    made = shard([tiny.out], tmp_path / "s")

    assert made.sources[0].samples == 6
    assert read == ["images/001.jpg"]


def test_what_the_system_does_not_take_at_once_is_written_after_it(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "a")

    def half(descriptor: int, blocks: Sequence[bytes]) -> int:
        data = b"".join(blocks)
        return os.write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "writev", half)
    shard([tiny.out], tmp_path / "b")

    assert _tars(tmp_path / "a") == _tars(tmp_path / "b")


@pytest.mark.parametrize(
    ("name", "value", "calls"), [("WRITTEN", 1, 15), ("MAX_BLOCKS", 3, 9), ("WRITTEN", 1 << 20, 3)]
)
def test_a_tar_is_the_same_however_much_of_it_is_written_at_once(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: int, calls: int
) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "a", samples_per_shard=2)
    sizes: list[int] = []
    real = os.writev

    def counted(descriptor: int, blocks: Sequence[bytes]) -> int:
        sizes.append(len(blocks))
        return real(descriptor, blocks)

    monkeypatch.setattr(os, "writev", counted)
    monkeypatch.setattr(write, name, value)
    shard([tiny.out], tmp_path / "b", samples_per_shard=2)

    assert _tars(tmp_path / "a") == _tars(tmp_path / "b")
    assert len(sizes) == calls


def test_the_disk_is_told_to_begin_while_a_tar_grows(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "a")
    told: list[int] = []
    monkeypatch.setattr(write, "WRITTEN", 1)
    monkeypatch.setattr(write, "FLUSHED", 1)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: told.append(os.fstat(descriptor).st_size))

    shard([tiny.out], tmp_path / "b")

    assert len(told) > 1
    assert told == sorted(told)
    assert _tars(tmp_path / "a") == _tars(tmp_path / "b")


def test_a_disk_that_fails_while_it_is_told_to_begin_is_one_line(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.convert()

    def fails(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", fails)

    with pytest.raises(Exception, match="cannot be written: No space left on device; free space"):
        shard([tiny.out], tmp_path / "s")
    assert list((tmp_path / "s").iterdir()) == []
