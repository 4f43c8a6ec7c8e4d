from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from converters.formats.yolo import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_area

Samples = Callable[[str], Root]


def _folder(folder: Path, **files: str | bytes) -> Root:
    """Write 200 x 100 pictures into `images`, and the label file of each that has one into `labels`."""
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for stem, text in files.items():
        Image.new("RGB", (200, 100)).save(folder / "images" / f"{stem}.png")
        data = text if isinstance(text, bytes) else text.encode()
        (folder / "labels" / f"{stem}.txt").write_bytes(data)
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**{"classes": ("cat", "dog"), **options}), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_shares_of_the_sides_become_corners_in_pixels(tmp_path: Path) -> None:
    root = _folder(tmp_path, a="1 0.5 0.5 0.25 0.5\n\n0 0.1 0.2 0.1 0.2\n")

    (found,), rejected = _split(root)

    assert rejected == []
    assert found.key == "a"
    assert [item.category for item in found.instances] == ["dog", "cat"]
    assert found.instances[0].box == (75, 25, 125, 75)
    assert found.instances[1].box == pytest.approx((10, 10, 30, 30))
    assert [item.id for item in found.instances] == ["1", "3"]
    assert (found.images[0].path, found.images[0].width, found.images[0].height) == ("images/a.png", 200, 100)
    assert (found.origin.file, found.origin.record) == ("labels/a.txt", "file")
    assert found.exhaustive


def test_a_picture_is_measured_as_it_is_seen(tmp_path: Path) -> None:
    root = _folder(tmp_path, a="0 0.5 0.5 1 1")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 100)).save(tmp_path / "images" / "a.jpg", exif=exif)
    (tmp_path / "images" / "a.png").unlink()

    (found,), _ = _split(root)

    assert found.instances[0].box == (0, 0, 100, 200)


def test_an_empty_file_is_a_picture_without_objects_and_a_missing_one_is_what_the_spec_says(
    tmp_path: Path,
) -> None:
    root = _folder(tmp_path, a="", b="")
    (tmp_path / "labels" / "b.txt").unlink()

    found, rejected = _split(root)
    taken, none = _split(root, missing="empty")

    assert [(item.key, item.instances, item.exhaustive) for item in found] == [("a", (), True)]
    assert [(item.key, item.reason) for item in rejected] == [("b", "id.orphan")]
    assert ([item.key for item in taken], none) == (["a", "b"], [])
    assert taken[1].origin.file == "images/b.png"


def test_a_polygon_is_a_mask_to_segment_and_a_box_to_detect(tmp_path: Path) -> None:
    root = _folder(tmp_path, a="0 0.1 0.1 0.6 0.1 0.6 0.5 0.1 0.5\n1 0.5 0.5 0.25 0.5")

    (masked,), _ = _split(root, kind="segment")
    (boxed,), _ = _split(root)

    assert masked.instances[0].mask is not None
    assert rle_area(masked.instances[0].mask) == 100 * 40
    assert masked.instances[0].box == pytest.approx((20, 10, 120, 50))
    assert masked.instances[1].mask is None
    assert [item.box for item in boxed.instances] == [item.box for item in masked.instances]
    assert [item.mask for item in boxed.instances] == [None, None]


def test_four_corners_are_a_quad_where_the_spec_says_so(tmp_path: Path) -> None:
    root = _folder(tmp_path, a="0 0.5 0.2 0.6 0.5 0.5 0.8 0.4 0.5\n0 0.5 0.5 0.25 0.5")

    (found,), rejected = _split(root, kind="obb")

    assert found.instances[0].quad == pytest.approx((100, 20, 120, 50, 100, 80, 80, 50))
    assert found.instances[0].box == pytest.approx((80, 20, 120, 80))
    assert [(item.key, item.reason) for item in rejected] == [("a.2", "schema")]


def test_keypoints_follow_the_box_with_or_without_visibility(tmp_path: Path) -> None:
    line = "0 0.5 0.5 0.25 0.5  0.5 0.5 2.000000  0.3 0.3 0  0.25 0.1 1  -0.1 0.5 2"
    root = _folder(tmp_path, a=line)
    names = ("nose", "eye", "ear", "tail")

    (found,), rejected = _split(root, kind="pose", keypoints=names)
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.25 0.5 0.5 0.5 0 0")
    (flat,), _ = _split(root, kind="pose", keypoints=names[:2], dims=2)

    assert rejected == []
    assert found.instances[0].keypoints == ((100, 50, 2), (0, 0, 0), (50, 10, 1), (0, 0, 0))
    assert found.instances[0].box == (75, 25, 125, 75)
    assert flat.instances[0].keypoints == ((100, 50, 2), (0, 0, 0))


