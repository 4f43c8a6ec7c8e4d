"""Pixel measures, held against scikit-image's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from skimage import metrics as untyped

from trainer.metrics.pictures import picture_scores

metrics: Any = untyped


def test_pixel_measures_are_those_of_scikit_image() -> None:
    rng = np.random.default_rng(3)
    wanted = rng.integers(0, 256, (40, 33, 3), dtype=np.uint8)
    made = np.clip(wanted + rng.normal(0, 30, wanted.shape), 0, 255).astype(np.uint8)

    found = picture_scores(made, wanted)

    assert found["mse"] == pytest.approx(np.mean((made / 255 - wanted / 255) ** 2))
    assert found["psnr"] == pytest.approx(metrics.peak_signal_noise_ratio(wanted, made))
    assert found["ssim"] == pytest.approx(
        metrics.structural_similarity(
            wanted,
            made,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=2,
            data_range=255,
        )
    )


def test_a_picture_is_like_itself() -> None:
    one = np.full((16, 16, 3), 7, dtype=np.uint8)

    assert picture_scores(one, one) == {"mse": 0.0, "psnr": 100.0, "ssim": pytest.approx(1)}
