from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from converters.formats.wider_face import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]
ROW = "449 330 122 149 0 0 0 0 0 0 "


def _split(folder: Path, text: str | bytes) -> tuple[list[Annotation], list[Rejected]]:
    (folder / "gt.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    found = list(read(Source(annotations="gt.txt", images="WIDER_train/images"), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_picture_has_its_number_of_faces(tmp_path: Path) -> None:
    found, rejected = _split(
        tmp_path, f"0--Parade/a.jpg\n1\n{ROW}\n0--Parade/b.jpg\n2\n{ROW}\n1 2 3 4 2 1 1 0 1 1\n"
    )

    assert rejected == []
    assert [(item.key, item.images[0].path, item.origin.record) for item in found] == [
        ("0--Parade/a.jpg", "WIDER_train/images/0--Parade/a.jpg", "line 1"),
        ("0--Parade/b.jpg", "WIDER_train/images/0--Parade/b.jpg", "line 4"),
    ]
    assert [(item.category, item.box, item.attributes) for item in found[0].instances] == [
        ("face", (449, 330, 571, 479), {})
    ]
    assert [item.id for item in found[1].instances] == ["6", "7"]
    assert found[1].instances[1].box == (1, 2, 4, 6)
    assert found[1].instances[1].attributes == {
        "blur": "heavy",
        "expression": "exaggerated",
        "illumination": "extreme",
        "occlusion": "partial",
        "pose": "atypical",
    }
    assert labels(Source(annotations="gt.txt"), Root(tmp_path)).names == ("face",)


def test_a_line_of_zeros_is_no_face_where_there_is_none(tmp_path: Path) -> None:
    found, rejected = _split(tmp_path, "a.jpg\n0\n0 0 0 0 0 0 0 0 0 0\nb.jpg\n0\n")

    assert ([item.instances for item in found], rejected) == ([(), ()], [])
    assert all(item.exhaustive for item in found)


def test_an_invalid_face_is_ignored(tmp_path: Path) -> None:
    (found,), _ = _split(tmp_path, "a.jpg\n1\n1 2 3 4 0 0 0 1 0 0\n")

    assert [item.ignore for item in found.instances] == [True]


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg\n2\n" + ROW,
        "a.jpg\n1\n" + ROW + "\n" + ROW,
        "a.jpg\n0\n" + ROW,
        "a.jpg\nmany\n" + ROW,
        "a.jpg\n-1\n",
        "a.jpg\n" + "9" * 6000 + "\n",
        "a.jpg",
        "1\n" + ROW,
    ],
)
def test_a_picture_whose_lines_do_not_add_up_is_rejected_alone(tmp_path: Path, text: str) -> None:
    found, rejected = _split(tmp_path, f"{text}\nnext.jpg\n1\n{ROW}")

    assert [item.key for item in found] == ["next.jpg"]
    assert [(item.reason, item.origin.record) for item in rejected] == [("schema", "line 1")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [("1 2 3 4", "schema"), ("1 2 3 x 0 0 0 0 0 0", "schema"), ("nan 2 3 4 0 0 0 0 0 0", "box.nonfinite")],
)
def test_a_defective_face_is_rejected_and_ignored(tmp_path: Path, line: str, reason: str) -> None:
    (found,), rejected = _split(tmp_path, f"a.jpg\n2\n{ROW}\n{line}\n")

    assert [(item.key, item.reason, item.origin.record) for item in rejected] == [
        ("a.jpg.4", reason, "line 4")
    ]
    assert [(item.category, item.ignore) for item in found.instances] == [("face", False), ("face", True)]
    assert found.exhaustive


def test_a_picture_that_comes_twice_counts_once(tmp_path: Path) -> None:
    found, rejected = _split(tmp_path, f"a.jpg\n1\n{ROW}\na.jpg\n1\n{ROW}\n")

    assert len(found) == 1
    assert [(item.reason, item.origin.record) for item in rejected] == [("id.duplicate", "line 4")]


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"gt\.txt: line 1"):
        _split(tmp_path, b"\xff\xfe\x00")


def test_a_copy_of_the_layout_is_read(samples: Samples) -> None:
    source = Source(annotations="wider_face_split/wider_face_val_bbx_gt.txt", images="WIDER_val/images")

    (found,) = read(source, samples("fmt_widerface"))

    assert isinstance(found, Annotation)
    assert [item.box for item in found.instances] == [(0, 0, 1, 1), (3, 2, 4, 4), (5, 6, 6, 7)]
    assert [item.ignore for item in found.instances] == [False, True, False]
