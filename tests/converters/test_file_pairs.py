from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from converters.file_pairs import Pair, pairs, sized
from dataengine.annotation import Rejected
from dataengine.errors import SourceError
from dataengine.files import Root


def _root(folder: Path, *names: str) -> Root:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return Root(folder)


def test_files_come_by_name_without_prefix_and_suffix(tmp_path: Path) -> None:
    root = _root(tmp_path, "gt/gt_b.txt", "gt/gt_a.txt", "gt/other.txt", "gt/gt_a.json", "gt/deep/gt_c.txt")

    found = list(pairs(root, "gt", "images", prefix="gt_", suffix=".txt"))

    assert found == [Pair("a", "gt/gt_a.txt", "images/a.jpg"), Pair("b", "gt/gt_b.txt", "images/b.jpg")]


def test_signs_of_patterns_in_names_are_letters(tmp_path: Path) -> None:
    root = _root(tmp_path, "gt(1)/[a]1.txt", "gt(1)/a1.txt")

    found = list(pairs(root, "gt(1)", "", prefix="[a]", suffix=".txt"))

    assert found == [Pair("1", "gt(1)/[a]1.txt", "1.jpg")]


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("x")
    root = _root(tmp_path / "root", "gt/a.txt")
    (tmp_path / "root" / "gt" / "b.txt").symlink_to(tmp_path / "secret.txt")

    assert [item.stem for item in pairs(root, "gt", "", suffix=".txt") if isinstance(item, Pair)] == ["a"]


def test_a_file_that_comes_later_is_a_change(tmp_path: Path) -> None:
    root = _root(tmp_path, "gt/a.txt", "list.txt")
    (tmp_path / "list.txt").write_text("a\nb\n")

    list(pairs(root, "gt", "", suffix=".txt", image_set="list.txt"))
    before = dict(root.digests)
    (tmp_path / "gt" / "b.txt").write_text("x")
    root.refresh(list(before))

    assert root.digests != before


@pytest.mark.parametrize("folder", ["missing", "../x", "/etc", "list.txt"])
def test_a_folder_that_has_no_such_file_is_an_error(tmp_path: Path, folder: str) -> None:
    root = _root(tmp_path, "gt/a.json", "list.txt")

    with pytest.raises(SourceError, match=r"source\.annotations"):
        list(pairs(root, folder, "", suffix=".txt"))


def test_a_pair_has_the_size_of_its_picture_where_there_is_one(tmp_path: Path) -> None:
    root = _root(tmp_path, "gt/a.txt", "gt/b.txt", "gt/c.txt", "images/c.jpg")
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "a.jpg")

    found = list(sized(pairs(root, "gt", "images", suffix=".txt"), root))

    assert not any(isinstance(item, Rejected) for item in found)
    assert [item[1] for item in found if not isinstance(item, Rejected)] == [(40, 30), None, None]
