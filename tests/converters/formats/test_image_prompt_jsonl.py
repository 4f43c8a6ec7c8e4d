from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from converters.formats.image_prompt_jsonl import Source, read, without_flags
from dataengine.annotation import Annotation, Caption, Image, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root


def _read(folder: Path, *rows: Any, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    (folder / "prompts.jsonl").write_text("".join(f"{line}\n" for line in lines))
    found = list(read(Source(annotations="prompts.jsonl", **options), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_line_is_a_picture_to_make_and_its_prompt(tmp_path: Path) -> None:
    (found,), rejected = _read(
        tmp_path, {"img_path": "./000/a.jpg", "prompt": " a\nred  fox ", "Task2": "{}"}, images="train"
    )

    assert rejected == []
    assert found.key == "000/a.jpg"
    assert found.images == (Image(path="train/./000/a.jpg", role="target"),)
    assert found.captions == (Caption(id="", text="a red fox"),)
    assert (found.origin.file, found.origin.record) == ("prompts.jsonl", "line 1")
    assert not found.exhaustive


@pytest.mark.parametrize("image", ["img_path", "image"])
@pytest.mark.parametrize("prompt", ["prompt", "caption", "text"])
def test_the_known_keys_read_the_same(tmp_path: Path, image: str, prompt: str) -> None:
    (found,), _ = _read(tmp_path, {image: "a.jpg", prompt: "a fox"})

    assert (found.images[0].path, found.captions[0].text) == ("a.jpg", "a fox")


def test_other_keys_can_be_named(tmp_path: Path) -> None:
    row = {"file": "a.jpg", "says": "a fox", "prompt": "not this", "uid": 7}

    (found,), _ = _read(tmp_path, row, image_field="file", prompt_field="says", key_field="uid", images="x")

    assert found.key == "7"
    assert found.images[0].path == "x/a.jpg"
    assert found.captions == (Caption(id="", text="a fox"),)


def test_a_list_reads_the_same_as_lines(tmp_path: Path) -> None:
    rows = [{"image": "a.jpg", "text": "a fox"}, {"image": "b.jpg", "text": "a cat"}]
    by_line, _ = _read(tmp_path, *rows)
    (tmp_path / "list.json").write_text(json.dumps(rows))

    by_list = list(read(Source(annotations="list.json"), Root(tmp_path)))

    assert [item.key for item in by_list] == [item.key for item in by_line]
    assert [item.origin.record for item in by_list] == ["[0]", "[1]"]


def test_a_picture_that_comes_twice_has_two_keys(tmp_path: Path) -> None:
    found, rejected = _read(tmp_path, *[{"image": "a.jpg", "text": text} for text in ("one", "two")])

    assert rejected == []
    assert [item.key for item in found] == ["a.jpg", "a.jpg~2"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"img_path": "a.jpg"}, "schema"),
        ({"prompt": "x"}, "schema"),
        ({"img_path": "a.jpg", "prompt": 5}, "schema"),
        ({"img_path": None, "prompt": "x"}, "schema"),
        ({"img_path": " ", "prompt": "x"}, "image.missing"),
        ({"img_path": "a.jpg", "prompt": "\n"}, "text.empty"),
        ({"img_path": "a.jpg", "prompt": "--ar 16:9"}, "text.empty"),
        (["a.jpg", "x"], "schema"),
        ('{"img_path": "a.jpg", "pro', "schema"),
    ],
)
def test_a_defective_record_is_rejected_alone(tmp_path: Path, row: Any, reason: str) -> None:
    good = {"img_path": "good.jpg", "prompt": "a fox"}

    (found,), (rejected,) = _read(tmp_path, good, row, strip_flags=True)

    assert found.key == "good.jpg"
    assert (rejected.reason, rejected.origin.record) == (reason, "line 2")
    assert rejected.detail


def test_flags_stay_unless_asked_for(tmp_path: Path) -> None:
    row = {"img_path": "a.jpg", "prompt": "a fox --ar 16:9 --v 5"}

    assert _read(tmp_path, row)[0][0].captions[0].text == "a fox --ar 16:9 --v 5"
    assert _read(tmp_path, row, strip_flags=True)[0][0].captions[0].text == "a fox"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a fox --ar 16:9", "a fox"),
        ("a fox, red --no text, people --v 4", "a fox, red"),
        ("a fox —ar 3:2\n--q 2", "a fox"),
        ("--v 5", ""),
        ("a well-known fox -- red", "a well-known fox -- red"),
        ("a half--hidden fox", "a half--hidden fox"),
        ("a fox", "a fox"),
    ],
)
def test_flags_are_cut_off_from_the_first_on(prompt: str, expected: str) -> None:
    assert without_flags(prompt) == expected


def test_a_list_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text('[{"image": "a.jpg", "text": "x"},')

    with pytest.raises(SourceError, match=r"^list\.json: .*expected a JSON list of records"):
        list(read(Source(annotations="list.json"), Root(tmp_path)))