def test_a_data_yaml_names_classes_and_keypoints(tmp_path: Path) -> None:
    root = _folder(tmp_path, a="3 0.5 0.5 0.25 0.5 0.5 0.5 1 0.25 0.5 2 0 0 0")
    (tmp_path / "data.yaml").write_text(
        "path: ../somewhere\nnc: 2\nnames: {0: cat, 3: 2012}\nkpt_shape: [3, 3]\nflip_idx: [1, 0, 2]\n"
        "kpt_names: {0: [left_eye, right_eye, nose]}\n"
    )
    source = Source(classes="data.yaml", kind="pose")

    space = labels(source, root)
    (found,) = read(source, root)

    assert space.names == ("cat", "2012")
    assert space.labels[0].keypoints == ("left_eye", "right_eye", "nose")
    assert space.labels[0].flip_pairs == ((0, 1),)
    assert isinstance(found, Annotation)
    assert found.instances[0].category == "2012"
    assert found.instances[0].keypoints == ((100, 50, 1), (50, 50, 2), (0, 0, 0))


def test_pictures_and_files_may_share_a_folder_and_a_list(tmp_path: Path) -> None:
    (tmp_path / "data" / "x").mkdir(parents=True)
    for stem in ("p", "q"):
        Image.new("RGB", (200, 100)).save(tmp_path / "data" / "x" / f"{stem}.png")
        (tmp_path / "data" / "x" / f"{stem}.txt").write_text("0 0.5 0.5 0.25 0.5")
    (tmp_path / "data" / "classes.txt").write_text("cat\n")
    (tmp_path / "train.txt").write_text("./data/x/q.png\n./data/x/q.png\n./data/x/gone.png\n/etc/a.png\n")
    both: dict[str, Any] = {"classes": "data/classes.txt", "images": "data", "annotations": "data"}

    found, rejected = _split(Root(tmp_path), **both)
    listed, lost = _split(Root(tmp_path), **both, image_set="train.txt", strip="./data/")

    assert ([item.key for item in found], rejected) == (["x/p", "x/q"], [])
    assert [item.images[0].path for item in listed] == ["data/x/q.png"]
    assert [(item.reason, item.origin.record) for item in lost] == [
        ("id.duplicate", "line 2"),
        ("id.orphan", "line 3"),
        ("path.outside", "line 4"),
    ]


def test_a_file_without_picture_is_rejected(tmp_path: Path) -> None:
    root = _folder(tmp_path, a="", b="")
    (tmp_path / "images" / "b.png").unlink()

    _, rejected = _split(root)

    assert [(item.reason, item.origin.file) for item in rejected] == [("id.orphan", "labels/b.txt")]


def test_a_name_that_is_no_text_is_rejected(tmp_path: Path) -> None:
    root = _folder(tmp_path, a="")
    (tmp_path / "images" / "\udcff.png").write_bytes(b"")
    (tmp_path / "labels" / "\udcfe.txt").write_bytes(b"")

    _, rejected = _split(root)

    assert [(item.key, item.reason) for item in rejected] == [
        ("?.png", "path.invalid"),
        ("?.txt", "id.orphan"),
    ]


