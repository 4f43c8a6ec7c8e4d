from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from dataengine import geometry
from dataengine.annotation import Box, Rle
from dataengine.geometry import rle_from_counts, rle_from_mask, rle_from_polygons

NUMBERS = st.floats(-1e4, 1e4, allow_nan=False)
SPANS = st.tuples(NUMBERS, NUMBERS).map(sorted)
BOXES = st.tuples(SPANS, SPANS).map(lambda ends: (ends[0][0], ends[1][0], ends[0][1], ends[1][1]))
MASKS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(0, 1))


def runs(mask: npt.NDArray[np.uint8]) -> list[int]:
    """Count runs down the columns, zeros first, as COCO does; written down plainly to check against."""
    counts, value = [0], np.uint8(0)
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


@given(box=BOXES)
def test_xyxy_survives_the_other_conventions(box: Box) -> None:
    x0, y0, x1, y1 = box

    assert geometry.from_xywh(geometry.to_xywh(box)) == pytest.approx(box, abs=1e-6)
    centered = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)
    assert geometry.from_cxcywh(centered) == pytest.approx(box, abs=1e-6)


def test_boxes_are_floats_whatever_they_were_made_from() -> None:
    boxes = [
        geometry.from_xywh([1, 2, 3, 4]),
        geometry.from_cxcywh([10, 10, 4, 6]),
        geometry.clip_box((-5.0, -5.0, 500.0, 500.0), 30, 20),
        geometry.clip_box((500.0, 500.0, 600.0, 600.0), 30, 20),
        geometry.quad_box([1, 2, 5, 2, 5, 9, 1, 9]),
    ]

    assert boxes == [(1, 2, 4, 6), (8, 7, 12, 13), (0, 0, 30, 20), (30, 20, 30, 20), (1, 2, 5, 9)]
    # An int would be written as 30 and read back as 30.0: the same sample with other bytes.
    assert all(type(value) is float for box in boxes for value in box)


@given(box=BOXES, width=st.integers(1, 500), height=st.integers(1, 500))
def test_a_clipped_box_lies_inside_and_holds_all_that_did(box: Box, width: int, height: int) -> None:
    x0, y0, x1, y1 = geometry.clip_box(box, width, height)

    assert 0 <= x0 <= x1 <= width
    assert 0 <= y0 <= y1 <= height
    assert geometry.clip_box((x0, y0, x1, y1), width, height) == (x0, y0, x1, y1)
    inside = max(min(box[2], width) - max(box[0], 0), 0) * max(min(box[3], height) - max(box[1], 0), 0)
    assert geometry.box_area((x0, y0, x1, y1)) == pytest.approx(inside)


@given(a=BOXES, b=BOXES)
def test_overlap_is_symmetric_and_between_none_and_all(a: Box, b: Box) -> None:
    overlap = geometry.box_iou(a, b)

    assert overlap == geometry.box_iou(b, a)
    assert 0 <= overlap <= 1 + 1e-9
    if geometry.box_area(a) > 1e-6:
        assert geometry.box_iou(a, a) == pytest.approx(1)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 10, 10), (5, 0, 15, 10), 50 / 150),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((0, 0, 10, 10), (2, 2, 4, 4), 0.04),
        ((5, 5, 5, 5), (5, 5, 5, 5), 0.0),
        ((9, 9, 1, 1), (0, 0, 10, 10), 0.0),
    ],
)
def test_overlap_on_boxes_that_one_can_see(a: Box, b: Box, expected: float) -> None:
    assert geometry.box_iou(a, b) == pytest.approx(expected)


@given(mask=MASKS)
def test_a_mask_survives_its_run_length_code(mask: npt.NDArray[np.uint8]) -> None:
    rle = rle_from_mask(mask)

    assert rle.size == mask.shape
    assert (geometry.mask_from_rle(rle) == mask).all()
    assert geometry.rle_area(rle) == mask.sum()
    assert rle_from_counts(rle.counts, rle.size) == rle
    assert rle_from_counts(runs(mask), mask.shape) == rle


@given(mask=MASKS.filter(np.any))
def test_the_box_of_a_mask_is_tight(mask: npt.NDArray[np.uint8]) -> None:
    rows, columns = np.nonzero(mask)

    assert geometry.rle_box(rle_from_mask(mask)) == (
        columns.min(),
        rows.min(),
        columns.max() + 1,
        rows.max() + 1,
    )


