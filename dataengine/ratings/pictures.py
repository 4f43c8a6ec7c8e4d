"""Ratings of one picture, from a small grey copy of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dataengine.images import grey

Grey = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]

# The longer side of the copy, about what vision encoders see: a blur that this copy hides is hidden from them as well.
LONGEST = 256
DARK, BRIGHT = 5, 250  # of 255: what a sensor or a converter clipped, give or take what JPEG adds
# A pattern that repeats is looked for this far apart, in pixels of the copy; nearer ones are textures.
MIN_PERIOD = 20
MIN_SIDE = 64  # of a copy in which a pattern can repeat
# What stands around a peak that is one: a straight edge gives a ridge, along which the next pixels are as high.
_RING = ((-6, 0), (6, 0), (0, 6), (0, -6), (4, 4), (4, -4), (-4, 4), (-4, -4))


class PictureRatings(NamedTuple):
    """Ratings of a picture: see `dataengine.ratings.table` for what each says."""

    sharpness: float
    brightness: float
    dark: float
    bright: float
    spread: float
    watermark_like: float


def rate(data: bytes) -> PictureRatings:
    """Decode a picture and rate it. Raises Quarantine where it cannot be decoded."""
    return rate_pixels(grey(data, LONGEST))


def rate_pixels(pixels: Grey) -> PictureRatings:
    """Rate a grey copy [height, width] whose longer side is LONGEST or less."""
    counts = np.bincount(pixels.ravel(), minlength=256)
    size = pixels.size
    return PictureRatings(
        sharpness=_sharpness(pixels),
        brightness=float(counts @ np.arange(256)) / size / 255,
        dark=float(counts[: DARK + 1].sum()) / size,
        bright=float(counts[BRIGHT:].sum()) / size,
        spread=float(pixels.std()),
        watermark_like=_repeats(pixels),
    )


def _sharpness(pixels: Grey) -> float:
    """Return the variance of the Laplacian of four neighbours (Pech-Pacheco et al., ICPR 2000), 0 below 3 pixels."""
    if min(pixels.shape) < 3:
        return 0.0
    values = pixels.astype(np.int16)
    inner = values[1:-1, 1:-1]
    laplacian = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:] - 4 * inner
    return float(laplacian.var(dtype=np.float64))


def _repeats(pixels: Grey) -> float:
    """Return how far the most repeated fine detail stands out, in standard deviations of chance.

    A pattern laid over a whole picture again and again, as sellers of pictures do, gives the whitened autocorrelation
    single peaks far from its centre; nature repeats itself less exactly. A lone line of text gives none.
    """
    if min(pixels.shape) < MIN_SIDE:
        return 0.0
    detail = pixels.astype(np.float32) - _blurred(pixels)
    deviation = float(detail.std())
    if deviation < 0.5:  # of 255: flat but for rounding
        return 0.0
    # What stands out most is cut to the height of the rest: an overlay is faint, but everywhere.
    detail = detail.clip(-deviation, deviation)
    detail -= detail.mean()
    same = np.fft.irfft2(np.abs(np.fft.rfft2(detail)), s=detail.shape)
    around = np.zeros_like(same)
    for shift in _RING:
        np.maximum(around, np.roll(same, shift, (0, 1)), out=around)
    peaks = same - around
    rows, columns = (np.minimum(np.arange(side), side - np.arange(side)) for side in peaks.shape)
    far = peaks[(rows[:, None] >= MIN_PERIOD) | (columns[None, :] >= MIN_PERIOD)]
    return max(float(far.max() / max(far.std(), 1e-12)), 0.0)


def _blurred(pixels: Grey, radius: int = 2) -> Values:
    """Return means of squares of pixels."""
    side = 2 * radius + 1
    sums = np.pad(pixels, ((radius + 1, radius), (radius + 1, radius)), mode="edge")
    total = sums.astype(np.int64).cumsum(0).cumsum(1)
    corners = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    means: Values = (corners / side**2).astype(np.float32)
    return means
