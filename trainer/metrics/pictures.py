"""How near a made picture is to the wanted one, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

# Wang et al. 2004: a Gaussian window of 11 pixels, and the constants that keep quotients finite.
SIGMA, RADIUS, K1, K2 = 1.5, 5, 0.01, 0.03


def picture_scores(made: Pixels, wanted: Pixels) -> dict[str, float]:
    """Return mean squared error (colours from 0 to 1), PSNR in dB (100 where both are the same) and SSIM.

    Both are uint8 [height, width, 3] of one size, at least 11 pixels a side.
    """
    mse = float(np.mean((made.astype(np.float64) - wanted.astype(np.float64)) ** 2)) / 255**2
    return {
        "mse": mse,
        "psnr": min(-10 * math.log10(mse), 100.0) if mse else 100.0,
        "ssim": ssim(made, wanted),
    }


def ssim(made: Pixels, wanted: Pixels) -> float:
    """Return the structural similarity of two pictures (Wang et al. 2004), mean over colours and inner pixels."""
    from scipy.ndimage import gaussian_filter

    def blur(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return gaussian_filter(values, (SIGMA, SIGMA, 0), radius=(RADIUS, RADIUS, 0))

    x, y = made.astype(np.float64), wanted.astype(np.float64)
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    shared = blur(x * y) - mean_x * mean_y
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    values = ((2 * mean_x * mean_y + c1) * (2 * shared + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    return float(values[RADIUS:-RADIUS, RADIUS:-RADIUS].mean())
