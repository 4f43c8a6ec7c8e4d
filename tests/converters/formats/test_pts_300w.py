from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.pts_300w import Source, parse, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]
THREE = "version: 1\nn_points:  3\n{\n1.0 1.0\n11.5 21\n6 31.25\n}\n"


def _folder(folder: Path, **files: str) -> Root:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_pts", ".pts").replace("_png", ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(num_points=3, **options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_landmarks_count_pixels_from_one(tmp_path: Path) -> None:
    root = _folder(tmp_path, afw__a_pts=THREE, afw__a_png="")

    (found,), rejected = _split(root)

    assert rejected == []
    assert (found.key, found.images[0].path) == ("afw/a", "afw/a.png")
    (face,) = found.instances
    assert face.keypoints == ((0.0, 0.0, 2), (10.5, 20.0, 2), (5.0, 30.25, 2))
    assert (face.category, face.box) == ("face", (0.0, 0.0, 11.5, 31.25))
    assert not found.exhaustive


def test_folders_are_read_in_their_order_and_however_deep(tmp_path: Path) -> None:
    root = _folder(tmp_path, b__c__2_pts=THREE, a__1_pts=THREE, x__3_pts=THREE)

    found, _ = _split(root, annotations=("b", "a"), category="cat face")

    assert [item.key for item in found] == ["b/c/2", "a/1"]
    assert [item.images[0].path for item in found] == ["b/c/2.jpg", "a/1.jpg"]
    assert found[0].instances[0].category == "cat face"


def test_pictures_may_lie_in_a_folder_beside(tmp_path: Path) -> None:
    root = _folder(tmp_path, clip__annot__1_pts=THREE, clip__imgs__1_png="")

    (found,), _ = _split(root, images="../imgs")

    assert found.images[0].path == "clip/imgs/1.png"


def test_a_folder_beside_that_is_outside_is_rejected(tmp_path: Path) -> None:
    found, (rejected,) = _split(_folder(tmp_path, a_pts=THREE), images="../../etc")

    assert found == []
    assert rejected.reason == "path.outside"


def test_a_face_in_two_listed_folders_is_one(tmp_path: Path) -> None:
    found, (rejected,) = _split(_folder(tmp_path, a__b__1_pts=THREE), annotations=("a", "a/b"))

    assert len(found) == 1
    assert (rejected.key, rejected.reason) == ("a/b/1.pts", "id.duplicate")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "schema"),
        (b"version: 1\n{\n1 1\n2 2", "schema"),
        (b"{ 1 one 2 2 3 3 }", "schema"),
        (b"\xff\xfe{ 1 1 2 2 3 3 }", "schema"),
        (b"{ 1 nan 2 2 3 3 }", "keypoint.nonfinite"),
        (b"n_points: 4\n{ 1 1 2 2 3 3 }", "keypoint.count"),
        (b"{ 1 1 2 2 }", "keypoint.count"),
        (b"{ 1 1 2 2 3 }", "keypoint.count"),
        (b"{ 1 1 2 2 3 3 }" + b" " * (1 << 20), "schema"),
    ],
)
def test_a_defective_file_costs_no_other(tmp_path: Path, text: bytes, reason: str) -> None:
    root = _folder(tmp_path, a__1_pts=THREE)
    (tmp_path / "a" / "2.pts").write_bytes(text)

    (found,), (rejected,) = _split(root)

    assert found.key == "a/1"
    assert (rejected.reason, rejected.origin.file) == (reason, "a/2.pts")


def test_a_text_mark_and_one_line_are_no_obstacle() -> None:
    assert parse(b"\xef\xbb\xbfversion: 1 n_points: 1 { 1.5\t2 }") == [1.5, 2.0]
    with pytest.raises(Quarantine, match="whole"):
        parse(b"n_points: 1")


@pytest.mark.parametrize("folder", ["none", "../x", "empty"])
def test_a_folder_without_landmarks_is_an_error(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(SourceError, match=r"source\.annotations"):
        _split(Root(tmp_path), annotations=(folder,))


def test_real_files_read(samples: Samples) -> None:
    root = samples("300vw")

    found = list(read(Source(images="../imgs"), root))

    assert [item.key for item in found if isinstance(item, Annotation)] == [
        "001/annot/000006",
        "001/annot/000009",
        "401/annot/000731",
        "401/annot/000732",
    ]
    assert all(
        (root.directory / item.images[0].path).is_file() for item in found if isinstance(item, Annotation)
    )
