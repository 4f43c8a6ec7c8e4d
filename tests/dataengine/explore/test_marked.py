"""What people mark is on disk at once, and nobody's word is lost."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dataengine import selection
from dataengine.errors import DataEngineError, SourceError
from dataengine.explore.marked import MOST_NOTE, Conflict, Mark, Marks
from dataengine.files import alone
from dataengine.selection import MARKED, Choice

KEEP, DROP = Mark(keep=True), Mark(keep=False, note="blurred")


def test_a_mark_is_in_the_selection_as_soon_as_it_is_made(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "deep" / "s.parquet")

    marks.put("a", DROP, None)
    marks.put("b", KEEP, None)

    assert selection.read(tmp_path / "deep" / "s.parquet") == [
        Choice(id="a", keep=False, reason=MARKED, note="blurred"),
        Choice(id="b", keep=True, reason=MARKED),
    ]
    assert [*selection.left_out([tmp_path / "deep" / "s.parquet"])] == ["a"]
    assert Marks(tmp_path / "deep" / "s.parquet").all() == {"a": DROP, "b": KEEP}


def test_a_mark_can_be_changed_and_taken_back(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "s.parquet")
    marks.put("a", DROP, None)

    marks.put("a", KEEP, DROP)
    assert marks.of("a") == KEEP
    marks.put("a", None, KEEP)

    assert Marks(tmp_path / "s.parquet").all() == {}
    assert selection.read(tmp_path / "s.parquet") == []


def test_choices_of_rules_stay_as_they_are(tmp_path: Path) -> None:
    ruled = [
        Choice(id="a", keep=False, reason="leak.image", note="in val"),
        Choice(id="b", keep=True, reason="x"),
    ]
    selection.write(ruled, tmp_path / "s.parquet")
    marks = Marks(tmp_path / "s.parquet")

    marks.put("a", KEEP, None)
    assert selection.left_out([tmp_path / "s.parquet"]) == {}
    marks.put("a", None, KEEP)

    assert selection.read(tmp_path / "s.parquet") == ruled
    assert marks.ruled() == 2


def test_a_mark_that_was_not_seen_is_not_overwritten(tmp_path: Path) -> None:
    one, two = Marks(tmp_path / "s.parquet"), Marks(tmp_path / "s.parquet")
    one.put("a", DROP, None)

    with pytest.raises(Conflict) as raised:
        two.put("a", KEEP, None)

    assert raised.value.mark == DROP
    assert Marks(tmp_path / "s.parquet").of("a") == DROP
    two.put("a", KEEP, DROP)
    assert one.of("a") == KEEP


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    """Two of them share one object as the tabs of one server do, and two have their own as two servers do."""
    shared = Marks(tmp_path / "s.parquet")
    writers = [shared, shared, Marks(tmp_path / "s.parquet"), Marks(tmp_path / "s.parquet")]

    def work(number: int) -> None:
        for i in range(12):
            writers[number].put(f"{number}/{i}", Mark(keep=bool(i % 2)), None)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(Marks(tmp_path / "s.parquet")) == 48
    assert len(selection.read(tmp_path / "s.parquet")) == 48


def test_what_cannot_be_saved_is_refused_with_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = Marks(tmp_path / "s.parquet")
    with pytest.raises(DataEngineError, match="the note has"):
        marks.put("a", Mark(keep=True, note="x" * (MOST_NOTE + 1)), None)
    monkeypatch.setattr("dataengine.explore.marked.PATIENCE_S", 0.05)
    with alone(tmp_path), pytest.raises(DataEngineError, match="another process is writing here"):
        marks.put("a", KEEP, None)
    assert marks.all() == {}
    (tmp_path / "other.parquet").write_text("id,keep\n")
    with pytest.raises(SourceError, match="not a selection"):
        Marks(tmp_path / "other.parquet")
