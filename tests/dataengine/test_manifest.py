from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from dataengine import manifest as manifests
from dataengine.errors import SourceError
from dataengine.index import Index
from dataengine.shard import shard

if TYPE_CHECKING:
    from tests.conftest import Tiny


def test_a_manifest_says_what_it_was_made_from(tiny: Tiny) -> None:
    directory, _ = tiny.convert()

    manifest = manifests.load(directory)

    assert (manifest.name, manifest.use, manifest.family) == ("tiny/detection/train", "train", "detection")
    assert manifest.root == str(tiny.root.resolve())
    assert list(manifest.source_files) == ["train.json"]
    assert manifest.labels is not None
    assert manifest.labels.names == ("cat", "dog", "bird")
    assert manifest.spec["dataset"]["license"]["images"] == "CC-BY-4.0"


def test_the_fingerprint_depends_on_content_and_not_on_the_place(tiny: Tiny, tmp_path: Path) -> None:
    one, _ = tiny.convert(out=tmp_path / "one")
    tiny.root.rename(tmp_path / "moved")
    two, _ = type(tiny)(root=tmp_path / "moved", spec=tiny.spec, out=tmp_path / "two").convert()
    three, _ = type(tiny)(root=tmp_path / "moved", spec=tiny.spec, out=tmp_path / "three").convert(seed=1)

    prints = [manifests.load(path).fingerprint for path in (one, two, three)]

    assert prints[0] == prints[1] != prints[2]
    assert (one / "samples.parquet").read_bytes() == (two / "samples.parquet").read_bytes()


def test_any_run_of_rows_is_read_alone(tiny: Tiny) -> None:
    tiny.repeat(1100)
    directory, _ = tiny.convert()
    whole = [sample.id for sample in manifests.read_samples(directory)]

    parts = [
        [one.id for one in manifests.read_samples(directory, start, stop)]
        for start, stop in ((0, 3), (510, 515), (1020, 1100), (1099, None), (5, 5), (1100, None))
    ]

    assert manifests.num_samples(directory) == len(whole) == 1100
    assert parts == [whole[:3], whole[510:515], whole[1020:], whole[1099:], [], []]


def test_a_split_from_before_the_last_column_tells_nothing_and_can_be_sharded(
    tiny: Tiny, tmp_path: Path
) -> None:
    directory, _ = tiny.convert()
    told = list(zip(range(9), manifests.read_unsure(directory), strict=False))
    table = pq.read_table(directory / "samples.parquet")
    pq.write_table(table.drop_columns(["unsure"]), directory / "samples.parquet")

    older = list(zip(range(6), manifests.read_unsure(directory), strict=False))
    shard([directory], tmp_path / "s")

    assert told == [(number, []) for number in range(6)]
    assert older == [(number, None) for number in range(6)]
    assert {Index(tmp_path / "s").unsure(number) for number in range(6)} == {None}


def test_finished_splits_are_found_in_order_and_unfinished_ones_are_not(tiny: Tiny) -> None:
    train, _ = tiny.convert("train")
    val, _ = tiny.convert("val")

    both = manifests.find(tiny.out)
    (val / "ledger.json").unlink()

    assert both == [train, val]
    assert manifests.find(tiny.out) == [train]
    with pytest.raises(SourceError, match="no finished manifest here"):
        manifests.load(val)


def test_a_folder_without_manifests_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="run convert first"):
        manifests.find(tmp_path)
    with pytest.raises(SourceError, match="no such folder"):
        manifests.find(tmp_path / "absent")


def test_a_damaged_manifest_is_one_line(tiny: Tiny) -> None:
    directory, _ = tiny.convert()
    (directory / "manifest.json").write_text('{"dataset": 3}')

    with pytest.raises(SourceError, match=r"manifest\.json: not a manifest: .*; run convert again"):
        manifests.load(directory)
