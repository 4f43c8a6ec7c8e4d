from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.kitti import CATEGORIES, Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]
CAR = "Car 0.00 1 1.85 387.63 181.54 423.81 203.12 1.67 1.87 3.69 -16.53 2.39 58.49 1.57"
NOTHING = "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10"


def _folder(folder: Path, **files: str | bytes) -> Root:
    (folder / "labels").mkdir()
    for stem, text in files.items():
        data = text if isinstance(text, bytes) else text.encode()
        (folder / "labels" / f"{stem}.txt").write_bytes(data)
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**{"annotations": "labels", "images": "images", **options}), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_box_stands_as_it_is_written(tmp_path: Path) -> None:
    root = _folder(tmp_path, **{"000001": f"{CAR}\n"})

    (found,), rejected = _split(root)

    assert rejected == []
    assert (found.key, found.images[0].path) == ("000001", "images/000001.png")
    assert [(item.category, item.box) for item in found.instances] == [
        ("Car", (387.63, 181.54, 423.81, 203.12))
    ]
    assert found.instances[0].attributes == {"truncated": "0.00", "occluded": "1"}
    assert (found.origin.file, found.origin.record, found.exhaustive) == ("labels/000001.txt", "file", True)
    assert labels(Source(), root).names == CATEGORIES


def test_a_region_that_nobody_labelled_is_ignored_for_every_category(tmp_path: Path) -> None:
    (found,), _ = _split(_folder(tmp_path, a=f"{CAR}\n{NOTHING}"), categories=("Car", "Van"))

    assert [(item.id, item.category, item.ignore) for item in found.instances] == [
        ("1", "Car", False),
        ("2.Car", "Car", True),
        ("2.Van", "Van", True),
    ]
    assert {item.box for item in found.instances[1:]} == {(503.89, 169.71, 590.61, 190.13)}


def test_a_score_is_no_error_and_an_empty_file_no_object(tmp_path: Path) -> None:
    found, rejected = _split(_folder(tmp_path, a=f"{CAR} 0.9", b=""))

    assert ([len(item.instances) for item in found], rejected) == ([1, 0], [])


def test_a_video_is_read_by_frame(tmp_path: Path) -> None:
    text = f"3 7 {CAR}\n0 -1 {NOTHING}\n3 8 {CAR.replace('Car', 'Van')}\nx 1 {CAR}\n-1 1 {CAR}\n"

    found, rejected = _split(
        _folder(tmp_path, **{"0001": text}), layout="tracking", categories=("Car", "Van")
    )

    assert [(item.key, item.images[0].path, item.origin.record) for item in found] == [
        ("0001/000000", "images/0001/000000.png", "frame 0"),
        ("0001/000003", "images/0001/000003.png", "frame 3"),
    ]
    assert [item.ignore for item in found[0].instances] == [True, True]
    assert [item.category for item in found[1].instances] == ["Car", "Van"]
    assert [item.attributes["track"] for item in found[1].instances] == ["7", "8"]
    assert found[1].instances[0].box == (387.63, 181.54, 423.81, 203.12)
    assert [(item.key, item.reason) for item in rejected] == [
        ("0001.line4", "schema"),
        ("0001.line5", "schema"),
    ]


def test_a_list_says_which_pictures_belong(tmp_path: Path) -> None:
    root = _folder(tmp_path, a=CAR, b=CAR)
    (tmp_path / "val.txt").write_text("b\n\nb\ngone\n../a\n")

    found, rejected = _split(root, image_set="val.txt")

    assert [item.key for item in found] == ["b"]
    assert [(item.key, item.reason, item.origin.record) for item in rejected] == [
        ("b", "id.duplicate", "line 3"),
        ("gone", "id.orphan", "line 4"),
        ("../a", "path.outside", "line 5"),
    ]


@pytest.mark.parametrize(
    ("line", "reason", "known"),
    [
        (CAR.replace("Car", "Bus"), "category.unknown", False),
        (CAR.replace("387.63", "nan"), "box.nonfinite", True),
        (CAR.replace("387.63", "left"), "schema", True),
        (NOTHING.replace("503.89", "left"), "schema", False),
        (" ".join(CAR.split()[:8]), "schema", False),
        (b"\xff\xfe\x00\x01", "schema", False),
    ],
)
def test_a_defective_row_is_rejected_and_leaves_an_ignored_object(
    tmp_path: Path, line: str | bytes, reason: str, known: bool
) -> None:
    data = line if isinstance(line, bytes) else line.encode()

    (found,), rejected = _split(_folder(tmp_path, a=CAR.encode() + b"\n" + data))

    assert [(item.key, item.reason, item.origin.record) for item in rejected] == [("a.2", reason, "line 2")]
    assert [(item.category, item.ignore) for item in found.instances] == [
        ("Car", False),
        ("Car" if known else None, True),
    ]
    assert found.exhaustive == known


def test_a_name_that_is_no_text_is_rejected(tmp_path: Path) -> None:
    root = _folder(tmp_path, a="")
    (tmp_path / "labels" / "\udcff.txt").write_bytes(b"")

    found, rejected = _split(root)

    assert [item.key for item in found] == ["a"]
    assert [(item.key, item.reason) for item in rejected] == [("?", "path.invalid")]


def test_a_folder_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"labels: no file \*\.txt; the spec needs it as source\.annotations"
    ):
        _split(_folder(tmp_path))


def test_real_frames_are_read(samples: Samples) -> None:
    found = [item for item in read(Source(), samples("kitti_object")) if isinstance(item, Annotation)]

    assert [item.key for item in found] == ["000000", "000001"]
    assert found[0].instances[0].box == (712.40, 143.00, 810.73, 307.92)
    real = [item.category for item in found[1].instances if not item.ignore]
    assert (real, len(found[1].instances)) == (["Truck", "Car", "Cyclist"], 3 + 4 * 8)


def test_a_real_video_is_read(samples: Samples) -> None:
    source = Source(
        annotations="training/label_02",
        images="training/image_02",
        layout="tracking",
        categories=("Car", "Van", "Truck", "Pedestrian", "Person", "Cyclist", "Tram", "Misc"),
    )

    found = list(read(source, samples("kitti_tracking")))

    assert all(isinstance(item, Annotation) for item in found)
    assert len(found) == 41
    assert isinstance(found[0], Annotation)
    assert found[0].images[0].path == "training/image_02/0001/000000.png"


def test_a_copy_of_the_layout_is_read(samples: Samples) -> None:
    source = Source(annotations="kitti_detection/training/label_2", images="kitti_detection/training/image_2")

    first, second = read(source, samples("fmt_kitti"))

    assert isinstance(first, Annotation)
    assert isinstance(second, Annotation)
    assert [(item.category, item.box) for item in first.instances] == [
        ("Truck", (0, 1, 2, 3)),
        ("Van", (0, 5, 1, 8)),
    ]
    assert len(second.instances) == 3
