"""How a scene looks: one flat color an object over a softly textured background, no antialiasing."""

from __future__ import annotations

import io
import random

import numpy as np
import numpy.typing as npt
from PIL import Image

from dataengine.scenes.layout import View
from dataengine.scenes.objects import TINTS, Background

Pixels = npt.NDArray[np.uint8]

# A texture lightens or darkens its tint by no more than this.
TEXTURE_DEPTH = 10
_GRID = 5


def draw(view: View) -> Pixels:
    """Return the picture, RGB uint8 [side, side, 3]. An object's pixels are exactly those of its id."""
    pixels = paint_background(view.scene.background, view.scene.side)
    if view.scene.things:
        palette = np.array([(0, 0, 0), *(thing.rgb for thing in view.scene.things)], np.uint8)
        seen = view.ids > 0
        pixels[seen] = palette[view.ids[seen]]
    return pixels


def encode_png(pixels: Pixels) -> bytes:
    """Return the picture as PNG with fixed settings and no metadata: one Pillow gives one result."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def paint_background(background: Background, side: int) -> Pixels:
    """Return the background, RGB uint8 [side, side, 3], by whole numbers only."""
    rng = random.Random(background.seed)
    place = np.arange(side)
    match background.texture:
        case "plain":
            shift = np.zeros((1, 1), np.int64)
        case "graded":
            ramp = (2 * place * TEXTURE_DEPTH) // (side - 1) - TEXTURE_DEPTH
            ramp = ramp if rng.random() < 0.5 else ramp[::-1]
            shift = ramp[None, :] if rng.random() < 0.5 else ramp[:, None]
        case "striped":
            width = max(side * rng.randint(4, 12) // 100, 2)
            lines = np.where((place // width) % 2 == 0, TEXTURE_DEPTH, -TEXTURE_DEPTH)
            shift = lines[None, :] if rng.random() < 0.5 else lines[:, None]
        case "mottled":
            shift = _mottle(rng, side)
    tint = np.array(TINTS[background.tint], np.int64)
    shifted = tint[None, None, :] + shift[:, :, None]
    return np.array(np.broadcast_to(shifted, (side, side, 3)), np.uint8)


def _mottle(rng: random.Random, side: int) -> npt.NDArray[np.int64]:
    """Interpolate a coarse grid of chance linearly, in whole numbers."""
    grid = np.array(
        [[rng.randint(-TEXTURE_DEPTH, TEXTURE_DEPTH) for _ in range(_GRID)] for _ in range(_GRID)]
    )
    scaled = np.arange(side) * (_GRID - 1) * 64 // side
    low, part = scaled // 64, scaled % 64
    weights = np.zeros((side, _GRID), np.int64)
    weights[np.arange(side), low] = 64 - part
    weights[np.arange(side), low + 1] += part
    found: npt.NDArray[np.int64] = (weights @ grid @ weights.T) // (64 * 64)
    return found
