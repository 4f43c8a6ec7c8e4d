"""`verify` says of shards at a URL what it says of the folder that was uploaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dataengine.cli import main
from dataengine.errors import StoreError
from dataengine.index import Index
from dataengine.store import StoreSettings, Url
from dataengine.verify import verify

if TYPE_CHECKING:
    from tests.dataengine.remote.conftest import Bucket

TAR = "tiny-detection-train-000001.tar"


@pytest.fixture
def shards(tiny_shards: Path, tmp_path: Path) -> Path:
    """A copy of the shards to damage."""
    return Path(shutil.copytree(tiny_shards, tmp_path / "s"))


def _flip(place: Callable[[dict[str, Any]], int]) -> Callable[[Path], None]:
    def flip(folder: Path) -> None:
        index = Index(folder)
        row = index.row(index.find("tiny/train/3#detection"))
        data = bytearray((folder / TAR).read_bytes())
        data[place(row)] ^= 1
        (folder / TAR).write_bytes(data)

    return flip


def _cut(folder: Path) -> None:
    (folder / TAR).write_bytes((folder / TAR).read_bytes()[:3000])


def _lengthen(folder: Path) -> None:
    (folder / TAR).write_bytes((folder / TAR).read_bytes() + bytes(512))


@pytest.mark.parametrize(
    ("damage", "lines"),
    [
        (lambda folder: None, 0),
        (_flip(lambda row: row["image_offsets"][0] + 40), 2),
        (_flip(lambda row: row["json_offset"] + 5), 2),
        (_flip(lambda row: -1), 2),
        (_cut, 2),
        (_lengthen, 1),
    ],
    ids=["whole", "picture", "json", "end", "cut", "longer"],
)
def test_an_object_is_proved_as_the_file_that_was_uploaded(
    shards: Path, bucket: Bucket, damage: Callable[[Path], None], lines: int
) -> None:
    damage(shards)
    url = bucket.put_folder(shards, "set")
    mend = f"rebuild it with 'dataengine shard {shards} --rebuild --only {TAR.removesuffix('.tar')}'"

    found = verify(url)

    here = [line.replace(mend, "upload it again").replace(str(shards), str(url)) for line in verify(shards)]
    assert found == here
    assert len(found) == lines
    assert all(line.startswith(f"{url}/{TAR}: ") for line in found)


def test_every_byte_comes_once_and_a_bad_way_is_no_damage(shards: Path, bucket: Bucket) -> None:
    url = bucket.put_folder(shards, "set")
    bucket.fail(f"set/{TAR}", bucket.trick(status=503), bucket.trick(reset=100))
    told: list[int] = []

    assert verify(url, lambda count, text: told.append(count)) == []

    tries = {path.name: len(bucket.ranges(f"set/{path.name}")) for path in shards.glob("*.tar")}
    assert tries == {name: 3 if name == TAR else 1 for name in tries}
    assert sum(told) == len(Index(shards))


def test_a_missing_object_is_named_and_the_others_are_proved(shards: Path, bucket: Bucket) -> None:
    (shards / TAR).unlink()
    url = bucket.put_folder(shards, "set")

    (line,) = verify(url)

    assert line == f"{url}/{TAR}: offset 0: no such object; mend the address, or upload the shards again"


def test_a_store_that_is_out_of_reach_is_no_finding(shards: Path, bucket: Bucket) -> None:
    url = bucket.put_folder(shards, "set")
    bucket.fail(f"set/{TAR}", *[bucket.trick(status=500)] * 9)

    with pytest.raises(StoreError, match=rf"{TAR}: offset 0: the server answers 500, 1 times"):
        verify(url, settings=StoreSettings(retries=0))


def test_the_command_proves_a_url_and_nothing_else_takes_one(
    tiny_shards: Path, memory: Url, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> int:
        with pytest.raises(SystemExit) as stopped:
            main(["shard", memory.address, *arguments])
        assert isinstance(stopped.value.code, int)
        return stopped.value.code

    assert call("--verify", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"findings": []}
    for flags in (["--rebuild"], ["--verify", "--rebuild"], ["--index"], ["--for", "dali"], ["--out", "x"]):
        assert call(*flags) == 2
        assert f"PATHS: {memory} is a URL, expected a path of this machine" in capsys.readouterr().err
