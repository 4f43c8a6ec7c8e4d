"""What selections leave out of a build."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataengine import selection
from dataengine.errors import SourceError
from dataengine.selection import MARKED, Choice


def _drop(name: str, reason: str, note: str = "") -> Choice:
    return Choice(id=name, keep=False, reason=reason, note=note)


def test_a_selection_is_read_as_it_was_written(tmp_path: Path) -> None:
    choices = [_drop("b", "leak.image", "seen in coco"), Choice(id="a", keep=True, reason=MARKED, note="ok")]
    assert selection.write(choices, tmp_path / "deep" / "one.parquet") == 2
    assert selection.read(tmp_path / "deep" / "one.parquet") == sorted(choices)


def test_the_same_choices_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    choices = [_drop("b", "x"), _drop("a", "y"), _drop("b", "x")]
    for name, some in (("one", choices), ("two", choices[::-1])):
        selection.write(some, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_a_person_keeps_stays_whatever_a_rule_says(tmp_path: Path) -> None:
    selection.write(
        [_drop("a", "leak.image"), _drop("b", "leak.image"), _drop("c", MARKED)], tmp_path / "rules"
    )
    selection.write(
        [Choice(id="a", keep=True, reason=MARKED), Choice(id="b", keep=True, reason="x")], tmp_path / "us"
    )
    found = selection.left_out([tmp_path / "rules", tmp_path / "us"])
    assert sorted(found) == ["b", "c"]
    assert found["b"].reason == "leak.image"


def test_the_order_of_files_does_not_change_the_reason(tmp_path: Path) -> None:
    selection.write([_drop("a", "tiny")], tmp_path / "one")
    selection.write([_drop("a", "blur")], tmp_path / "two")
    for files in (["one", "two"], ["two", "one"]):
        assert selection.left_out([tmp_path / name for name in files])["a"].reason == "blur"


def test_another_file_is_refused_by_one_line(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("id,keep\n")
    with pytest.raises(SourceError, match="not a selection"):
        selection.read(tmp_path / "table")
