from __future__ import annotations

from pathlib import Path

from converters.yolo_names import Names, load
from dataengine.files import Root


def test_a_blank_line_takes_a_number(tmp_path: Path) -> None:
    (tmp_path / "obj.names").write_text("cat\n\n dog \n\n")

    found = load("obj.names", (), (), 3, Root(tmp_path))

    assert found.classes == ("cat", "", "dog")


def test_an_empty_file_names_nothing(tmp_path: Path) -> None:
    (tmp_path / "obj.names").write_text("")

    assert load("obj.names", (), (), 3, Root(tmp_path)).classes == ()


def test_names_may_be_a_list_of_anything(tmp_path: Path) -> None:
    (tmp_path / "data.yml").write_text("names: [cat, 7, no]\n")

    assert load("data.yml", (), (), 3, Root(tmp_path)).classes == ("cat", "7", "no")


def test_what_a_spec_states_comes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(
        "names: [cat]\nkpt_shape: [2, 2]\nflip_idx: [0, 1]\nkpt_names: {0: [a, b]}\n"
    )

    found = load("data.yaml", ("left ear", "right ear"), (1, 0), 3, Root(tmp_path))

    assert found == Names(classes=("cat",), keypoints=("left ear", "right ear"), flip=(1, 0), count=2, dims=2)


def test_without_a_file_the_spec_says_it_all(tmp_path: Path) -> None:
    found = load(("cat",), ("ear",), (), 2, Root(tmp_path))

    assert found == Names(classes=("cat",), keypoints=("ear",), count=1, dims=2)
