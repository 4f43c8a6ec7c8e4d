from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.ip2p_folders import Source, read
from dataengine.annotation import Annotation, Caption, Edit, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]
PROMPT = {"input": "a photo of a dog", "edit": " make it\na  painting ", "output": "a painting of a dog\n"}


def _folder(root: Path, name: str, *seeds: str, prompt: Any = PROMPT) -> None:
    folder = root / name
    folder.mkdir(parents=True)
    if prompt is not None:
        (folder / "prompt.json").write_text(prompt if isinstance(prompt, str) else json.dumps(prompt))
    for seed in seeds:
        for side in (0, 1):
            (folder / f"{seed}_{side}.jpg").write_bytes(b"a picture that nobody opens here")


def _split(root: Path, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**options), Root(root)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_pair_is_an_edit_from_the_first_picture_to_the_second(tmp_path: Path) -> None:
    _folder(tmp_path, "data/0000132", "77")

    (found,), rejected = _split(tmp_path, folder="data")

    assert rejected == []
    assert found.key == "0000132/77"
    assert [(image.path, image.role) for image in found.images] == [
        ("data/0000132/77_0.jpg", "input"),
        ("data/0000132/77_1.jpg", "target"),
    ]
    assert found.edits == (Edit(id="", instruction="make it a painting", before=0, after=1),)
    assert found.captions == (Caption(id="output", text="a painting of a dog"),)
    assert (found.origin.file, found.origin.record) == ("data/0000132/prompt.json", "seed 77")
    assert not found.exhaustive


def test_an_edit_alone_is_enough(tmp_path: Path) -> None:
    _folder(tmp_path, "a", "1", prompt={"edit": "x"})

    (found,), _ = _split(tmp_path)

    assert found.captions == ()


def test_without_a_list_all_pairs_are_found_at_any_depth(tmp_path: Path) -> None:
    _folder(tmp_path, "shard-01/b", "2", "10")
    _folder(tmp_path, "shard-00/a", "5")
    (tmp_path / "shard-00" / "a" / "thumbnail.jpg").write_bytes(b"")
    (tmp_path / "shard-00" / "a" / "6_1.jpg").write_bytes(b"")

    found, rejected = _split(tmp_path)

    assert [item.key for item in found] == ["shard-00/a/5", "shard-00/a/6", "shard-01/b/10", "shard-01/b/2"]
    assert rejected == []


def test_the_list_decides_which_pairs_are_read_and_in_which_order(tmp_path: Path) -> None:
    _folder(tmp_path, "data/a", "1", "2")
    _folder(tmp_path, "data/b", "3")
    (tmp_path / "seeds.json").write_text(json.dumps([["b", ["3"]], ["a", [2]]]))

    found, rejected = _split(tmp_path, folder="data", seeds="seeds.json")

    assert [item.key for item in found] == ["b/3", "a/2"]
    assert rejected == []


def test_a_listed_folder_that_is_not_there_rejects_each_of_its_seeds(tmp_path: Path) -> None:
    _folder(tmp_path, "a", "1")
    (tmp_path / "seeds.json").write_text(json.dumps([["gone", ["1", "2"]], ["a", ["1"]]]))

    found, rejected = _split(tmp_path, seeds="seeds.json")

    assert [item.key for item in found] == ["a/1"]
    assert [(item.key, item.reason, item.origin.record) for item in rejected] == [
        ("gone/1", "id.orphan", "[0]"),
        ("gone/2", "id.orphan", "[0]"),
    ]


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (None, "id.orphan"),
        ({"caption": "x"}, "schema"),
        ({"edit": 5}, "schema"),
        ({"edit": " \n"}, "text.empty"),
        ('{"edit": "x', "schema"),
    ],
)
def test_a_defective_prompt_rejects_its_pairs_alone(tmp_path: Path, prompt: Any, reason: str) -> None:
    _folder(tmp_path, "a", "1", "2", prompt=prompt)
    _folder(tmp_path, "b", "1")

    (found,), rejected = _split(tmp_path)

    assert found.key == "b/1"
    assert [(item.key, item.reason) for item in rejected] == [("a/1", reason), ("a/2", reason)]


def test_a_prompt_without_pictures_is_rejected(tmp_path: Path) -> None:
    _folder(tmp_path, "a")
    _folder(tmp_path, "b", "1")

    (found,), (rejected,) = _split(tmp_path)

    assert found.key == "b/1"
    assert (rejected.key, rejected.reason, rejected.origin.file) == ("a", "id.orphan", "a/prompt.json")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (["a", "1"], "schema"),
        (["a"], "schema"),
        ("a", "schema"),
        (["a", []], "id.orphan"),
        (["../../etc", ["1"]], "path.outside"),
    ],
)
def test_a_defective_entry_of_the_list_is_rejected_alone(tmp_path: Path, entry: Any, reason: str) -> None:
    _folder(tmp_path, "b", "1")
    (tmp_path / "seeds.json").write_text(json.dumps([entry, ["b", ["1"]]]))

    (found,), (rejected,) = _split(tmp_path, seeds="seeds.json")

    assert found.key == "b/1"
    assert (rejected.reason, rejected.origin.record) == (reason, "[0]")


def test_a_pair_that_is_listed_twice_is_rejected_once(tmp_path: Path) -> None:
    _folder(tmp_path, "a", "1")
    (tmp_path / "seeds.json").write_text(json.dumps([["a", ["1", "1"]]]))

    found, (rejected,) = _split(tmp_path, seeds="seeds.json")

    assert len(found) == 1
    assert rejected.reason == "id.duplicate"


def test_pictures_may_have_another_ending(tmp_path: Path) -> None:
    _folder(tmp_path, "a", "1")
    for picture in (tmp_path / "a").glob("*.jpg"):
        picture.rename(picture.with_suffix(".png"))

    (found,), _ = _split(tmp_path, extension="png")

    assert [image.path for image in found.images] == ["a/1_0.png", "a/1_1.png"]


@pytest.mark.parametrize("text", ['{"a": []}', '[["a", ["1"]'])
def test_a_list_of_another_layout_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "seeds.json").write_text(text)

    with pytest.raises(SourceError, match=r"^seeds\.json: .*expected a list of \[folder, \[seeds\]\]"):
        _split(tmp_path, seeds="seeds.json")


@pytest.mark.parametrize("folder", ["", "gone", "../elsewhere", "/etc"])
def test_a_folder_without_prompts_or_outside_is_an_error(tmp_path: Path, folder: str) -> None:
    with pytest.raises(SourceError, match=r"source\.folder"):
        _split(tmp_path, folder=folder)


def test_real_pairs_read_without_a_rejection(samples: Samples) -> None:
    root = samples("instructpix2pix_mgie")

    found = list(read(Source(), root))

    assert len(found) == 2
    for item in found:
        assert isinstance(item, Annotation)
        assert item.edits[0].instruction == "Make it look like a painting"
        assert all((root.directory / image.path).is_file() for image in item.images)
