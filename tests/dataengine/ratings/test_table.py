"""The table of ratings beside a manifest: whose it is, what is done again, and how it spreads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dataengine import manifest as manifests
from dataengine.errors import SourceError
from dataengine.ratings import pictures, table
from dataengine.ratings.table import COLUMNS, RATINGS, Rated, histograms, load, rate
from dataengine.shard import shard

if TYPE_CHECKING:
    from tests.conftest import Tiny


def _count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often a picture is decoded."""
    seen: list[int] = []
    real = pictures.rate

    def counted(data: bytes) -> pictures.PictureRatings:
        seen.append(len(data))
        return real(data)

    monkeypatch.setattr(pictures, "rate", counted)
    return seen


def test_each_sample_has_a_row_in_its_order(tiny: Tiny) -> None:
    folder, _ = tiny.convert()

    done = rate([tiny.out])

    found = load(folder)
    assert done == [Rated(name="tiny/detection/train", samples=6, unread=0, kept=False)]
    assert found.column("id").to_pylist() == [sample.id for sample in manifests.read_samples(folder)]
    row = found.to_pylist()[0]
    assert (row["side"], row["unread"], row["agreement"]) == (24, 0, None)
    assert row["aspect"] == pytest.approx(32 / 24, abs=1e-4)
    assert row["words"] > 0
    assert 0 < row["brightness"] < 1
    assert [one.name for one in COLUMNS] == found.column_names[1:]


def test_workers_change_no_byte_and_shards_stay_as_they_are(tiny: Tiny, tmp_path: Path) -> None:
    folder, _ = tiny.convert()
    shard([tiny.out], tmp_path / "a")
    rate([folder])
    first = (folder / RATINGS).read_bytes()
    (folder / RATINGS).unlink()

    rate([folder], workers=2)
    shard([tiny.out], tmp_path / "b")

    assert (folder / RATINGS).read_bytes() == first
    for path in (tmp_path / "a").glob("*.tar"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_rows_that_are_written_in_parts_are_the_same(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = tiny.convert()
    rate([folder])
    whole = load(folder).to_pylist()
    (folder / RATINGS).unlink()
    monkeypatch.setattr(table, "CHUNK", 2)

    rate([folder])

    assert load(folder).to_pylist() == whole


def test_each_picture_is_decoded_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.spec.write_text(
        tiny.spec.read_text().replace("detection: {}", "detection: {}\n  region_recognition: {}")
    )
    tiny.repeat(20)
    for task in ("detection", "region_recognition"):
        tiny.convert(task=task)
    seen = _count(monkeypatch)

    rate([tiny.out])

    assert len(seen) == 6


def test_finished_manifests_are_kept_and_a_stopped_call_goes_on(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.convert("train")
    tiny.convert("val")
    seen = _count(monkeypatch)

    def stop(count: int, text: str) -> None:
        if "val" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rate([tiny.out], progress=stop)
    before = len(seen)
    done = rate([tiny.out])
    again = rate([tiny.out])

    assert [(one.name, one.kept) for one in done] == [
        ("tiny/detection/train", True),
        ("tiny/detection/val", False),
    ]
    assert (before, len(seen)) == (7, 10)
    assert all(one.kept for one in again)


def test_ratings_of_another_conversion_are_refused_and_made_anew(tiny: Tiny) -> None:
    folder, _ = tiny.convert()
    rate([folder])
    tiny.write({**tiny.document(), "images": tiny.document()["images"][:3]})
    tiny.convert()

    with pytest.raises(SourceError, match="is of another conversion; run 'dataengine curate"):
        load(folder)
    assert rate([folder])[0].kept is False
    assert load(folder).num_rows == 3


def test_a_manifest_without_ratings_says_how_to_get_them(tiny: Tiny) -> None:
    folder, _ = tiny.convert()

    with pytest.raises(SourceError, match="has no ratings yet; run 'dataengine curate"):
        load(folder)
    (folder / RATINGS).write_bytes(b"no parquet")
    with pytest.raises(SourceError, match="not a table of ratings"):
        load(folder)


def test_a_picture_that_cannot_be_read_is_counted_and_has_no_rating(tiny: Tiny) -> None:
    folder, _ = tiny.convert()
    (tiny.root / "images/001.jpg").unlink()
    (tiny.root / "images/003.jpg").write_bytes(b"\xff\xd8 no picture")

    done = rate([folder])

    rows = load(folder).to_pylist()
    assert done[0].unread == 2
    assert [row["unread"] for row in rows] == [1, 0, 1, 0, 0, 0]
    assert [row["sharpness"] is None for row in rows] == [True, False, True, False, False, False]


class _Scorer:
    """Says how long a text is, and forgets every second picture."""

    name = "lengths"

    def score(self, pairs: Sequence[tuple[bytes, str]]) -> list[float | None]:
        return [len(text) / 1000 if number % 2 == 0 else None for number, (_, text) in enumerate(pairs)]


def test_agreement_is_asked_for_and_stays_when_it_is_not(tiny: Tiny) -> None:
    folder, _ = tiny.convert()
    rate([folder])

    with_scores = rate([folder], scorer=_Scorer())
    kept = rate([folder])

    values = load(folder).column("agreement").to_pylist()
    assert (with_scores[0].kept, kept[0].kept) == (False, True)
    assert [value is None for value in values] == [False, True] * 3


def test_histograms_hold_every_sample_once(tiny: Tiny) -> None:
    folders = [tiny.convert(split)[0] for split in ("train", "val")]
    (tiny.root / "images/001.jpg").unlink()
    rate(folders)

    found = {one.rating: one for one in histograms(folders)}

    assert "agreement" not in found
    for one in found.values():
        assert sum(one.counts) + one.missing == 9
        assert len(one.counts) == len(one.edges or one.words)
    assert found["sharpness"].missing == 1
    assert found["side"].counts[found["side"].edges.index(16)] == 9
    assert found["script"].words == ("latin",)


@pytest.mark.parametrize(("value", "place"), [(-1.0, 0), (0.0, 0), (4.9, 0), (5.0, 1), (9999.0, 10)])
def test_values_outside_the_edges_are_in_the_outer_bins(value: Any, place: int) -> None:
    sharpness = next(one for one in COLUMNS if one.name == "sharpness")

    assert table._bin(sharpness, value) == place
