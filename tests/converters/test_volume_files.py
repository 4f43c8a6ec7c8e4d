"""Volumes are turned as nibabel turns them, and damaged files are refused."""

from __future__ import annotations

import gzip
import io
import struct
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import volume_files
from dataengine.errors import Quarantine

Array = np.ndarray[Any, np.dtype[Any]]


def nifti(values: Array, directions: Array, *, qform: bool = False) -> bytes:
    """Return a NIfTI file with the directions in its sform, or in its qform alone."""
    image = nibabel.Nifti1Image(values, None)
    affine = np.eye(4)
    affine[:3, :3] = directions
    image.set_sform(None if qform else affine, code=0 if qform else 1)
    image.set_qform(affine if qform else None, code=1 if qform else 0)
    data: bytes = image.to_bytes()
    return data


@given(
    order=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    sizes=st.tuples(*[st.integers(1, 5)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
    kind=st.sampled_from(["u1", "i2", "<f4", ">i2", "f8"]),
    qform=st.booleans(),
    tilt=st.floats(-0.3, 0.3),
)
@settings(deadline=None, max_examples=80)
def test_axes_are_turned_as_nibabel_turns_them(
    order: list[int],
    signs: tuple[float, ...],
    sizes: tuple[int, ...],
    spacing: tuple[float, ...],
    kind: str,
    qform: bool,
    tilt: float,
) -> None:
    values = np.arange(np.prod(sizes)).reshape(sizes).astype(kind)
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    directions = turn @ (np.eye(3)[list(order)] * np.array(signs)[:, None]) * np.array(spacing)
    data = nifti(values, directions, qform=qform)

    found = volume_files.load(data, "a.nii")

    wanted = nibabel.as_closest_canonical(nibabel.Nifti1Image.from_bytes(data)).get_fdata()
    assert np.array_equal(found, wanted)


def test_numbers_are_scaled_and_one_of_several_volumes_is_taken() -> None:
    values = np.arange(16, dtype="i2").reshape(2, 2, 2, 2)
    data = bytearray(nifti(values, np.eye(3)))
    data[112:120] = struct.pack("<2f", 0.5, 10)

    found = volume_files.load(gzip.compress(bytes(data)), "a.nii.gz", channel=1)

    assert np.array_equal(found, values[..., 1] * 0.5 + 10)
    with pytest.raises(Quarantine, match=r"2 volumes, expected number 2"):
        volume_files.load(bytes(data), "a.nii", channel=2)


@pytest.mark.parametrize(("shape", "channel"), [((3, 4, 5), 0), ((1, 2, 3, 4, 5), 1), ((3, 4), 0)])
def test_the_last_axes_of_an_array_are_space(shape: tuple[int, ...], channel: int) -> None:
    values = np.arange(np.prod(shape)).reshape(shape)
    file = io.BytesIO()
    np.save(file, values)

    found = volume_files.load(file.getvalue(), "a.npy", channel)

    wanted = values.reshape(3, 4, 1) if len(shape) == 2 else values.reshape(-1, 3, 4, 5)[channel]
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("plane", "row", "column"),
    [("axial", "y", "x"), ("coronal", "z", "x"), ("sagittal", "z", "y")],
)
def test_planes_are_shown_with_head_or_front_above_and_right_or_front_on_the_left(
    plane: volume_files.Plane, row: str, column: str
) -> None:
    grid = dict(zip("xyz", np.meshgrid(*map(np.arange, (4, 5, 6)), indexing="ij"), strict=True))

    def shown(axis: str) -> Array:
        return volume_files.picture(grid[axis], plane, 2)

    height, width = shown("x").shape
    assert shown(row).tolist() == [[height - 1 - line] * width for line in range(height)]
    assert shown(column).tolist() == [[width - 1 - place for place in range(width)]] * height
    other = ({"x", "y", "z"} - {row, column}).pop()
    assert (shown(other) == 2).all()
    assert volume_files.count(grid["x"], plane) == {"x": 4, "y": 5, "z": 6}[other]


def _changed(place: int, kind: str, *numbers: Any) -> bytes:
    data = bytearray(nifti(np.zeros((2, 2, 2), "i2"), np.eye(3)))
    struct.pack_into(f"<{kind}", data, place, *numbers)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "volume.format"),
        (b"x" * 400, "volume.format"),
        (nifti(np.zeros((2, 2, 2)), np.eye(3))[:-1], "volume.corrupt"),
        (gzip.compress(nifti(np.zeros((2, 2, 2)), np.eye(3)), mtime=0)[:40], "volume.corrupt"),
        (_changed(40, "8h", 3, 30000, 30000, 30000, 1, 1, 1, 1), "volume.too_large"),
        (_changed(40, "8h", 3, -2, 2, 2, 1, 1, 1, 1), "volume.format"),
        (_changed(40, "h", 9), "volume.format"),
        (_changed(70, "h", 128), "volume.format"),
        (_changed(108, "f", float("nan")), "volume.corrupt"),
        (_changed(108, "f", 1e30), "volume.corrupt"),
    ],
    ids=["empty", "noise", "cut", "gzip", "huge", "negative", "axes", "type", "start", "far"],
)
def test_a_damaged_file_is_refused_before_much_is_read(data: bytes, reason: str) -> None:
    with pytest.raises(Quarantine) as caught:
        volume_files.load(data, "a.nii")

    assert caught.value.reason == reason


def _npy(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "volume.corrupt"),
        (b"\x93NUMPY\x01\x00\x04\x00{}\n ", "volume.corrupt"),
        (_npy(np.zeros((2, 2, 2)))[:-1], "volume.corrupt"),
        (_npy(np.array([{"a": 1}], dtype=object)), "volume.format"),
        (_npy(np.array(["text"])), "volume.format"),
    ],
    ids=["empty", "header", "cut", "objects", "text"],
)
def test_an_array_that_is_none_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Quarantine) as caught:
        volume_files.load(data, "a.npy")

    assert caught.value.reason == reason
