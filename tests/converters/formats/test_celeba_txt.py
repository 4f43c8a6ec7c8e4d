from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.celeba_txt import LANDMARKS, Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]
TABLES = {
    "attr.txt": "2\nBald Smiling Wearing_Hat \n1.jpg -1  1  1 \n2.jpg  1 -1 -1\n",
    "box.txt": "2\nimage_id x_1 y_1 width height\n1.jpg    95  71 226 313\n2.jpg 1 2 3 4\n",
    "land.txt": "2\nlefteye_x lefteye_y a b c d e f g h\n1.jpg 1 2 30 4 5 6 7 8 9 10\n2.jpg 9 9 9 9 9 9 9 9 9 9\n",
    "part.txt": "1.jpg 0\n2.jpg 1\n3.jpg 2\n",
}
ALL: dict[str, Any] = {
    "partition": "part.txt",
    "attributes": "attr.txt",
    "landmarks": "land.txt",
    "boxes": "box.txt",
}


def _folder(folder: Path, **changes: str) -> Root:
    for name, text in {**TABLES, **{f"{key}.txt": text for key, text in changes.items()}}.items():
        (folder / name).write_text(text)
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(images="img", **options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_tables_are_joined_by_the_name(tmp_path: Path) -> None:
    (first, second, third), rejected = _split(_folder(tmp_path), **ALL, classes=("Wearing_Hat", "Bald"))

    assert rejected == []
    assert (first.key, first.images[0].path) == ("1.jpg", "img/1.jpg")
    assert (first.labels, first.negatives) == (("Wearing_Hat",), ("Bald",))
    assert (second.labels, second.negatives) == (("Bald",), ("Wearing_Hat",))
    (face,) = first.instances
    assert (face.category, face.box) == ("face", (95, 71, 321, 384))
    assert face.keypoints == ((1, 2, 2), (30, 4, 2), (5, 6, 2), (7, 8, 2), (9, 10, 2))
    assert (third.instances, third.labels, third.exhaustive) == ((), (), False)
    assert first.origin.record == "line 1"


def test_the_left_of_the_picture_is_the_right_of_the_face(tmp_path: Path) -> None:
    (face,) = labels(Source(images="", boxes="box.txt"), Root(tmp_path)).labels

    assert face.keypoints == LANDMARKS
    assert LANDMARKS[0] == "right_eye"
    assert face.flip_pairs == ((0, 1), (3, 4))


def test_attributes_alone_say_which_pictures_there_are(tmp_path: Path) -> None:
    source = Source(images="", attributes="attr.txt", classes=("Smiling",))
    root = _folder(tmp_path)

    found = [item for item in read(source, root) if isinstance(item, Annotation)]

    assert [(item.key, item.labels) for item in found] == [("1.jpg", ("Smiling",)), ("2.jpg", ())]
    assert labels(source, root).names == ("face", "Smiling")
    assert found[0].origin.record == "line 3"


def test_the_name_of_the_first_column_is_no_attribute(tmp_path: Path) -> None:
    root = _folder(tmp_path, attr="1\nimage_id Bald Smiling\n1.jpg -1 1\n")

    (found,), rejected = _split(root, attributes="attr.txt", classes=("Bald", "Smiling"))

    assert rejected == []
    assert (found.labels, found.negatives) == (("Smiling",), ("Bald",))


def test_the_other_parts_are_reported(tmp_path: Path) -> None:
    found, rejected = _split(_folder(tmp_path), partition="part.txt", part="val")

    assert [item.key for item in found] == ["2.jpg"]
    assert [(item.key, item.reason) for item in rejected] == [
        ("1.jpg", "split.other"),
        ("3.jpg", "split.other"),
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"attr": "Bald Smiling Wearing_Hat\n1.jpg 1 1\n2.jpg 1 1 1\n"}, "schema"),
        ({"attr": "Bald Smiling Wearing_Hat\n1.jpg 1 0 1\n2.jpg 1 1 1\n"}, "schema"),
        ({"box": "1.jpg 1 2 3\n2.jpg 1 2 3 4\n"}, "schema"),
        ({"box": "1.jpg 1 2 3 x\n2.jpg 1 2 3 4\n"}, "schema"),
        ({"land": "1.jpg 1 2 3\n2.jpg 9 9 9 9 9 9 9 9 9 9\n"}, "keypoint.count"),
        ({"land": "1.jpg nan 9 9 9 9 9 9 9 9 9\n"}, "keypoint.nonfinite"),
        ({"part": "2.jpg 1\n2.jpg 1\n"}, "id.duplicate"),
    ],
)
def test_a_defective_row_costs_no_other(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    found, (rejected,) = _split(_folder(tmp_path, **changes), **ALL, classes=("Bald",))

    assert "2.jpg" in [item.key for item in found]
    assert "1.jpg" not in [item.key for item in found]
    assert rejected.reason == reason


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attributes": "attr.txt", "classes": ("Smilling",)}, "did you mean 'Smiling'"),
        ({"attributes": "empty.txt"}, r"empty\.txt: no row"),
        ({"boxes": "none.txt"}, r"source\.boxes"),
    ],
)
def test_a_table_that_does_not_fit_is_an_error(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(SourceError, match=says):
        _split(_folder(tmp_path, empty="5\nBald Smiling\n"), **options)


@pytest.mark.parametrize("options", [{}, {"boxes": "b", "part": "val"}, {"boxes": "b", "classes": ("a",)}])
def test_keys_that_need_a_table_are_refused_without_it(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"table|part needs"):
        Source(images="", **options)


def test_real_tables_read(samples: Samples) -> None:
    anno = "dataset/Anno/"
    source = Source(
        images="dataset/Img/img_celeba",
        attributes=f"{anno}list_attr_celeba.txt",
        classes=("Bald", "Big_Nose"),
        landmarks=f"{anno}list_landmarks_celeba.txt",
        boxes=f"{anno}list_bbox_celeba.txt",
        partition="dataset/Eval/list_eval_partition.txt",
    )

    found = [item for item in read(source, samples("fmt_celeba")) if isinstance(item, Annotation)]

    assert len(found) == 5
    assert found[0].instances[0].box == (95, 71, 321, 384)
    assert [item.labels for item in found] == [(), (), ("Big_Nose",), (), ()]
    assert all(len(item.instances[0].keypoints or ()) == 5 for item in found)