def test_two_pictures_of_one_name_do_not_share_a_label_file(tmp_path: Path) -> None:
    root = _folder(tmp_path, a="")
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "a.jpg")

    found, rejected = _split(root)

    assert [item.images[0].path for item in found] == ["images/a.jpg"]
    assert [(item.key, item.reason) for item in rejected] == [("a.png", "id.duplicate")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2 0.5 0.5 0.25 0.5", "category.unknown"),
        ("-1 0.5 0.5 0.25 0.5", "category.unknown"),
        ("0.5 0.5 0.5 0.25 0.5", "schema"),
        ("cat 0.5 0.5 0.25 0.5", "schema"),
        ("0 0.5 0.5 0.25", "schema"),
        ("0 0.5 0.5 0.25 0.5 0.9", "schema"),
        ("0 0.5 0.5 0.25 nan", "box.nonfinite"),
        ("0 0.5 0.5 0.25 1e999", "box.nonfinite"),
        ("0 100 50 30 20", "box.not_normalised"),
        (f"0 0.5 0.5 0.25 {'9' * 5000}", "box.nonfinite"),
        (b"0 0.5 \xff\xfe 0.25 0.5", "schema"),
    ],
)
def test_a_defective_line_is_rejected_and_leaves_an_ignored_object(
    tmp_path: Path, line: str | bytes, reason: str
) -> None:
    data = line if isinstance(line, bytes) else line.encode()
    root = _folder(tmp_path, a=b"1 0.5 0.5 0.25 0.5\n" + data)

    (found,), rejected = _split(root)

    assert [(item.key, item.reason, item.origin.record) for item in rejected] == [("a.2", reason, "line 2")]
    assert [item.ignore for item in found.instances] == [False, True]
    known = data.startswith(b"0 ")
    assert found.instances[1].category == ("cat" if known else None)
    assert found.exhaustive == known


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.25 0.5 0.5 0.5 3", "schema"),
        ("0 0.5 0.5 0.25 0.5 0.5 0.5", "schema"),
        ("0 0.5", "schema"),
        ("0 0.5 0.5 0.25 0.5 50 50 2", "box.not_normalised"),
    ],
)
def test_a_defective_pose_is_rejected(tmp_path: Path, line: str, reason: str) -> None:
    _, rejected = _split(_folder(tmp_path, a=line), kind="pose", keypoints=("nose",))

    assert [item.reason for item in rejected] == [reason]


def test_a_picture_that_cannot_be_measured_is_rejected(tmp_path: Path) -> None:
    root = _folder(tmp_path, a="0 0.5 0.5 0.25 0.5")
    (tmp_path / "images" / "a.png").write_bytes(b"\x89PNG\r\n")

    found, rejected = _split(root)

    assert found == []
    assert [(item.key, item.reason) for item in rejected] == [("a", "image.corrupt")]


@pytest.mark.parametrize(
    "text",
    [
        "names: 5\n", "- cat\n", "nc: 3\n", "names: [cat\n", "names: {cat: 0}\n", "names: {-1: cat}\n",
        "names: {999999999999: cat}\n", "names: [cat]\nkpt_shape: [17, 9]\n",
        "names: [cat]\nkpt_shape: [-1, 3]\n", "names: [cat]\nkpt_shape: [0, 2]\n", "names: *a\n",
    ],
)  # fmt: skip
def test_a_data_yaml_that_cannot_be_read_names_itself(tmp_path: Path, text: str) -> None:
    root = _folder(tmp_path, a="")
    (tmp_path / "data.yaml").write_text(text)

    with pytest.raises(SourceError, match=r"data\.yaml"):
        list(read(Source(classes="data.yaml"), root))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    root = _folder(tmp_path)

    with pytest.raises(SourceError, match=r"images: no picture; the spec needs it as source\.images"):
        _split(root)
    with pytest.raises(SourceError, match=r"source\.classes"):
        _split(root, classes="obj.names")
    with pytest.raises(SourceError, match=r"source\.keypoints"):
        _split(root, kind="pose")


def test_real_voc_boxes_are_read(samples: Samples) -> None:
    root = samples("voc_yolo")
    source = Source(
        classes="obj.names", annotations="obj_train_data", image_set="train.txt", strip="data/obj_train_data/"
    )

    found = [item for item in read(source, root) if isinstance(item, Annotation)]

    assert len(found) == 12
    assert len(labels(source, root).names) == 20
    first = next(item for item in found if item.key == "2007_000027")
    (person,) = first.instances
    assert person.category == "person"
    assert person.box == pytest.approx((174, 101, 349, 351), abs=0.1)


@pytest.mark.parametrize(
    "options",
    [
        {
            "classes": "strict/obj.names",
            "images": "strict/obj_train_data",
            "annotations": "strict/obj_train_data",
        },
        {
            "classes": "annotations/obj.names",
            "images": "annotations/Images",
            "annotations": "annotations/Annotations",
        },
        {"classes": "labels/obj.names", "images": "labels/images/val", "annotations": "labels/labels/val"},
    ],
)
def test_copies_of_the_layout_are_read(samples: Samples, options: dict[str, str]) -> None:
    (found,), rejected = _split(samples("fmt_yolo"), **options)

    assert rejected == []
    width, height = found.images[0].width or 0, found.images[0].height or 0
    assert [item.category for item in found.instances] == ["label_2", "label_4"]
    assert found.instances[0].box == pytest.approx(
        (0, 0.2 * height, 0.266667 * width, 0.4 * height), abs=1e-4
    )
