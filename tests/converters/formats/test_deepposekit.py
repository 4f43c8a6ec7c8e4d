from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converters.formats.deepposekit import Source, labels, prepare, read
from dataengine import manifest
from dataengine.annotation import Annotation, Rejected
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.sample import KeypointTargets

h5py: Any = pytest.importorskip("h5py", reason="h5py is not installed")

NAMES = ("head", "eyeL", "eyeR")
SOURCE = Source(annotations="a.h5", category="fly", keypoints=NAMES)
PLACES = [[[5, 6], [3, 4], [9, 4.5]], [[5, 6], [-1, -1], [9, 4]], [[1, 1], [2, 2], [3, 3]]]
PLACED = [[True, True, True], [True, True, False], [False, False, False]]


def _write(path: Path, **changes: Any) -> Root:
    """Write three grey pictures of 10 x 8 pixels, each as bright as its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((3, 8, 10, 1), np.uint8)
    skeleton = [[-1, -1], [0, 2], [0, 1]]
    parts = {"images": images, "annotations": PLACES, "annotated": PLACED, "skeleton": skeleton, **changes}
    with h5py.File(path, "w") as file:
        for name, part in parts.items():
            if part is not None:
                file[name] = part
    return Root(path.parent)


def test_keypoints_that_nobody_placed_are_absent(tmp_path: Path) -> None:
    first, second, third = read(SOURCE, _write(tmp_path / "a.h5"))

    assert isinstance(first, Annotation) and isinstance(second, Annotation) and isinstance(third, Rejected)
    assert (first.key, first.images[0].path) == ("0", "unpacked/0.png")
    (animal,) = first.instances
    assert animal.keypoints == ((5, 6, 2), (3, 4, 2), (9, 4.5, 2))
    assert (animal.category, animal.box) == ("fly", (3, 4, 10, 7))
    assert second.instances[0].keypoints == ((5, 6, 2), (0, 0, 0), (0, 0, 0))
    assert (third.reason, third.origin.record) == ("keypoint.none", "annotations[2]")


def test_the_label_has_the_skeleton_of_the_file(tmp_path: Path) -> None:
    (label,) = labels(SOURCE, _write(tmp_path / "a.h5")).labels

    assert (label.name, label.keypoints, label.skeleton, label.flip_pairs) == (
        "fly", NAMES, ((1, 0), (2, 0)), ((1, 2),),
    )  # fmt: skip


def test_pictures_are_written_once(tmp_path: Path) -> None:
    _write(tmp_path / "a.h5")

    prepare(SOURCE, tmp_path)
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "unpacked").iterdir()}
    prepare(SOURCE, tmp_path)

    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "unpacked").iterdir()} == times
    with Image.open(tmp_path / "unpacked/2.png") as picture:
        assert (picture.size, picture.getextrema()) == ((10, 8), (2, 2))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"annotated": None}, "no annotated in the file itself"),
        ({"annotations": PLACES[:2]}, "expected as many of each, and 3 keypoints"),
        ({"skeleton": [[-1, -1]]}, "expected as many of each, and 3 keypoints"),
        ({"images": np.zeros((3, 8))}, "expected 4 axes of numbers"),
        ({"images": h5py.ExternalLink("/etc/passwd", "images")}, "no images in the file itself"),
        ({"images": h5py.SoftLink("/annotations")}, "no images in the file itself"),
    ],
)
def test_a_file_of_another_kind_is_an_error(changes: Any, match: str, tmp_path: Path) -> None:
    _write(tmp_path / "a.h5", **changes)

    with pytest.raises(SourceError, match=match):
        prepare(SOURCE, tmp_path)


def test_numbers_that_lie_in_another_file_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a.h5", images=None)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.create_dataset("images", (3, 8, 10, 1), "u1", external=[("/etc/passwd", 0, 240)])

    with pytest.raises(SourceError, match="images lies in another file"):
        prepare(SOURCE, tmp_path)


def test_a_file_that_is_no_hdf5_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"x" * 100)

    with pytest.raises(SourceError, match="expected a whole HDF5 file"):
        list(read(SOURCE, Root(tmp_path)))


def test_a_folder_in_the_place_of_the_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.h5").mkdir()

    with pytest.raises(SourceError, match="Is a directory; expected a whole HDF5 file") as caught:
        list(read(Source(annotations="a.h5", keypoints=("nose",), category="fly"), Root(tmp_path)))

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [0.05, 0.2, 0.3, 0.5, 0.9])
def test_a_file_that_is_damaged_inside_is_an_error_of_one_line_or_none(tmp_path: Path, place: float) -> None:
    root = _write(tmp_path / "a.h5")
    data = bytearray((tmp_path / "a.h5").read_bytes())
    start = int(place * len(data))
    data[start : start + 300] = b"\xff" * 300
    (tmp_path / "a.h5").write_bytes(data)

    try:
        found = list(read(SOURCE, root))
    except SourceError as error:
        assert "\n" not in str(error)
    else:
        assert len(found) > 0


def test_without_h5py_the_reader_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _write(tmp_path / "a.h5")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)

    with pytest.raises(SourceError, match="needs the package h5py"):
        labels(SOURCE, root)


def test_the_spec_of_the_locusts_reads_the_layout_of_the_release(tmp_path: Path) -> None:
    spec = next(spec for spec in Catalog().find("desert_locust_h5") if spec.task.id == "keypoints")
    count = len(spec.source("all").keypoints)
    _write(
        tmp_path / "root/datasets/locust/annotation_data_release.h5",
        annotations=np.full((3, count, 2), 4.0) + np.arange(count)[None, :, None] / 10,
        annotated=np.ones((3, count), bool),
        skeleton=np.full((count, 2), -1),
    )

    convert(spec, "all", tmp_path / "root", tmp_path / "out")

    samples = list(manifest.read_samples(tmp_path / "out/desert_locust_h5/keypoints/all"))
    assert len(samples) == 3
    assert isinstance(samples[0].targets, KeypointTargets)
    assert (count, samples[0].targets.instances[0].label) == (35, "locust")
    assert len(samples[0].targets.flip_pairs) == 15
