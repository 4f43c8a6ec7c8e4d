"""What is drawn on tiles and decoder pictures."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataengine import images
from dataengine.geometry import rle_box, rle_from_mask
from dataengine.sample import (
    Region,
)
from trainer import views
from trainer.settings import CLIP_MEAN, CLIP_STD


def gradient(width: int, height: int) -> views.Pixels:
    x = np.linspace(0, 255, width)[None].repeat(height, 0)
    y = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return np.stack([x, y, np.full_like(x, 128)], 2).astype(np.uint8)


def pixels_of(tiles: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(CLIP_MEAN).view(3, 1, 1), torch.tensor(CLIP_STD).view(3, 1, 1)
    return (tiles * std + mean) * 255


def test_tiles_are_cut_row_by_row_and_the_thumbnail_is_last() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    image[:100, 100:], image[100:, :100], image[100:, 100:] = 80, 160, 240

    tiles = pixels_of(views.tile_view(image, 28, 4))

    assert tiles.shape == (5, 3, 28, 28)
    assert [round(float(tile[:, 5:-5, 5:-5].mean())) for tile in tiles[:4]] == [0, 80, 160, 240]
    assert [round(float(tiles[4, 0, y, x])) for y, x in [(4, 4), (4, 24), (24, 4), (24, 24)]] == [
        0,
        80,
        160,
        240,
    ]


def test_one_tile_needs_no_thumbnail_and_is_the_whole_picture() -> None:
    tiles = pixels_of(views.tile_view(gradient(20, 20), 28, 4))

    assert tiles.shape == (1, 3, 28, 28)
    assert tiles[0, 0, 14, 0] < 15 < 240 < tiles[0, 0, 14, -1]


def test_tiles_have_the_statistics_of_clip() -> None:
    tile = views.tile_view(np.full((28, 28, 3), 255, np.uint8), 28, 1)[0]

    expected = (1 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    assert torch.allclose(tile.mean((1, 2)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(640, 480, (1067, 800)), (480, 640, (800, 1067)), (2000, 400, (1333, 267)), (100, 100, (800, 800))],
)  # fmt: skip
def test_the_decoder_picture_keeps_its_ratio(width: int, height: int, expected: tuple[int, int]) -> None:
    assert views.decoder_size(width, height, 800, 1333) == expected


def test_the_decoder_picture_has_the_statistics_of_imagenet() -> None:
    picture = views.decoder_view(np.zeros((30, 40, 3), np.uint8), views.decoder_size(40, 30, 60, 100))

    assert picture.shape == (3, 60, 80)
    expected = -torch.tensor(views.IMAGENET_MEAN) / torch.tensor(views.IMAGENET_STD)
    assert torch.allclose(picture.mean((1, 2)), expected, atol=1e-5)


def test_masks_follow_the_decoder_picture() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 15:45] = 1

    scaled = views.object_masks([rle_from_mask(mask)], 30, 20)

    expected = torch.zeros((20, 30), dtype=torch.uint8)
    expected[5:15, 7:23] = 1
    assert int((scaled[0] != expected).sum()) <= 20  # the half-covered columns at both sides
    assert scaled.dtype == torch.uint8


def test_a_box_region_is_filled_on_the_squashed_picture() -> None:
    found = views.region_mask(Region(kind="box", box=(30, 10, 60, 20)), 60, 40, 20)

    expected = torch.zeros((20, 20), dtype=torch.bool)
    expected[5:10, 10:20] = True
    assert torch.equal(found, expected)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["point", "scribble", "circle", "polygon", "mask", "box"]),
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(4, 40),
    st.randoms(use_true_random=False),
)
def test_no_region_vanishes_and_all_that_is_marked_lies_near(
    kind: str, width: int, height: int, side: int, rng: random.Random
) -> None:
    mask = np.zeros((height, width), np.uint8)
    for _ in range(rng.randint(1, 3)):
        mask[rng.randrange(height), rng.randrange(width)] = 1
    rle = rle_from_mask(mask)
    region = Region(kind=kind, box=rle_box(rle), mask=None if kind == "box" else rle)  # type: ignore[arg-type]

    marked = views.region_mask(region, width, height, side)

    assert marked.any()
    ys, xs = torch.nonzero(marked, as_tuple=True)
    x0, y0, x1, y1 = region.box
    assert int(xs.min()) >= x0 * side / width - 1 and int(xs.max()) <= x1 * side / width
    assert int(ys.min()) >= y0 * side / height - 1 and int(ys.max()) <= y1 * side / height


def test_every_point_of_a_point_prompt_is_kept() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[[5, 5, 90], [5, 95, 50]] = 1

    marked = views.region_mask(
        Region(kind="point", box=(5, 5, 96, 91), mask=rle_from_mask(mask)), 100, 100, 10
    )

    assert marked.nonzero().tolist() == [[0, 0], [0, 9], [9, 5]]


def test_a_read_only_picture_can_be_viewed() -> None:
    buffer = io.BytesIO()
    Image.fromarray(gradient(30, 20)).save(buffer, "PNG")
    image = images.decode(buffer.getvalue())

    tiles = views.tile_view(image, 14, 2)

    assert tiles.shape[1:] == (3, 14, 14)
