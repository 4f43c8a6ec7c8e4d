from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.class_list import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]


def _list(folder: Path, text: str, names: str | None = None) -> Root:
    (folder / "list.txt").write_text(text)
    if names is not None:
        (folder / "names.txt").write_text(names)
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[tuple[str, tuple[str, ...]]], list[Rejected]]:
    found = list(read(Source(image_set="list.txt", **options), root))
    return (
        [(item.key, item.labels) for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_the_label_stands_behind_the_path(tmp_path: Path) -> None:
    root = _list(tmp_path, "a/1.jpg cat\n\nb c/2.png  dog\r\n")

    first, second = read(Source(image_set="list.txt", images="img"), root)

    assert isinstance(first, Annotation)
    assert isinstance(second, Annotation)
    assert (first.key, first.labels, first.images[0].path) == ("a/1.jpg", ("cat",), "img/a/1.jpg")
    assert (second.key, second.labels) == ("b c/2.png", ("dog",))
    assert (second.origin.file, second.origin.record) == ("list.txt", "line 3")
    assert not first.exhaustive
    assert labels(Source(image_set="list.txt"), root).names == ("cat", "dog")


@pytest.mark.parametrize(
    ("line", "options", "expected"),
    [
        ("/a/airfield/1.jpg 7", {}, ("a/airfield/1.jpg", "7")),
        (".\\a\\1 7", {}, ("a/1.jpg", "7")),
        ("a/1.v2 7", {"extension": "png"}, ("a/1.v2.png", "7")),
        ("cat a b/1.jpg", {"label": 0}, ("a b/1.jpg", "cat")),
        ("1.jpg, x ,black cat", {"delimiter": ","}, ("1.jpg", "black cat")),
        ("black cat;9;1.jpg", {"delimiter": ";", "path": 2, "label": 0}, ("1.jpg", "black cat")),
        ("v_5,n03 85 1 499 272", {"delimiter": ",", "pattern": r"^(\S+)"}, ("v_5.jpg", "n03")),
        ("7", {"numbered": "val_{line:08d}.JPEG"}, ("val_00000001.JPEG", "7")),
    ],
)
def test_a_line_is_split_as_the_spec_says(
    tmp_path: Path, line: str, options: dict[str, Any], expected: tuple[str, str]
) -> None:
    found, rejected = _split(_list(tmp_path, line), **options)

    assert rejected == []
    assert found == [(expected[0], (expected[1],))]


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        ("cat\ndog\n", {"numbers": 0}, ["dog", None]),
        ("cat\ndog\n", {"numbers": 1}, ["cat", "dog"]),
        ("1 black cat\n2 dog\n", {"numbers": 1}, ["black cat", "dog"]),
        ("/c/cat 0\n/dog 1\n", {"numbers": 0}, ["dog", None]),
        ("2 dog, hound\n1 black cat, tom\n", {"cut": ","}, ["black cat", "dog"]),
        ("1 cat\n", {}, ["cat", None]),
    ],
)
def test_a_number_is_a_position_or_an_id_of_the_names_file(
    tmp_path: Path, names: str, options: dict[str, Any], expected: list[str | None]
) -> None:
    root = _list(tmp_path, "a.jpg 1\nb.jpg 2\n", names)

    found, rejected = _split(root, names="names.txt", **options)

    assert [label for _, (label,) in found] == [name for name in expected if name is not None]
    assert [item.reason for item in rejected] == ["category.unknown"] * expected.count(None)


def test_positions_may_be_those_of_declared_labels(tmp_path: Path) -> None:
    root = _list(tmp_path, "a.jpg 0\nb.jpg 1\nc.jpg -1\n")
    options: dict[str, Any] = {"labels": ("cat", "dog"), "numbers": 0, "exhaustive": True}

    found, (rejected,) = _split(root, **options)

    assert found == [("a.jpg", ("cat",)), ("b.jpg", ("dog",))]
    assert (rejected.key, rejected.reason) == ("c.jpg", "category.unknown")
    assert labels(Source(image_set="list.txt", **options), root).names == ("cat", "dog")
    assert next(iter(read(Source(image_set="list.txt", **options), root))).exhaustive  # type: ignore[union-attr]


def test_the_first_of_two_names_for_one_id_counts(tmp_path: Path) -> None:
    root = _list(tmp_path, "a.jpg 1\n", "1 cat\n1 dog\n")

    assert _split(root, names="names.txt")[0] == [("a.jpg", ("cat",))]


def test_a_header_is_no_picture(tmp_path: Path) -> None:
    root = _list(tmp_path, "path,label\n1.jpg,cat\n")
    options: dict[str, Any] = {"header": True, "delimiter": ","}

    assert _split(root, **options) == ([("1.jpg", ("cat",))], [])
    assert labels(Source(image_set="list.txt", **options), root).names == ("cat",)


def test_the_line_behind_a_header_is_about_the_first_picture(tmp_path: Path) -> None:
    root = _list(tmp_path, "labels\n5\n6\n")

    found, _ = _split(root, header=True, numbered="{line}.png")

    assert found == [("1.png", ("5",)), ("2.png", ("6",))]


@pytest.mark.parametrize(
    ("line", "options", "reason"),
    [
        ("a.jpg", {}, "schema"),
        ("a.jpg", {"delimiter": ",", "label": 1}, "schema"),
        ("a.jpg,", {"delimiter": ","}, "label.missing"),
        (",cat", {"delimiter": ","}, "label.missing"),
        ("a.jpg cat", {"pattern": r"(\d+)"}, "label.missing"),
        ("a.jpg cat", {"pattern": r"c(b)?"}, "label.missing"),
        ("/ cat", {}, "label.missing"),
        ("ok.jpg dog", {}, "id.duplicate"),
    ],
)
def test_a_defective_line_costs_no_other(
    tmp_path: Path, line: str, options: dict[str, Any], reason: str
) -> None:
    good = {",": "ok.jpg,12b", None: "ok.jpg cb12"}[options.get("delimiter")]

    found, (rejected,) = _split(_list(tmp_path, f"{good}\n{line}\n"), **options)

    assert [path for path, _ in found] == ["ok.jpg"]
    assert (rejected.reason, rejected.origin.record) == (reason, "line 2")


@pytest.mark.parametrize("text", [b"", b"\n \n", b"a.jpg cat\nb.jpg \xff\n"])
def test_a_list_that_says_nothing_or_is_no_text_is_an_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(text)

    with pytest.raises(SourceError, match=r"list\.txt"):
        _split(Root(tmp_path))


@pytest.mark.parametrize(
    "options",
    [
        {"delimiter": ""},
        {"numbers": 0},
        {"numbered": "a.jpg"},
        {"numbered": "{row}"},
        {"numbered": "{line.x}"},
        {"pattern": "("},
        {"pattern": "a"},
    ],
)
def test_a_key_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|numbered or pattern"):
        Source(image_set="list.txt", **options)


def test_a_real_table_of_pictures_and_labels_reads(samples: Samples) -> None:
    root = samples("deepweeds")
    source = Source(image_set="labels.csv", delimiter=",", header=True, images="images", exhaustive=True)

    found = [item for item in read(source, root) if isinstance(item, Annotation)]

    assert (len(found), found[0].labels) == (60, ("Chinee apple",))
    assert {item.labels[0] for item in found} == set(labels(source, root).names)