def test_an_empty_mask_has_no_box_and_no_area() -> None:
    rle = rle_from_mask(np.zeros((4, 6), np.uint8))

    assert geometry.rle_box(rle) == (0, 0, 0, 0)
    assert geometry.rle_area(rle) == 0


@given(ends=st.tuples(*[st.integers(0, 30)] * 4))
def test_the_mask_of_a_whole_box_is_its_pixels(ends: tuple[int, int, int, int]) -> None:
    (x0, x1), (y0, y1) = sorted(ends[:2]), sorted(ends[2:])
    expected = np.zeros((30, 30), np.uint8)
    expected[y0:y1, x0:x1] = 1

    mask = geometry.mask_from_rle(geometry.rle_of_box((x0, y0, x1, y1), 30, 30))

    assert (mask == expected).all() or not expected.any()


def test_polygons_are_joined_and_cut_at_the_picture() -> None:
    left, right, outside = [0, 0, 4, 0, 4, 4, 0, 4], [2, 0, 8, 0, 8, 4, 2, 4], [6, 2, 50, 2, 50, 50, 6, 50]

    both = rle_from_polygons([left, right], 10, 8)
    cut = rle_from_polygons([outside], 10, 8)

    assert geometry.rle_area(both) == 8 * 4
    assert geometry.rle_box(cut) == (6, 2, 10, 8)
    assert both.size == cut.size == (8, 10)


@pytest.mark.parametrize(
    ("polygons", "size", "text"),
    [
        ([[1, 1, 2, 2]], (10, 10), "polygon has 4 numbers"),
        ([[1, 1, 2, 2, 3, 1, 4]], (10, 10), "polygon has 7 numbers"),
        ([[1, 1, 2, float("nan"), 3, 3]], (10, 10), "not finite"),
        ([[1, 1, 2, float("inf"), 3, 3]], (10, 10), "not finite"),
        ([[1, 1, 2, 3e7, 3, 3]], (10, 10), "beyond a million"),
        ([[0, 0, 9e5, 9e5] * 40], (10, 10), "outline"),
        ([], (10, 10), "no polygon"),
        ([[1, 1, 2, 2, 3, 1]], (0, 10), "size is 10 x 0"),
        ([[1, 1, 2, 2, 3, 1]], (-4, 10), "size is 10 x -4"),
    ],
)
def test_what_is_no_polygon_is_refused(polygons: list[list[float]], size: tuple[int, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        rle_from_polygons(polygons, *size)


@pytest.mark.parametrize(
    ("counts", "size", "text"),
    [
        ([3, 2], (2, 3), "runs add up to 5, expected 2 x 3 = 6"),
        ([8, -2], (2, 3), "runs add up to 6"),
        ([], (2, 3), "runs add up to 0"),
        ("", (2, 3), "runs add up to 0"),
        ([10**12], (10**6, 10**6), "size is 1000000 x 1000000"),
        ([], (0, 0), "size is 0 x 0"),
        ("6~", (2, 3), "run-length code"),
        ("6é", (2, 3), "run-length code"),
        ("P", (2, 3), "middle of a run"),
        ("P" * 40 + "0", (2, 3), "more than 32 bits"),
        ("O", (2, 3), "negative run"),
    ],
)
def test_what_is_no_run_length_code_is_refused(
    counts: list[int] | str, size: tuple[int, int], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        rle_from_counts(counts, size)


@given(text=st.text("".join(chr(code) for code in range(48, 112)), max_size=12))
@settings(max_examples=300)
def test_a_code_that_is_accepted_means_what_coco_makes_of_it(text: str) -> None:
    try:
        decoded = geometry._decode_runs(text)
    except ValueError:
        return
    total = sum(decoded)
    if not 0 < total <= 4096:
        return

    rle = rle_from_counts(text, (total, 1))

    expected = np.repeat(np.arange(len(decoded)) % 2, decoded)
    assert (geometry.mask_from_rle(rle)[:, 0] == expected).all()
    assert coco_mask.area({"size": [total, 1], "counts": text.encode()}) == expected.sum()


def test_a_run_length_code_is_that_of_the_whole_picture() -> None:
    mask = np.zeros((3, 4), np.uint8)
    mask[1, 2] = 1

    assert rle_from_counts([7, 1, 4], (3, 4)) == rle_from_mask(mask)
    assert rle_from_mask(mask) == Rle((3, 4), "714")
