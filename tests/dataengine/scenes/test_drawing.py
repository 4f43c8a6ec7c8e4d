from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataengine.images import decode
from dataengine.scenes.drawing import TEXTURE_DEPTH, draw, encode_png, paint_background
from dataengine.scenes.layout import compose
from dataengine.scenes.objects import COLOR_JITTER, COLORS, TINTS, Background, Texture


@given(seed=st.integers(0, 2**40), index=st.integers(0, 2**40))
@settings(deadline=None, max_examples=40)
def test_a_picture_shows_exactly_the_ids(seed: int, index: int) -> None:
    view = compose(seed, index, 112, 8)

    pixels = draw(view)

    assert (pixels[view.ids == 0] == paint_background(view.scene.background, 112)[view.ids == 0]).all()
    for number, thing in enumerate(view.scene.things):
        assert (pixels[view.ids == number + 1] == thing.rgb).all()


def test_no_shade_of_a_color_comes_near_another_or_a_background() -> None:
    for (_, a), (_, b) in itertools.combinations(COLORS.items(), 2):
        assert max(abs(p - q) for p, q in zip(a, b, strict=True)) > 3 * COLOR_JITTER
    for color, tint in itertools.product(COLORS.values(), TINTS.values()):
        gap = max(abs(p - q) for p, q in zip(color, tint, strict=True))
        assert gap > COLOR_JITTER + TEXTURE_DEPTH + 20


@given(seed=st.integers(0, 2**40))
@settings(deadline=None, max_examples=30)
def test_a_drawn_color_is_nearest_to_its_own_name(seed: int) -> None:
    things = compose(seed, 0, 96, 8).scene.things

    for thing in things:
        distance = {
            name: sum((p - q) ** 2 for p, q in zip(rgb, thing.rgb, strict=True))
            for name, rgb in COLORS.items()
        }
        assert min(distance, key=distance.__getitem__) == thing.color


@pytest.mark.parametrize("texture", ["plain", "graded", "striped", "mottled"])
@pytest.mark.parametrize("side", [96, 131])
def test_a_texture_stays_near_its_tint(texture: Texture, side: int) -> None:
    for seed in range(8):
        pixels = paint_background(Background(tint="white", texture=texture, seed=seed), side)

        assert pixels.shape == (side, side, 3)
        assert np.abs(pixels.astype(int) - TINTS["white"]).max() <= TEXTURE_DEPTH
        assert (len(np.unique(pixels)) == 1) == (texture == "plain")


def test_stripes_have_two_levels_and_run_one_way() -> None:
    pixels = paint_background(Background(tint="gray", texture="striped", seed=3), 96)[:, :, 0]

    assert len(np.unique(pixels)) == 2
    assert (pixels == pixels[:1]).all() or (pixels == pixels[:, :1]).all()


def test_a_png_holds_every_pixel_and_nothing_else() -> None:
    pixels = draw(compose(3, 14, 112, 6))

    data = encode_png(pixels)

    assert (decode(data) == pixels).all()
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.info == {}
    assert encode_png(pixels) == data


def test_the_same_pictures_on_every_machine() -> None:
    digests = [xxhash.xxh3_64_hexdigest(draw(compose(7, number, 128, 6)).tobytes()) for number in range(4)]

    assert digests == ["b9b04f95885be784", "9942bd0096603d46", "37285131b0332c86", "37a6958de727cb0f"]
