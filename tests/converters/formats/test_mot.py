from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.mot import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]


def _split(
    folder: Path, text: str | bytes, video: str = "a", **options: Any
) -> tuple[list[Annotation], list[Rejected]]:
    gt = folder / "train" / video / "gt"
    gt.mkdir(parents=True, exist_ok=True)
    (gt / "gt.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    found = list(read(Source(**{"classes": {"1": "pedestrian"}, **options}), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_frames_and_pixels_lose_the_count_from_one(tmp_path: Path) -> None:
    found, rejected = _split(
        tmp_path, "2,7,399,182,121,229,1,1,0.8\n1,7,1,1,10,20,1,1,1\n2,8,5,5,1,1,1,1,1\n"
    )

    assert rejected == []
    assert [(item.key, item.images[0].path, item.origin.record) for item in found] == [
        ("train/a/000001", "train/a/img1/000001.jpg", "frame 1"),
        ("train/a/000002", "train/a/img1/000002.jpg", "frame 2"),
    ]
    assert [(item.category, item.box) for item in found[0].instances] == [("pedestrian", (0, 0, 10, 20))]
    assert found[1].instances[0].box == (398, 181, 519, 410)
    assert [item.attributes["track"] for item in found[1].instances] == ["7", "8"]
    assert found[0].images[0].width is None
    assert found[0].exhaustive


def test_what_does_not_count_is_ignored_or_left_out(tmp_path: Path) -> None:
    rows = [
        "1,1,5,5,9,9,1,1,1",
        "1,2,5,5,9,9,0,1,1",
        "1,3,5,5,9,9,1,8,1",
        "1,4,5,5,9,9,0,3,1",
        "1,5,5,5,9,9,1,1,0.1",
    ]

    (found,), rejected = _split(
        tmp_path, "\n".join(rows), ignored={"8": "pedestrian"}, left_out=(3,), min_visibility=0.2
    )

    assert rejected == []
    assert [(item.id, item.category, item.ignore) for item in found.instances] == [
        ("1", "pedestrian", False),
        ("2", "pedestrian", True),
        ("3", "pedestrian", True),
        ("5", "pedestrian", True),
    ]


def test_ten_columns_have_no_class(tmp_path: Path) -> None:
    (found,), rejected = _split(tmp_path, "1,1,399,182,121,229,1,3.2,-1,-1\n", classes={"-1": "person"})

    assert rejected == []
    assert [(item.category, item.ignore) for item in found.instances] == [("person", False)]
    assert labels(Source(classes={"-1": "person", "3": "car", "4": "car"}), Root(tmp_path)).names == (
        "person",
        "car",
    )


def test_a_video_describes_itself(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "a"
    folder.mkdir(parents=True)
    (folder / "seqinfo.ini").write_text(
        "[Sequence]\nname=a\nimDir=frames\nimExt=.png\nimWidth=1920\nimHeight=x\nno pair\n"
    )

    (found,), _ = _split(tmp_path, "1,1,1,1,5,5,1,1,1", digits=8)

    assert found.images[0].path == "train/a/frames/00000001.png"
    assert (found.images[0].width, found.images[0].height) == (1920, None)


@pytest.mark.parametrize(
    ("line", "reason", "known"),
    [
        ("1,2,5,5,9,9,1,9,1", "category.unknown", False),
        ("1,2,5,5,9,9,1,1", "schema", False),
        ("1,2,5,5,9,w,1,1,1", "schema", True),
        ("1,2,5,5,9,nan,1,1,1", "box.nonfinite", True),
        ("1,2,5,5,9,9,1,1,x", "schema", True),
    ],
)
def test_a_defective_row_is_rejected_and_leaves_an_ignored_object(
    tmp_path: Path, line: str, reason: str, known: bool
) -> None:
    (found,), rejected = _split(tmp_path, f"1,1,5,5,9,9,1,1,1\n{line}")

    assert [(item.key, item.reason) for item in rejected] == [("train/a/000001.2", reason)]
    assert [item.ignore for item in found.instances] == [False, True]
    assert found.exhaustive == known


@pytest.mark.parametrize("line", [b"one,2,5,5,9,9,1,1,1", b"1.5,2", b"-1,2", b"1e300,2", b"nan,2", b"\xff"])
def test_a_row_without_frame_is_rejected(tmp_path: Path, line: bytes) -> None:
    found, rejected = _split(tmp_path, line)

    assert found == []
    assert [(item.key, item.origin.record) for item in rejected] == [("train/a.line1", "line 1")]


def test_videos_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    _split(tmp_path, "1,1,1,1,5,5,1,1,1", video="b")

    found, _ = _split(tmp_path, "1,1,1,1,5,5,1,1,1", video="a")

    assert [item.key for item in found] == ["train/a/000001", "train/b/000001"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no file matches; the spec needs it as source\.annotations"):
        list(read(Source(classes={}), Root(tmp_path)))


def test_a_real_video_is_read(samples: Samples) -> None:
    found = list(read(Source(classes={"-1": "pedestrian"}), samples("mot15_tud_campus")))

    assert all(isinstance(item, Annotation) for item in found)
    assert len(found) == 71
    assert isinstance(found[0], Annotation)
    assert found[0].instances[0].box == (398, 181, 519, 410)
    assert sum(len(item.instances) for item in found if isinstance(item, Annotation)) == 359


def test_a_copy_of_the_layout_is_read(samples: Samples) -> None:
    source = Source(classes={"3": "label_3"}, annotations="*/gt/gt.txt")

    plain, described = read(source, samples("fmt_mot"))

    assert isinstance(plain, Annotation)
    assert isinstance(described, Annotation)
    assert plain.instances[0].box == (-1, 3, 3, 11)
    assert (plain.images[0].path, plain.images[0].width) == ("mot_seq/img1/000001.jpg", None)
    assert (described.images[0].width, described.images[0].height) == (16, 16)
