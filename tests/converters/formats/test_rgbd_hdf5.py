from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converters.formats.rgbd_hdf5 import Source, prepare, read, recognise
from dataengine.annotation import Annotation, Rejected
from dataengine.files import Root
from dataengine.listing import Fit, Listing

h5py: Any = pytest.importorskip("h5py", reason="h5py is not installed")

SOURCE = Source(frames="*/*.h5")
RGB = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)
DEPTH = np.array([[0.0, 1.0, 2.0005, 65.535], [65.6, -1.0, np.nan, 0.0004]], np.float32)


def _write(root: Path, name: str = "a/1.h5", **changes: Any) -> Root:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for part, values in {"rgb": RGB, "depth": DEPTH, **changes}.items():
            if values is not None:
                file[part] = values
    return Root(root)


def test_depth_is_written_in_millimetres_and_what_does_not_fit_states_nothing(tmp_path: Path) -> None:
    root = _write(tmp_path)

    prepare(SOURCE, tmp_path)
    (item,) = read(SOURCE, root)

    assert isinstance(item, Annotation)
    color, depth = item.images
    assert (item.key, color.path, depth.role) == ("a/1", "unpacked/a/1_rgb.png", "target")
    assert depth.measure is not None
    assert (depth.measure.quantity, depth.measure.unit, depth.measure.invalid) == ("depth", "m", (0,))
    with Image.open(tmp_path / depth.path) as picture:
        stored = np.asarray(picture)
    assert stored.tolist() == [[0, 1000, 2000, 65535], [0, 0, 0, 0]]
    with Image.open(tmp_path / color.path) as picture:
        assert np.array_equal(np.asarray(picture), RGB.transpose(1, 2, 0))


def test_pictures_are_written_once(tmp_path: Path) -> None:
    _write(tmp_path)

    prepare(SOURCE, tmp_path)
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "unpacked/a").iterdir()}
    prepare(SOURCE, tmp_path)

    assert len(times) == 2
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "unpacked/a").iterdir()} == times


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"depth": None}, "map.corrupt"),
        ({"depth": DEPTH[:, :3]}, "map.format"),
        ({"rgb": RGB.astype(float) * 100}, "map.format"),
        ({"rgb": RGB[0]}, "map.corrupt"),
        ({"depth": h5py.ExternalLink("/etc/passwd", "depth")}, "map.corrupt"),
    ],
)
def test_a_frame_of_another_kind_costs_itself_alone(changes: Any, reason: str, tmp_path: Path) -> None:
    _write(tmp_path, "a/1.h5", **changes)
    root = _write(tmp_path, "a/2.h5")

    prepare(SOURCE, tmp_path)
    bad, good = read(SOURCE, root)

    assert isinstance(bad, Rejected) and isinstance(good, Annotation)
    assert (bad.reason, bad.origin.file) == (reason, "a/1.h5")
    assert str(tmp_path) not in bad.detail


def test_a_file_that_is_no_hdf5_costs_itself_alone(tmp_path: Path) -> None:
    root = _write(tmp_path, "a/2.h5")
    (tmp_path / "a/1.h5").write_bytes(b"x" * 100)

    prepare(SOURCE, tmp_path)
    bad, good = read(SOURCE, root)

    assert isinstance(bad, Rejected) and isinstance(good, Annotation)
    assert bad.reason == "map.corrupt" and "\n" not in bad.detail


def test_a_folder_of_frames_is_recognised_by_its_arrays(tmp_path: Path) -> None:
    fit = recognise(Listing(_write(tmp_path)))

    assert isinstance(fit, Fit)
    assert fit.splits == {"train": {"frames": "**/*.h5"}}
    _write(tmp_path, depth=None)
    assert "no depth in the file itself" in str(recognise(Listing(Root(tmp_path))))
