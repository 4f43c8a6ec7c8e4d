from __future__ import annotations

import io
import random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from converters import pixel_maps
from dataengine.annotation import Instance
from dataengine.errors import Quarantine
from dataengine.geometry import rle_from_mask

Map = npt.NDArray[np.uint16]
MAPS = hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 4))


def _png(values: npt.NDArray[np.generic], **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", **options)
    return buffer.getvalue()


@given(MAPS)
@settings(deadline=None, max_examples=200)
def test_the_masks_of_a_map_are_those_that_coco_makes_of_each_number(values: Map) -> None:
    made = pixel_maps.masks(pixel_maps.runs(values))

    assert list(made) == sorted({int(value) for value in values.ravel()})
    for number, mask in made.items():
        assert mask == rle_from_mask((values == number).astype(np.uint8))


@given(MAPS, st.dictionaries(st.integers(0, 4), st.integers(-1, 2)))
@settings(deadline=None, max_examples=200)
def test_relabelled_runs_are_the_runs_of_the_relabelled_map(values: Map, table: dict[int, int]) -> None:
    other = np.vectorize(lambda value: table.get(int(value), -1), otypes=[np.int64])(values)

    made, expected = pixel_maps.relabel(pixel_maps.runs(values), table), pixel_maps.runs(other)

    assert (made.shape, made.starts.tolist()) == (expected.shape, expected.starts.tolist())
    assert made.values.tolist() == expected.values.tolist()
    assert -1 not in pixel_maps.masks(made)


@given(MAPS)
@settings(deadline=None, max_examples=50)
def test_a_number_is_counted_by_its_pixels(values: Map) -> None:
    found = pixel_maps.runs(values)

    assert [pixel_maps.count(found, number) for number in range(5)] == [
        int((values == number).sum()) for number in range(5)
    ]


def test_numbers_of_one_id_are_one_instance_and_background_is_none() -> None:
    found = pixel_maps.runs(np.array([[1, 2, 3], [0, 0, 3]]))
    car = Instance(id="car", category="car")

    made = pixel_maps.cut(found, {3: Instance(id="sky", category="sky"), 1: car, 2: car, 0: None})

    assert [(item.id, item.box) for item in made] == [("sky", (2, 0, 3, 2)), ("car", (0, 0, 2, 1))]


def test_colours_are_put_together_from_the_left_and_ids_from_the_right() -> None:
    data = _png(np.array([[[1, 2, 3]]], np.uint8))

    assert pixel_maps.colors(data).tolist() == [[0x010203]]
    assert pixel_maps.little_endian(pixel_maps.decode(data)).tolist() == [[0x030201]]


def test_transparency_is_left_out() -> None:
    data = _png(np.array([[[1, 2, 3, 0]]], np.uint8))

    assert pixel_maps.decode(data).tolist() == [[[1, 2, 3]]]
    assert pixel_maps.decode(_png(np.array([[[7, 0]]], np.uint8))).tolist() == [[7]]
    assert pixel_maps.colors(data).tolist() == [[0x010203]]
    assert pixel_maps.brightness(_png(np.array([[[200, 200, 200, 0]]], np.uint8))).tolist() == [[200]]


def test_broken_bytes_are_never_another_error() -> None:
    rng = random.Random(0)
    whole = [
        _png(np.arange(300, dtype=np.uint16).reshape(10, 30)),
        _png(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)),
    ]
    seen = set()
    for _ in range(300):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        for read in (pixel_maps.decode, pixel_maps.colors, pixel_maps.brightness):
            try:
                read(bytes(data[: rng.randint(1, len(data))]))
            except Quarantine as error:
                seen.add(error.reason)

    assert "map.corrupt" in seen
    assert all(reason.startswith("map.") for reason in seen)


def test_the_numbers_of_a_map_without_a_meaning_are_told() -> None:
    found = pixel_maps.runs(np.array([[5, 5, 1]]))

    with pytest.raises(Quarantine, match="2 pixels are 5, which is no class; 1 such numbers"):
        pixel_maps.cut(found, {1: None})
