from __future__ import annotations

from pathlib import Path

import pytest

from converters.formats.wflw_txt import Source, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

POINTS = " ".join(f"{number}.5 {number + 100}" for number in range(98))
LONG = f"{POINTS} 3 90 110 210 0 1 0 0 0 1 0--Parade/a.jpg"


def _split(folder: Path, *lines: str) -> tuple[list[Annotation], list[Rejected]]:
    (folder / "l.txt").write_text("\n".join(lines))
    found = list(read(Source(annotations="l.txt"), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_line_holds_landmarks_box_and_flags(tmp_path: Path) -> None:
    (found,), rejected = _split(tmp_path, LONG)

    assert rejected == []
    assert found.images[0].path == "WFLW_images/0--Parade/a.jpg"
    (face,) = found.instances
    assert (face.category, face.box) == ("face", (3, 90, 110, 210))
    assert face.attributes == {"expression": "1", "blur": "1"}
    assert face.keypoints is not None
    assert len(face.keypoints) == 98
    assert (face.keypoints[0], face.keypoints[97]) == ((0.5, 100.0, 2), (97.5, 197.0, 2))
    assert not found.exhaustive


def test_the_short_list_gets_the_smallest_box(tmp_path: Path) -> None:
    (found,), _ = _split(tmp_path, f"{POINTS} a.jpg")

    assert found.instances[0].box == (0.5, 100.0, 98.5, 198.0)


def test_faces_of_one_picture_are_joined(tmp_path: Path) -> None:
    found, _ = _split(tmp_path, LONG, f"{POINTS} b.jpg", "", LONG)

    assert [(item.key, len(item.instances)) for item in found] == [("0--Parade/a.jpg", 2), ("b.jpg", 1)]
    assert [item.id for item in found[0].instances] == ["0", "1"]
    assert [item.origin.record for item in found] == ["line 1", "line 2"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (LONG.replace("0.5 100", "0.5", 1), "keypoint.count"),
        ("0--Parade/a.jpg", "keypoint.count"),
        (LONG.replace("0.5 100", "x 100", 1), "schema"),
        (LONG.replace("0.5 100", "nan 100", 1), "keypoint.nonfinite"),
        (LONG.replace("0.5 100", "1e999 100", 1), "keypoint.nonfinite"),
    ],
)
def test_a_defective_line_costs_no_other_and_leaves_an_ignored_face(
    tmp_path: Path, line: str, reason: str
) -> None:
    (found,), (rejected,) = _split(tmp_path, line, LONG)

    assert (rejected.reason, rejected.origin.record) == (reason, "line 1")
    assert [face.ignore for face in found.instances] == [True, False]


def test_a_line_that_names_no_picture_is_rejected_alone(tmp_path: Path) -> None:
    found, (rejected,) = _split(tmp_path, LONG, POINTS)

    assert len(found) == 1
    assert (rejected.reason, rejected.origin.record) == ("keypoint.count", "line 2")


@pytest.mark.parametrize("data", [b"", b"\n", b"\x89PNG\xff"])
def test_a_file_that_is_no_list_is_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "l.txt").write_bytes(data)

    with pytest.raises(SourceError, match=r"l\.txt"):
        list(read(Source(annotations="l.txt"), Root(tmp_path)))
