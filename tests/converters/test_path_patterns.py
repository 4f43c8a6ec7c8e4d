from __future__ import annotations

from pathlib import Path

import pytest

from converters import path_patterns
from dataengine.errors import SourceError
from dataengine.files import Root


def test_words_are_found_each_once_in_order() -> None:
    assert path_patterns.fields("{b}/{a}/x_{b}{{c}}") == ["b", "a"]


def test_what_a_file_gives_fills_another_pattern(tmp_path: Path) -> None:
    for name in ("ulm/1_ids.png", "ulm/1_color.png", "bonn/2_ids.png", "bonn/deep/3_ids.png"):
        (tmp_path / "gt" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "gt" / name).touch()

    found = list(path_patterns.find("gt/{city}/{name}_ids.png", Root(tmp_path), "maps"))

    assert found == [
        ("gt/bonn/2_ids.png", {"city": "bonn", "name": "2"}),
        ("gt/ulm/1_ids.png", {"city": "ulm", "name": "1"}),
    ]
    assert path_patterns.fill("img/{city}_{name}.jpg", found[0][1]) == "img/bonn_2.jpg"


def test_braces_and_signs_of_patterns_stand_for_themselves(tmp_path: Path) -> None:
    (tmp_path / "a[1]").mkdir()
    (tmp_path / "a[1]/{x}+.png").touch()

    ((file, parts),) = path_patterns.find("a[1]/{{{name}}}+.png", Root(tmp_path), "maps")

    assert (file, parts) == ("a[1]/{x}+.png", {"name": "x"})
    assert path_patterns.fill("{{{name}}}", parts) == "{x}"


def test_nothing_found_is_an_error_that_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a\*\.png: no such file; the spec needs it as source\.maps"):
        list(path_patterns.find("a{name}.png", Root(tmp_path), "maps"))


def test_a_key_loses_the_ending_of_a_picture_and_no_other() -> None:
    assert path_patterns.key("{image}", {"image": "a/b.PNG"}) == "a/b"
    assert path_patterns.key("{image}", {"image": "M-33.5"}) == "M-33.5"
    assert path_patterns.key("{b}/{a}.png", {"a": "1", "b": "ulm"}) == "ulm/1"


@pytest.mark.parametrize(
    ("images", "message"),
    [("{x}.jpg", "images needs {x}, which maps does not have"), ("x.jpg", "images has no word in braces")],
)
def test_a_pattern_that_cannot_be_filled_is_refused(images: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        path_patterns.check({"images": images}, "{name}.png", "maps")
