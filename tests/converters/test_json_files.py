from __future__ import annotations

from pathlib import Path

import pytest

from converters.json_files import load, records, unique
from dataengine.errors import SourceError
from dataengine.files import Root


def test_a_syntax_error_is_placed_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{\n"a": 1,\n"b": x}')

    with pytest.raises(SourceError, match=r"^a\.json: line 3: .*; expected an object$"):
        load("a.json", Root(tmp_path), "annotations", dict[str, int], "an object")


def test_lines_are_not_read_into_memory_as_one_list(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n' * 3)
    root = Root(tmp_path)
    stream = records("a.jsonl", root, "annotations")

    assert next(stream)[0] == "line 1"
    early = root.digests.get("a.jsonl")
    assert [place for place, _ in stream] == ["line 2", "line 3"]
    assert root.digests["a.jsonl"] != early


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n \n")

    assert list(records("a.jsonl", Root(tmp_path), "annotations")) == []


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()

    with pytest.raises(SourceError, match=r"a\.jsonl: cannot be read"):
        list(records("a.jsonl", Root(tmp_path), "annotations"))


def test_names_that_repeat_get_a_suffix() -> None:
    seen: dict[str, int] = {}

    assert [unique(name, seen) for name in ("a", "a", "b", "a~2", "a")] == ["a", "a~2", "b", "a~2~2", "a~3"]
