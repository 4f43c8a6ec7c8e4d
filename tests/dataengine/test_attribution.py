"""Whose work a set is made of, as two files beside its tars."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataengine import attribution, selection
from dataengine.attribution import Counts
from dataengine.restore import index
from dataengine.selection import Choice
from dataengine.shard import append, shard

if TYPE_CHECKING:
    from tests.conftest import Tiny

NAMES = ["Attribution License", "Attribution-NonCommercial License", None, "a | b", "unknown", "CC0-1.0"]


def _licensed(tiny: Tiny, names: list[str | None]) -> None:
    """Let pictures state these licenses, None: no license at all."""
    stated = [name for name in names if name is not None]
    document: dict[str, Any] = tiny.document()
    document["licenses"] = [{"id": number, "name": name} for number, name in enumerate(stated)]
    for image, name in zip(document["images"], names, strict=True):
        if name is not None:
            image["license"] = stated.index(name)
    tiny.write(document)
    tiny.spec.write_text(
        tiny.spec.read_text().replace(
            "images: CC-BY-4.0}", "images: per_record}\nhomepage: https://example.org/tiny"
        )
    )


def _both(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "attribution.json").read_bytes(), (folder / "ATTRIBUTION.md").read_bytes()


def _counts(folder: Path) -> dict[str, Counts | None]:
    found = attribution.load(folder)
    assert found is not None
    return {source.name: source.counts for dataset in found.datasets for source in dataset.sources}


def test_both_parts_are_counted_and_what_is_not_stated_is_said(tiny: Tiny, tmp_path: Path) -> None:
    _licensed(tiny, NAMES)
    tiny.convert()

    shard([tiny.out], tmp_path / "s", samples_per_shard=4)

    assert _counts(tmp_path / "s") == {
        "tiny/detection/train": Counts(
            annotations={"CC0-1.0": 6},
            pictures={
                "Attribution License": 1, "Attribution-NonCommercial License": 1, "CC0-1.0": 1, "a | b": 1,
                "per_record": 1, "unknown": 1,
            },
        )
    }  # fmt: skip
    page = (tmp_path / "s/ATTRIBUTION.md").read_text().splitlines()
    assert "## Tiny pictures for tests (`tiny`)" in page
    assert "- homepage: https://example.org/tiny" in page
    assert "- citation: none is stated" in page
    assert "- 6 samples of `tiny/detection/train`" in page
    assert "- **no license is stated for the pictures of 2 samples**" in page
    assert "| CC0-1.0 | 6 | 1 | yes | no | no | yes |" in page
    assert "| Attribution-NonCommercial License | 0 | 1 | no | yes | no | yes |" in page
    assert "| a \\| b | 0 | 1 | unknown | unknown | unknown | unknown |" in page


def test_it_is_the_same_for_the_same_set_however_it_came_to_be(tiny: Tiny, tmp_path: Path) -> None:
    train, val = (tiny.convert(split, out=tmp_path / split)[0] for split in ("train", "val"))
    shard([train, val], tmp_path / "whole", samples_per_shard=2, workers=2)
    shard([train], tmp_path / "s", samples_per_shard=2)
    shutil.rmtree(tmp_path / "train")

    append([val], tmp_path / "s")

    assert _both(tmp_path / "s") == _both(tmp_path / "whole")


def test_what_is_left_out_or_lost_is_not_counted(tiny: Tiny, tmp_path: Path) -> None:
    _licensed(tiny, NAMES)
    tiny.convert()
    (tiny.root / "images/001.jpg").unlink()
    selection.write(
        [Choice(id="tiny/train/2#detection", keep=False, reason="license.commercial_ok")], tmp_path / "out"
    )

    shard([tiny.out], tmp_path / "s", selections=[tmp_path / "out"])

    counts = _counts(tmp_path / "s")["tiny/detection/train"]
    assert counts is not None
    assert counts.annotations == {"CC0-1.0": 4}
    assert sorted(counts.pictures) == ["CC0-1.0", "a | b", "per_record", "unknown"]
    selection.write(
        [Choice(id="tiny/train/6#detection", keep=False, reason="license.commercial_ok")], tmp_path / "out"
    )
    shard([tiny.out], tmp_path / "s", selections=[tmp_path / "out"])
    counts = _counts(tmp_path / "s")["tiny/detection/train"]
    assert counts is not None
    assert sorted(counts.pictures) == ["Attribution-NonCommercial License", "a | b", "per_record", "unknown"]


def test_a_set_of_an_older_version_gets_it_from_its_manifests_or_says_what_it_cannot(
    tiny: Tiny, tmp_path: Path
) -> None:
    train, val = (tiny.convert(split, out=tmp_path / split)[0] for split in ("train", "val"))
    for name in ("a", "b"):
        shard([train], tmp_path / name, samples_per_shard=2)
        for path in (tmp_path / name / "attribution.json", tmp_path / name / "ATTRIBUTION.md"):
            path.unlink()

    append([val], tmp_path / "a")
    shutil.rmtree(tmp_path / "train")
    append([val], tmp_path / "b")

    known, unknown = _counts(tmp_path / "a"), _counts(tmp_path / "b")
    assert known["tiny/detection/train"] == Counts(annotations={"CC0-1.0": 6}, pictures={"CC-BY-4.0": 6})
    assert unknown == {"tiny/detection/train": None, "tiny/detection/val": known["tiny/detection/val"]}
    assert "**the licenses of 6 samples are not known" in (tmp_path / "b/ATTRIBUTION.md").read_text()


def test_a_set_that_is_restored_from_its_tars_counts_the_same(tiny: Tiny, tmp_path: Path) -> None:
    _licensed(tiny, NAMES)
    tiny.convert()
    shard([tiny.out], tmp_path / "s", samples_per_shard=4)
    before = _counts(tmp_path / "s")
    for path in (tmp_path / "s").glob("*[!r]"):
        path.unlink()

    index(tmp_path / "s")

    assert _counts(tmp_path / "s") == before
