from __future__ import annotations

from pathlib import Path

import pytest

from converters import box_lines
from converters.box_lines import Picture, Row
from dataengine.annotation import Annotation, Image, Instance, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root

PICTURE = Picture("p", Image(path="p.jpg"), "p.txt", "file")


def test_rows_are_the_lines_that_say_something(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf1, 2,3,,\r\n\r\n , \n4\xff,5\n")

    found = box_lines.rows("a.txt", Root(tmp_path), "annotations", ",")

    assert found == [Row(1, ["1", "2", "3"]), Row(4, ["4�", "5"])]


def test_a_file_that_comes_later_is_a_change(tmp_path: Path) -> None:
    root = Root(tmp_path)

    with pytest.raises(Quarantine, match=r"no such file: a\.txt"):
        box_lines.rows("a.txt", root, "annotations")
    before = dict(root.digests)
    (tmp_path / "a.txt").write_text("1")
    root.refresh(before)

    assert root.digests != before


@pytest.mark.parametrize(("cell", "value"), [("2", 2), ("2.0", 2), ("-1", -1), ("1e3", 1000)])
def test_a_whole_number_may_be_written_as_a_float(cell: str, value: int) -> None:
    assert box_lines.whole(cell, "class") == value


@pytest.mark.parametrize(("cell", "reason"), [("2.5", "schema"), ("x", "schema"), ("inf", "box.nonfinite")])
def test_what_is_no_whole_number_is_refused(cell: str, reason: str) -> None:
    with pytest.raises(Quarantine) as caught:
        box_lines.whole(cell, "class")

    assert caught.value.reason == reason


def test_a_rejected_row_leaves_its_class_unsure_where_it_is_known() -> None:
    def make(cells: list[str], identity: str, category: str) -> list[Instance]:
        raise Quarantine("schema", "torn")

    def read(name: str) -> list[Annotation | Rejected]:
        return list(box_lines.annotate(PICTURE, [Row(3, [name])], ("cat",), lambda cells: cells[0], make))

    known, lost = read("cat")
    unknown, _ = read("cow")

    assert isinstance(known, Annotation)
    assert isinstance(unknown, Annotation)
    assert isinstance(lost, Rejected)
    assert (known.instances, known.exhaustive) == ((Instance(id="3", category="cat", ignore=True),), True)
    assert (unknown.instances, unknown.exhaustive) == ((Instance(id="3", ignore=True),), False)
    assert (lost.key, lost.reason, lost.origin.record) == ("p.3", "schema", "line 3")


@pytest.mark.parametrize(
    ("stated", "size"),
    [
        ("1920", 1920),
        ("640.0", 640),
        ("", None),
        (None, None),
        ("x", None),
        ("0", None),
        ("nan", None),
        ("1e9", None),
    ],
)
def test_what_is_no_size_says_nothing(stated: str | None, size: int | None) -> None:
    assert box_lines.pixels(stated) == size
